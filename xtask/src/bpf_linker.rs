//! bpf-linker: turns LLVM bitcode into a BPF object, so it needs the LLVM of the compiler.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::step::{self, ask, failure, find_program};
use crate::toolchain::DISTRIBUTION_LLVM;
use crate::workspace;

/// The version that the kernel programs are known to link with.
const VERSION: &str = "0.13.0";

/// Which toolchain it is to go with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    Distribution,
}

/// What installing it means, for people.
pub fn describe(_: For) -> String {
    format!("version {VERSION}, built with cargo against LLVM {DISTRIBUTION_LLVM} (about a minute)")
}

/// A bpf-linker that starts (one whose LLVM library has gone does not).
pub fn find() -> Option<PathBuf> {
    let beside_cargo = workspace::cargo_home().map(|home| home.join("bin/bpf-linker"));
    find_program("bpf-linker")
        .into_iter()
        .chain(beside_cargo)
        .find(|path| ask(Command::new(path).arg("--version")).is_some())
}

/// `llvm-config` of the distribution's LLVM.
pub fn llvm_config() -> Option<PathBuf> {
    find_program(format!("llvm-config-{DISTRIBUTION_LLVM}"))
}

/// Builds and installs it with the cargo that runs us.
///
/// # Errors
/// `llvm-config` is missing, or the build failed.
pub fn install(kind: For) -> Result<()> {
    let For::Distribution = kind;
    let remedy = format!(
        "look whether llvm-{DISTRIBUTION_LLVM}-dev is installed and a crates registry can be reached, or put \
         a released bpf-linker (https://github.com/aya-rs/bpf-linker/releases) on PATH"
    );
    let prefix = llvm_config()
        .and_then(|program| ask(Command::new(program).arg("--prefix")))
        .ok_or_else(|| failure(format!("llvm-config-{DISTRIBUTION_LLVM} is not there"), &*remedy))?;
    let feature = format!("llvm-{DISTRIBUTION_LLVM}");
    println!("xtask: building bpf-linker {VERSION}");
    step::run(
        workspace::cargo(&["install", "bpf-linker", "--locked", "--version", VERSION])
            .args(["--no-default-features", "--features", &feature])
            .env("LLVM_PREFIX", prefix),
        "building bpf-linker",
        &remedy,
    )
}
