//! Programs of the tests that cargo builds (from crates.io, or of ours), found in a directory of their own below
//! `target/`. Those of crates.io are kept by version in cargo's home, and built once for all checkouts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::step::{self, Shown};
use crate::workspace;

/// Below the workspace root; the tests look there.
pub const DIRECTORY: &str = "target/tools";

/// A program that `cargo install` makes.
pub struct Tool {
    /// Of the program.
    pub name: &'static str,
    source: Source,
    purpose: &'static str,
}

enum Source {
    Registry(Crate),
    /// A directory of ours.
    Here(&'static str),
}

/// One of crates.io.
struct Crate {
    name: &'static str,
    version: &'static str,
    /// Of `cargo install`.
    options: &'static [&'static str],
    /// To build it with two processors.
    minutes: u32,
}

const fn registry(name: &'static str, version: &'static str, minutes: u32) -> Source {
    Source::Registry(Crate { name, version, options: &[], minutes })
}

/// What takes longest comes last.
pub const TOOLS: [Tool; 7] = [
    Tool {
        name: "boringtun-cli",
        source: registry("boringtun-cli", "0.7.1", 1),
        purpose: "WireGuard where the kernel has none",
    },
    Tool { name: "cargo-fuzz", source: registry("cargo-fuzz", "0.13.2", 1), purpose: "fuzzing" },
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
        name: "cargo-deny",
        source: Source::Registry(Crate {
            name: "cargo-deny",
            version: "0.20.2",
            options: &["--no-default-features"],
            minutes: 2,
        }),
        purpose: "licences and origins of dependencies",
    },
    Tool {
        name: "rvault",
        source: registry("rusty_vault", "0.2.1", 2),
        purpose: "Vault's API, the KV store of it (RustyVault)",
    },
    Tool {
        name: "tansu",
        source: Source::Registry(Crate {
            name: "tansu",
            version: "0.6.0",
            options: &["--features", "libsql"],
            minutes: 5,
        }),
        purpose: "Kafka broker",
    },
];

impl Tool {
    pub fn program(&self) -> PathBuf {
        workspace::root().join(DIRECTORY).join("bin").join(self.name)
    }

    /// In the version that is wanted, and no older than what it is built from where that is ours.
    pub fn is_there(&self) -> bool {
        let Ok(built) = modified(&self.program()) else { return false };
        match &self.source {
            Source::Registry(of) => match fs::read_link(self.program()) {
                Ok(to) => of.kept().is_some_and(|kept| to.starts_with(kept)),
                Err(_) => of.was_installed_here(),
            },
            Source::Here(directory) => {
                let directory = workspace::root().join(directory);
                let sources = ["Cargo.toml", "Cargo.lock", "src/main.rs"];
                sources.iter().all(|file| modified(&directory.join(file)).is_ok_and(|at| at <= built))
            }
        }
    }

    /// What installing it means, for people.
    pub fn describe(&self) -> String {
        let (from, minutes) = match &self.source {
            Source::Registry(Crate { version, minutes, .. }) => {
                (format!("{version} from crates.io"), *minutes)
            }
            Source::Here(directory) => (format!("from {directory}"), 1),
        };
        format!("{} {from}, built with cargo: {} (minutes: about {minutes})", self.name, self.purpose)
    }

    /// Builds it with the cargo that runs us, unless cargo's home has it.
    ///
    /// # Errors
    /// The build failed, or a directory cannot be written.
    pub fn install(&self, shown: Shown) -> Result<()> {
        let of = match &self.source {
            Source::Here(directory) => {
                return self.build(&workspace::root().join(DIRECTORY), &["--path", directory], shown);
            }
            Source::Registry(of) => of,
        };
        let source = [&[of.name, "--version", of.version], of.options].concat();
        let Some(kept) = of.kept() else {
            return self.build(&workspace::root().join(DIRECTORY), &source, shown);
        };
        let program = kept.join("bin").join(self.name);
        if !program.is_file() {
            self.build(&kept, &source, shown)?;
        }
        let link = self.program();
        let told = || format!("{} could not be made", link.display());
        fs::create_dir_all(link.parent().unwrap_or(&kept)).with_context(told)?;
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).with_context(told)?;
        }
        std::os::unix::fs::symlink(program, &link).with_context(told)
    }

    /// As fast as can be: they are run for seconds, and nobody waits for them.
    fn build(&self, root: &Path, source: &[&str], shown: Shown) -> Result<()> {
        println!("xtask: building {}", self.name);
        let mut command = workspace::cargo(&["install", "--locked", "--force", "--root"]);
        command.arg(root).args(source).env("CARGO_TARGET_DIR", workspace::target().join("tools-build"));
        // The same for all, so that what they have in common is compiled once.
        for (setting, value) in
            [("OPT_LEVEL", "0"), ("CODEGEN_UNITS", "16"), ("LTO", "off"), ("DEBUG", "false")]
        {
            command.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        step::run_shown(
            shown,
            &mut command,
            &format!("building {}", self.name),
            "look whether a crates registry can be reached",
        )
    }
}

impl Crate {
    /// Where this version is kept.
    fn kept(&self) -> Option<PathBuf> {
        Some(
            workspace::cargo_home()?
                .join("streamwatch-tools")
                .join(format!("{}-{}", self.name, self.version)),
        )
    }

    /// `cargo install` has noted that it put this version into the checkout itself.
    fn was_installed_here(&self) -> bool {
        let notes = fs::read_to_string(workspace::root().join(DIRECTORY).join(".crates.toml"));
        notes.is_ok_and(|notes| notes.contains(&format!("\"{} {} ", self.name, self.version)))
    }
}

fn modified(file: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(file)?.modified()
}
