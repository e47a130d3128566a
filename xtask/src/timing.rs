//! Where the time of `cargo xtask test` went: each step, each file of tests, the slowest tests. By the clock, since
//! steps run side by side; the processor time of all of it is told as a sum.

use std::fmt;
use std::time::{Duration, Instant};

/// What took how long, in the order of its end.
#[derive(Debug, Default)]
pub struct Timings {
    steps: Vec<(String, Duration)>,
    files: Vec<(String, Duration)>,
}

/// Lines of each list at the end.
const SHOWN: usize = 15;

impl Timings {
    /// Adds a step, and says so at once.
    pub fn step(&mut self, name: &str, took: Duration) {
        println!("xtask: {name}: took {:.1} s", took.as_secs_f64());
        self.steps.push((name.to_owned(), took));
    }

    /// Runs a step.
    pub fn time<T>(&mut self, name: &str, run: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = run();
        self.step(name, began.elapsed());
        result
    }

    /// Adds a file of tests.
    pub fn file(&mut self, name: &str, took: Duration) {
        self.files.push((name.to_owned(), took));
    }

    /// Takes in what others measured.
    pub fn merge(&mut self, other: Timings) {
        self.steps.extend(other.steps);
        self.files.extend(other.files);
    }

    /// All of it, with what `tests` took, each by its name.
    pub fn print(&self, tests: &[(String, Duration)], began: Instant) {
        let all = began.elapsed().as_secs_f64();
        print!("Steps:\n{}", Lines(&self.steps));
        print!("Slowest files of tests:\n{}", Lines(&slowest(&self.files)));
        print!("Slowest tests:\n{}", Lines(&slowest(tests)));
        let processor = processor_time().map_or_else(String::new, |spent| {
            format!(", with {:.0} s of processor time", spent.as_secs_f64())
        });
        println!("In all {all:.0} s{processor}");
    }
}

fn slowest(times: &[(String, Duration)]) -> Vec<(String, Duration)> {
    let mut times = times.to_vec();
    times.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    times.truncate(SHOWN);
    times
}

struct Lines<'a>(&'a [(String, Duration)]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, took)| writeln!(f, "  {:>7.1} s  {name}", took.as_secs_f64()))
    }
}

/// Of this process and of the children that have ended (fields 14 to 17 of proc_pid_stat(5)).
fn processor_time() -> Option<Duration> {
    ticks(&std::fs::read_to_string("/proc/self/stat").ok()?, 4)
}

/// How long a process with one thread was ready to run while others had the processors (sched-stats in the kernel's
/// documentation); nothing where the kernel does not count it.
pub fn kept_waiting(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|ns| ns.parse().ok()).map_or(Duration::ZERO, Duration::from_nanos)
}

/// The sum of so many fields from the 14th on.
fn ticks(stat: &str, fields: usize) -> Option<Duration> {
    // The name of the program may hold anything, a closing bracket too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks = rest.split(' ').skip(11).take(fields).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_whatever_a_program_is_called() {
        let stat = "7 (a) R 1) S 1 7 7 0 -1 4194560 500 0 0 0 150 50 300 100 20 0 1 0 100 0 0";
        let second = rustix::param::clock_ticks_per_second() as f64;
        let expected = |ticks: f64| Some(Duration::from_secs_f64(ticks / second));
        assert_eq!(ticks(stat, 2), expected(200.0));
        assert_eq!(ticks(stat, 4), expected(600.0));
        assert_eq!(ticks("7 (a", 4), None);
    }

    #[test]
    fn this_process_has_spent_what_it_is_said_to_have_spent() {
        let before = processor_time().expect("our own time");
        // Ends when it is counted; a tick more, since the kernel shares ticks out anew between user and system.
        while processor_time().expect("our own time") <= before + Duration::from_millis(20) {
            std::hint::spin_loop();
        }
    }
}
