//! What the traffic program and the tests tell each other: one JSON object a line.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{Lab, Process};

/// How long it may take until it listens, on a busy host.
const READY: Duration = Duration::from_secs(20);

/// One connection as one of its ends saw it. IPv4 addresses are IPv4, whatever the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Connection {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// Payload bytes that the client sent.
    pub client_bytes: u64,
    /// Payload bytes that the server sent.
    pub server_bytes: u64,
}

/// The first plaintext byte of one connection.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FirstByte {
    /// Port of the server.
    pub port: u16,
    /// CLOCK_MONOTONIC ns, taken right before the write.
    pub at_ns: u64,
}

/// The traffic program.
pub fn program() -> PathBuf {
    // Beside the test's own directory: target/PROFILE/deps/TEST, target/PROFILE/traffic.
    let here = std::env::current_exe().unwrap_or_default();
    here.ancestors().nth(2).unwrap_or(Path::new("")).join("traffic")
}

/// The server in the lab, at a port of every address; what it took is in `server.log`.
///
/// # Errors
/// It does not start, or does not listen in time.
pub fn serve(lab: &Lab, port: u16) -> Result<Process> {
    let mut command = lab.server().command(program());
    command.args(["serve", "--listen", &format!("[::]:{port}")]);
    command.args(["--log", &lab.directory.file("server.log")]);
    let mut server = Process::start("traffic", &lab.directory, command)?;
    server.wait_for_port("tcp", port, READY)?;
    Ok(server)
}

/// A server in the lab that says what it hears, at a port of every address.
///
/// # Errors
/// It does not start, or does not listen in time.
pub fn echo(lab: &Lab, port: u16) -> Result<Process> {
    let mut command = lab.server().command(program());
    command.args(["echo", "--listen", &format!("[::]:{port}")]);
    let mut server = Process::start("echo", &lab.directory, command)?;
    server.wait_for_port("tcp", port, READY)?;
    Ok(server)
}

/// Reads a log of the traffic program.
///
/// # Errors
/// It is not there, or broken.
pub fn read_log<T: for<'de> Deserialize<'de>>(path: impl AsRef<Path>) -> Result<Vec<T>> {
    let path = path.as_ref();
    let log = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    log.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
