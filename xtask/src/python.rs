//! The Python environment of the tests: servers and clients that only PyPI has, in a directory of
//! their own below `target/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::step::{self, Shown, ask};
use crate::workspace;

/// Below the workspace root; the tests look there.
pub const DIRECTORY: &str = "target/test-venv";

/// The distribution's own Python: another one first on PATH may lack `venv`.
const PYTHON: &str = "/usr/bin/python3";

/// Ranges, not exact versions: mirrors of PyPI may hold only the recent ones.
const PACKAGES: &[&str] = &[
    "aiosmtpd>=1.4.4,<2",
    "aioquic>=1.2,<2",
    "boto3>=1.34,<2",
    "cloudcoil-models-istio>=1.24,<2",
    "confluent-kafka>=2.3,<3",
    "curl_cffi>=0.13,<1",
    "cyclonedx-python-lib[json-validation]>=9,<12",
    "grpcio>=1.60,<2",
    "kubernetes-validate>=1.30,<2",
    "moto[server]>=5,<6",
    "mysql-connector-python>=9,<10",
    "nats-py>=2.7,<3",
    "paramiko>=3,<5",
    "pg8000>=1.31,<2",
    "pika>=1.3,<2",
    "pymemcache>=4,<5",
    "redis>=5,<9",
];

/// What installing it means, for people.
pub fn describe() -> String {
    format!("Python environment with {} from PyPI", PACKAGES.join(", "))
}

/// The distribution's Python can make an environment.
pub fn can_make_environment() -> bool {
    ask(Command::new(PYTHON).args(["-c", "import ensurepip, venv"])).is_some()
}

/// The environment holds exactly the packages wanted now.
pub fn is_there() -> bool {
    fs::read_to_string(stamp()).is_ok_and(|packages| packages == wanted())
}

/// Makes the environment anew.
///
/// # Errors
/// Python or PyPI failed.
pub fn install(shown: Shown) -> Result<()> {
    let directory = workspace::root().join(DIRECTORY);
    println!("xtask: making {DIRECTORY}");
    step::run_shown(
        shown,
        Command::new(PYTHON).args(["-m", "venv", "--clear"]).arg(&directory),
        "making the Python environment",
        "look whether the package python3-venv is installed",
    )?;
    step::run_shown(
        shown,
        Command::new(directory.join("bin/pip"))
            .args(["install", "--quiet", "--only-binary", ":all:", "--disable-pip-version-check"])
            .args(PACKAGES),
        "installing Python packages",
        "look whether PyPI, or the index that pip is configured for, can be reached",
    )?;
    let stamp = stamp();
    fs::write(&stamp, wanted()).with_context(|| format!("{} could not be written", stamp.display()))
}

/// Written last, so that a half-made environment does not count.
fn stamp() -> PathBuf {
    workspace::root().join(DIRECTORY).join("packages.txt")
}

fn wanted() -> String {
    PACKAGES.join("\n")
}
