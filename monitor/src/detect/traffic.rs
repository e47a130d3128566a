//! `traffic-spike` and `traffic-stopped`: a stream whose flows, bytes or failures a second depart from
//! its own past.
//!
//! In: the totals of every stream, once a second. Out: what departs, and what is usual again. The past
//! is the last half hour, as rates over intervals of ten seconds; the usual is its median, and how far
//! a rate strays as a rule is the median of the distances from it (MAD), so that a few wild intervals
//! move neither. A new level becomes the usual one after a quarter of an hour.
//!
//! A *spike*: two intervals in a row of so many times the usual (by sensitivity 10, 5, 3), beyond so
//! many MADs (12, 8, 5), and beyond a floor below which nothing is worth a word: 50 flows, 4 MB or 10
//! failures in ten seconds. A *stop*: a stream that moved bytes in nine intervals of ten for ten minutes
//! or more, and none for two minutes, one, or half of one, and for three times its longest pause.
//! Nothing is said of a stream in its first minutes (`warm_up_s`).
//!
//! False positives: what is rare and regular (a backup at night, a job every hour) is a spike each time,
//! since the past is half an hour; a client that is shut down on purpose has stopped. Both are told
//! low.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Finding;
use crate::config::{self, Sensitivity};
use crate::model::{Rule, Severity};

/// Intervals remembered.
const HISTORY: usize = 180;

/// Streams remembered; beyond, the one that is quiet for longest goes.
const WATCHED: usize = 8192;

/// Streams are regular after so many intervals.
const REGULAR: usize = 60;

/// What is measured, and how people call it.
const MEASURES: [(&str, f32); 3] = [("flows", 50.0), ("bytes", 4_000_000.0), ("failures", 10.0)];

/// Totals of a stream, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub flows: u64,
    pub bytes: u64,
    pub failures: u64,
}

/// What the look at a stream gave.
#[derive(Debug)]
pub enum Departure {
    /// It departs; the alert stays open until it is `Usual` again.
    Finding(Finding),
    /// The key of an alert whose condition is gone.
    Usual(String),
}

