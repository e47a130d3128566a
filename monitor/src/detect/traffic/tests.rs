//! Streams with a clock of their own: minutes here, weeks in [`weeks`].

mod weeks;

use std::time::Duration;

use super::*;

const INTERVAL: u64 = 10_000_000_000;
const SUBJECT: &str = "a → b:80/tcp";

struct Rig {
    traffic: Traffic,
    totals: Totals,
    now_ns: u64,
    wall: Timestamp,
}

impl Rig {
    fn new() -> Rig {
        Rig {
            traffic: Traffic::new(&config::Traffic::default()),
            totals: Totals { open: 1, ..Totals::default() },
            now_ns: INTERVAL,
            // A Thursday, on the hour.
            wall: "2026-01-01T12:00:00Z".parse().expect("a time"),
        }
    }

    /// One interval with this traffic: the rules that open, and those that close.
    fn step(&mut self, flows: u64, bytes: u64) -> (Vec<Rule>, usize) {
        self.totals.flows += flows;
        self.totals.bytes += bytes;
        self.now_ns += INTERVAL;
        self.wall += Duration::from_nanos(INTERVAL);
        assert!(self.traffic.is_due(self.now_ns));
        let streams = [(SUBJECT.to_owned(), self.totals)];
        let departures = self.traffic.interval(streams.into_iter(), self.now_ns, self.wall);
        told(departures)
    }

    /// An interval in which the stream is not there.
    fn step_without(&mut self) -> (Vec<Rule>, usize) {
        self.now_ns += INTERVAL;
        self.wall += Duration::from_nanos(INTERVAL);
        told(self.traffic.interval(std::iter::empty(), self.now_ns, self.wall))
    }

    /// The daemon ends, and another begins after some time.
    fn restart(&mut self, after: Duration) {
        self.traffic.keep_all();
        let kept = kept(self.traffic.take_baselines(self.wall));
        self.wall += after;
        self.traffic = Traffic::new(&config::Traffic::default());
        assert_eq!(self.traffic.restore(kept, self.wall), 0);
        self.totals = Totals { open: self.totals.open, ..Totals::default() };
    }
}

/// What the file holds.
fn kept(baselines: Vec<Baseline>) -> Vec<(String, Vec<u8>)> {
    let kept = baselines.into_iter().filter_map(|baseline| match baseline {
        Baseline::Kept(subject, bytes) => Some((subject, bytes)),
        Baseline::Gone(_) => None,
    });
    kept.collect()
}

fn told(departures: Vec<Departure>) -> (Vec<Rule>, usize) {
    let usual = departures.iter().filter(|d| matches!(d, Departure::Usual(_))).count();
    let found = departures.into_iter().filter_map(|departure| match departure {
        Departure::Begins(finding) | Departure::GoesOn(finding) => Some(finding.rule),
        Departure::Usual(_) => None,
    });
    (found.collect(), usual)
}

#[test]
fn sudden_load_is_a_spike_and_its_end_is_told() {
    let mut rig = Rig::new();
    for n in 0..60 {
        assert_eq!(rig.step(10 + n % 3, 10_000 + 100 * (n % 7)).0, []);
    }
    assert_eq!(rig.step(2000, 50_000_000).0, [], "one interval is none");
    assert_eq!(rig.step(2000, 50_000_000).0, [Rule::TrafficSpike, Rule::TrafficSpike]);
    assert_eq!(rig.step(10, 10_000), (vec![], 2));
}

#[test]
fn a_new_stream_is_only_watched() {
    let mut rig = Rig::new();
    for n in 0..30 {
        assert_eq!(rig.step(1, if n % 2 == 0 { 1 } else { 900_000_000 }).0, [], "{n}");
    }
}

#[test]
fn a_warm_up_may_be_longer_than_what_is_remembered_of_lately() {
    let mut rig = Rig::new();
    rig.traffic = Traffic::new(&config::Traffic { warm_up_s: 7200, ..config::Traffic::default() });
    for n in 0..700 {
        assert_eq!(rig.step(1, 1000).0, [], "{n}");
    }
    rig.step(3000, 1000);
    assert_eq!(rig.step(3000, 1000).0, [], "within two hours");
    for _ in 0..60 {
        rig.step(1, 1000);
    }
    rig.step(3000, 1000);
    assert_eq!(rig.step(3000, 1000).0, [Rule::TrafficSpike]);
}

