//! Weeks of traffic with days and weeks in it, with every seed and every fault of the clock.

use proptest::prelude::*;

use super::*;

/// Longer intervals than usual: weeks pass faster.
const MINUTE: u64 = 60;

const DAY: i64 = 24 * 60;

/// A host with one stream, of a shape, for weeks.
struct Host {
    traffic: Traffic,
    /// Flows and bytes a minute.
    shape: fn(Hour) -> (f64, f64),
    totals: Totals,
    now_ns: u64,
    /// What the wall clock says, s since 1970, and what it is since the beginning.
    wall_s: i64,
    true_s: i64,
    random: u64,
    told: Vec<(i64, Rule)>,
    /// As it was last written down.
    on_disk: Option<Vec<u8>>,
}

/// A true time: a day, from a Monday on, and an hour of it.
#[derive(Clone, Copy)]
struct Hour {
    day: i64,
    hour: f64,
}

impl Host {
    fn new(shape: fn(Hour) -> (f64, f64), seed: u64) -> Host {
        let monday: Timestamp = "2026-01-05T00:00:00Z".parse().expect("a time");
        Host {
            traffic: Traffic::new(&settings()),
            shape,
            totals: Totals { open: 1, ..Totals::default() },
            now_ns: 1,
            wall_s: monday.as_second(),
            true_s: 0,
            random: seed | 1,
            told: Vec::new(),
            on_disk: None,
        }
    }

    fn write_down(&mut self) {
        for baseline in self.traffic.take_baselines(self.wall()) {
            self.on_disk = match baseline {
                Baseline::Kept(_, bytes) => Some(bytes),
                Baseline::Gone(_) => None,
            };
        }
    }

    /// Between a half and one and a half.
    fn noise(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        0.5 + (self.random % 1000) as f64 / 1000.0
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_second(self.wall_s).expect("a time")
    }

    /// Time passes, with so much traffic more than its shape.
    fn pass(&mut self, minutes: i64, more_bytes: u64) {
        for _ in 0..minutes {
            let hour = (self.true_s % 86_400) as f64 / 3600.0;
            let (flows, bytes) = (self.shape)(Hour { day: self.true_s / 86_400, hour });
            let noise = self.noise();
            self.totals.flows += (flows * noise) as u64;
            self.totals.bytes += (bytes * noise) as u64 + more_bytes;
            self.true_s += MINUTE as i64;
            self.wall_s += MINUTE as i64;
            self.now_ns += MINUTE * 1_000_000_000;
            let streams = [(SUBJECT.to_owned(), self.totals)];
            let wall = self.wall();
            let departures = self.traffic.interval(streams.into_iter(), self.now_ns, wall);
            self.told.extend(told(departures).0.into_iter().map(|rule| (self.true_s, rule)));
            self.write_down();
        }
    }

    fn restart(&mut self) {
        self.traffic.keep_all();
        self.write_down();
        let kept = self.on_disk.clone().map(|bytes| (SUBJECT.to_owned(), bytes)).into_iter().collect();
        self.traffic = Traffic::new(&settings());
        assert_eq!(self.traffic.restore(kept, self.wall()), 0);
        self.totals = Totals { open: 1, ..Totals::default() };
    }

    /// What was told from a day on.
    fn since(&self, day: i64) -> Vec<String> {
        let told = self.told.iter().filter(|(at_s, _)| *at_s >= day * 86_400);
        told.map(|(at_s, rule)| {
            let (day, hour) = (at_s / 86_400, at_s % 86_400 / 3600);
            format!("{rule:?} on day {day} at {hour}:{:02}", at_s % 3600 / 60)
        })
        .collect()
    }
}

fn settings() -> config::Traffic {
    config::Traffic { interval_s: MINUTE as u32, ..config::Traffic::default() }
}

/// An office: little at night and on weekends, at three in the morning a backup, Sundays a bigger one.
fn office(at: Hour) -> (f64, f64) {
    let weekend = at.day % 7 >= 5;
    let open = !weekend && (8.5..18.0).contains(&at.hour);
    let (mut flows, mut bytes) = if open { (600.0, 60e6) } else { (3.0, 200e3) };
    if (3.0..3.5).contains(&at.hour) {
        (flows, bytes) = (flows + 1.0, bytes + 6e9);
    }
    if at.day % 7 == 6 && (1.0..2.0).contains(&at.hour) {
        bytes += 40e9;
    }
    (flows, bytes)
}

/// One that runs while the office is open, and is silent else.
fn only_by_day(at: Hour) -> (f64, f64) {
    if at.day % 7 < 5 && (8.0..18.0).contains(&at.hour) { (60.0, 1e6) } else { (0.0, 0.0) }
}

#[test]
fn in_the_third_week_neither_mornings_nor_backups_are_told() {
    let mut host = Host::new(office, 1);
    host.pass(14 * DAY, 0);
    assert!(!host.since(0).is_empty(), "the first backups are not expected: else nothing is tested");
    host.pass(14 * DAY, 0);
    assert_eq!(host.since(14), [""; 0]);
}

#[test]
fn a_real_spike_is_told_in_office_hours_at_night_and_during_the_backup() {
    for (hour, more) in [(11, 2_000_000_000), (23, 2_000_000_000), (3, 60_000_000_000)] {
        let mut host = Host::new(office, 2);
        host.pass(22 * DAY + hour * 60 + 5, 0);
        host.pass(5, more);
        let told = host.since(14);
        assert!(told.len() >= 2 && told.iter().all(|told| told.contains("TrafficSpike")), "{hour}: {told:?}");
    }
}

