//! `cargo xtask build`: leaves the release binary, with the kernel object inside it, at
//! `target/release/streamwatch`.

use anyhow::Result;

use crate::setup::{self, Policy, Scope};
use crate::{kernel_object, step, workspace};

/// Sets up what building needs, then builds.
///
/// # Errors
/// Something is missing and may not be installed, or a step failed.
pub fn build(policy: Policy) -> Result<()> {
    setup::ensure(policy, Scope::Build)?;
    kernel_object::build()?;
    release()
}

/// A debug build, with kernel programs that say in words what they do.
///
/// # Errors
/// As for [`build`].
pub fn debug(policy: Policy) -> Result<()> {
    setup::ensure(policy, Scope::Build)?;
    kernel_object::build_with_log()?;
    step::run(
        &mut workspace::cargo(&["build", "--package", "monitor", "--features", "kernel-log"]),
        "the debug build",
        "read the compiler's first error above",
    )
}

/// The release binary alone; the kernel object must be there.
pub fn release() -> Result<()> {
    step::run(
        &mut workspace::cargo(&["build", "--release", "--package", "monitor"]),
        "the release build",
        "read the compiler's first error above",
    )
}
