//! Where things are, and the cargo that was asked for.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn root() -> &'static Path {
    // The manifest directory of xtask is always a direct child of the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where everything that is built goes, whatever the caller's cargo settings say: the places below
/// it are promises.
pub fn target() -> PathBuf {
    root().join("target")
}

/// The release binary.
pub fn binary() -> PathBuf {
    target().join("release/streamwatch")
}

/// Where cargo keeps what outlives a checkout.
pub fn cargo_home() -> Option<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// `cargo`, the one that runs us, in the root of the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).env("CARGO_TARGET_DIR", target());
    command
}
