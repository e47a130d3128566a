//! The hours of the last four weeks of a stream: what was usual at this hour of the day, and at this
//! hour of the week.
//!
//! In: what an hour was like. Out: what is to be expected of one. An hour is counted in UTC; that of
//! before and that of after are looked at too, so that neither a job that begins a minute earlier nor
//! daylight saving time makes a difference. The clock that counts hours may be stepped: each place
//! says which four weeks it belongs to, so a wrong hour spoils its own place and no other.

use super::{FLOWS, median};

/// Hours remembered: four weeks.
pub(super) const HOURS: usize = 28 * 24;
const DAY: i64 = 24;
const WEEK: i64 = 7 * DAY;

/// So many days, or weeks, with the hour in them are enough to say what is usual.
const DAYS_NEEDED: usize = 3;
const WEEKS_NEEDED: usize = 2;

/// What an hour was like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Level {
    /// The highest rates that held for two intervals: flows, bytes, failures in ten seconds.
    pub peaks: [f32; 3],
    /// The longest pause that there was in it, in minutes; 60: longer than the hour.
    pub pause: u8,
}

/// A [`Level`], as it is held and kept: rates in steps of a fifth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hour {
    /// Which four weeks, never 0; 0: nothing is known.
    era: u8,
    peaks: [u8; 3],
    pause: u8,
}

/// The hours of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Season {
    hours: Box<[Hour]>,
}

/// What is usual at an hour, and beyond what it is out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usual {
    pub level: f32,
    pub limit: f32,
}

impl Season {
    pub fn new() -> Self {
        Season { hours: vec![Hour::default(); HOURS].into() }
    }

    /// An hour (since 1970) is over. One that was lived through twice has the more of both.
    pub fn add(&mut self, hour: i64, level: &Level) {
        let before = self.at(hour);
        let mut peaks = level.peaks.map(coarse);
        let mut pause = level.pause.min(60);
        if let Some(before) = before {
            for (peak, other) in peaks.iter_mut().zip(before.peaks) {
                *peak = (*peak).max(other);
            }
            pause = pause.max(before.pause);
        }
        self.hours[place(hour)] = Hour { era: era(hour), peaks, pause };
    }

    /// What is known of an hour.
    fn at(&self, hour: i64) -> Option<Hour> {
        Some(self.hours[place(hour)]).filter(|known| known.era == era(hour))
    }

