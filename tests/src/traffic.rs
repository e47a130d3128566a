//! What the traffic program and the tests tell each other: one JSON object a line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
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
    beside("traffic")
}

/// Another program of the tests.
pub fn beside(name: &str) -> PathBuf {
    // Beside the test's own directory: target/PROFILE/deps/TEST, target/PROFILE/NAME.
    let here = std::env::current_exe().unwrap_or_default();
    here.ancestors().nth(2).unwrap_or(Path::new("")).join(name)
}

/// The server in the lab, at a port of every address; what it took is in `server.log`.
///
/// # Errors
/// It does not start, or does not listen in time.
pub fn serve(lab: &Lab, port: u16) -> Result<Process> {
    listening("traffic", lab, port, &["serve", "--log", &lab.directory.file("server.log")])
}

/// A server in the lab that says what it hears, at a port of every address.
///
/// # Errors
/// It does not start, or does not listen in time.
pub fn echo(lab: &Lab, port: u16) -> Result<Process> {
    listening("echo", lab, port, &["echo"])
}

fn listening(name: &str, lab: &Lab, port: u16, arguments: &[&str]) -> Result<Process> {
    let mut command = lab.server().command(program());
    command.args(arguments).args(["--listen", &format!("[::]:{port}")]);
    let mut server = Process::start(name, &lab.directory, command)?;
    server.wait_for_port("tcp", port, READY)?;
    Ok(server)
}

/// A connection within the lab that stays open: what is said on it comes back.
pub struct Talk {
    client: Process,
    stdin: Option<ChildStdin>,
    back: Receiver<String>,
    bytes: u64,
    _server: Process,
}

impl Talk {
    /// To a server of its own, at that port.
    ///
    /// # Errors
    /// One of its ends does not start.
    pub fn new(lab: &Lab, port: u16) -> Result<Talk> {
        let _server = echo(lab, port)?;
        let mut command = lab.client().command(program());
        command.args(["hold", "--to", &format!("10.213.0.2:{port}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = Process::start_piped("hold", command)?;
        let stdin = Some(client.take_stdin()?);
        let lines = BufReader::new(client.child().stdout.take().context("no stdout")?).lines();
        let (said, back) = mpsc::channel();
        // Until the client ends, which it does with this at the latest.
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        Ok(Talk { client, stdin, back, bytes: 0, _server })
    }

    /// `line`: without its end.
    ///
    /// # Errors
    /// It does not come back, or as something else.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let mut stdin = self.stdin.as_ref().context("it was ended")?;
        stdin.write_all(format!("{line}\n").as_bytes())?;
        let back = self.back.recv_timeout(READY).context("nothing comes back")?;
        ensure!(back == line, "{back:?} came back for {line:?}");
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }

    /// Closes it, and gives the bytes that were ever said.
    ///
    /// # Errors
    /// It broke.
    pub fn end(&mut self) -> Result<u64> {
        drop(self.stdin.take());
        ensure!(self.client.wait(READY)?.success(), "the connection broke");
        Ok(self.bytes)
    }
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
