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
    /// Bytes that passed in datagrams of no flow.
    of_no_flow: u64,
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

    /// Bytes of datagrams that are of no flow: seen, and in no flow's totals.
    pub fn of_no_flow_bytes(&self) -> u64 {
        self.of_no_flow
    }

    /// Takes the kernel's new counters, and the rows of the stages and tables behind it; a record where
    /// something was lost since the last one.
    pub fn update(&mut self, counters: &Counters, behind: Vec<LossRow>, at: Timestamp) -> Option<LossView> {
        let mut now = rows(counters);
        self.of_no_flow = counters.totals[monitor_common::totals::UDP_NO_STORAGE]
            .saturating_add(counters.udp_untracked_bytes);
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
    #![allow(clippy::unwrap_used)]

    use std::io::{self, ErrorKind, Write};
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::model::Record;
    use crate::record::{Format, samples};
    use crate::sink::{Kind as RecordKind, Patience, Sink, SinkHandle};

    /// What becomes of a write.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Way {
        Taken,
        /// So many bytes, and no room for more.
        Full(usize),
        /// Nobody reads.
        Stuck,
    }

    #[derive(Clone)]
    struct Reader {
        way: Arc<Mutex<Way>>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            loop {
                let length = {
                    let mut way = self.way.lock().unwrap();
                    match &mut *way {
                        Way::Taken => Some(bytes.len()),
                        Way::Full(0) => return Err(ErrorKind::StorageFull.into()),
                        Way::Full(left) => {
                            let length = bytes.len().min(*left);
                            *left -= length;
                            Some(length)
                        }
                        Way::Stuck => None,
                    }
                };
                if let Some(length) = length {
                    self.read.lock().unwrap().extend_from_slice(&bytes[..length]);
                    return Ok(length);
                }
                thread::sleep(Duration::from_micros(50));
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn settled(sink: &SinkHandle) {
        let counters = sink.counters();
        let until = Instant::now() + Duration::from_secs(20);
        while counters.offered() != counters.delivered() + counters.lost() {
            assert!(Instant::now() < until, "the output does not go on");
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// One second: records that come, what the kernel lost, and what becomes of what is written.
    #[derive(Clone, Debug)]
    struct Second {
        flows: usize,
        alerts: usize,
        kernel: u64,
        way: Way,
        waits: bool,
    }

    fn second() -> impl Strategy<Value = Second> {
        let way = prop_oneof![Just(Way::Taken), (0..12_000_usize).prop_map(Way::Full), Just(Way::Stuck)];
        (0..40_usize, 0..4_usize, prop_oneof![Just(0), 1..9_u64], way, any::<bool>())
            .prop_map(|(flows, alerts, kernel, way, waits)| Second { flows, alerts, kernel, way, waits })
    }

    fn sums(rows: &[LossRow]) -> HashMap<(String, String), (u64, u64)> {
        let mut sums = HashMap::new();
        for row in rows.iter().filter(|row| row.lost > 0) {
            let sum: &mut (u64, u64) = sums.entry((row.stage.clone(), row.kind.clone())).or_default();
            *sum = (sum.0 + row.lost, sum.1 + row.lost_bytes);
        }
        sums
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn loss_records_that_arrive_say_all_that_was_lost_with_those_that_did_not(
            seconds in prop::collection::vec(second(), 1..20),
        ) {
            let reader = Reader { way: Arc::new(Mutex::new(Way::Taken)), read: Arc::default() };
            let sink = Sink::start(Format::Ecs, samples::context(), reader.clone(), 16).unwrap();
            let (mut losses, mut counters) = (Losses::default(), Counters::default());
            let samples = samples::records();
            let alert = samples.iter().find(|record| RecordKind::of(record) == RecordKind::Alert).unwrap();
            for second in seconds {
                *reader.way.lock().unwrap() = second.way;
                (0..second.flows).for_each(|_| sink.send(samples[0].clone()));
                (0..second.alerts).for_each(|_| sink.send(alert.clone()));
                counters.offered[Kind::Capture as usize] += second.kernel;
                counters.lost[Kind::Capture as usize] += second.kernel;
                counters.lost_bytes += 100 * second.kernel;
                let told = losses.update(&counters, sink.counters().rows(), Timestamp::UNIX_EPOCH);
                told.into_iter().for_each(|loss| sink.send(Record::Loss(loss)));
                if second.waits && second.way != Way::Stuck {
                    settled(&sink);
                }
            }
            // It flows again.
            *reader.way.lock().unwrap() = Way::Taken;
            settled(&sink);
            while let Some(loss) = losses.update(&counters, sink.counters().rows(), Timestamp::UNIX_EPOCH) {
                sink.send(Record::Loss(loss));
                settled(&sink);
            }
            prop_assert!(sink.losses_are_told());
            let patience = Duration::from_secs(20);
            let delivered = sink.finish(Patience { stuck: patience, in_all: patience }).delivered();

            let read = reader.read.lock().unwrap();
            // What was cut is no record.
            let lines: Vec<serde_json::Value> =
                read.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
            prop_assert_eq!(lines.len() as u64, delivered);
            let rows: Vec<LossRow> = lines
                .iter()
                .filter_map(|line| line.pointer("/streamwatch/loss/rows"))
                .flat_map(|rows| serde_json::from_value::<Vec<LossRow>>(rows.clone()).unwrap())
                .collect();
            prop_assert_eq!(sums(&rows), sums(&losses.rows()));
        }
    }

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