#[test]
fn what_is_small_is_no_spike() {
    let mut rig = Rig::new();
    for _ in 0..100 {
        assert_eq!(rig.step(0, 10).0, []);
    }
    for _ in 0..10 {
        assert_eq!(rig.step(20, 1_000_000).0, []);
    }
}

#[test]
fn a_regular_stream_that_falls_silent_has_stopped_until_it_goes_on() {
    let mut rig = Rig::new();
    for _ in 0..170 {
        rig.step(1, 1000);
    }
    for _ in 0..5 {
        assert_eq!(rig.step(0, 0).0, []);
    }
    assert_eq!(rig.step(0, 0).0, [Rule::TrafficStopped]);
    assert_eq!(rig.step(0, 0).0, []);
    assert_eq!(rig.step(1, 1000), (vec![], 1));
}

#[test]
fn a_transfer_that_is_over_has_not_stopped() {
    let mut rig = Rig::new();
    rig.step(0, 0);
    rig.step(1, 1_000_000);
    for _ in 0..300 {
        assert_eq!(rig.step(0, 1_000_000).0, []);
    }
    rig.totals.open = 0;
    for _ in 0..100 {
        assert_eq!(rig.step(0, 0).0, []);
    }
}

#[test]
fn a_job_of_twenty_minutes_is_over_and_has_not_stopped() {
    let mut rig = Rig::new();
    rig.step(0, 0);
    for _ in 0..120 {
        assert_eq!(rig.step(3, 90_000_000).0, []);
    }
    for _ in 0..200 {
        assert_eq!(rig.step(0, 0).0, []);
    }
}

#[test]
fn a_connection_that_hangs_and_one_that_ends_after_a_day_have_stopped() {
    for (intervals, open) in [(170, 1), (8640, 0)] {
        let mut rig = Rig::new();
        rig.step(1, 1_000_000);
        for _ in 0..intervals {
            assert_eq!(rig.step(0, 1_000_000).0, []);
        }
        rig.totals.open = open;
        let found: Vec<Rule> = (0..10).flat_map(|_| rig.step(0, 0).0).collect();
        assert_eq!(found, [Rule::TrafficStopped]);
    }
}

#[test]
fn a_stream_that_comes_and_goes_never_stops() {
    let mut rig = Rig::new();
    for n in 0..400u64 {
        let (flows, bytes) = if n % 13 < 3 { (1, 500) } else { (0, 0) };
        assert_eq!(rig.step(flows, bytes).0, []);
    }
}

#[test]
fn a_job_every_ten_minutes_is_no_spike_and_a_wild_one_is() {
    let mut rig = Rig::new();
    for n in 0..2000u64 {
        let found = rig.step(0, if n % 60 < 4 { 90_000_000 } else { 0 }).0;
        assert_eq!(found, [], "at {n}");
    }
    rig.step(0, 2_000_000_000);
    assert_eq!(rig.step(0, 2_000_000_000).0, [Rule::TrafficSpike]);
}

#[test]
fn a_stream_that_hardly_ever_moved_has_no_level_to_depart_from() {
    let mut rig = Rig::new();
    for n in 0..1000u64 {
        // Half a minute of a download, and again after twenty minutes.
        let found = rig.step(0, if n % 120 < 3 { 90_000_000 } else { 0 }).0;
        assert_eq!(found, [], "at {n}");
    }
}

#[test]
fn failures_where_there_were_none_are_told() {
    let mut rig = Rig::new();
    for _ in 0..60 {
        rig.step(1, 1000);
    }
    rig.totals.failures += 100;
    assert_eq!(rig.step(1, 1000).0, []);
    rig.totals.failures += 100;
    assert_eq!(rig.step(1, 1000).0, [Rule::TrafficSpike]);
}

#[test]
fn a_restart_in_between_changes_nothing() {
    let mut rig = Rig::new();
    for _ in 0..60 {
        rig.step(10, 10_000);
    }
    rig.restart(Duration::from_secs(20));
    rig.step(10, 10_000);
    assert_eq!(rig.step(2000, 50_000_000).0, []);
    assert_eq!(rig.step(2000, 50_000_000).0, [Rule::TrafficSpike, Rule::TrafficSpike]);
}

