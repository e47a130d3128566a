//! How often something failed lately, a stream.

use std::collections::VecDeque;

use super::watched::{Fill, Watched, party};
use crate::model::FlowView;

/// Streams watched at a time.
const WATCHED: usize = 16_384;

/// Failures of each stream within a sliding window.
#[derive(Debug)]
pub(super) struct Failures {
    threshold: usize,
    window_ns: u64,
    times: Watched<String, VecDeque<u64>>,
}

impl Failures {
    pub fn new(threshold: u32, window_s: u32) -> Self {
        let window_ns = u64::from(window_s) * 1_000_000_000;
        Failures { threshold: threshold as usize, window_ns, times: Watched::new(WATCHED, window_ns) }
    }

    pub fn window_s(&self) -> u64 {
        self.window_ns / 1_000_000_000
    }

    pub fn fill(&self) -> Fill {
        self.times.fill()
    }

    /// One more; how many there were within the window, where those are enough.
    pub fn add(&mut self, flow: &FlowView, subject: &str, now_ns: u64) -> Option<usize> {
        let times = self.times.add(subject.to_owned(), || party(flow), now_ns);
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
        let (mut failures, flow) = (Failures::new(3, 10), crate::record::samples::flow());
        assert_eq!(failures.add(&flow, "a", 0), None);
        assert_eq!(failures.add(&flow, "a", 20 * second), None);
        assert_eq!(failures.add(&flow, "b", 21 * second), None);
        assert_eq!(failures.add(&flow, "a", 22 * second), None);
        assert_eq!(failures.add(&flow, "a", 23 * second), Some(3));
    }

    #[test]
    fn who_fails_everywhere_hides_nobody_elses_failures() {
        let mut failures = Failures::new(3, 1_000_000);
        let flow = |client: &str| {
            let mut flow = crate::record::samples::flow();
            flow.direction = crate::model::Direction::Ingress;
            (flow.peer, flow.remote) = (None, client.parse().expect("an address"));
            flow
        };
        let (noisy, quiet) = (flow("198.51.100.1:1"), flow("192.0.2.1:1"));
        assert_eq!(failures.add(&quiet, "a", 0), None);
        for n in 0..3 * WATCHED {
            failures.add(&noisy, &format!("n{n}"), n as u64);
        }
        assert_eq!(failures.add(&quiet, "a", 1_000_000), None);
        assert_eq!(failures.add(&quiet, "a", 1_000_001), Some(3));
        assert_eq!(failures.add(&quiet, "b", 1_000_002), None);
        assert_eq!(failures.add(&quiet, "b", 1_000_003), None);
        assert_eq!(failures.add(&quiet, "b", 1_000_004), Some(3), "there is room in a full table");
        let fill = failures.fill();
        assert_eq!((fill.used, fill.pushed_out), (WATCHED, fill.made - WATCHED as u64));
    }
}
