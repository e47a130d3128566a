//! bandwhich, for the side by side: from crates.io, into a directory of its own below `target/`.

use crate::{step, workspace};

/// Below the workspace root; the benchmark looks there.
const DIRECTORY: &str = "target/bench-tools";

/// Builds it where it is not there. Without it the benchmark goes on, and says that it is missing.
pub fn install() {
    let directory = workspace::root().join(DIRECTORY);
    if step::find_program("bandwhich").is_some() || directory.join("bin/bandwhich").is_file() {
        return;
    }
    println!("xtask: building bandwhich into {DIRECTORY}");
    let mut command = workspace::cargo(&["install", "bandwhich", "--locked", "--quiet", "--root"]);
    // Not among our own artifacts.
    command.arg(&directory).env("CARGO_TARGET_DIR", directory.join("build"));
    if let Err(error) = step::run(&mut command, "building bandwhich", "it will be named as skipped") {
        println!("xtask: {error}; the side by side goes without it");
    }
}
