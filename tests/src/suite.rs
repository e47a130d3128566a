//! A file of tests: runs them one after the other, and tells "cannot run here" from "passed".

use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Trial};

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
}

impl Suite {
    /// `name`: the file's; it stands before the name of each test.
    pub fn new(name: &'static str) -> Self {
        Suite { name, trials: Vec::new() }
    }

    /// Adds a test that needs these programs.
    #[must_use]
    pub fn test(
        mut self,
        name: &str,
        programs: &'static [&'static str],
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        let trial = Trial::ignorable_test(format!("{}::{name}", self.name), move || {
            match able(programs).and_then(|()| run()) {
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
        // They share two processors and a kernel: one at a time.
        arguments.test_threads = Some(arguments.test_threads.unwrap_or(1));
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        wait_if_ending();
        conclusion.exit_code()
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
