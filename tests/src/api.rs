//! Asks the daemon over its Unix socket, with curl, as its users do.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::finish;

/// `GET path`, JSON in the answer.
///
/// # Errors
/// Nobody answers, the status is not a success, or the body is no JSON.
pub fn get(socket: &Path, path: &str) -> Result<Value> {
    let said = ask(socket, path)?;
    serde_json::from_str(&said).with_context(|| format!("GET {path}: no JSON: {said}"))
}

/// `GET path` of a listing: the records of its JSON lines.
///
/// # Errors
/// Nobody answers, the status is not a success, or a line is no JSON.
pub fn list(socket: &Path, path: &str) -> Result<Vec<Value>> {
    let said = ask(socket, path)?;
    let line = |line| serde_json::from_str(line).with_context(|| format!("GET {path}: no JSON: {line}"));
    said.lines().map(line).collect()
}

fn ask(socket: &Path, path: &str) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", "--unix-socket"]).arg(socket);
    curl.arg(format!("http://localhost{path}"));
    let answer = finish(curl, Duration::from_secs(10))?.success().with_context(|| format!("GET {path}"))?;
    Ok(answer.stdout)
}
