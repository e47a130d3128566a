//! `cargo xtask setup`: finds what is missing, says so, and installs it.

use anyhow::Result;

use crate::requirements::{Missing, missing};
use crate::step::{Shown, failure};
use crate::tools::Tool;
use crate::{apt, bpf_linker, python};

/// Whether missing things may be installed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Install,
    /// `--no-install`: name them and fail.
    NameOnly,
}

/// What the set-up is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The toolchain of the kernel programs.
    Build,
    /// That, and the servers and clients of the end-to-end tests.
    Test,
    /// cargo-fuzz.
    Fuzz,
    /// cargo-deny.
    Deny,
    /// The toolchain, and what boots other kernels.
    Kernels,
    /// The toolchain, what makes the load of the benchmarks, and what they are compared with.
    Bench,
}

/// Everything that building and testing need.
///
/// # Errors
/// See [`ensure`].
pub fn setup(policy: Policy) -> Result<()> {
    ensure(policy, Scope::Test)?;
    println!("xtask: everything is there");
    Ok(())
}

/// Makes sure that what `scope` needs is there.
///
/// # Errors
/// Something is missing and `policy` forbids to install it, or installing failed.
pub fn ensure(policy: Policy, scope: Scope) -> Result<()> {
    let later = begin(policy, scope)?;
    if later.python {
        python::install(Shown::AtOnce)?;
    }
    later.tools.iter().try_for_each(|tool| tool.install(Shown::AtOnce))
}

/// What takes long and is not needed by what comes next.
pub struct Later {
    pub python: bool,
    pub tools: Vec<&'static Tool>,
}

/// The same, but for what may be installed beside the next steps.
///
/// # Errors
/// See [`ensure`].
pub fn begin(policy: Policy, scope: Scope) -> Result<Later> {
    let missing = missing(scope);
    if missing.is_empty() {
        return Ok(Later { python: false, tools: Vec::new() });
    }
    match policy {
        Policy::NameOnly => {
            println!("xtask: missing:\n{missing}");
            Err(failure(
                "something is missing and --no-install forbids to install it",
                "install what is named above, or run again without --no-install",
            ))
        }
        Policy::Install => {
            println!("xtask: this will be installed now:\n{missing}");
            install(&missing)?;
            Ok(Later { python: missing.python, tools: missing.tools })
        }
    }
}

fn install(missing: &Missing) -> Result<()> {
    apt::install(&missing.packages)?;
    if let Some(kind) = missing.bpf_linker {
        bpf_linker::install(kind)?;
    }
    Ok(())
}
