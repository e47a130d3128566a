//! `traffic-spike` and `traffic-stopped`: a stream whose flows, bytes or failures a second depart from
//! its own past.
//!
//! In: the totals of every stream, every interval (ten seconds). Out: what departs, and what is usual
//! again. The past is twofold. *Lately*: the last half hour; the usual is its median, and how far a rate
//! strays as a rule is the median of the distances from it (MAD), so that a few wild intervals move
//! neither. Of a stream that mostly rests, only intervals in which it moves count, and six of them are needed. A new level becomes
//! the usual one after a quarter of an hour. *The season*: of every hour of four weeks the highest rate
//! that held for two intervals, and the longest pause. The usual is the median over the same hour of the
//! last seven days, once three are known, and over the same hour of the same weekday, once two are known;
//! of a stream that moves in one hour of four or fewer, at no fixed time, the median of those hours.
//!
//! A *spike*: two intervals in a row of so many times what was usual lately (by sensitivity 10, 5, 3),
//! beyond so many MADs (12, 8, 5), beyond the usual peak of this hour (4, 2, 1.5 times, and as many
//! MADs), and beyond a floor below which nothing is worth a word: 50 flows, 4 MB or 10 failures in ten
//! seconds. A *stop*: a stream that moved bytes in nine intervals of ten for 25 minutes or more, and
//! none for two minutes, one, or half of one, for three times its longest pause, and for one and a half
//! times the pause that is usual at this hour. A stream that was one connection, which was closed, has
//! ended rather than stopped, unless it went on for six hours.
//!
//! Nothing is said of a stream in its first minutes (`warm_up_s`), nor when it begins anew after half an
//! hour of silence, unless its hours are known.
//!
//! False positives: what is rare and regular (a backup at night) is a spike for the first three nights,
//! if it goes on for longer than the warm-up; a client that is shut down on purpose has stopped. Both
//! are told low. Not told: a stop within an hour of the time at which the stream stops as a rule.

mod past;
mod saved;
mod season;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::past::Past;
use super::Finding;
use crate::config::{self, Sensitivity};
use crate::model::Rule;

/// Intervals remembered.
const HISTORY: usize = 180;

/// Streams remembered, and those of them with a season: at most 2 and 4 KiB each.
pub(crate) const WATCHED: usize = 8192;
const SEASONS: usize = 4096;

/// Streams are regular after so many intervals.
const REGULAR: usize = 150;

/// A stream is written down at most every so many intervals, and so many streams at a time.
const KEEP_EVERY: u64 = 30;
const KEEP_AT_ONCE: usize = 64;

/// A stream of which nothing was heard for so long is forgotten, s.
const FORGOTTEN: u64 = 35 * 86_400;

/// Longer names are not written down.
const NAME: usize = 1024;

/// What is measured, and how people call it; and less in ten seconds is not worth a word.
const MEASURES: [(&str, f32); 3] = [("flows", 50.0), ("bytes", 4_000_000.0), ("failures", 10.0)];
const FLOWS: usize = 0;
const BYTES: usize = 1;
const FAILURES: usize = 2;

/// Totals of a stream, cumulative; and its connections now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub flows: u64,
    pub bytes: u64,
    pub failures: u64,
    pub open: u64,
}

/// What the look at a stream gave.
#[derive(Debug)]
pub enum Departure {
    /// It departs; the alert stays open until it is `Usual` again.
    Begins(Finding),
    /// It still does.
    GoesOn(Finding),
    /// The key of an alert whose condition is gone.
    Usual(String),
}

/// What is to be written down of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Baseline {
    /// Its past, encoded.
    Kept(String, Vec<u8>),
    /// It is forgotten.
    Gone(String),
}

/// The past of all streams.
#[derive(Debug)]
pub struct Traffic {
    settings: Thresholds,
    streams: HashMap<String, Entry>,
    seasons: usize,
    /// When the interval began, ns.
    began_ns: u64,
    /// Intervals so far.
    looks: u64,
    /// To be written down.
    baselines: Vec<Baseline>,
    /// Streams that found no place, and that had to leave theirs.
    pub refused: u64,
    pub evicted: u64,
}

