//! A step that runs a program. When it fails, the error names what failed and what to do.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

/// A step that failed, for people.
#[derive(Debug)]
pub struct Failure {
    /// What failed, on what, and how.
    pub what: String,
    /// What the reader can do about it: one line.
    pub remedy: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// An error with its remedy.
pub fn failure(what: impl Into<String>, remedy: impl Into<String>) -> anyhow::Error {
    Failure { what: what.into(), remedy: remedy.into() }.into()
}

/// Runs `command` with our own stdin, stdout and stderr.
///
/// # Errors
/// `what` did not start or did not end with 0.
pub fn run(command: &mut Command, what: &str, remedy: &str) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failure(format!("{what} failed ({status})"), remedy)),
        Err(error) => Err(failure(
            format!("{what} failed: {} did not start: {error}", command.get_program().display()),
            remedy,
        )),
    }
}

/// When what a program says is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    AtOnce,
    /// It runs beside others, whose lines it would stand between.
    IfItFails,
}

/// Lines of a program that failed.
const LAST_LINES: usize = 40;

/// The same, with what the program says shown when `shown` has it.
///
/// # Errors
/// See [`run`]; with the last lines of what was not shown.
pub fn run_shown(shown: Shown, command: &mut Command, what: &str, remedy: &str) -> Result<()> {
    if shown == Shown::AtOnce {
        return run(command, what, remedy);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        failure(format!("{what} failed: {} did not start: {error}", command.get_program().display()), remedy)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    Err(failure(format!("{what} failed ({}):\n{tail}", output.status), remedy))
}

/// The trimmed stdout of a program, or nothing if it could not be run or failed. Asks only.
pub fn ask(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where a program is: on PATH, or in the directories that hold servers and that an ordinary user's
/// PATH lacks.
pub fn find_program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let name = name.as_ref();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}
