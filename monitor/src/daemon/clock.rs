//! Two clocks: the monotonic one for everything that is computed, the wall clock as a label.

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// How the wall clock stands to the monotonic one. Looked at at every tick, so that a step of
/// the wall clock changes labels and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    offset_ns: i128,
}

impl Clock {
    /// Reads both clocks now.
    pub fn now() -> Clock {
        let monotonic = i128::from(monotonic_ns());
        let wall = clock_gettime(ClockId::Realtime);
        Clock { offset_ns: i128::from(wall.tv_sec) * 1_000_000_000 + i128::from(wall.tv_nsec) - monotonic }
    }

    /// A wall clock that is so far from the monotonic one.
    #[cfg(test)]
    pub(in crate::daemon) fn at(offset_ns: i128) -> Clock {
        Clock { offset_ns }
    }

    /// This clock, or `now` where they have parted: labels of one moment stay the same as long as the
    /// wall clock is not stepped or has not drifted by a millisecond.
    #[must_use]
    pub fn or(self, now: Clock) -> Clock {
        if (self.offset_ns - now.offset_ns).abs() > 1_000_000 { now } else { self }
    }

    /// Wall clock less monotonic clock, ns.
    pub fn offset_ns(&self) -> i128 {
        self.offset_ns
    }

    /// The label of a monotonic time.
    pub fn wall(&self, monotonic_ns: u64) -> Timestamp {
        Timestamp::from_nanosecond(self.offset_ns + i128::from(monotonic_ns)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// CLOCK_MONOTONIC, ns: the clock of the kernel programs (`bpf_ktime_get_ns`).
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
