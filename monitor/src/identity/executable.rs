//! SHA-256 of the executable that a process runs, read through `/proc/PID/exe`: the file that runs,
//! whatever stands at its path by now.
//!
//! A result is remembered by device, inode, size and both times, of which a user can set back only
//! one. What would take too long, or could hang, is not hashed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, fstat, fstatfs, openat};
use sha2::{Digest, Sha256};

/// Hashes remembered.
const MOST: usize = 4096;
/// Largest executable, bytes.
const LARGEST: u64 = 512 << 20;
/// Bytes that may be read at once, and bytes a second that come back.
const CREDIT: u64 = 1 << 30;
const CREDIT_PER_S: u64 = 64 << 20;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

/// Hashes of executables.
#[derive(Debug)]
pub struct Hashes {
    known: HashMap<Version, String>,
    credit: u64,
    credited_ns: u64,
}

impl Default for Hashes {
    fn default() -> Self {
        Hashes { known: HashMap::new(), credit: CREDIT, credited_ns: 0 }
    }
}

impl Hashes {
    /// Lower-case hex; `None`: it cannot be read, is too large, or too much was read lately.
    /// `process`: its directory in `/proc`; `now_ns`: CLOCK_MONOTONIC.
    pub fn of(&mut self, process: BorrowedFd<'_>, now_ns: u64) -> Option<String> {
        let file = openat(process, "exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let file_system = fstatfs(&file).ok()?.f_type as u32;
        if MAY_HANG.contains(&file_system) {
            return None;
        }
        let version = version(&file)?;
        if let Some(hash) = self.known.get(&version) {
            return Some(hash.clone());
        }
        let size = u64::try_from(version.size).ok()?;
        let earned = now_ns.saturating_sub(self.credited_ns) / 1_000_000_000 * CREDIT_PER_S;
        if earned > 0 {
            self.credit = self.credit.saturating_add(earned).min(CREDIT);
            self.credited_ns = now_ns;
        }
        if size > LARGEST || size > self.credit {
            return None;
        }
        self.credit -= size;
        let mut file = File::from(file);
        let hash = hash(&mut file, size)?;
        // Written to meanwhile: then it is of neither content.
        if self::version(&file)? != version {
            return None;
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(version, hash.clone());
        Some(hash)
    }
}

fn version(file: &impl std::os::fd::AsFd) -> Option<Version> {
    let stat = fstat(file).ok()?;
    Some(Version {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size,
        modified: (stat.st_mtime, stat.st_mtime_nsec),
        changed: (stat.st_ctime, stat.st_ctime_nsec),
    })
}

fn hash(file: &mut File, size: u64) -> Option<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut left = size;
    while left > 0 {
        let length = file.read(&mut buffer).ok()?;
        if length == 0 {
            return None;
        }
        hasher.update(buffer.get(..length)?);
        left = left.saturating_sub(length as u64);
    }
    Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::fd::AsFd;

    use super::super::process::ProcessDirectory;
    use super::*;

    #[test]
    fn this_program_has_the_hash_that_sha256sum_says() {
        let directory = ProcessDirectory::open(std::process::id()).unwrap();
        let mut hashes = Hashes::default();
        let hash = hashes.of(directory.as_fd(), 0).unwrap();
        let path = format!("/proc/{}/exe", std::process::id());
        let said = std::process::Command::new("sha256sum").arg(path).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout).split_whitespace().next(), Some(hash.as_str()));
        // The second time it is remembered, even without credit.
        hashes.credit = 0;
        assert_eq!(hashes.of(directory.as_fd(), 0), Some(hash));
    }

    #[test]
    fn what_costs_too_much_waits() {
        let directory = ProcessDirectory::open(std::process::id()).unwrap();
        let mut hashes = Hashes { credit: 0, ..Hashes::default() };
        assert_eq!(hashes.of(directory.as_fd(), 0), None);
        assert!(hashes.of(directory.as_fd(), 20_000_000_000).is_some(), "credit comes back");
    }
}