#[derive(Debug, Default)]
struct Entry {
    past: Past,
    /// The interval in which it was last looked at, and that in which it was last written down.
    looked: u64,
    kept: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Thresholds {
    off: bool,
    interval_ns: u64,
    warm_up: usize,
    times: f32,
    /// The same of the peaks of an hour.
    peaks: f32,
    mads: f32,
    /// Intervals without traffic.
    silent: usize,
}

impl Thresholds {
    fn new(settings: &config::Traffic) -> Self {
        let (times, peaks, mads, silent_s) = match settings.sensitivity {
            Sensitivity::Off | Sensitivity::Low => (10.0, 4.0, 12.0, 120),
            Sensitivity::Medium => (5.0, 2.0, 8.0, 60),
            Sensitivity::High => (3.0, 1.5, 5.0, 30),
        };
        let intervals = |seconds: u32| seconds.div_ceil(settings.interval_s.max(1)) as usize;
        Thresholds {
            off: settings.sensitivity == Sensitivity::Off,
            interval_ns: u64::from(settings.interval_s.max(1)) * 1_000_000_000,
            warm_up: intervals(settings.warm_up_s).max(3),
            times,
            peaks,
            mads,
            silent: intervals(silent_s).max(2),
        }
    }

    fn interval_s(&self) -> u64 {
        self.interval_ns / 1_000_000_000
    }
}

/// What all streams have in common at the end of an interval.
struct Moment {
    settings: Thresholds,
    /// Since 1970.
    hour: i64,
    /// What came counts by so much: the interval was longer than it should be.
    scale: f32,
    /// Nothing was looked at before.
    first: bool,
    /// One more may have a season.
    room: bool,
}

impl Traffic {
    pub fn new(settings: &config::Traffic) -> Self {
        Traffic {
            settings: Thresholds::new(settings),
            streams: HashMap::new(),
            seasons: 0,
            began_ns: 0,
            looks: 0,
            baselines: Vec::new(),
            refused: 0,
            evicted: 0,
        }
    }

