//! `cargo xtask bench [NAME]`: what watching costs, measured with and without in one run.

use anyhow::Result;

use crate::setup::{self, Policy, Scope};
use crate::step;
use crate::{build, kernel_object, workspace};

mod bandwhich;
mod suricata;

/// What to run.
pub struct Selection {
    /// Only these; all if empty.
    pub names: Vec<String>,
    /// Name them instead.
    pub list: bool,
    /// Pairs of one comparison, at least.
    pub pairs: usize,
    /// Seconds that a comparison may go on.
    pub seconds: u64,
    /// Put the tables into `BENCHMARKS.md`.
    pub write: bool,
}

/// Sets up, builds, and measures. The raw figures are in `target/bench/` afterwards.
///
/// # Errors
/// Set-up or a build failed, or a benchmark could not be run. A figure that is missed is no error.
pub fn bench(policy: Policy, selection: &Selection) -> Result<()> {
    setup::ensure(policy, if selection.list { Scope::Build } else { Scope::Bench })?;
    kernel_object::build()?;
    if !selection.list {
        build::release()?;
        if policy == Policy::Install && wants(selection, "peers") {
            bandwhich::install();
            suricata::install();
        }
    }
    step::run(
        &mut workspace::cargo(&["build", "--release", "--quiet", "--package", "tests", "--bins"]),
        "building the benchmarks",
        "read the compiler's first error above",
    )?;
    let mut command = std::process::Command::new(workspace::target().join("release/bench"));
    command.args(&selection.names).current_dir(workspace::root());
    command.args(["--pairs", &selection.pairs.to_string(), "--seconds", &selection.seconds.to_string()]);
    if selection.list {
        command.arg("--list");
    }
    if selection.write {
        command.arg("--write");
    }
    step::run(&mut command, "the benchmarks", "read the line with FAILED above; all of them need root")
}

fn wants(selection: &Selection, name: &str) -> bool {
    selection.names.is_empty() || selection.names.iter().any(|one| one == name)
}
