//! What the worker must not do, tried by a process that is confined as it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub what: String,
    /// Why it failed; `None`: it was possible.
    pub refused: Option<String>,
}

/// Tries all of it. Call it after [`super::confine`].
pub fn attempt_all() -> Vec<Attempt> {
    vec![
        attempt("open a file", File::open("/etc/passwd").map(drop)),
        attempt("read its own memory", File::open("/proc/self/mem").map(drop)),
        attempt(
            "make a file",
            OpenOptions::new().append(true).create(true).open("/tmp/streamwatch-trial").map(drop),
        ),
        attempt("list a directory", std::fs::read_dir("/").map(drop)),
        attempt("remove a file", std::fs::remove_file("/tmp/streamwatch-trial")),
        attempt("connect over TCP", TcpStream::connect(("127.0.0.1", 9)).map(drop)),
        attempt("send a datagram", UdpSocket::bind(("127.0.0.1", 0)).map(drop)),
        attempt("connect to a Unix socket", UnixStream::connect("/run/streamwatch/api.sock").map(drop)),
        attempt("send to a Unix socket by its path", UnixDatagram::pair().map(drop)),
        attempt("start a program", Command::new("/bin/true").spawn().map(drop)),
        attempt("load a kernel program", load_program()),
        attempt("signal another process", signal_parent()),
        attempt("become root", become_root()),
        attempt("enter another namespace", unshare()),
        attempt("map memory as code", map_code()),
    ]
}

/// A refusal is one by the kernel: "no such file" is none.
fn attempt(what: &str, result: io::Result<()>) -> Attempt {
    let refused = match result {
        Ok(()) => None,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => None,
            _ => Some(error.to_string()),
        },
    };
    Attempt { what: what.to_owned(), refused }
}

fn load_program() -> io::Result<()> {
    monitor_sys::bpf::load_trivial()
}

/// Signal 0 asks only whether one may.
fn signal_parent() -> io::Result<()> {
    let parent = rustix::process::getppid().unwrap_or(Pid::INIT);
    // Something that does no harm where it is possible.
    kill_process(parent, Signal::CONT)?;
    Ok(())
}

fn become_root() -> io::Result<()> {
    let root = rustix::process::Uid::ROOT;
    rustix::thread::set_thread_res_uid(Some(root), Some(root), Some(root))?;
    Ok(())
}

fn unshare() -> io::Result<()> {
    monitor_sys::confined::unshare_users()
}

fn map_code() -> io::Result<()> {
    monitor_sys::confined::map_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise a refusal would say nothing of the worker.
    #[test]
    #[ignore = "needs root"]
    fn root_may_do_most_of_it() {
        let possible: Vec<String> = attempt_all()
            .into_iter()
            .filter(|attempt| attempt.refused.is_none())
            .map(|attempt| attempt.what)
            .collect();
        for wanted in [
            "open a file",
            "make a file",
            "list a directory",
            "connect over TCP",
            "send a datagram",
            "send to a Unix socket by its path",
            "start a program",
            "load a kernel program",
            "signal another process",
            "become root",
            "map memory as code",
        ] {
            assert!(possible.iter().any(|what| what == wanted), "{wanted}: {possible:?}");
        }
        let _ = std::fs::remove_file("/tmp/streamwatch-trial");
    }
}
