//! Which toolchain can build the kernel programs: the usual one of aya's users (a rustup nightly
//! with its sources), else the distribution's. Looks only, changes nothing.
//!
//! A nightly without `rust-src` cannot build `core` and does not count.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bpf_linker;
use crate::step::{ask, find_program};

/// LLVM of the distribution's Rust; bpf-linker must be built with the same.
pub const DISTRIBUTION_LLVM: &str = "22";
/// The distribution's programs by full path, since rustup's come first on PATH.
pub const DISTRIBUTION_CARGO: &str = "/usr/bin/cargo";
pub const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";
/// The oldest Rust that takes edition 2024 and aya-ebpf as we use them.
const OLDEST_MINOR: u32 = 95;

/// A toolchain that is complete, with the path of its bpf-linker.
pub enum Toolchain {
    Nightly { linker: PathBuf },
    Distribution { linker: PathBuf },
}

/// What the distribution's way still wants.
pub struct DistributionGap {
    pub packages: Vec<(&'static str, &'static str)>,
    pub linker: Option<bpf_linker::For>,
}

/// The toolchain to use, or what has to be installed to have one.
pub fn find() -> Result<Toolchain, DistributionGap> {
    let linker = bpf_linker::find();
    if let (Some(linker), true) = (&linker, nightly_with_sources()) {
        return Ok(Toolchain::Nightly { linker: linker.clone() });
    }
    let mut packages = Vec::new();
    if !distribution_rustc() {
        packages.push(("rustc-web", "compiler of the kernel programs"));
    }
    if !has_sources(DISTRIBUTION_RUSTC) {
        packages.push(("rust-web-src", "its sources, for core on the BPF target"));
    }
    if !distribution_cargo() {
        packages.push(("cargo-web", "its cargo"));
    }
    match linker {
        Some(linker) if packages.is_empty() => Ok(Toolchain::Distribution { linker }),
        Some(_) => Err(DistributionGap { packages, linker: None }),
        None => {
            if bpf_linker::llvm_config().is_none() {
                packages.push(("llvm-22-dev", "to build bpf-linker"));
            }
            Err(DistributionGap { packages, linker: Some(bpf_linker::For::Distribution) })
        }
    }
}

/// A rustup nightly that is installed (asking must not install it) and has `rust-src`.
fn nightly_with_sources() -> bool {
    let Some(rustup) = find_program("rustup") else { return false };
    let Some(list) = ask(Command::new(&rustup).args(["toolchain", "list"])) else { return false };
    // Not one of a fixed day (`nightly-2026-…`): that goes by another name.
    let is_latest = |line: &str| {
        line.strip_prefix("nightly-").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if !list.lines().any(is_latest) {
        return false;
    }
    ask(Command::new(rustup).args(["run", "nightly", "rustc", "--print", "sysroot"]))
        .is_some_and(|sysroot| sources_below(Path::new(&sysroot)))
}

fn has_sources(rustc: &str) -> bool {
    ask(Command::new(rustc).args(["--print", "sysroot"])).is_some_and(|root| sources_below(Path::new(&root)))
}

fn sources_below(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
}

/// `/usr/bin/rustc` is young enough and has the LLVM that bpf-linker is built for.
fn distribution_rustc() -> bool {
    let Some(about) = ask(Command::new(DISTRIBUTION_RUSTC).arg("-vV")) else { return false };
    let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let young = field("release:").and_then(minor_version).is_some_and(|minor| minor >= OLDEST_MINOR);
    let llvm = field("LLVM version:").and_then(|version| version.split('.').next());
    young && llvm == Some(DISTRIBUTION_LLVM)
}

fn distribution_cargo() -> bool {
    ask(Command::new(DISTRIBUTION_CARGO).arg("--version"))
        .and_then(|line| minor_version(line.strip_prefix("cargo ")?))
        .is_some_and(|minor| minor >= OLDEST_MINOR)
}

/// The second number of `1.96.0`.
fn minor_version(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::minor_version;

    #[test]
    fn versions_of_every_channel_are_understood() {
        assert_eq!(minor_version("1.96.0"), Some(96));
        assert_eq!(minor_version("1.97.0-nightly"), Some(97));
        assert_eq!(minor_version("1.96.0 (30a34c682 2026-05-25)"), Some(96));
        assert_eq!(minor_version("2.0"), None);
    }
}
