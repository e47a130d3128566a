//! Losses: for every kind, offered = delivered + lost. What was lost since the last look is told.

use std::collections::HashMap;

use jiff::Timestamp;
use monitor_common::{Counters, Kind};

use crate::model::{LossRow, LossView};

/// Counters as last seen, and what was told of them.
#[derive(Debug, Default)]
pub struct Losses {
    last: Vec<LossRow>,
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

    /// Everything so far, one row a stage and kind.
    pub fn rows(&self) -> Vec<LossRow> {
        self.last.clone()
    }

    /// Takes the kernel's new counters, and the rows of the stages and tables behind it; a record where
    /// something was lost since the last one.
    pub fn update(&mut self, counters: &Counters, behind: Vec<LossRow>, at: Timestamp) -> Option<LossView> {
        let mut now = rows(counters);
        now.extend(behind);
        let before: HashMap<(&str, &str), &LossRow> =
            self.told.iter().map(|row| ((&*row.stage, &*row.kind), row)).collect();
        let since: Vec<LossRow> = now
            .iter()
            .map(|row| {
                let Some(before) = before.get(&(&*row.stage, &*row.kind)) else { return row.clone() };
                LossRow {
                    offered: row.offered.saturating_sub(before.offered),
                    delivered: row.delivered.saturating_sub(before.delivered),
                    lost: row.lost.saturating_sub(before.lost),
                    lost_bytes: row.lost_bytes.saturating_sub(before.lost_bytes),
                    ..row.clone()
                }
            })
            .filter(|row| row.lost > 0)
            .collect();
        self.last = now;
        if since.is_empty() {
            return None;
        }
        self.told = self.last.clone();
        self.told_at = *counters;
        Some(LossView { at, rows: since })
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
    // Datagrams of such sockets belong to no flow; connections are counted by the kernel itself.
    let without_flow = counters.totals[monitor_common::totals::UDP_NO_STORAGE];
    let refused = counters.storage_refused;
    rows.push(row("kernel", "socket_storage", refused, refused, without_flow));
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
        assert!(losses.update(&counters, Vec::new(), Timestamp::UNIX_EPOCH).is_none());
        counters.overflow_full = 1;
        counters.lost[Kind::Close as usize] = 5;
        let told = losses.update(&counters, Vec::new(), Timestamp::UNIX_EPOCH).expect("told");
        assert_eq!((told.rows[0].offered, told.rows[0].delivered, told.rows[0].lost), (10, 9, 1));
        assert!(losses.update(&counters, Vec::new(), Timestamp::UNIX_EPOCH).is_none());
    }
}
