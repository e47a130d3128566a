//! What the steps of `cargo xtask test` found, and how long they took. One for what runs here, one for each thing
//! that runs beside it; in the end they are one.

use std::time::Instant;

use anyhow::Result;

use crate::step::failure;
use crate::tally::Tally;
use crate::timing::Timings;

/// How a check that needs what not every machine has came out, when nothing was found.
pub enum Verdict {
    Passed,
    /// It could not run, and why.
    Skipped(String),
}

/// See above.
#[derive(Debug, Default)]
pub struct Report {
    pub tally: Tally,
    pub timings: Timings,
}

impl Report {
    /// Runs a check and counts it as one.
    pub fn check(&mut self, name: &str, run: impl FnOnce() -> Result<()>) -> bool {
        println!("xtask: {name}");
        let outcome = self.timings.time(name, run);
        self.judge(name, outcome)
    }

    /// The same of one that may not be able to run here.
    pub fn check_if_possible(&mut self, name: &str, run: impl FnOnce() -> Result<Verdict>) {
        println!("xtask: {name}");
        match self.timings.time(name, run) {
            Ok(Verdict::Passed) => drop(self.judge(name, Ok(()))),
            Ok(Verdict::Skipped(reason)) => self.tally.skip(name, &reason),
            Err(error) => drop(self.judge(name, Err(error))),
        }
    }

    /// Runs a step that others stand on: counted only if it fails.
    pub fn need<T>(&mut self, name: &str, run: impl FnOnce() -> Result<T>) -> Option<T> {
        println!("xtask: {name}");
        match self.timings.time(name, run) {
            Ok(made) => Some(made),
            Err(error) => {
                self.judge(name, Err(error));
                None
            }
        }
    }

    /// Counts a check.
    pub fn judge(&mut self, name: &str, outcome: Result<()>) -> bool {
        let outcome = outcome.map_err(|error| format!("{error:#}"));
        if let Err(said) = &outcome {
            println!("xtask: {name}: FAILED: {said}");
        }
        let passed = outcome.is_ok();
        self.tally.check(name, outcome);
        passed
    }

    /// Takes in what another one found.
    pub fn merge(&mut self, other: Report) {
        self.tally.merge(other.tally);
        self.timings.merge(other.timings);
    }

    /// Shows everything, what failed and the sum last.
    ///
    /// # Errors
    /// Something failed.
    pub fn conclude(&self, began: Instant) -> Result<()> {
        println!();
        self.timings.print(&self.tally.times, began);
        let tally = &self.tally;
        if !tally.skips.is_empty() {
            println!("Skipped:");
            for (name, reason) in &tally.skips {
                println!("  {name}: {reason}");
            }
        }
        if !tally.failures.is_empty() {
            println!("Failed:");
            for (name, said) in &tally.failures {
                println!("  {name}:");
                said.iter().flat_map(|said| said.lines()).for_each(|line| println!("    {line}"));
            }
        }
        println!("{tally}");
        if tally.failed == 0 {
            return Ok(());
        }
        Err(failure(
            "not everything passed",
            "read what is said of each under Failed, above; the whole of it stands further up",
        ))
    }
}
