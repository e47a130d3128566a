//! SHA-256 of the executable that a process runs, read through `/proc/PID/exe`: the file that runs,
//! whatever stands at its path by now.
//!
//! A result is remembered by device, inode, size and both times, of which a user can set back only
//! one. What would take too long, or could hang, is not hashed. Who names a process only opens the file, and not to
//! read it: what reads is [`Executable::read_on`], some bytes at a time, on a thread that nobody's name waits for.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, StatxFlags, fstatfs, openat};
use sha2::{Digest, Sha256};

use super::lookers::Who;
use super::process::{ProcessDirectory, stat_as_known};

/// Hashes remembered.
const MOST: usize = 4096;
/// Largest executable, bytes.
const LARGEST: u64 = 512 << 20;
/// Files that are held open for processes that may end before it is their turn. Others are opened then.
const MOST_HELD: usize = 16;
/// Processes that run a file that is not held, and are remembered: any of them may end before its turn.
const MOST_PIDS: usize = 64;

/// File systems whose reads may never return: those behind a network or another process
/// (`include/uapi/linux/magic.h`).
const MAY_HANG: [u32; 7] = [
    0x6573_5546, // FUSE
    0x6969,      // NFS
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x0102_1997, // 9P
];

/// A file's content, as far as can be told without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    device: (u32, u32),
    inode: u64,
    pub size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Version {
    /// Of a file in a directory; of the directory, or file, itself without a name.
    fn at(directory: BorrowedFd<'_>, name: &str) -> Option<Version> {
        let stat = stat_as_known(directory, name, StatxFlags::BASIC_STATS)?;
        Some(Version {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        })
    }

    fn of(file: impl AsFd) -> Option<Version> {
        Version::at(file.as_fd(), "")
    }

    /// What this process runs now. `process`: its directory in `/proc`.
    pub fn run_by(process: BorrowedFd<'_>) -> Option<Version> {
        Version::at(process, "exe")
    }
}

/// Hashes of executables that are known, shared by who names processes and who reads their files.
#[derive(Clone, Debug, Default)]
pub struct Hashes {
    known: Arc<Mutex<HashMap<Version, String>>>,
    held: Arc<Places>,
}

/// One more owner for each file that is held; those who only know of it are none.
#[derive(Debug, Default)]
struct Places(Arc<()>);

impl Hashes {
    /// Lower-case hex.
    pub fn get(&self, version: &Version) -> Option<String> {
        self.known().get(version).cloned()
    }

    pub fn put(&self, version: Version, hash: String) {
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(version, hash);
    }

    /// What a process runs. `None`: it may not be looked at, is too large, or reading it could hang. `process`: its
    /// directory in `/proc`.
    pub fn executable(&self, process: BorrowedFd<'_>, pid: u32) -> Option<Executable> {
        let file = run_by(process)?;
        let version = Version::of(&file)?;
        if version.size > LARGEST || may_hang(file.as_fd()) {
            return None;
        }
        let Places(places) = &*self.held;
        // Two who ask at the same time may both have the last place.
        let is_room = Arc::strong_count(places) <= MOST_HELD;
        let held = is_room.then(|| Held { file, _place: Arc::clone(places) });
        Some(Executable { held, ..Executable::of(pid, version) })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Version, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An executable that is read, or will be.
#[derive(Debug)]
pub struct Executable {
    version: Version,
    /// Who run it, the first one for the longest: where it is opened if it is not held.
    pids: Vec<u32>,
    held: Option<Held>,
    hash: Sha256,
    /// Bytes read so far.
    read: u64,
}

/// Opened for no access.
#[derive(Debug)]
struct Held {
    file: OwnedFd,
    _place: Arc<()>,
}

/// A file whose hash an identity lacks.
#[derive(Debug)]
pub struct Unhashed {
    pub executable: Executable,
    /// Who may have it run: they pay for reading it, and may make that hang.
    pub who: Who,
}

/// How far reading has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more of it.
    More,
    /// Lower-case hex.
    Done(String),
    /// It cannot be read, or was written to meanwhile: then the hash is of neither content.
    Failed,
}

impl Executable {
    /// One that a process runs, by its version.
    pub fn of(pid: u32, version: Version) -> Executable {
        Executable { version, pids: vec![pid], held: None, hash: Sha256::new(), read: 0 }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes that are still to be read.
    pub fn left(&self) -> u64 {
        self.version.size.saturating_sub(self.read)
    }

    pub fn is_begun(&self) -> bool {
        self.read > 0
    }

    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Another process runs it, and may do so for longer, or not as long.
    pub fn is_run_too(&mut self, other: Executable) {
        if self.version != other.version {
            return;
        }
        self.held = self.held.take().or(other.held);
        for pid in other.pids.into_iter().filter(|pid| !self.pids.contains(pid)).collect::<Vec<u32>>() {
            self.pids.truncate(MOST_PIDS - 1);
            self.pids.push(pid);
        }
    }

    /// Gives back the place of its file.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// Reads so many bytes more, holes too: they cost as much; or less, where that takes `longest`. Gives how many it was.
    pub fn read_on(&mut self, most: u64, longest: Duration) -> (Step, u64) {
        let before = self.read;
        let step = self.read_until(before.saturating_add(most).min(self.version.size), longest);
        (step.unwrap_or(Step::Failed), self.read - before)
    }

    fn read_until(&mut self, end: u64, longest: Duration) -> Option<Step> {
        let begun = Instant::now();
        let file = self.open()?;
        let mut buffer = vec![0; 64 << 10];
        while self.read < end {
            let most = usize::try_from(end - self.read).unwrap_or(usize::MAX).min(buffer.len());
            let length =
                file.read_at(buffer.get_mut(..most)?, self.read).ok().filter(|length| *length > 0)?;
            self.hash.update(buffer.get(..length)?);
            self.read += length as u64;
            if begun.elapsed() >= longest {
                break;
            }
        }
        if self.left() > 0 {
            return Some(Step::More);
        }
        let hash = std::mem::take(&mut self.hash).finalize();
        (Version::of(&file)? == self.version)
            .then(|| Step::Done(hash.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// To be read; only if it is still that version.
    fn open(&self) -> Option<File> {
        let again;
        let file = match &self.held {
            Some(held) => held.file.as_fd(),
            None => {
                again = self.pids.iter().find_map(|pid| {
                    let process = ProcessDirectory::open(*pid).ok()?;
                    self.run_still(process.as_fd(), may_hang)
                })?;
                again.as_fd()
            }
        };
        if Version::of(file)? != self.version {
            return None;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Some(File::from(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?))
    }

    /// What the process runs, if it is still that version. Of another file, its file system is asked nothing.
    fn run_still(
        &self,
        process: BorrowedFd<'_>,
        may_hang: impl FnOnce(BorrowedFd<'_>) -> bool,
    ) -> Option<OwnedFd> {
        let file = run_by(process)?;
        (Version::of(&file)? == self.version && !may_hang(file.as_fd())).then_some(file)
    }
}

/// What a process runs, opened for no access: a file system behind another process is not asked.
fn run_by(process: BorrowedFd<'_>) -> Option<OwnedFd> {
    openat(process, "exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Whether reading it could hang, as its file system says it is, which this asks: it may hang by itself.
fn may_hang(file: BorrowedFd<'_>) -> bool {
    fstatfs(file).map_or(true, |said| MAY_HANG.contains(&(said.f_type as u32)))
}

#[cfg(test)]
#[path = "executable_tests.rs"]
pub mod tests;
