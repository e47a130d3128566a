//! Losses: for every kind, offered = delivered + lost. What was lost since the last look is told.

use jiff::Timestamp;
use monitor_common::{Counters, Kind};

use crate::model::{LossRow, LossView};

/// The kernel's counters as last seen, and what was told of them.
#[derive(Debug, Default)]
pub struct Losses {
    last: Counters,
    told: Vec<LossRow>,
    /// The counters when something was told last.
    told_at: Counters,
}

impl Losses {
    /// Goes on where the daemon before had told everything.
    pub fn go_on(&mut self, told: &Counters) {
        self.told = rows(told);
        self.told_at = *told;
    }

    /// The counters as they were when something was told last.
    pub fn told(&self) -> &Counters {
        &self.told_at
    }

    /// Everything so far, one row a kind.
    pub fn rows(&self) -> Vec<LossRow> {
        rows(&self.last)
    }

    /// Takes new counters; a record where something was lost since the last one.
    pub fn update(&mut self, counters: &Counters, at: Timestamp) -> Option<LossView> {
        self.last = *counters;
        let now = rows(counters);
        let since: Vec<LossRow> = now
            .iter()
            .map(|row| {
                let before = self.told.iter().find(|old| old.kind == row.kind && old.stage == row.stage);
                LossRow {
                    offered: row.offered.saturating_sub(before.map_or(0, |old| old.offered)),
                    delivered: row.delivered.saturating_sub(before.map_or(0, |old| old.delivered)),
                    lost: row.lost.saturating_sub(before.map_or(0, |old| old.lost)),
                    lost_bytes: row.lost_bytes.saturating_sub(before.map_or(0, |old| old.lost_bytes)),
                    ..row.clone()
                }
            })
            .collect();
        if since.iter().all(|row| row.lost == 0) {
            return None;
        }
        self.told = now;
        self.told_at = *counters;
        Some(LossView { at, rows: since.into_iter().filter(|row| row.lost > 0).collect() })
    }
}

/// Ends that found the ring full and went to the overflow map are delivered, not lost.
fn rows(counters: &Counters) -> Vec<LossRow> {
    let end = |kind: Kind| matches!(kind, Kind::Close | Kind::SocketClosed);
    let row = |stage: &str, kind: &str, offered: u64, lost: u64, lost_bytes: u64| LossRow {
        stage: stage.to_owned(),
        kind: kind.to_owned(),
        offered,
        delivered: offered.saturating_sub(lost),
        lost,
        lost_bytes,
    };
    let mut rows: Vec<LossRow> = Kind::ALL
        .into_iter()
        .filter(|kind| !end(*kind) && counters.offered[*kind as usize] > 0)
        .map(|kind| {
            let bytes = if kind == Kind::Capture { counters.lost_bytes } else { 0 };
            row("kernel", kind.as_str(), counters.offered[kind as usize], counters.lost[kind as usize], bytes)
        })
        .collect();
    let ends = counters.offered[Kind::Close as usize] + counters.offered[Kind::SocketClosed as usize];
    rows.push(row("kernel", "close", ends, counters.overflow_full, 0));
    rows.push(row("kernel", "socket_storage", counters.storage_refused, counters.storage_refused, 0));
    rows.push(row(
        "kernel",
        "udp_datagram_untracked",
        counters.udp_untracked_packets,
        counters.udp_untracked_packets,
        counters.udp_untracked_bytes,
    ));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescued_close_is_not_lost_and_a_lost_one_is_told_once() {
        let mut losses = Losses::default();
        let mut counters = Counters::default();
        counters.offered[Kind::Close as usize] = 10;
        counters.lost[Kind::Close as usize] = 4;
        counters.rescued = 4;
        assert!(losses.update(&counters, Timestamp::UNIX_EPOCH).is_none());
        counters.overflow_full = 1;
        counters.lost[Kind::Close as usize] = 5;
        let told = losses.update(&counters, Timestamp::UNIX_EPOCH).expect("told");
        assert_eq!((told.rows[0].offered, told.rows[0].delivered, told.rows[0].lost), (10, 9, 1));
        assert!(losses.update(&counters, Timestamp::UNIX_EPOCH).is_none());
    }
}