/// The past of all streams. It can be written down and read back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Traffic {
    #[serde(skip, default)]
    settings: Thresholds,
    streams: HashMap<String, Past>,
    /// When the interval began, ns.
    #[serde(skip)]
    began_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Thresholds {
    off: bool,
    interval_ns: u64,
    warm_up: usize,
    times: f32,
    mads: f32,
    /// Intervals without traffic.
    silent: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Past {
    #[serde(skip)]
    totals: Option<Totals>,
    /// Of each interval: flows, bytes and failures.
    intervals: VecDeque<[f32; 3]>,
    /// Intervals in a row beyond the usual.
    #[serde(skip)]
    beyond: [u8; 3],
    #[serde(skip)]
    spiking: [bool; 3],
    #[serde(skip)]
    stopped: bool,
    /// Intervals without traffic up to now.
    silent: u32,
}

impl Traffic {
    pub fn new(settings: &config::Traffic) -> Self {
        let mut traffic = Traffic { settings: Thresholds::default(), streams: HashMap::new(), began_ns: 0 };
        traffic.set(settings);
        traffic
    }

    /// Puts settings in force, after reading the past back.
    pub fn set(&mut self, settings: &config::Traffic) {
        let (times, mads, silent_s) = match settings.sensitivity {
            Sensitivity::Off | Sensitivity::Low => (10.0, 12.0, 120),
            Sensitivity::Medium => (5.0, 8.0, 60),
            Sensitivity::High => (3.0, 5.0, 30),
        };
        let intervals = |seconds: u32| seconds.div_ceil(settings.interval_s.max(1)) as usize;
        self.settings = Thresholds {
            off: settings.sensitivity == Sensitivity::Off,
            interval_ns: u64::from(settings.interval_s) * 1_000_000_000,
            warm_up: intervals(settings.warm_up_s).max(3),
            times,
            mads,
            silent: intervals(silent_s).max(2),
        };
    }

    /// Streams whose past is held.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether an interval is over, and the totals are wanted.
    pub fn is_due(&self, now_ns: u64) -> bool {
        !self.settings.off && now_ns.saturating_sub(self.began_ns) >= self.settings.interval_ns
    }

    /// The interval is over: takes the totals of every stream.
    pub fn interval(
        &mut self,
        streams: impl Iterator<Item = (String, Totals)>,
        now_ns: u64,
    ) -> Vec<Departure> {
        self.began_ns = now_ns;
        let mut departures = Vec::new();
        for (subject, totals) in streams {
            if !self.streams.contains_key(&subject) && self.streams.len() >= WATCHED {
                self.forget_one(&mut departures);
            }
            let settings = self.settings;
            let past = self.streams.entry(subject.clone()).or_default();
            past.interval(&subject, totals, &settings, &mut departures);
        }
        departures
    }

    fn forget_one(&mut self, departures: &mut Vec<Departure>) {
        let quietest = self.streams.iter().max_by_key(|(_, past)| past.silent).map(|(key, _)| key.clone());
        if let Some(subject) = quietest
            && let Some(past) = self.streams.remove(&subject)
        {
            if past.stopped {
                departures.push(Departure::Usual(key(Rule::TrafficStopped, &subject, None)));
            }
            for (measure, spiking) in past.spiking.iter().enumerate() {
                if *spiking {
                    departures.push(Departure::Usual(key(Rule::TrafficSpike, &subject, Some(measure))));
                }
            }
        }
    }
}

impl Past {
    fn interval(
        &mut self,
        subject: &str,
        totals: Totals,
        settings: &Thresholds,
        departures: &mut Vec<Departure>,
    ) {
        let Some(before) = self.totals.replace(totals) else { return };
        let more = |now: u64, then: u64| now.saturating_sub(then) as f32;
        let rates = [
            more(totals.flows, before.flows),
            more(totals.bytes, before.bytes),
            more(totals.failures, before.failures),
        ];
        self.silent = if rates[1] > 0.0 || rates[0] > 0.0 { 0 } else { self.silent.saturating_add(1) };
        if self.intervals.len() >= settings.warm_up {
            for (measure, rate) in rates.into_iter().enumerate() {
                self.spike(subject, measure, rate, settings, departures);
            }
            self.stop(subject, settings, departures);
        }
        if self.intervals.len() >= HISTORY {
            self.intervals.pop_front();
        }
        self.intervals.push_back(rates);
    }

    fn spike(
        &mut self,
        subject: &str,
        measure: usize,
        rate: f32,
        settings: &Thresholds,
        departures: &mut Vec<Departure>,
    ) {
        let (name, floor) = MEASURES[measure];
        let interval_s = (settings.interval_ns / 1_000_000_000).max(1) as f32;
        let floor = floor * interval_s / 10.0;
        // Nothing below the floor is worth looking at the past for.
        if rate < floor && !self.spiking[measure] {
            self.beyond[measure] = 0;
            return;
        }
        let mut rates: Vec<f32> = self.intervals.iter().map(|interval| interval[measure]).collect();
        let usual = median(&mut rates);
        let mut distances: Vec<f32> = rates.iter().map(|rate| (rate - usual).abs()).collect();
        // 1.4826: of a normal distribution the MAD is then its standard deviation.
        let strays = 1.4826 * median(&mut distances);
        let limit = floor.max(usual * settings.times).max(usual + settings.mads * strays);
        if rate > limit {
            self.beyond[measure] = self.beyond[measure].saturating_add(1);
            if self.beyond[measure] >= 2 {
                self.spiking[measure] = true;
                let per_s = |rate: f32| rate / interval_s;
                departures.push(Departure::Finding(Finding {
                    rule: Rule::TrafficSpike,
                    subject: about(subject, Some(measure)),
                    severity: if name == "failures" { Severity::Medium } else { Severity::Low },
                    reason: format!(
                        "{subject}: {:.0} {name} a second, where {:.1} are usual",
                        per_s(rate),
                        per_s(usual)
                    ),
                    remedy: "Look at what the client does; if this is its new level, it is the usual one in \
                             a quarter of an hour."
                        .to_owned(),
                    flow: None,
                    listener: None,
                }));
            }
        } else {
            self.beyond[measure] = 0;
            // Half of what opened it: at the edge it does not come and go.
            if self.spiking[measure] && rate < limit / 2.0 {
                self.spiking[measure] = false;
                departures.push(Departure::Usual(key(Rule::TrafficSpike, subject, Some(measure))));
            }
        }
    }

    fn stop(&mut self, subject: &str, settings: &Thresholds, departures: &mut Vec<Departure>) {
        if self.silent == 0 {
            if std::mem::take(&mut self.stopped) {
                departures.push(Departure::Usual(key(Rule::TrafficStopped, subject, None)));
            }
            return;
        }
        let silent = self.silent as usize;
        if self.stopped || silent < settings.silent {
            return;
        }
        // What was before this pause.
        let before = self.intervals.len().saturating_sub(silent - 1);
        let past: Vec<bool> =
            self.intervals.iter().take(before).map(|interval| interval[0] + interval[1] > 0.0).collect();
        let moved = past.iter().filter(|moved| **moved).count();
        let longest = past.split(|moved| *moved).map(<[bool]>::len).max().unwrap_or(0);
        if past.len() < REGULAR || moved * 10 < past.len() * 9 || silent < 3 * longest {
            return;
        }
        self.stopped = true;
        let seconds = silent as u64 * settings.interval_ns / 1_000_000_000;
        departures.push(Departure::Finding(Finding {
            rule: Rule::TrafficStopped,
            subject: subject.to_owned(),
            severity: Severity::Low,
            reason: format!("{subject}: no traffic for {seconds} s, where there was always some"),
            remedy: "See whether both ends still run; if it was ended on purpose, acknowledge this."
                .to_owned(),
            flow: None,
            listener: None,
        }));
    }
}

fn about(subject: &str, measure: Option<usize>) -> String {
    match measure {
        Some(measure) => format!("{subject} {}", MEASURES[measure].0),
        None => subject.to_owned(),
    }
}

fn key(rule: Rule, subject: &str, measure: Option<usize>) -> String {
    format!("{}|{}", rule.as_str(), about(subject, measure))
}

fn median(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 10_000_000_000;

    struct Rig {
        traffic: Traffic,
        totals: Totals,
        now_ns: u64,
    }

    impl Rig {
        fn new() -> Rig {
            Rig {
                traffic: Traffic::new(&config::Traffic::default()),
                totals: Totals::default(),
                now_ns: INTERVAL,
            }
        }

        /// One interval with this traffic: the rules that open, and those that close.
        fn step(&mut self, flows: u64, bytes: u64) -> (Vec<Rule>, usize) {
            self.totals.flows += flows;
            self.totals.bytes += bytes;
            self.now_ns += INTERVAL;
            assert!(self.traffic.is_due(self.now_ns));
            let streams = [("a → b:80/tcp".to_owned(), self.totals)];
            let departures = self.traffic.interval(streams.into_iter(), self.now_ns);
            let usual = departures.iter().filter(|d| matches!(d, Departure::Usual(_))).count();
            let found = departures.into_iter().filter_map(|departure| match departure {
                Departure::Finding(finding) => Some(finding.rule),
                Departure::Usual(_) => None,
            });
            (found.collect(), usual)
        }
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
        for _ in 0..100 {
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
    fn a_stream_that_comes_and_goes_never_stops() {
        let mut rig = Rig::new();
        for n in 0..400u64 {
            let (flows, bytes) = if n % 13 < 3 { (1, 500) } else { (0, 0) };
            assert_eq!(rig.step(flows, bytes).0, []);
        }
    }

    /// A day of ordinary traffic: it follows the hour, with noise and pauses.
    #[test]
    fn a_day_of_ordinary_traffic_is_quiet() {
        let mut rig = Rig::new();
        let mut random = 88_172_645_463_325_252_u64;
        for n in 0..8640u64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let hour = (n as f64 / 360.0 / 24.0 * std::f64::consts::TAU).sin() + 1.2;
            let noise = 0.5 + (random % 1000) as f64 / 1000.0;
            let flows = (40.0 * hour * noise) as u64;
            assert_eq!(rig.step(flows, flows * 30_000).0, [], "at interval {n}");
        }
    }

    #[test]
    fn the_past_can_be_written_down_and_read_back() {
        let mut rig = Rig::new();
        for _ in 0..60 {
            rig.step(10, 10_000);
        }
        let text = serde_json::to_string(&rig.traffic).expect("JSON");
        let mut back: Traffic = serde_json::from_str(&text).expect("the same");
        back.set(&config::Traffic::default());
        rig.traffic = back;
        rig.step(10, 10_000);
        rig.step(2000, 50_000_000);
        assert_eq!(rig.step(2000, 50_000_000).0, [Rule::TrafficSpike, Rule::TrafficSpike]);
    }
}
