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

    /// By what the kernel counts itself (`/proc/timer_list`, kernel/time/timer_list.c; root may read it). A machine that
    /// is given no time for each tick counts several at once, so what is compared is a whole second of them.
    #[test]
    fn the_kernel_counts_this_many_jiffies_a_second() {
        let counted = || {
            let list = std::fs::read_to_string("/proc/timer_list").expect("/proc/timer_list, as root");
            let number = |start: &str, end: &str| -> i64 {
                let line = list.lines().find(|line| line.starts_with(start)).expect(start);
                line[start.len()..].trim_end_matches(end).trim().parse().expect(line)
            };
            (number("now at ", " nsecs"), number("jiffies: ", ""))
        };
        let (from, first) = counted();
        std::thread::sleep(std::time::Duration::from_secs(1));
        let (to, last) = counted();
        let measured = (last - first) as f64 * 1e9 / (to - from) as f64;
        assert!((measured / hz() as f64 - 1.0).abs() < 0.15, "{measured} a second, {} told", hz());
    }
}
