//! Who holds the lock of a daemon, as the kernel says it. The number in the lock's file is what somebody wrote: it
//! may be forged, or stand for another process by now.
//!
//! In: the lock's file. Out: a process that cannot be taken for another one any more. Must never: give out a process
//! that does not hold the lock itself.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::socket::{InstanceLock, SocketError, io_error, pid_in};
use crate::regular;

/// How long the worker of a daemon that has ended is waited for: it holds the lock for a moment longer.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// A running daemon.
#[derive(Debug)]
pub struct Holder {
    pub pid: u32,
    /// Of this process and no later one of the same number.
    pub process: OwnedFd,
}

impl InstanceLock {
    /// The daemon that holds the lock beside `socket`; `None`: nobody does.
    ///
    /// # Errors
    /// The lock cannot be read, or who holds it is not who it names.
    pub fn holder(socket: &Path) -> Result<Option<Holder>, SocketError> {
        let path = InstanceLock::path(socket);
        let until = Instant::now() + PATIENCE;
        loop {
            // Opened each time: who reads a number twice reads it from the beginning.
            let file = match regular::open_own(&path, OpenOptions::new().read(true)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file.map_err(io_error("open", &path))?,
            };
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(None),
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(io_error("lock", &path)(error.into())),
            }
            let pid = pid_in(&file).map_err(io_error("read", &path))?;
            if let Some(holder) = pid.and_then(|pid| opened(pid).transpose()) {
                let holder = holder.map_err(io_error("find the daemon that holds", &path))?;
                if holds(holder.pid, &file).map_err(io_error("see who holds", &path))? {
                    return Ok(Some(holder));
                }
            }
            if Instant::now() >= until {
                return Err(SocketError::NotTheHolder { pid, lock: path });
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The process of a number; `None`: there is none.
fn opened(pid: u32) -> io::Result<Option<Holder>> {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => Ok(Some(Holder { pid, process })),
        Err(Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a process has the lock on this file: one of its descriptors is the one that was locked, and it was this
/// process that locked it (proc_pid_fdinfo(5), `lock:`).
fn holds(pid: u32, lock: &File) -> io::Result<bool> {
    let lock = lock.metadata()?;
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        // It may end, and its descriptors be closed, while this looks.
        let Ok(entry) = entry else { continue };
        let Ok(found) = fs::metadata(entry.path()) else { continue };
        if (found.dev(), found.ino()) != (lock.dev(), lock.ino()) {
            continue;
        }
        let number = entry.file_name();
        let about = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
        if fs::read_to_string(about).is_ok_and(|about| is_locked_by(&about, pid)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `lock:\t1: FLOCK  ADVISORY  WRITE 4242 00:1a:99 0 EOF`.
fn is_locked_by(about: &str, pid: u32) -> bool {
    about.lines().filter_map(|line| line.strip_prefix("lock:")).any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.get(1) == Some(&"FLOCK")
            && words.get(3) == Some(&"WRITE")
            && words.get(4).and_then(|word| word.parse().ok()) == Some(pid)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};

    use super::*;
    use crate::api::tests::Place;

    #[test]
    fn who_is_named_and_does_not_hold_the_lock_is_not_given_out() {
        let place = Place::new();
        let lock = InstanceLock::acquire(&place.socket()).unwrap();
        let path = InstanceLock::path(&place.socket());
        let found = InstanceLock::holder(&place.socket()).unwrap().unwrap();
        assert_eq!(found.pid, std::process::id());
        // Another process, which has the file open, too.
        let mut other =
            Command::new("sleep").arg("60").stdin(Stdio::from(File::open(&path).unwrap())).spawn().unwrap();
        let gone = {
            let mut gone = Command::new("true").spawn().unwrap();
            gone.wait().unwrap();
            gone.id()
        };
        for named in
            [other.id().to_string(), gone.to_string(), "1".into(), "0".into(), "-1".into(), "x".into()]
        {
            fs::write(&path, &named).unwrap();
            let refused = InstanceLock::holder(&place.socket()).unwrap_err().to_string();
            assert!(refused.contains("is held by a process that it does not name"), "{named}: {refused}");
        }
        other.kill().unwrap();
        other.wait().unwrap();
        drop(lock);
        assert!(InstanceLock::holder(&place.socket()).unwrap().is_none());
    }

    #[test]
    fn what_the_kernel_says_of_a_descriptor_is_read() {
        let about = "pos:\t0\nflags:\t0100000\nlock:\t1: FLOCK  ADVISORY  WRITE 4242 00:1a:99 0 EOF\n";
        assert!(is_locked_by(about, 4242));
        assert!(!is_locked_by(about, 424));
        assert!(!is_locked_by("pos:\t0\nflags:\t0100000\n", 4242));
        assert!(!is_locked_by("lock:\t1: POSIX  ADVISORY  WRITE 4242 00:1a:99 0 EOF\n", 4242));
    }
}
