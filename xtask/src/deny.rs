//! What comes in from others (`deny.toml`): licences, two versions of one crate, where it comes from, and what is
//! known against it. With `cargo deny`, over every lock file here.

use std::process::Command;

use anyhow::Result;

use crate::report::Verdict;
use crate::setup::{self, Policy, Scope};
use crate::step::{self, Shown, failure};
use crate::{tools, workspace};

/// Each has a lock file of its own.
const MANIFESTS: [&str; 5] = [
    "Cargo.toml",
    "monitor-ebpf/Cargo.toml",
    "fuzz/Cargo.toml",
    "tests/quic-echo/Cargo.toml",
    "tests/tls-peer/Cargo.toml",
];

/// Everything, and says so.
///
/// # Errors
/// Set-up failed, something was found, or the advisories cannot be had.
pub fn deny(policy: Policy) -> Result<()> {
    setup::ensure(policy, Scope::Deny)?;
    check()?;
    println!("xtask: licences, duplicates and sources are as deny.toml wants them");
    match advisories()? {
        Verdict::Passed => println!("xtask: no advisory on what we use"),
        Verdict::Skipped(reason) => return Err(failure(reason, "run it where the database can be reached")),
    }
    Ok(())
}

/// Licences, duplicates and sources.
///
/// # Errors
/// Something is not as `deny.toml` wants it, or cargo-deny did not start.
pub fn check() -> Result<()> {
    over_all(
        &["check", "--hide-inclusion-graph", "licenses", "bans", "sources"],
        "change deny.toml only for a reason",
    )
}

/// Advisories, where their database can be fetched: it is in no package registry.
///
/// # Errors
/// Something is known against what we use.
pub fn advisories() -> Result<Verdict> {
    let fetched = step::run_shown(
        Shown::IfItFails,
        cargo_deny(MANIFESTS[0]).args(["fetch", "db"]),
        "cargo deny fetch",
        "",
    );
    if let Err(error) = fetched {
        return Ok(Verdict::Skipped(format!("the database of advisories cannot be fetched: {error}")));
    }
    let remedy = "take a version without it, or name it in deny.toml with the reason why it does not matter";
    over_all(&["check", "--disable-fetch", "advisories"], remedy).map(|()| Verdict::Passed)
}

fn over_all(arguments: &[&str], remedy: &str) -> Result<()> {
    for manifest in MANIFESTS {
        let what = format!("cargo deny, on {manifest},");
        step::run_shown(Shown::IfItFails, cargo_deny(manifest).args(arguments), &what, remedy)?;
    }
    Ok(())
}

fn cargo_deny(manifest: &str) -> Command {
    let mut command = Command::new(workspace::root().join(tools::DIRECTORY).join("bin/cargo-deny"));
    command.current_dir(workspace::root()).args(["--locked", "--log-level", "error", "--color", "never"]);
    command.args(["--config", "deny.toml", "--manifest-path", manifest]);
    command
}
