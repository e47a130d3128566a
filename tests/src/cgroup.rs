//! A cgroup v2 directory of a test's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::ending::{Guard, Undo, unique};

/// Made on `new`; on drop everything in it is killed and it is removed.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    _guard: Guard,
}

impl Cgroup {
    /// A child of the root of the hierarchy.
    ///
    /// # Errors
    /// cgroup v2 is not mounted, or we may not write there.
    pub fn new(name: &str) -> Result<Self> {
        let root = mount_point().context("cgroup v2 is not mounted")?;
        let path = root.join(format!("streamwatch-test-{name}-{}.slice", unique()));
        Cgroup::at(path)
    }

    /// One within it. What is a unit by its name (`payments.service`) is one to the daemon: a slice
    /// stands above it.
    ///
    /// # Errors
    /// It is there already.
    pub fn child(&self, name: &str) -> Result<Self> {
        Cgroup::at(self.path.join(name))
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let guard = Guard::new(Undo::RemoveCgroup(path.clone()));
        Ok(Cgroup { path, _guard: guard })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup` mostly, a directory below it on hybrid hosts.
/// Fields: proc_pid_mountinfo(5).
pub(crate) fn mount_point() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (mount, about) = line.split_once(" - ")?;
        about.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}
