//! The process of a worker: this very program, started anew, with nothing but its end of the socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command as Program, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Of the environment: how it writes to a terminal, and what it says of a panic.
const ENVIRONMENT: [&str; 4] = ["NO_COLOR", "TERM", "COLUMNS", "RUST_BACKTRACE"];

/// The process, waited for in any case: also where it could not be told what to do.
pub(super) struct Worker(Child);

impl Worker {
    /// Standard input is its end of the socket.
    pub fn start(theirs: UnixStream) -> io::Result<Worker> {
        program(theirs).map(Worker)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// False where that could not be.
    pub fn kill(&mut self) -> bool {
        self.0.kill().is_ok()
    }

    /// Waits for so long, and then no longer.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let until = Instant::now() + patience;
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(2)),
                _ => break,
            }
        }
        // It is our child, and was not waited for: the number is still its own.
        let _ = self.0.kill();
        self.0.wait().unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.wait(Duration::ZERO);
    }
}

fn program(theirs: UnixStream) -> io::Result<Child> {
    let environment = ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    Program::new("/proc/self/exe")
        .arg0("streamwatch")
        .arg("worker")
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
}

/// How it ended.
pub(super) fn in_words(status: ExitStatus) -> String {
    // There is to be none: what was captured would lie in it.
    let core = if status.core_dumped() { ", with a core dump" } else { "" };
    match status.signal() {
        Some(signal) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("signal {signal}, {name}{core}"),
            None => format!("signal {signal}{core}"),
        },
        None => format!("exit status {}", status.code().unwrap_or_default()),
    }
}
