//! How often something failed lately, a stream.

use std::collections::{HashMap, VecDeque};

/// Streams watched at a time; beyond, new ones are not watched until old ones have calmed down.
const WATCHED: usize = 16_384;

/// Failures of each stream within a sliding window.
#[derive(Debug)]
pub(super) struct Failures {
    threshold: usize,
    window_ns: u64,
    times: HashMap<String, VecDeque<u64>>,
}

impl Failures {
    pub fn new(threshold: u32, window_s: u32) -> Self {
        Failures {
            threshold: threshold as usize,
            window_ns: u64::from(window_s) * 1_000_000_000,
            times: HashMap::new(),
        }
    }

    pub fn window_s(&self) -> u64 {
        self.window_ns / 1_000_000_000
    }

    /// One more; how many there were within the window, where those are enough.
    pub fn add(&mut self, subject: &str, now_ns: u64) -> Option<usize> {
        if self.times.len() >= WATCHED && !self.times.contains_key(subject) {
            let window = self.window_ns;
            self.times
                .retain(|_, times| times.back().is_some_and(|last| now_ns.saturating_sub(*last) < window));
            if self.times.len() >= WATCHED {
                return None;
            }
        }
        let times = self.times.entry(subject.to_owned()).or_default();
        times.push_back(now_ns);
        while times.front().is_some_and(|first| now_ns.saturating_sub(*first) > self.window_ns)
            || times.len() > self.threshold
        {
            times.pop_front();
        }
        (times.len() >= self.threshold).then_some(times.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_within_the_window_counts() {
        let second = 1_000_000_000;
        let mut failures = Failures::new(3, 10);
        assert_eq!(failures.add("a", 0), None);
        assert_eq!(failures.add("a", 20 * second), None);
        assert_eq!(failures.add("b", 21 * second), None);
        assert_eq!(failures.add("a", 22 * second), None);
        assert_eq!(failures.add("a", 23 * second), Some(3));
    }
}
