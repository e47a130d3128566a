//! Our own programs, beside this one.

use std::path::PathBuf;
use std::process::Command;

use tests::Place;

/// A program of this crate.
pub fn beside(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

/// The load generator.
pub fn load(place: &Place) -> Command {
    place.command(beside("load"))
}
