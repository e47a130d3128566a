//! Adds up what test runners say. In: lines of libtest's (or libtest-mimic's) human output. Out:
//! how many passed, failed and were skipped, and why: a failure is told again at the end, since the
//! line that names it is thousands of lines up. A skipped test is never one that passed.

use std::fmt;
use std::time::Duration;

/// Sums over all runners so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Name and reason of each skipped test.
    pub skips: Vec<(String, String)>,
    /// Name of each test that failed, and the first lines of what it said.
    pub failures: Vec<(String, Vec<String>)>,
    /// Name of each test that said so, and how long it took.
    pub times: Vec<(String, Duration)>,
    /// The last line but empty ones was part of what a failed test says.
    telling: bool,
}

/// Lines that are kept of what a failed test said.
const TOLD_OF_A_FAILURE: usize = 25;

impl Tally {
    /// Reads one line of a runner's output.
    pub fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.skipped += count(counts, "ignored");
            self.telling = false;
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            // `---- NAME stdout ----` of libtest, `---- NAME ----` of libtest-mimic.
            let name = name.strip_suffix(" stdout").unwrap_or(name);
            self.failures.push((name.to_owned(), Vec::new()));
            self.telling = true;
        } else if line == "failures:" {
            // Both before what they say, and before the list of names.
            self.telling = false;
        } else if self.telling {
            self.hear(line);
        } else if let Some((name, took)) = time(line) {
            self.times.push((name.to_owned(), took));
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, outcome)) = test.rsplit_once(" ... ")
            && let Some(reason) = outcome.strip_prefix("ignored")
        {
            let reason = reason.trim_start_matches(',').trim();
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            self.skips.push((name.trim().to_owned(), reason.to_owned()));
        }
    }

    /// Adds up what another one read.
    pub fn merge(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.skips.extend(other.skips);
        self.failures.extend(other.failures);
        self.times.extend(other.times);
    }

    fn hear(&mut self, line: &str) {
        if let Some((_, said)) = self.failures.last_mut()
            && said.len() < TOLD_OF_A_FAILURE
            && !line.is_empty()
        {
            said.push(line.to_owned());
        }
    }

    /// Counts one that could not run here.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.skipped += 1;
        self.skips.push((name.to_owned(), reason.to_owned()));
    }

    /// Counts one check that is not a test of its own runner.
    pub fn check(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(said) => {
                self.failed += 1;
                self.failures.push((name.to_owned(), vec![said]));
            }
        }
    }
}

/// `test NAME ... ok <1.234s>` of libtest, `took 1.2 s: NAME` of our own suites.
fn time(line: &str) -> Option<(&str, Duration)> {
    let (name, seconds) = match line.strip_prefix("took ") {
        Some(rest) => rest.split_once(" s: ").map(|(seconds, name)| (name, seconds))?,
        None => {
            let (test, seconds) = line.strip_prefix("test ")?.strip_suffix("s>")?.rsplit_once(" <")?;
            (test.rsplit_once(" ... ")?.0.trim(), seconds)
        }
    };
    Some((name, Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?))
}

/// The number before `word` in `ok. 3 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> u64 {
    let before = counts.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(word));
    before.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_are_added_up_and_skips_keep_their_reasons() {
        let mut tally = Tally::default();
        for line in [
            "test dns::reads ... ok",
            "test needs_root ... ignored, needs root, and a cgroup",
            "test bare   ... ignored",
            "test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.to_string(), "4 passed, 2 failed, 2 skipped");
        assert_eq!(tally.skips[0], ("needs_root".into(), "needs root, and a cgroup".into()));
        assert_eq!(tally.skips[1].1, "no reason given");
    }

    #[test]
    fn tests_that_say_how_long_they_took_are_noted() {
        let mut tally = Tally::default();
        for line in [
            "test dns::reads a ... b ... ok <1.500s>",
            "test slow   ... FAILED <20.000s>",
            "test quick ... ok",
            "took 2.5 s: tls::who: the server",
            "took a while",
            "test odd ... ok <-1s>",
        ] {
            tally.read(line);
        }
        let took = |name: &str, ms| (name.to_owned(), Duration::from_millis(ms));
        let expected =
            [took("dns::reads a ... b", 1500), took("slow", 20_000), took("tls::who: the server", 2500)];
        assert_eq!(tally.times, expected);
        let mut sum = Tally::default();
        sum.check("lints", Ok(()));
        sum.merge(tally);
        assert_eq!((sum.passed, sum.times.len()), (1, 3));
    }

    #[test]
    fn what_failed_is_told_again_with_what_it_said() {
        let mut tally = Tally::default();
        for line in [
            "test a ... FAILED",
            "failures:",
            "---- a stdout ----",
            "thread 'a' panicked at src/a.rs:1:2:",
            "test of nothing ... ignored",
            "",
            "---- b c: d ----",
            "no flow",
            "failures:",
            "    a",
            "test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "test e ... ignored, no kernel",
        ] {
            tally.read(line);
        }
        tally.check("lints", Err("a warning".into()));
        let said =
            |name: &str, lines: &[&str]| (name.to_owned(), lines.iter().map(ToString::to_string).collect());
        assert_eq!(
            tally.failures,
            [
                said("a", &["thread 'a' panicked at src/a.rs:1:2:", "test of nothing ... ignored"]),
                said("b c: d", &["no flow"]),
                said("lints", &["a warning"]),
            ]
        );
        assert_eq!(tally.skips, [("e".to_owned(), "no kernel".to_owned())]);
        assert_eq!(tally.to_string(), "0 passed, 3 failed, 0 skipped");
    }
}
