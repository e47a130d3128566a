//! `cargo xtask test`: every check and every test, the fast ones first, and one line at the end
//! that adds them up: `N passed, N failed, N skipped`. A check (format, lints, builds) counts as one.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::setup::{self, Policy, Scope};
use crate::step::{self, failure};
use crate::tally::Tally;
use crate::{build, fuzz, kernel_object, kernels, workspace};

/// Sets up, checks and tests. A check that fails does not hide what the later ones say; only the
/// end-to-end tests need the builds before them.
///
/// # Errors
/// Set-up failed, or anything failed or did not run through.
pub fn test(policy: Policy, filters: &[String]) -> Result<()> {
    setup::ensure(policy, Scope::Test)?;
    let mut tally = Tally::default();
    check(&mut tally, "format", || format("Cargo.toml"));
    check(&mut tally, "format of the kernel programs", || format("monitor-ebpf/Cargo.toml"));
    // Before the lints: the daemon embeds the object, so nothing of it compiles without.
    let object = check(&mut tally, "kernel object", kernel_object::build);
    check(&mut tally, "lints", lints);
    // Unit tests that need root say so by being ignored: without it they are skipped, and told.
    let ignored: &[&str] = if rustix::process::geteuid().is_root() { &["--include-ignored"] } else { &[] };
    runner(&mut tally, "unit tests", &["--workspace", "--exclude", "tests"], ignored, filters)?;
    if filters.is_empty() {
        check(&mut tally, "fuzzing", || fuzz::briefly(policy));
    }
    let binary = object && check(&mut tally, "release build", build::release);
    if binary {
        runner(&mut tally, "end-to-end tests", &["--package", "tests"], &[], filters)?;
        if filters.is_empty() {
            println!("xtask: other kernels");
            if let Err(error) = kernels::oldest_and_newest(&mut tally) {
                println!("xtask: other kernels: FAILED: {error:#}");
                tally.check("other kernels", Err(format!("{error:#}")));
            }
        }
    } else {
        println!("xtask: the end-to-end tests did not run: the build they need failed");
    }
    conclude(&tally)
}

fn check(tally: &mut Tally, name: &str, run: impl FnOnce() -> Result<()>) -> bool {
    println!("xtask: {name}");
    let outcome = run();
    if let Err(error) = &outcome {
        println!("xtask: {name}: FAILED: {error:#}");
    }
    let passed = outcome.is_ok();
    tally.check(name, outcome.map_err(|error| format!("{error:#}")));
    passed
}

fn format(manifest: &str) -> Result<()> {
    step::run(
        &mut workspace::cargo(&["fmt", "--all", "--check", "--manifest-path", manifest]),
        "cargo fmt --check",
        "run cargo fmt --all, in the workspace and in monitor-ebpf",
    )
}

fn lints() -> Result<()> {
    step::run(
        &mut workspace::cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        "cargo clippy",
        "read the first warning above",
    )
}

/// Runs test binaries; passes their output on, and reads it.
fn runner(
    tally: &mut Tally,
    name: &str,
    selection: &[&str],
    options: &[&str],
    filters: &[String],
) -> Result<()> {
    println!("xtask: {name}");
    let mut command = workspace::cargo(&["test", "--no-fail-fast"]);
    command.args(selection).args(["--", "--format", "pretty"]).args(options).args(filters);
    let failed_before = tally.failed;
    let status = read_lines(&mut command, |line| {
        println!("{line}");
        tally.read(line);
    })?;
    // Did not compile, or a runner died before it could say how many failed.
    if !status.success() && tally.failed == failed_before {
        let said = format!("a test did not compile, or its runner ended early ({status})");
        println!("xtask: {name}: FAILED: {said}");
        tally.check(name, Err(said));
    }
    Ok(())
}

fn read_lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<std::process::ExitStatus> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo test did not start")?;
    // Asked for right above.
    let stdout = child.stdout.take().context("cargo test has no stdout")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("the output of cargo test could not be read")?;
        each(String::from_utf8_lossy(&line).trim_end());
    }
    child.wait().context("cargo test could not be waited for")
}

fn conclude(tally: &Tally) -> Result<()> {
    println!();
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
