//! Suricata, for the side by side: Debian has it in the backports of its stable release only, which most
//! machines are not set to. From there, without changing what the machine is set to.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{apt, step, workspace};

/// Lists of packages, below the workspace root.
const DIRECTORY: &str = "target/bench-tools/apt";

/// Installs it where it is not there. Without it the benchmark goes on, and says that it is missing.
pub fn install() {
    if step::find_program("suricata").is_some() || !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = workspace::root().join(DIRECTORY);
    if let Err(error) = from_backports(&directory) {
        println!("xtask: {error}; the side by side goes without Suricata");
    }
}

fn from_backports(directory: &Path) -> anyhow::Result<()> {
    let Some(source) = backports() else {
        anyhow::bail!("no source of packages of a Debian release is set here");
    };
    println!("xtask: installing suricata from {source}");
    fs::create_dir_all(directory.join("lists/partial"))?;
    fs::write(directory.join("sources.list"), format!("deb {source} main\n"))?;
    let remedy = "it will be named as skipped";
    // Its lists lie apart from the machine's, which are not touched; what it needs else, comes from those
    // that are there.
    let apart = |command: &mut Command| {
        let option = |name: &str, path: &str| format!("{name}={}", directory.join(path).display());
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=600"]);
        command.args(["-o", &option("Dir::Etc::SourceList", "sources.list")]);
        command.args(["-o", &option("Dir::State::Lists", "lists")]);
    };
    let mut update = Command::new("apt-get");
    apart(&mut update);
    step::run(update.arg("update"), "apt-get update", remedy)?;
    let mut install = Command::new("apt-get");
    apart(&mut install);
    let _no_service_starts = apt::StartPolicy::deny()?;
    // A backport gives way to the release itself, unless it is asked for.
    let release = source.rsplit(' ').next().unwrap_or_default();
    install.args(["install", "--yes", "--no-install-recommends", "--no-remove", "--target-release", release]);
    step::run(install.arg("suricata"), "apt-get install suricata", remedy)?;
    apt::do_not_start_at_boot(&["suricata"]);
    Ok(())
}

/// `URI RELEASE-backports` of the release that this machine is set to, at the same mirror.
fn backports() -> Option<String> {
    let output =
        Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // Its updates and the repairs of its security have a hyphen in their names.
    let (uri, release) =
        text.lines().filter_map(|line| line.split_once(' ')).find(|(_, it)| !it.contains('-'))?;
    Some(format!("{uri} {release}-backports"))
}
