//! A file of tests: runs them one after the other, tells "cannot run here" from "passed", and says how long each
//! took.
//!
//! Several files may run side by side: their tests have places of their own. A test that looks at the whole host
//! says so ([`Suite::alone`]) and waits until no other one runs, whoever started it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Completion, Trial};
use rustix::fs::{FlockOperation, flock};

use crate::ending::{undo_on_signals, wait_if_ending};
use crate::{cgroup, daemon};

/// The error of a test that cannot run here; its text is the reason.
#[derive(Debug)]
pub struct Skip(String);

impl Skip {
    /// An error that makes the test count as skipped.
    pub fn because(reason: impl Into<String>) -> anyhow::Error {
        Skip(reason.into()).into()
    }
}

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// The tests of one file.
pub struct Suite {
    name: &'static str,
    trials: Vec<Trial>,
    times: Arc<Mutex<Vec<(String, Duration)>>>,
}

/// A test that took less is not told of.
const LONG: Duration = Duration::from_millis(500);

/// Held while a test runs.
struct Turn {
    _house: File,
}

impl Turn {
    /// Waits until nobody is in the house who wants to be alone, or, to be alone, until nobody is. Who waits holds
    /// the queue, so that those who came later do not go in before. The locks are on directories of this
    /// checkout: nothing is left, whichever way the tests end.
    fn wait(alone: bool) -> Result<Turn> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lock = |path: &Path, how| {
            let directory = File::open(path).with_context(|| path.display().to_string())?;
            flock(&directory, how).with_context(|| path.display().to_string())?;
            Ok::<_, anyhow::Error>(directory)
        };
        let _queue = lock(&root.join("src"), FlockOperation::LockExclusive)?;
        let how = if alone { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
        Ok(Turn { _house: lock(root, how)? })
    }
}

impl Suite {
    /// `name`: the file's; it stands before the name of each test.
    pub fn new(name: &'static str) -> Self {
        Suite { name, trials: Vec::new(), times: Arc::default() }
    }

    /// Adds a test that needs these programs.
    #[must_use]
    pub fn test(
        self,
        name: &str,
        programs: &'static [&'static str],
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        self.add(name, programs, false, run)
    }

    /// Adds a test that looks at more than its own place: no other one runs meanwhile.
    #[must_use]
    pub fn alone(
        self,
        name: &str,
        programs: &'static [&'static str],
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        self.add(name, programs, true, run)
    }

    fn add(
        mut self,
        name: &str,
        programs: &'static [&'static str],
        alone: bool,
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        let name = format!("{}::{name}", self.name);
        let (times, timed) = (Arc::clone(&self.times), name.clone());
        let trial = Trial::ignorable_test(name, move || {
            let outcome = able(programs).and_then(|()| {
                let _turn = Turn::wait(alone)?;
                let began = Instant::now();
                let outcome = run();
                times.lock().unwrap_or_else(PoisonError::into_inner).push((timed, began.elapsed()));
                outcome
            });
            match outcome {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => match error.downcast::<Skip>() {
                    Ok(skip) => Ok(Completion::ignored_with(skip)),
                    Err(error) => Err(causes(&error).into()),
                },
            }
        });
        self.trials.push(trial);
        self
    }

    /// Runs those that the command line asks for; what a test's `main` returns.
    pub fn main(mut self) -> ExitCode {
        if let Err(error) = undo_on_signals() {
            eprintln!("tests: {error:#}");
            return ExitCode::FAILURE;
        }
        // libtest takes several filters, libtest-mimic one: the same command line serves both.
        let (mut options, mut filters) = (Vec::new(), Vec::new());
        for argument in std::env::args() {
            let is_filter = !options.is_empty() && !argument.starts_with('-') && !takes_value(options.last());
            if is_filter { filters.push(argument) } else { options.push(argument) }
        }
        self.trials.retain(|trial| {
            filters.is_empty() || filters.iter().any(|filter| trial.name().contains(filter.as_str()))
        });
        let mut arguments = Arguments::from_iter(options);
        // One at a time: other files may run beside.
        arguments.test_threads = Some(arguments.test_threads.unwrap_or(1));
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        wait_if_ending();
        tell(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner));
        conclusion.exit_code()
    }
}

/// The longest first; `cargo xtask test` reads it.
fn tell(times: &mut [(String, Duration)]) {
    times.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    for (name, took) in times.iter().take_while(|(_, took)| *took >= LONG) {
        println!("took {:.1} s: {name}", took.as_secs_f64());
    }
}

/// An error and its causes, one below the other, whatever RUST_BACKTRACE says.
fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\ncaused by: ")
}

fn takes_value(option: Option<&String>) -> bool {
    option.is_some_and(|name| {
        matches!(name.as_str(), "--format" | "--color" | "--test-threads" | "--skip" | "--logfile")
    })
}

/// Whether this host lets a test run at all.
fn able(programs: &[&str]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Skip::because("needs root"));
    }
    if cgroup::mount_point().is_none() {
        return Err(Skip::because("cgroup v2 is not mounted"));
    }
    for program in ["ip", "nsenter", "curl"].iter().chain(programs) {
        if !installed(program) {
            return Err(Skip::because(format!("{program} is not installed (cargo xtask setup)")));
        }
    }
    let binary = daemon::binary();
    anyhow::ensure!(binary.exists(), "{} is not there: cargo xtask build", binary.display());
    Ok(())
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    let mut look = Command::new("sh");
    look.args(["-c", r#"command -v "$0""#, program]).env("PATH", path).stdout(Stdio::null());
    look.status().is_ok_and(|status| status.success())
}
