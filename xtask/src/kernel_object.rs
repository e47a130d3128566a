//! Builds `monitor-ebpf/` to `target/bpf/streamwatch.bpf.o`, which `monitor/build.rs` embeds.
//!
//! The file is written only if its bytes change, so that an unchanged object rebuilds nothing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::step::{self, failure, find_program};
use crate::toolchain::{self, DISTRIBUTION_CARGO, DISTRIBUTION_RUSTC, Toolchain};
use crate::workspace;

/// Builds it with whichever toolchain is complete.
///
/// # Errors
/// No toolchain, or the build failed.
pub fn build() -> Result<()> {
    build_as(&[], "streamwatch.bpf.o")
}

/// The same, saying in words what it does, to `target/bpf/streamwatch-log.bpf.o`.
///
/// # Errors
/// As for [`build`].
pub fn build_with_log() -> Result<()> {
    build_as(&["--features", "log"], "streamwatch-log.bpf.o")
}

fn build_as(options: &[&str], name: &str) -> Result<()> {
    let toolchain = toolchain::find()
        .map_err(|_| failure("no toolchain can build the kernel programs", "run cargo xtask setup"))?;
    let source = workspace::root().join("monitor-ebpf");
    if !source.join("Cargo.toml").exists() {
        return Err(failure("monitor-ebpf/ is not there", "check the repository out whole"));
    }
    let target = workspace::target().join("bpf-build");
    step::run(
        cargo(&toolchain)
            .args(["build", "--quiet", "--release", "-Z", "build-std=core", "--target", "bpfel-unknown-none"])
            .args(options)
            .arg("--target-dir")
            .arg(&target)
            .current_dir(&source),
        "building the kernel programs",
        "read the compiler's first error above",
    )?;
    let built = target.join("bpfel-unknown-none/release/monitor-ebpf");
    publish(&built, &workspace::target().join("bpf").join(name))
}

/// The cargo of a toolchain, with nothing of ours in its environment: we run under another cargo,
/// whose settings would reach it.
fn cargo(toolchain: &Toolchain) -> Command {
    let (mut command, linker) = match toolchain {
        Toolchain::Nightly { linker } => {
            let mut command = Command::new(find_program("rustup").unwrap_or_else(|| "rustup".into()));
            command.args(["run", "nightly", "cargo"]);
            (command, linker)
        }
        Toolchain::Distribution { linker } => (Command::new(DISTRIBUTION_CARGO), linker),
    };
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_cargo = text.starts_with("CARGO") && !is_setting_of_the_machine(&text);
        if of_cargo || text.starts_with("RUSTC") || text.starts_with("RUSTDOC") || text == "LD_LIBRARY_PATH" {
            command.env_remove(&name);
        }
    }
    command.env_remove("RUSTUP_TOOLCHAIN");
    if matches!(toolchain, Toolchain::Distribution { .. }) {
        command
            .env("PATH", path_without_rustup())
            .env("RUSTC", DISTRIBUTION_RUSTC)
            // `-Z build-std` of a release compiler.
            .env("RUSTC_BOOTSTRAP", "1");
    }
    command.env("RUSTFLAGS", format!("-C linker={} -C link-arg=--btf -C debuginfo=2", linker.display()));
    command
}

/// Where crates come from must stay as the machine has it.
fn is_setting_of_the_machine(name: &str) -> bool {
    let kept =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
    kept.iter().any(|prefix| name.starts_with(prefix))
}

/// PATH without the directories that hold rustup's stand-ins for cargo and rustc.
fn path_without_rustup() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let kept = std::env::split_paths(&path).filter(|directory: &PathBuf| !directory.join("rustup").exists());
    // The parts came out of a PATH, so they can go back into one.
    std::env::join_paths(kept).unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into())
}

fn publish(built: &Path, published: &Path) -> Result<()> {
    let new = fs::read(built).with_context(|| format!("{} could not be read", built.display()))?;
    if fs::read(published).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let directory = published.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).with_context(|| format!("{} could not be made", directory.display()))?;
    // Renamed into place: a build that reads it meanwhile sees a whole object.
    let unfinished = published.with_extension("new");
    fs::write(&unfinished, new).with_context(|| format!("{} could not be written", unfinished.display()))?;
    fs::rename(&unfinished, published).with_context(|| format!("{} could not be made", published.display()))
}
