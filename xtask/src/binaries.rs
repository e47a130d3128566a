//! The test binaries of a selection of packages, built by cargo and run by us: several side by side, what each says
//! kept until it ends and then shown in one piece.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::step::failure;
use crate::workspace;

/// One of them.
pub struct Binary {
    /// Of the file, or of the crate.
    pub name: String,
    program: PathBuf,
    /// Where cargo would run it.
    directory: PathBuf,
}

/// What a binary left.
pub struct Ran {
    pub name: String,
    /// Or why it did not start.
    pub outcome: Result<ExitStatus>,
    pub said: String,
    pub took: Duration,
}

/// Builds the tests of `selection` and names them, those of `first` first.
///
/// # Errors
/// They do not compile.
pub fn build(selection: &[&str], first: &[&str]) -> Result<Vec<Binary>> {
    let mut command = workspace::cargo(&["test", "--no-run", "--message-format", "json-render-diagnostics"]);
    let output = command.args(selection).stderr(Stdio::inherit()).output().context("cargo did not start")?;
    if !output.status.success() {
        return Err(failure(
            format!("the tests do not compile ({})", output.status),
            "read the first error above",
        ));
    }
    let mut binaries: Vec<Binary> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| binary(&serde_json::from_str(line).ok()?))
        .collect();
    let place = |binary: &Binary| first.iter().position(|name| *name == binary.name).unwrap_or(first.len());
    binaries.sort_by_key(place);
    Ok(binaries)
}

/// What cargo's messages say of one (The Cargo Book, external tools).
fn binary(message: &Value) -> Option<Binary> {
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Binary {
        name: text(&message["target"]["name"])?,
        program: text(&message["executable"]).filter(|_| is_test)?.into(),
        directory: PathBuf::from(text(&message["manifest_path"])?).parent()?.to_owned(),
    })
}

/// Runs them, so many at a time, each with the arguments for its name, and hands over what it left as it ends.
pub fn run<'a>(
    binaries: &[Binary],
    at_a_time: usize,
    arguments: impl Fn(&str) -> &'a [&'a str] + Sync,
    mut each: impl FnMut(Ran),
) {
    let next = AtomicUsize::new(0);
    let (sender, ended) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            let (sender, next, arguments) = (sender.clone(), &next, &arguments);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(binary) = binaries.get(number) else { break };
                    let began = Instant::now();
                    let (outcome, said) = match binary.run(number, arguments(&binary.name)) {
                        Ok((status, said)) => (Ok(status), said),
                        Err(error) => (Err(error), String::new()),
                    };
                    let ran = Ran { name: binary.name.clone(), outcome, said, took: began.elapsed() };
                    // The receiver lives as long as this scope.
                    let _ = sender.send(ran);
                }
            });
        }
        drop(sender);
        ended.iter().for_each(&mut each);
    });
}

impl Binary {
    /// Runs it to its end. What it says is in `target/test-output/` while it runs.
    fn run(&self, number: usize, arguments: &[&str]) -> Result<(ExitStatus, String)> {
        let directory = workspace::target().join("test-output");
        fs::create_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
        let path = directory.join(format!("{number:02}-{}", self.name));
        let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        // A release compiler's libtest tells how long each test took only if it takes itself for a nightly one.
        command.env("RUSTC_BOOTSTRAP", "1").stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let status = command.status().with_context(|| format!("{} did not start", self.program.display()))?;
        let said = fs::read(&path).with_context(|| format!("{}", path.display()))?;
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_of_a_test_binary_is_understood_and_nothing_else_is_one() {
        let message = |test: bool, executable: &str| {
            let text = format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/dissect/Cargo.toml","target":{{"name":"quic"}},
                    "profile":{{"test":{test}}},"executable":{executable}}}"#
            );
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let found = binary(&message(true, r#""/w/target/debug/deps/quic-1""#)).expect("a binary");
        assert_eq!((found.name.as_str(), found.directory.to_str()), ("quic", Some("/w/dissect")));
        assert!(binary(&message(false, r#""/w/target/debug/quic""#)).is_none());
        assert!(binary(&message(true, "null")).is_none());
        assert!(binary(&serde_json::json!({"reason": "build-finished", "success": true})).is_none());
    }

    #[test]
    fn each_is_run_once_and_what_it_says_comes_in_one_piece() {
        let shell =
            |name: &str| Binary { name: name.into(), program: "/bin/sh".into(), directory: "/".into() };
        let binaries: Vec<Binary> = (0..7).map(|number| shell(&format!("xtask-pool-{number}"))).collect();
        let mut seen = Vec::new();
        let script = ["-c", "echo one; sleep 0.01; echo two >&2; exit 3"];
        run(
            &binaries,
            3,
            |_| &script,
            |ran| {
                assert_eq!(ran.outcome.expect("it ran").code(), Some(3));
                assert_eq!(ran.said, "one\ntwo\n");
                seen.push(ran.name);
            },
        );
        seen.sort();
        assert_eq!(seen, (0..7).map(|number| format!("xtask-pool-{number}")).collect::<Vec<_>>());
        let missing =
            Binary { name: "xtask-pool-none".into(), program: "/nowhere".into(), directory: "/".into() };
        run(&[missing], 1, |_| &[], |ran| assert!(ran.outcome.is_err()));
    }
}
