//! Programs of the tests that only crates.io has, in a directory of their own below `target/`.

use std::path::PathBuf;

use anyhow::Result;

use crate::step;
use crate::workspace;

/// Below the workspace root; the tests look there.
pub const DIRECTORY: &str = "target/tools";

/// A program that `cargo install` makes.
pub struct Tool {
    /// Of the crate and of the program.
    pub name: &'static str,
    version: &'static str,
    purpose: &'static str,
}

/// Each takes about a minute.
pub const TOOLS: [Tool; 2] = [
    Tool { name: "boringtun-cli", version: "0.7.1", purpose: "WireGuard where the kernel has none" },
    Tool { name: "cargo-fuzz", version: "0.13.2", purpose: "fuzzing" },
];

impl Tool {
    pub fn program(&self) -> PathBuf {
        workspace::root().join(DIRECTORY).join("bin").join(self.name)
    }

    pub fn is_there(&self) -> bool {
        self.program().is_file()
    }

    /// What installing it means, for people.
    pub fn describe(&self) -> String {
        format!("{} {} from crates.io, for {} (about a minute)", self.name, self.version, self.purpose)
    }

    /// Builds and installs it with the cargo that runs us.
    ///
    /// # Errors
    /// The build failed.
    pub fn install(&self) -> Result<()> {
        println!("xtask: building {} {}", self.name, self.version);
        step::run(
            workspace::cargo(&["install", self.name, "--locked", "--version", self.version, "--root"])
                .arg(workspace::root().join(DIRECTORY))
                .env("CARGO_TARGET_DIR", workspace::target().join("tools-build")),
            &format!("building {}", self.name),
            "look whether a crates registry can be reached",
        )
    }
}