#[test]
fn after_a_long_time_without_the_daemon_a_stream_is_new_again() {
    let mut rig = Rig::new();
    for _ in 0..60 {
        rig.step(10, 10_000);
    }
    rig.restart(Duration::from_secs(7200));
    for _ in 0..30 {
        assert_eq!(rig.step(2000, 50_000_000).0, []);
    }
}

#[test]
fn what_stopped_before_a_restart_is_held_again_and_what_does_not_come_back_has_stopped() {
    let mut rig = Rig::new();
    for _ in 0..170 {
        rig.step(1, 1000);
    }
    for _ in 0..6 {
        rig.step(0, 0);
    }
    rig.restart(Duration::from_secs(20));
    let found: Vec<Rule> = (0..60).flat_map(|_| rig.step_without().0).collect();
    assert_eq!(found, [Rule::TrafficStopped], "once in each life");
    assert_eq!(rig.step(1, 1000), (vec![], 1));

    let mut rig = Rig::new();
    for _ in 0..170 {
        rig.step(1, 1000);
    }
    rig.restart(Duration::from_secs(20));
    for n in 0..30 {
        assert_eq!(rig.step_without().0, [], "at {n}: a host that boots takes some minutes");
    }
    let found: Vec<Rule> = (0..10).flat_map(|_| rig.step_without().0).collect();
    assert_eq!(found, [Rule::TrafficStopped]);
}

#[test]
fn an_interval_that_took_too_long_is_no_spike() {
    let mut rig = Rig::new();
    for _ in 0..60 {
        rig.step(10, 1_000_000);
    }
    // Late by half: as much more came.
    for _ in 0..3 {
        rig.now_ns += INTERVAL / 2;
        assert_eq!(rig.step(15, 1_500_000).0, []);
    }
    // Held up for an hour.
    for _ in 0..2 {
        rig.now_ns += 360 * INTERVAL;
        assert_eq!(rig.step(3600, 360_000_000).0, []);
    }
}

#[test]
fn a_crowd_of_streams_pushes_out_no_stream_that_is_known() {
    let mut rig = Rig::new();
    let crowd = |from: usize| {
        (from..from + WATCHED).map(|n| (format!("{n} → b:80/tcp"), Totals { flows: 1, ..Totals::default() }))
    };
    for n in 0..230u64 {
        let mut streams = vec![(SUBJECT.to_owned(), Totals { bytes: n * 1000, ..Totals::default() })];
        // Others come in their thousands now and then, and are never heard of again.
        if n % 200 == 10 {
            streams.extend(crowd(n as usize * WATCHED));
        }
        rig.now_ns += INTERVAL;
        rig.wall += Duration::from_nanos(INTERVAL);
        assert!(told(rig.traffic.interval(streams.into_iter(), rig.now_ns, rig.wall)).0.is_empty());
        assert!(rig.traffic.len() <= WATCHED);
    }
    assert!(rig.traffic.streams[SUBJECT].past.age > 200);
    assert!(rig.traffic.refused > 0 && rig.traffic.evicted > 0);
    // What was never more than a moment is not written down.
    rig.traffic.keep_all();
    let kept = kept(rig.traffic.take_baselines(rig.wall));
    assert!(!kept.is_empty() && kept.iter().all(|(subject, _)| subject == SUBJECT));
}

#[test]
fn so_many_are_written_down_at_a_time() {
    let mut rig = Rig::new();
    let mut written = std::collections::HashMap::<String, u32>::new();
    for n in 0..200u64 {
        let totals = Totals { bytes: n * 1000, ..Totals::default() };
        let streams = (0..500).map(|stream| (format!("{stream} → b:80/tcp"), totals));
        rig.now_ns += INTERVAL;
        rig.wall += Duration::from_nanos(INTERVAL);
        rig.traffic.interval(streams, rig.now_ns, rig.wall);
        let baselines = rig.traffic.take_baselines(rig.wall);
        assert!(baselines.len() <= KEEP_AT_ONCE);
        for baseline in baselines {
            let Baseline::Kept(subject, bytes) = baseline else { panic!("gone") };
            assert!(!bytes.is_empty() && bytes.len() < 8192);
            *written.entry(subject).or_default() += 1;
        }
    }
    assert_eq!(written.len(), 500, "everyone's turn comes");
    assert!(written.values().all(|times| (3..=6).contains(times)), "{written:?}");
}
