//! The past of one stream, and what departs from it.

use std::collections::VecDeque;

use super::season::{Level, Season, Usual};
use super::{
    BYTES, Departure, FAILURES, FLOWS, HISTORY, MEASURES, Moment, REGULAR, Thresholds, Totals, about, key,
    median,
};
use crate::detect::Finding;
use crate::model::{Rule, Severity};

/// Of an hour so many minutes have to be seen for it to count as seen.
const HOUR_SEEN: u32 = 20;

/// Intervals in which a stream moved that are enough to know what it is like.
const MOVED: usize = 6;

/// A connection that was all of its stream has not stopped when it is closed, but ended: unless it went
/// on for so long, s.
const LASTING: u64 = 6 * 3600;

/// The past of one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Past {
    /// As of the last interval, in this life of the daemon.
    pub totals: Option<Totals>,
    /// Of each interval: flows, bytes and failures.
    pub intervals: VecDeque<[f32; 3]>,
    /// Intervals since it began, or began anew.
    pub age: u32,
    /// Intervals without traffic up to now.
    pub silent: u32,
    /// It is told to have stopped.
    pub stopped: bool,
    /// It was told so by this life of the daemon.
    pub held: bool,
    pub hour: CurrentHour,
    /// Until there is a second hour in which it moved.
    pub first: Option<(i64, Level)>,
    pub season: Option<Season>,
    /// Intervals in a row beyond the usual.
    pub beyond: [u8; 3],
    pub spiking: [bool; 3],
    /// Something to be kept has changed.
    pub changed: bool,
}

/// The hour that is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CurrentHour {
    /// Since 1970.
    pub index: i64,
    /// Intervals seen of it.
    pub seen: u32,
    /// Those in which it moved.
    pub moved: u32,
    pub level: Level,
    /// The last interval.
    pub last: [f32; 3],
}

impl Past {
    /// Whether it is only watched.
    pub fn is_new(&self, settings: &Thresholds) -> bool {
        self.age as usize <= settings.warm_up
    }

    /// Whether it moved often enough lately to say what is usual when it does.
    pub fn has_moved(&self) -> bool {
        self.intervals.iter().filter(|rates| rates[FLOWS] + rates[BYTES] > 0.0).count() >= MOVED
    }

