//! Programs of the tests that cargo builds (from crates.io, or of ours), in a directory of their own below `target/`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;

use crate::step;
use crate::workspace;

/// Below the workspace root; the tests look there.
pub const DIRECTORY: &str = "target/tools";

/// A program that `cargo install` makes.
pub struct Tool {
    /// Of the program, and of the crate where it comes from the registry.
    pub name: &'static str,
    source: Source,
    purpose: &'static str,
}

enum Source {
    /// A version of crates.io.
    Registry(&'static str),
    /// A directory of ours.
    Here(&'static str),
}

/// Each takes about a minute.
pub const TOOLS: [Tool; 4] = [
    Tool {
        name: "boringtun-cli",
        source: Source::Registry("0.7.1"),
        purpose: "WireGuard where the kernel has none",
    },
    Tool { name: "cargo-fuzz", source: Source::Registry("0.13.2"), purpose: "fuzzing" },
    Tool {
        name: "quic-echo",
        source: Source::Here("tests/quic-echo"),
        purpose: "QUIC with a post-quantum key share (quinn)",
    },
    Tool {
        name: "tls-peer",
        source: Source::Here("tests/tls-peer"),
        purpose: "post-quantum TLS (rustls) and DTLS 1.3 (dimpl)",
    },
];

impl Tool {
    pub fn program(&self) -> PathBuf {
        workspace::root().join(DIRECTORY).join("bin").join(self.name)
    }

    /// And no older than what it is built from, where that is ours.
    pub fn is_there(&self) -> bool {
        let Ok(built) = modified(&self.program()) else { return false };
        match self.source {
            Source::Registry(_) => true,
            Source::Here(directory) => {
                let directory = workspace::root().join(directory);
                let sources = ["Cargo.toml", "Cargo.lock", "src/main.rs"];
                sources.iter().all(|file| modified(&directory.join(file)).is_ok_and(|at| at <= built))
            }
        }
    }

    /// What installing it means, for people.
    pub fn describe(&self) -> String {
        let from = match self.source {
            Source::Registry(version) => format!("{version} from crates.io"),
            Source::Here(directory) => format!("from {directory}"),
        };
        format!("{} {from}, built with cargo: {} (about a minute)", self.name, self.purpose)
    }

    /// Builds and installs it with the cargo that runs us.
    ///
    /// # Errors
    /// The build failed.
    pub fn install(&self) -> Result<()> {
        println!("xtask: building {}", self.name);
        let mut command = workspace::cargo(&["install", "--locked", "--root", DIRECTORY]);
        match self.source {
            Source::Registry(version) => command.args([self.name, "--version", version]),
            Source::Here(directory) => command.args(["--path", directory]),
        };
        step::run(
            command.env("CARGO_TARGET_DIR", workspace::target().join("tools-build")),
            &format!("building {}", self.name),
            "look whether a crates registry can be reached",
        )
    }
}

fn modified(file: &Path) -> std::io::Result<SystemTime> {
    std::fs::metadata(file)?.modified()
}