    /// The highest rate and the longest pause around an hour.
    fn around(&self, hour: i64, measure: usize) -> Option<(f32, u8)> {
        let known = (hour - 1..=hour + 1).filter_map(|hour| self.at(hour));
        known
            .map(|known| (fine(known.peaks[measure]), known.pause))
            .reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    fn days(&self, hour: i64, measure: usize) -> Vec<(f32, u8)> {
        let days: Vec<_> = (1..=7).filter_map(|ago| self.around(hour - ago * DAY, measure)).collect();
        if days.len() < DAYS_NEEDED { Vec::new() } else { days }
    }

    fn weeks(&self, hour: i64, measure: usize) -> Vec<(f32, u8)> {
        let weeks: Vec<_> = (1..=4).filter_map(|ago| self.around(hour - ago * WEEK, measure)).collect();
        if weeks.len() < WEEKS_NEEDED { Vec::new() } else { weeks }
    }

    /// What is usual at an hour; `None`: too little is known to say. A limit is so many times the usual
    /// peak, and so many MADs beyond it; of days and weeks the more generous is taken.
    pub fn usual(&self, hour: i64, measure: usize, times: f32, mads: f32) -> Option<Usual> {
        let peaks = |hours: Vec<(f32, u8)>| -> Vec<f32> { hours.into_iter().map(|(peak, _)| peak).collect() };
        let ways =
            [peaks(self.days(hour, measure)), peaks(self.weeks(hour, measure)), self.bursts(hour, measure)];
        let usual = ways.into_iter().filter(|peaks| !peaks.is_empty()).map(|mut peaks| {
            let level = median(&mut peaks);
            let mut distances: Vec<f32> = peaks.iter().map(|peak| (peak - level).abs()).collect();
            let strays = 1.4826 * median(&mut distances);
            Usual { level, limit: (level * times).max(level + mads * strays) }
        });
        usual.reduce(|a, b| if b.limit > a.limit { b } else { a })
    }

    /// Of a stream that moves in one hour of four or fewer, at no fixed time: what it is like when it
    /// moves.
    fn bursts(&self, hour: i64, measure: usize) -> Vec<f32> {
        let known: Vec<Hour> = (hour + 1 - HOURS as i64..hour).filter_map(|hour| self.at(hour)).collect();
        let peaks: Vec<f32> =
            known.iter().map(|known| fine(known.peaks[measure])).filter(|peak| *peak > 0.0).collect();
        if peaks.len() >= DAYS_NEEDED && peaks.len() * 4 <= known.len() { peaks } else { Vec::new() }
    }

    /// The longest pause that is usual around an hour, in minutes; 60: it is usual that nothing moves.
    pub fn pause(&self, hour: i64) -> Option<u8> {
        let ways = [self.days(hour, FLOWS), self.weeks(hour, FLOWS)];
        let usual = ways.into_iter().filter(|hours| !hours.is_empty()).map(|hours| {
            let mut pauses: Vec<u8> = hours.into_iter().map(|(_, pause)| pause).collect();
            pauses.sort_unstable();
            pauses[pauses.len() / 2]
        });
        usual.max()
    }

    /// The places that something is known of, as they are kept.
    pub fn known(&self) -> impl Iterator<Item = (u16, [u8; 5])> {
        self.hours.iter().enumerate().filter(|(_, hour)| hour.era != 0).map(|(place, hour)| {
            let [flows, bytes, failures] = hour.peaks;
            (place as u16, [hour.era, flows, bytes, failures, hour.pause])
        })
    }

    /// Puts back a place that was kept; false: there is none such.
    pub fn put(&mut self, place: u16, [era, flows, bytes, failures, pause]: [u8; 5]) -> bool {
        let Some(hour) = self.hours.get_mut(usize::from(place)) else { return false };
        if era == 0 || pause > 60 {
            return false;
        }
        *hour = Hour { era, peaks: [flows, bytes, failures], pause };
        true
    }
}

fn place(hour: i64) -> usize {
    hour.rem_euclid(HOURS as i64) as usize
}

fn era(hour: i64) -> u8 {
    hour.div_euclid(HOURS as i64).rem_euclid(255) as u8 + 1
}

/// A rate as the next quarter of an octave above it.
fn coarse(rate: f32) -> u8 {
    // Also what is no number.
    if rate.is_nan() || rate <= 0.0 {
        return 0;
    }
    1 + (4.0 * rate.max(1.0).log2()).ceil().min(254.0) as u8
}

fn fine(coarse: u8) -> f32 {
    match coarse {
        0 => 0.0,
        steps => (f32::from(steps - 1) / 4.0).exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_held_to_a_fifth_and_never_below_itself() {
        for rate in [1.0_f32, 3.0, 50.0, 1e3, 4e6, 1e12, 1e18] {
            let held = fine(coarse(rate));
            assert!(held >= rate * 0.999 && held <= rate * 1.2, "{rate} is held as {held}");
        }
        assert_eq!(fine(coarse(0.0)), 0.0);
        assert!(fine(coarse(f32::MAX)).is_finite());
        assert_eq!(coarse(f32::NAN), 0);
    }

    #[test]
    fn a_step_of_the_clock_spoils_the_hours_it_reached_and_no_others() {
        let mut season = Season::new();
        let level = Level { peaks: [100.0, 1e6, 0.0], pause: 3 };
        for hour in 500_000..500_000 + 7 * DAY {
            season.add(hour, &level);
        }
        let now = 500_000 + 7 * DAY;
        let usual = season.usual(now, FLOWS, 2.0, 8.0);
        assert!(usual.is_some_and(|usual| usual.level >= 100.0));
        // Years ahead for some hours, and years back.
        for wrong in [now + 80_003, now + 80_004, now - 300_000, 5] {
            season.add(wrong, &Level::default());
        }
        assert_eq!(season.usual(now, FLOWS, 2.0, 8.0), usual);
        assert_eq!(season.pause(now), Some(3));
    }

    #[test]
    fn two_days_are_too_few_to_know() {
        let mut season = Season::new();
        for hour in 0..2 * DAY - 2 {
            season.add(hour, &Level { peaks: [1.0; 3], pause: 0 });
        }
        assert_eq!(season.usual(2 * DAY - 1, FLOWS, 2.0, 8.0), None);
        assert_eq!(season.pause(2 * DAY - 1), None);
    }

    #[test]
    fn weekends_are_known_by_the_weekday() {
        let mut season = Season::new();
        for hour in 0..3 * WEEK {
            let sunday = hour / DAY % 7 == 6;
            season.add(hour, &Level { peaks: [if sunday { 1000.0 } else { 10.0 }, 0.0, 0.0], pause: 0 });
        }
        let usual = |hour| season.usual(hour, FLOWS, 2.0, 8.0).map_or(0.0, |usual| usual.level);
        assert!(usual(3 * WEEK + 6 * DAY + 12) >= 1000.0);
        assert!(usual(3 * WEEK + 2 * DAY + 12) < 20.0);
    }
}
