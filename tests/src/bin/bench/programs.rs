//! Our own programs, beside this one.

use std::path::PathBuf;
use std::process::Command;

use tests::Place;

/// A program of this crate.
pub fn beside(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

/// The load generator, with as many descriptors as it may want.
pub fn load(place: &Place) -> Command {
    let mut command = place.command("prlimit");
    command.arg("--nofile=200000:200000").arg(beside("load"));
    command
}
