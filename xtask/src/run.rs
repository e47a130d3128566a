//! `cargo xtask run`: becomes `streamwatch run`, freshly built.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Result;

use crate::setup::Policy;
use crate::step::failure;
use crate::{build, workspace};

/// Sets up, builds, and replaces this process by the daemon, so that signals and the exit status
/// are its own.
///
/// # Errors
/// Set-up or build failed, or the binary could not be started.
pub fn run(policy: Policy, debug: bool, arguments: &[String]) -> Result<()> {
    let binary = if debug {
        build::debug(policy)?;
        workspace::target().join("debug/streamwatch")
    } else {
        build::build(policy)?;
        workspace::binary()
    };
    let error = Command::new(&binary).arg("run").args(arguments).exec();
    Err(failure(
        format!("{} could not be started: {error}", binary.display()),
        "look whether the file is there and the file system allows execution",
    ))
}
