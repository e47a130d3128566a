//! Real servers, each started by one function in a lab's right namespace, on a port that is not its
//! usual one and on every address, IPv4 and IPv6. A server is ready when its function returns.

mod brokers;
mod chat;
mod databases;
mod directory;
mod files;
pub mod guarded;
mod mail;
mod names;
mod remote;
mod web;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

pub use brokers::{kafka, mosquitto, nats, rabbitmq};
pub use chat::xmpp;
pub use databases::{mariadb, memcached, postgresql, redis};
pub use directory::ldap;
pub use files::ftp;
pub use mail::{imap, pop3, smtp};
pub use names::dns;
pub use remote::{iperf3, sshd};
pub use web::{grpc, nginx, nginx_http2, openssl, post_quantum, quic};

use crate::{Lab, Process, Skip};

/// The slowest of them, an Erlang node, has taken 9 s on an idle host and over 60 s on a busy one.
const PATIENCE: Duration = Duration::from_secs(240);

/// Whether a server speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    Tls,
    Tls12,
    Tls13,
    /// TLS 1.3, both ends with certificates.
    Mutual,
}

/// A running server; stopped on drop.
#[derive(Debug)]
pub struct Server {
    pub port: u16,
    process: Process,
    behind: Option<Box<Server>>,
}

impl Server {
    /// Starts `command` and waits until it serves `port`.
    pub(crate) fn start(lab: &Lab, name: &str, command: Command, transport: &str, port: u16) -> Result<Self> {
        let mut process = Process::start(name, &lab.directory, command)?;
        process.wait_for_port(transport, port, PATIENCE)?;
        Ok(Server { port, process, behind: None })
    }

    /// The other one runs as long as it.
    pub(crate) fn in_front_of(self, behind: Server) -> Server {
        Server { behind: Some(Box::new(behind)), ..self }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn said(&self) -> String {
        self.process.said() + &self.behind.as_ref().map(|behind| behind.said()).unwrap_or_default()
    }
}

/// One of our own small programs.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

/// The Python of the environment that `cargo xtask setup` makes.
pub fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-venv/bin/python")
}

/// A program that `cargo xtask setup` builds; a test without it is skipped.
///
/// # Errors
/// It is not there.
pub fn tool(name: &str) -> Result<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin").join(name);
    if ours.is_file() {
        Ok(ours)
    } else {
        Err(Skip::because(format!("{name} is not there: cargo xtask setup")))
    }
}
