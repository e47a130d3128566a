//! How long a jiffy is.
//!
//! The kernel does not tell user space its `HZ` as such, but its coarse clocks go on once a jiffy, and their resolution
//! is `TICK_NSEC`: 1 s divided by `HZ`, rounded (`posix_get_coarse_res` of kernel/time/posix-timers.c).

use rustix::time::{ClockId, clock_getres};

/// What is assumed where the kernel tells nothing sensible: Debian's and most distributions' value.
const USUAL_HZ: u64 = 250;

/// Jiffies a second.
pub fn hz() -> u64 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    let tick = if tick.tv_sec == 0 { u64::try_from(tick.tv_nsec).unwrap_or(0) } else { 0 };
    of_tick(tick).unwrap_or(USUAL_HZ)
}

/// `tick_ns`: of one jiffy. `None`: no kernel has such a one (`Kconfig.hz` has 100 to 1000, others have 24 and more).
fn of_tick(tick_ns: u64) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    (SECOND / 10_000..=SECOND / 10).contains(&tick_ns).then(|| (SECOND + tick_ns / 2) / tick_ns)
}

#[cfg(test)]
mod tests {
    use rustix::time::clock_gettime;

    use super::*;

    #[test]
    fn every_hz_is_known_by_its_tick() {
        for hz in [24, 48, 64, 100, 128, 250, 256, 300, 500, 1000, 1024, 1200] {
            assert_eq!(of_tick((1_000_000_000 + hz / 2) / hz), Some(hz));
        }
        for none in [0, 1, 999_999_999] {
            assert_eq!(of_tick(none), None, "{none}");
        }
    }

    /// The coarse clock goes on by whole jiffies, some at once where this machine has had no time for each.
    #[test]
    fn the_coarse_clock_goes_on_by_jiffies_of_this_length() {
        let now = || {
            let now = clock_gettime(ClockId::MonotonicCoarse);
            now.tv_sec * 1_000_000_000 + now.tv_nsec
        };
        let mut steps = Vec::new();
        let mut last = now();
        while steps.len() < 21 {
            let next = now();
            if next != last {
                steps.push((next - last) as f64 * hz() as f64 / 1e9);
                last = next;
            }
        }
        assert!(steps.iter().all(|step| (step - step.round()).abs() < 0.05), "{steps:?}");
        assert!(steps.iter().any(|step| step.round() as u64 == 1), "{steps:?}");
    }
}