#[test]
fn the_end_of_work_is_no_stop_once_it_is_known_and_one_at_noon_is() {
    let mut host = Host::new(only_by_day, 3);
    host.pass(21 * DAY, 0);
    assert!(!host.since(0).is_empty(), "the first evening is not expected: else nothing is tested");
    assert_eq!(host.since(7), [""; 0]);
    // A Monday: noon.
    host.pass(12 * 60, 0);
    host.shape = |_| (0.0, 0.0);
    host.pass(30, 0);
    assert_eq!(host.since(21).len(), 1, "{:?}", host.since(21));
}

#[test]
fn a_stream_that_is_known_to_sleep_is_told_when_it_does_not() {
    let mut host = Host::new(only_by_day, 4);
    host.pass(14 * DAY + 60, 0);
    assert_eq!(host.since(7), [""; 0]);
    // At one in the morning, without five minutes to get used to it.
    host.pass(3, 3_000_000_000);
    assert!(host.since(14).iter().all(|told| told.contains("TrafficSpike")) && !host.since(14).is_empty());
}

#[test]
fn bursts_at_no_fixed_time_are_its_kind() {
    // Every day at another hour: updates, say.
    let updates = |at: Hour| {
        let hour = ((at.day * 7 + 3) % 24) as f64;
        if (hour..hour + 0.4).contains(&at.hour) { (4.0, 3e9) } else { (0.0, 0.0) }
    };
    let mut host = Host::new(updates, 5);
    host.pass(28 * DAY, 0);
    assert_eq!(host.since(0), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Restarts at any time, and steps of the clock by hours and by years that are put right again, leave
    /// the fourth week quiet, and a spike in it is still told.
    #[test]
    fn restarts_and_steps_of_the_clock_do_not_hurt(
        seed in any::<u64>(),
        restarts in prop::collection::vec(1..21 * DAY, 0..6),
        steps in prop::collection::vec(
            (1..20 * DAY, prop_oneof![-7200_i64..7200, -900_000_000_i64..900_000_000], 1_i64..120),
            0..4,
        ),
    ) {
        let mut host = Host::new(office, seed);
        let mut events: Vec<(i64, i64)> = restarts.iter().map(|at| (*at, 0)).collect();
        for (at, by, until) in steps {
            events.extend([(at, by), (at + until, -by)]);
        }
        events.sort_unstable();
        let mut minute = 0;
        for (at, by) in events {
            host.pass(at - minute, 0);
            minute = at;
            if by == 0 {
                host.restart();
            } else {
                host.wall_s += by;
            }
        }
        host.pass(21 * DAY - minute, 0);
        host.pass(DAY + 22 * 60, 0);
        prop_assert_eq!(host.since(21), [""; 0]);
        host.pass(5, 5_000_000_000);
        prop_assert!(host.since(21).iter().any(|told| told.contains("TrafficSpike")));
    }

    /// … also a restart in the very minute in which its past was written down.
    #[test]
    fn a_restart_right_after_writing_loses_nothing(day in 15_i64..20) {
        let mut host = Host::new(office, 9);
        host.pass(day * DAY + 30, 0);
        host.restart();
        host.pass((21 - day) * DAY + DAY, 0);
        prop_assert_eq!(host.since(21), [""; 0]);
    }

    /// Whatever the clock and the totals do, nothing breaks, and memory is bounded.
    #[test]
    fn anything_may_happen(
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<i64>()), 0..300),
    ) {
        let mut traffic = Traffic::new(&settings());
        let mut now_ns: u64 = 0;
        for (n, (flows, bytes, later, wall)) in steps.into_iter().enumerate() {
            now_ns = now_ns.saturating_add(later % 200_000_000_000);
            let wall = Timestamp::from_second(wall % 200_000_000_000).expect("within bounds");
            let totals = Totals { flows, bytes, failures: bytes, open: flows };
            let streams = [(SUBJECT.to_owned(), totals), (format!("{}", n % 3), totals)];
            traffic.interval(streams.into_iter(), now_ns, wall);
            for baseline in traffic.take_baselines(wall) {
                if let Baseline::Kept(subject, bytes) = baseline {
                    prop_assert!(bytes.len() < 8192);
                    prop_assert_eq!(Traffic::new(&settings()).restore(vec![(subject, bytes)], wall), 0);
                }
            }
        }
        prop_assert!(traffic.len() <= 4);
    }

    /// A baseline that was changed or cut on the disk is left out, and counted.
    #[test]
    fn what_is_damaged_is_told(place in any::<prop::sample::Index>(), bit in 0..8, cut in any::<bool>()) {
        let mut host = Host::new(office, 7);
        host.pass(2 * DAY, 0);
        host.traffic.keep_all();
        let (subject, mut bytes) = kept(host.traffic.take_baselines(host.wall())).remove(0);
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] ^= 1_u8 << bit }
        let mut again = Traffic::new(&settings());
        prop_assert_eq!(again.restore(vec![(subject.clone(), bytes)], host.wall()), 1);
        prop_assert!(again.is_empty());
        prop_assert_eq!(again.take_baselines(host.wall()), [Baseline::Gone(subject)]);
    }

    /// Any bytes at all, also under a right checksum.
    #[test]
    fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 0..400), right in any::<bool>()) {
        if right && bytes.len() > 5 {
            bytes[0] = 1;
            let sum = crc32fast::hash(&bytes[5..]).to_le_bytes();
            bytes[1..5].copy_from_slice(&sum);
        }
        let mut traffic = Traffic::new(&settings());
        traffic.restore(vec![(SUBJECT.to_owned(), bytes)], Timestamp::UNIX_EPOCH);
        for n in 1..5 {
            let streams = [(SUBJECT.to_owned(), Totals { flows: n, ..Totals::default() })];
            traffic.interval(streams.into_iter(), n * 60_000_000_000, Timestamp::UNIX_EPOCH);
        }
    }
}
