//! `cargo xtask miri`: the crate in which bytes of the ring become structures by a cast, under Miri, which sees reads
//! out of bounds, misaligned, or of memory that nobody wrote.
//!
//! Miri comes only with nightly compilers. One of a fixed day is used, beside the toolchains that are there: none of
//! them is changed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::report::Verdict;
use crate::setup::Policy;
use crate::step::{self, Shown, ask, failure, find_program};
use crate::workspace;

const TOOLCHAIN: &str = "nightly-2026-10-30";

/// Crates with unsafe code that Miri can run: monitor-sys maps kernel memory, which Miri has none of, and
/// monitor-ebpf runs in the kernel.
const CRATES: [&str; 1] = ["monitor-common"];

/// Runs their tests, and says so.
///
/// # Errors
/// A test failed, or Miri cannot be had.
pub fn miri(policy: Policy) -> Result<()> {
    match check(policy, Shown::AtOnce)? {
        Verdict::Passed => Ok(()),
        Verdict::Skipped(reason) => Err(failure(reason, "install rustup, or run without --no-install")),
    }
}

/// The same as a part of `cargo xtask test`: where Miri cannot be had that is no failure, and no success.
///
/// # Errors
/// A test failed.
pub fn check(policy: Policy, shown: Shown) -> Result<Verdict> {
    let Some(rustup) = find_program("rustup") else {
        return Ok(Verdict::Skipped(
            "Miri comes with rustup's nightly compilers, and there is no rustup".into(),
        ));
    };
    if !is_there(&rustup) {
        if policy == Policy::NameOnly {
            return Ok(Verdict::Skipped(format!("Miri of {TOOLCHAIN} is not installed")));
        }
        println!(
            "xtask: this will be installed now:\n  {TOOLCHAIN}, with Miri, for the tests of unsafe code"
        );
        let arguments = ["toolchain", "install", TOOLCHAIN, "--profile", "minimal", "--no-self-update"];
        let mut command = Command::new(&rustup);
        command.args(arguments).args(["--component", "miri", "--component", "rust-src"]);
        if let Err(error) = step::run_shown(Shown::IfItFails, &mut command, "rustup toolchain install", "") {
            return Ok(Verdict::Skipped(format!("Miri of {TOOLCHAIN} cannot be had: {error}")));
        }
    }
    let mut command = clean(Command::new(&rustup));
    command.args(["run", TOOLCHAIN, "cargo", "miri", "test"]);
    command.args(CRATES.iter().flat_map(|name| ["--package", name]));
    // Its tests alone: nothing of the documentation is run.
    command.args(["--tests"]).current_dir(workspace::root());
    command.env("CARGO_TARGET_DIR", workspace::target().join("miri"));
    step::run_shown(shown, &mut command, "the tests under Miri", "read what Miri says above")?;
    Ok(Verdict::Passed)
}

fn is_there(rustup: &PathBuf) -> bool {
    // Asking for a toolchain that is not there might install it.
    let listed = ask(Command::new(rustup).args(["toolchain", "list"]))
        .is_some_and(|list| list.lines().any(|line| line.starts_with(TOOLCHAIN)));
    listed
        && ask(clean(Command::new(rustup)).args(["run", TOOLCHAIN, "cargo", "miri", "--version"])).is_some()
}

/// We run under another cargo, whose choices would reach this one.
fn clean(mut command: Command) -> Command {
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
}
