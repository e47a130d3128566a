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
    /// A crate of another name than its program, and its version.
    Crate(&'static str, &'static str),
    /// The same of a large program, with these features: built as fast as can be, since nobody waits for it to run.
    Large(&'static str, &'static str),
    /// A directory of ours.
    Here(&'static str),
}

/// What takes longest comes last.
pub const TOOLS: [Tool; 6] = [
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
    Tool {
        name: "rvault",
        source: Source::Crate("rusty_vault", "0.2.1"),
        purpose: "Vault's API, the KV store of it (RustyVault)",
    },
    Tool { name: "tansu", source: Source::Large("0.6.0", "libsql"), purpose: "Kafka broker" },
];

impl Tool {
    pub fn program(&self) -> PathBuf {
        workspace::root().join(DIRECTORY).join("bin").join(self.name)
    }

    /// And no older than what it is built from, where that is ours.
    pub fn is_there(&self) -> bool {
        let Ok(built) = modified(&self.program()) else { return false };
        match self.source {
            Source::Registry(_) | Source::Crate(..) | Source::Large(..) => true,
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
            Source::Registry(version) | Source::Crate(_, version) | Source::Large(version, _) => {
                format!("{version} from crates.io")
            }
            Source::Here(directory) => format!("from {directory}"),
        };
        let time = match self.source {
            Source::Large(..) => "about seven minutes with two processors",
            Source::Crate(..) => "about three minutes",
            Source::Registry(_) | Source::Here(_) => "about a minute",
        };
        format!("{} {from}, built with cargo: {} ({time})", self.name, self.purpose)
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
            Source::Crate(name, version) => command.args([name, "--version", version]),
            Source::Large(version, features) => command
                .args([self.name, "--version", version, "--features", features])
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_DEBUG", "false"),
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
