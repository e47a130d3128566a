//! One worker after the other: when the next one starts, and what it is to leave alone.
//!
//! A worker that ends by itself is followed by another at once. Where that goes on, what it reads is
//! probably what ends it: the next one counts and does not look at what was captured, for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::link::Life;

/// So many ends within this time are no accident.
const LOOP: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);

/// How long nobody looks then.
const REST: Duration = Duration::from_secs(600);

/// Between an end and the next start, where even those that only count end: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// What became of the workers so far.
#[derive(Debug, Default)]
pub struct Lives {
    started: u64,
    ended: u64,
    last: Option<String>,
    /// Of late.
    ends: VecDeque<Instant>,
    /// Until when nobody looks.
    rests: Option<Instant>,
    pause: Duration,
    /// When the next one is to start.
    due: Option<Instant>,
}

impl Lives {
    /// The next one starts.
    pub fn next(&mut self) -> Life {
        if self.rests.is_some_and(|until| until <= Instant::now()) {
            self.rests = None;
            self.ends.clear();
        }
        self.due = self.rests;
        let number = self.started;
        self.started += 1;
        Life { number, ended: self.ended, last: self.last.clone(), counts_only: self.rests.is_some() }
    }

    /// It has ended by itself.
    pub fn ended(&mut self, how: &str, now: Instant) {
        self.ended += 1;
        self.last = Some(how.to_owned());
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|at| now.saturating_duration_since(*at) > WITHIN) {
            self.ends.pop_front();
        }
        if self.rests.is_some() {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
        } else if self.ends.len() >= LOOP {
            self.rests = Some(now + REST);
            self.pause = Duration::ZERO;
        } else {
            self.pause = Duration::ZERO;
        }
        self.due = Some(now + self.pause);
    }

    /// When the next one is to start, be it in the place of one that runs.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What follows from an end, for people.
    pub fn consequence(&self) -> String {
        match self.rests {
            None => "another one goes on where it stopped".to_owned(),
            Some(_) if self.pause > Duration::ZERO => {
                format!("the next one starts in {} ms, and only counts", self.pause.as_millis())
            }
            Some(_) => format!(
                "that was {LOOP} times within {} s: the next one counts, and does not look at what was captured, \
                 for {} minutes",
                WITHIN.as_secs(),
                REST.as_secs() / 60
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_changes_nothing_and_a_loop_ends_the_looking_for_a_while() {
        let mut lives = Lives::default();
        assert_eq!(lives.next(), Life::default());
        assert_eq!(lives.due(), None);
        let now = Instant::now();
        lives.ended("signal 11", now);
        assert_eq!(lives.due(), Some(now), "at once");
        let next = lives.next();
        assert_eq!((next.number, next.ended, next.counts_only), (1, 1, false));
        assert_eq!(next.last.as_deref(), Some("signal 11"));
        assert_eq!(lives.due(), None);
        // A long time after: no loop.
        lives.ended("signal 11", now + 2 * WITHIN);
        lives.ended("signal 11", now + 2 * WITHIN);
        assert!(!lives.next().counts_only);
        lives.ended("signal 11", now + 2 * WITHIN);
        let counting = lives.next();
        assert!(counting.counts_only && counting.ended == 4);
        assert_eq!(lives.due(), Some(now + 2 * WITHIN + REST), "then somebody looks again");
        // Even that one ends.
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let at = now + 2 * WITHIN;
            lives.ended("signal 6", at);
            let pause = lives.due().map_or(Duration::ZERO, |due| due - at);
            assert!(pause >= last && pause <= LAST_PAUSE && pause >= FIRST_PAUSE);
            last = pause;
        }
        assert_eq!(last, LAST_PAUSE);
    }
}
