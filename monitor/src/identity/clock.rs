//! Two clocks: `/proc` counts a process's start in ticks of CLOCK_BOOTTIME, the kernel programs
//! say CLOCK_MONOTONIC ns. They differ by the time that the host was suspended.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, ns.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

thread_local! {
    /// What threads have used that were made to do this one's work, and have ended.
    static FOR_THIS_THREAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What this thread has used, and those that did its work.
pub fn processor_time() -> Duration {
    Duration::from_nanos(nanoseconds(ClockId::ThreadCPUTime)) + FOR_THIS_THREAD.get()
}

/// Another thread has used that much for this one.
pub fn used_for_this_thread(time: Duration) {
    FOR_THIS_THREAD.set(FOR_THIS_THREAD.get() + time);
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Compares the two.
pub struct BootClock {
    /// When (CLOCK_MONOTONIC ns) the offset was first seen to be this, oldest first; each later
    /// entry stands for a suspend.
    offsets: Vec<(u64, u64)>,
    tick_ns: u64,
}

impl BootClock {
    const MOST_SUSPENDS: usize = 64;

    pub fn new() -> BootClock {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let mut clock = BootClock { offsets: Vec::new(), tick_ns: 1_000_000_000 / ticks };
        clock.sample();
        clock
    }

    /// Notices a suspend. Call it now and then; a suspend that is noticed late only makes young
    /// processes look too young for a moment, never the other way round.
    pub fn sample(&mut self) {
        // The tightest of a few brackets: being scheduled away between two reads widens one.
        let offset = (0..4)
            .map(|_| {
                let monotonic = nanoseconds(ClockId::Monotonic);
                nanoseconds(ClockId::Boottime).saturating_sub(monotonic)
            })
            .min()
            .unwrap_or(0);
        let moved = self.offsets.last().is_none_or(|(_, last)| offset > last + 1_000_000);
        if moved {
            if self.offsets.len() == Self::MOST_SUSPENDS {
                self.offsets.remove(0);
            }
            self.offsets.push((monotonic_ns(), offset));
        }
    }

    /// Whether a process with this start began within the last second.
    pub fn began_lately(&self, start_ticks: u64) -> bool {
        let now = nanoseconds(ClockId::Boottime) / self.tick_ns;
        now.saturating_sub(start_ticks) <= 1_000_000_000 / self.tick_ns
    }

    /// Whether a process with this start began after `seen_ns`. `/proc` rounds a start down to its
    /// tick, so that one that began in the very tick of `seen_ns` does not count as later: for a
    /// wrong answer a pid would have to come round within 1/100 s.
    pub fn began_after(&self, start_ticks: u64, seen_ns: u64) -> bool {
        let then = self.offsets.iter().rev().find(|(since, _)| *since <= seen_ns);
        let offset = then.or(self.offsets.first()).map_or(0, |(_, offset)| *offset);
        start_ticks.saturating_mul(self.tick_ns) > seen_ns.saturating_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_compared_in_its_own_tick() {
        let clock = BootClock { offsets: vec![(0, 500)], tick_ns: 10_000_000 };
        assert!(!clock.began_after(10, 100_000_000));
        assert!(!clock.began_after(10, 100_000_000 - 500));
        assert!(clock.began_after(10, 100_000_000 - 501));
        assert!(clock.began_after(u64::MAX, 0));
    }

    #[test]
    fn what_another_thread_used_for_this_one_counts() {
        let (before, more) = (processor_time(), Duration::from_secs(1000));
        used_for_this_thread(more);
        assert!((more..more * 2).contains(&(processor_time() - before)));
        assert!(std::thread::spawn(processor_time).join().is_ok_and(|used| used < more));
    }

    #[test]
    fn a_suspend_does_not_make_old_sightings_younger() {
        let hour = 3_600_000_000_000;
        let clock = BootClock { offsets: vec![(0, 0), (1_000_000_000, hour)], tick_ns: 10_000_000 };
        // Seen before the suspend; this one started after it.
        assert!(clock.began_after(360_000, 900_000_000));
        assert!(!clock.began_after(360_000, 1_000_000_000));
    }
}
