//! That no secret is in anything that the daemon says.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{Daemon, finish};

/// Looks for every password that crossed the wire, as it is and in base64, in all that can be got out
/// of the daemon.
///
/// # Errors
/// One is there, or the daemon did not answer.
pub fn no_secret(daemon: Daemon) -> Result<()> {
    let mut said = Vec::new();
    for path in ["/v1/alerts", "/v1/flows", "/v1/streams", "/v1/status", "/v1/histograms", "/metrics"] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "10", "--unix-socket"]).arg(daemon.socket());
        curl.arg(format!("http://localhost{path}"));
        let answer = finish(curl, PATIENCE)?.success()?;
        ensure!(!answer.stdout.is_empty() || path == "/v1/alerts", "nothing from {path}");
        said.push((path.to_owned(), answer.stdout));
    }
    // What was told is kept a moment later.
    std::thread::sleep(Duration::from_secs(1));
    let state = std::fs::read(daemon.socket().with_file_name("state.redb")).context("the state file")?;
    said.push(("state.redb".into(), String::from_utf8_lossy(&state).into_owned()));
    let ended = daemon.stop()?;
    ensure!(!ended.heard.is_empty(), "the daemon wrote nothing");
    said.push(("stderr".into(), ended.stderr));
    said.extend(ended.heard.iter().map(|heard| ("stdout".into(), heard.record.to_string())));
    for secret in [
        "opensesame",
        "wrong-horse",
        "b3BlbnNlc2FtZS",
        "d3JvbmctaG9yc2",
        "OndyB25nLWhvcnNl",
        "Om9wZW5zZXNhbWUt",
    ] {
        for (place, text) in &said {
            ensure!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
    Ok(())
}

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(40);