    /// Takes over what was written down by the daemon before. Gives how many could not be read: they
    /// are left out, and no longer kept. Where it comes late, it takes the place of the little that is known
    /// of the stream since, except of its totals.
    pub fn restore(&mut self, kept: Vec<(String, Vec<u8>)>, now: Timestamp) -> usize {
        let mut damaged = 0;
        for (subject, bytes) in kept {
            let past = saved::decode(&bytes, self.settings.interval_s(), now);
            damaged += usize::from(past.is_err());
            match past {
                Ok(Some(past)) if self.streams.len() < WATCHED || self.streams.contains_key(&subject) => {
                    self.seasons += usize::from(past.season.is_some());
                    let mut entry = Entry { past, looked: 0, kept: Some(0) };
                    if let Some(since) = self.streams.remove(&subject) {
                        self.seasons -= usize::from(since.past.season.is_some()).min(self.seasons);
                        entry.looked = since.looked;
                        entry.past.totals = since.past.totals;
                        // The little that was seen since may have been written over it.
                        entry.past.changed = true;
                    }
                    self.streams.insert(subject, entry);
                }
                _ => self.baselines.push(Baseline::Gone(subject)),
            }
        }
        damaged
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

    /// The interval is over: takes the totals of every stream. The wall clock says which hour it is.
    pub fn interval(
        &mut self,
        streams: impl Iterator<Item = (String, Totals)>,
        now_ns: u64,
        now: Timestamp,
    ) -> Vec<Departure> {
        let took_ns = now_ns.saturating_sub(self.began_ns);
        self.began_ns = now_ns;
        self.looks += 1;
        let first = self.looks == 1;
        // Held up for so long, nobody knows when in it something came.
        let gap = !first && took_ns > 3 * self.settings.interval_ns;
        let mut moment = Moment {
            settings: self.settings,
            hour: now.as_second().div_euclid(3600),
            scale: if first { 1.0 } else { self.settings.interval_ns as f32 / took_ns.max(1) as f32 },
            first,
            room: true,
        };
        let mut departures = Vec::new();
        let mut leave: Option<Vec<String>> = None;
        for (subject, totals) in streams {
            if !self.streams.contains_key(&subject) {
                if self.streams.len() >= WATCHED {
                    let Some(quietest) = leave.get_or_insert_with(|| self.who_may_leave()).pop() else {
                        self.refused += 1;
                        continue;
                    };
                    self.forget(&quietest, &mut departures);
                    self.evicted += 1;
                }
                self.streams.insert(subject.clone(), Entry::default());
            }
            let Some(entry) = self.streams.get_mut(&subject) else { continue };
            entry.looked = self.looks;
            moment.room = self.seasons < SEASONS;
            let had = entry.past.season.is_some();
            if gap {
                entry.past.totals = Some(totals);
            } else {
                entry.past.interval(&subject, totals, &moment, true, &mut departures);
            }
            self.seasons += usize::from(!had && entry.past.season.is_some());
        }
        self.look_at_the_missing(&mut moment, gap, &mut departures);
        self.choose_what_to_keep();
        departures
    }

    /// Streams of a life before, which have not come back; and those that the table of streams let go.
    fn look_at_the_missing(&mut self, moment: &mut Moment, gap: bool, departures: &mut Vec<Departure>) {
        let mut forgotten = Vec::new();
        // They may take as long to come back as a new one to be known.
        let settled = self.looks > self.settings.warm_up as u64;
        for (subject, entry) in &mut self.streams {
            if entry.looked == self.looks || gap {
                continue;
            }
            let totals = *entry.past.totals.get_or_insert_default();
            moment.room = self.seasons < SEASONS;
            let had = entry.past.season.is_some();
            entry.past.interval(subject, Totals { open: 0, ..totals }, moment, settled, departures);
            self.seasons += usize::from(!had && entry.past.season.is_some());
            if u64::from(entry.past.silent) * self.settings.interval_s() >= FORGOTTEN {
                forgotten.push(subject.clone());
            }
        }
        for subject in forgotten {
            self.forget(&subject, departures);
        }
    }

    /// Streams that are silent, the one to go first at the end: those without a season before those with
    /// one, and these only after a week.
    fn who_may_leave(&self) -> Vec<String> {
        let week = (8 * 86_400 / self.settings.interval_s().max(1)) as u32;
        let silent = self.streams.iter().filter(|(_, entry)| {
            let past = &entry.past;
            past.silent as usize >= HISTORY && (past.season.is_none() || past.silent >= week)
        });
        let mut silent: Vec<(bool, u32, &String)> = silent
            .map(|(subject, entry)| (entry.past.season.is_none(), entry.past.silent, subject))
            .collect();
        silent.sort_unstable();
        silent.into_iter().map(|(_, _, subject)| subject.clone()).collect()
    }

    fn forget(&mut self, subject: &str, departures: &mut Vec<Departure>) {
        let Some(Entry { past, kept, .. }) = self.streams.remove(subject) else { return };
        self.seasons -= usize::from(past.season.is_some()).min(self.seasons);
        if past.stopped {
            departures.push(Departure::Usual(key(Rule::TrafficStopped, subject, None)));
        }
        for (measure, spiking) in past.spiking.iter().enumerate() {
            if *spiking {
                departures.push(Departure::Usual(key(Rule::TrafficSpike, subject, Some(measure))));
            }
        }
        if kept.is_some() {
            self.baselines.push(Baseline::Gone(subject.to_owned()));
        }
    }

    /// Writes down some of those that have changed, the longest unwritten first.
    fn choose_what_to_keep(&mut self) {
        let looks = self.looks;
        let mut due: Vec<(u64, &String)> = self
            .streams
            .iter()
            .filter(|(subject, entry)| {
                entry.is_worth_keeping(subject, &self.settings)
                    && entry.kept.is_none_or(|kept| looks - kept >= KEEP_EVERY)
            })
            .map(|(subject, entry)| (entry.kept.unwrap_or(0), subject))
            .collect();
        due.sort_unstable();
        let due: Vec<String> =
            due.into_iter().take(KEEP_AT_ONCE).map(|(_, subject)| subject.clone()).collect();
        for subject in due {
            self.keep(subject);
        }
    }

    fn keep(&mut self, subject: String) {
        let Some(entry) = self.streams.get_mut(&subject) else { return };
        entry.kept = Some(self.looks);
        entry.past.changed = false;
        self.baselines.push(Baseline::Kept(subject, Vec::new()));
    }

    /// What is to be written down since the last time; `now` stands in it.
    pub fn take_baselines(&mut self, now: Timestamp) -> Vec<Baseline> {
        let mut baselines = std::mem::take(&mut self.baselines);
        for baseline in &mut baselines {
            if let Baseline::Kept(subject, bytes) = baseline
                && let Some(entry) = self.streams.get(subject)
            {
                *bytes = saved::encode(&entry.past, self.settings.interval_s(), now);
            }
        }
        // Forgotten meanwhile, and said to be.
        baselines.retain(|baseline| !matches!(baseline, Baseline::Kept(_, bytes) if bytes.is_empty()));
        baselines
    }

    /// The end: whatever has changed is to be written down.
    pub fn keep_all(&mut self) {
        let changed =
            self.streams.iter().filter(|(subject, entry)| entry.is_worth_keeping(subject, &self.settings));
        let changed: Vec<String> = changed.map(|(subject, _)| subject.clone()).collect();
        for subject in changed {
            self.keep(subject);
        }
    }
}

impl Entry {
    /// It has changed, and is a past.
    fn is_worth_keeping(&self, subject: &str, settings: &Thresholds) -> bool {
        let past = &self.past;
        past.changed
            && subject.len() <= NAME
            && (!past.is_new(settings) && past.has_moved() || past.season.is_some() || past.first.is_some())
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

/// The middle one; of two in the middle the lesser.
fn median(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = (values.len() - 1) / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}