    /// Another interval is over. With `judge`, what departs is told.
    pub fn interval(
        &mut self,
        subject: &str,
        totals: Totals,
        moment: &Moment,
        judge: bool,
        departures: &mut Vec<Departure>,
    ) {
        let before = match self.totals.replace(totals) {
            Some(before) => before,
            // What was there at the first look of all has moved who knows when.
            None if moment.first => return,
            None => Totals::default(),
        };
        let settings = &moment.settings;
        // Fewer than before: it gave way to others, and began anew.
        let more = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now) as f32 * moment.scale;
        let rates = [
            more(totals.flows, before.flows),
            more(totals.bytes, before.bytes),
            more(totals.failures, before.failures),
        ];
        self.age = self.age.saturating_add(1);
        if rates[FLOWS] > 0.0 || rates[BYTES] > 0.0 {
            self.silent = 0;
            self.changed = true;
        } else {
            self.silent = self.silent.saturating_add(1);
        }
        if judge {
            for (measure, rate) in rates.into_iter().enumerate() {
                self.spike(subject, measure, rate, moment, departures);
            }
            self.stop(subject, totals.open, moment, departures);
        }
        if self.silent as usize >= HISTORY {
            // If it moves again, it begins anew, with its season as all its past.
            self.intervals = VecDeque::new();
            self.age = 0;
        } else {
            if self.intervals.len() >= HISTORY {
                self.intervals.pop_front();
            }
            self.intervals.push_back(rates);
        }
        self.hour(rates, moment, settings);
    }

    /// Adds the interval to its hour; the hour before, if it is over, to the season.
    fn hour(&mut self, rates: [f32; 3], moment: &Moment, settings: &Thresholds) {
        if self.hour.index != moment.hour {
            let over = std::mem::take(&mut self.hour);
            self.hour.index = moment.hour;
            self.hour.last = over.last;
            if u64::from(over.seen) * settings.interval_s() >= u64::from(HOUR_SEEN) * 60 {
                self.remember(over, moment.room);
            }
        }
        let hour = &mut self.hour;
        hour.seen = hour.seen.saturating_add(1);
        hour.moved = hour.moved.saturating_add(u32::from(self.silent == 0));
        // As it would be in ten seconds, whatever the interval.
        let per_ten = rates.map(|rate| rate * 10.0 / settings.interval_s() as f32);
        for ((peak, last), rate) in hour.level.peaks.iter_mut().zip(hour.last).zip(per_ten) {
            *peak = peak.max(last.min(rate));
        }
        hour.last = per_ten;
        let minutes = u64::from(self.silent) * settings.interval_s() / 60;
        hour.level.pause = hour.level.pause.max(minutes.min(60) as u8);
    }

    fn remember(&mut self, over: CurrentHour, room: bool) {
        let moved = over.moved as usize >= MOVED;
        match (&mut self.season, self.first.take()) {
            (Some(season), _) => season.add(over.index, &over.level),
            (None, first) if !moved => {
                self.first = first;
                return;
            }
            (None, Some((hour, level))) if room => {
                let mut season = Season::new();
                season.add(hour, &level);
                season.add(over.index, &over.level);
                self.season = Some(season);
            }
            (None, _) => self.first = Some((over.index, over.level)),
        }
        self.changed = true;
    }

    fn spike(
        &mut self,
        subject: &str,
        measure: usize,
        rate: f32,
        moment: &Moment,
        departures: &mut Vec<Departure>,
    ) {
        let settings = &moment.settings;
        let (name, floor) = MEASURES[measure];
        let floor = floor * settings.interval_s() as f32 / 10.0;
        // Nothing below the floor is worth looking at the past for.
        if rate < floor && !self.spiking[measure] {
            self.beyond[measure] = 0;
            return;
        }
        let of_hour = || {
            let usual = self.season.as_ref()?.usual(moment.hour, measure, settings.peaks, settings.mads)?;
            let ten = settings.interval_s() as f32 / 10.0;
            Some(Usual { level: usual.level * ten, limit: usual.limit * ten })
        };
        let usual = match self.of_lately(measure, settings) {
            Some(usual) if rate <= usual.limit.max(floor) => Some(usual),
            lately => match (lately, of_hour()) {
                (Some(a), Some(b)) => Some(if b.limit > a.limit { b } else { a }),
                (a, b) => a.or(b),
            },
        };
        // Too new to have a past.
        let limit = usual.map_or(f32::INFINITY, |usual| usual.limit.max(floor));
        if rate > limit {
            self.beyond[measure] = self.beyond[measure].saturating_add(1);
            if self.beyond[measure] >= 2 {
                let per_s = |rate: f32| rate / settings.interval_s() as f32;
                let finding = Finding {
                    rule: Rule::TrafficSpike,
                    subject: about(subject, Some(measure)),
                    severity: if measure == FAILURES { Severity::Medium } else { Severity::Low },
                    reason: format!(
                        "{subject}: {:.0} {name} a second, where {:.1} are usual",
                        per_s(rate),
                        per_s(usual.map_or(0.0, |usual| usual.level))
                    ),
                    remedy: "Look at what the client does; if this is its new level, it is the usual one in \
                             a quarter of an hour."
                        .to_owned(),
                    flow: None,
                    listener: None,
                };
                departures.push(if std::mem::replace(&mut self.spiking[measure], true) {
                    Departure::GoesOn(finding)
                } else {
                    Departure::Begins(finding)
                });
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

    /// What was usual in the last half hour; `None`: the stream is new.
    fn of_lately(&self, measure: usize, settings: &Thresholds) -> Option<Usual> {
        if self.is_new(settings) || measure != FAILURES && !self.has_moved() {
            return None;
        }
        let mut rates: Vec<f32> = self.intervals.iter().map(|interval| interval[measure]).collect();
        let moving: Vec<f32> = rates.iter().copied().filter(|rate| *rate > 0.0).collect();
        // What mostly rests is judged by what it is like when it does not.
        if moving.len() >= 3 && moving.len() * 2 < rates.len() {
            rates = moving;
        }
        let level = median(&mut rates);
        let mut distances: Vec<f32> = rates.iter().map(|rate| (rate - level).abs()).collect();
        // 1.4826: of a normal distribution the MAD is then its standard deviation.
        let strays = 1.4826 * median(&mut distances);
        Some(Usual { level, limit: (level * settings.times).max(level + settings.mads * strays) })
    }

    fn stop(&mut self, subject: &str, open: u64, moment: &Moment, departures: &mut Vec<Departure>) {
        let settings = &moment.settings;
        if self.silent == 0 {
            self.held = false;
            if std::mem::take(&mut self.stopped) {
                departures.push(Departure::Usual(key(Rule::TrafficStopped, subject, None)));
            }
            return;
        }
        let stops = self.stopped && !self.held || !self.stopped && self.has_stopped(open, moment);
        if !stops {
            return;
        }
        (self.stopped, self.held, self.changed) = (true, true, true);
        let seconds = u64::from(self.silent) * settings.interval_s();
        departures.push(Departure::Begins(Finding {
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

    fn has_stopped(&self, open: u64, moment: &Moment) -> bool {
        let settings = &moment.settings;
        let silent = self.silent as usize;
        if self.is_new(settings) || silent < settings.silent {
            return false;
        }
        // What was before this pause.
        let before = self.intervals.len().saturating_sub(silent - 1);
        let past: Vec<bool> =
            self.intervals.iter().take(before).map(|interval| interval[0] + interval[1] > 0.0).collect();
        let moved = past.iter().filter(|moved| **moved).count();
        let longest = past.split(|moved| *moved).map(<[bool]>::len).max().unwrap_or(0);
        if past.len() < REGULAR || moved * 10 < past.len() * 9 || silent < 3 * longest {
            return false;
        }
        let flows: f32 = self.intervals.iter().map(|interval| interval[FLOWS]).sum();
        if open == 0 && flows < 1.5 && u64::from(self.age) * settings.interval_s() < LASTING {
            return false;
        }
        // At this hour it may be usual.
        let usual = self.season.as_ref().and_then(|season| season.pause(moment.hour)).unwrap_or(0);
        usual < 60 && silent as u64 * settings.interval_s() >= 90 * u64::from(usual)
    }
}
