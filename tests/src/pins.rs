//! A bpffs of a test's own: where daemons leave their hooks for each other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};

use crate::Directory;
use crate::ending::{Guard, Undo};

/// Unmounted on drop, and with it every hook and map that is left there.
#[derive(Debug)]
pub struct Bpffs {
    path: PathBuf,
    _guard: Guard,
}

impl Bpffs {
    /// Mounts one in a directory.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(directory: &Directory) -> Result<Self> {
        let path = directory.path().join("bpf");
        std::fs::create_dir(&path)?;
        mount("bpf", &path, "bpf", MountFlags::empty(), None).context("a bpffs cannot be mounted")?;
        let guard = Guard::new(Undo::Unmount(path.clone()));
        Ok(Bpffs { path, _guard: guard })
    }

    /// Where a daemon is to pin, within it.
    pub fn place(&self) -> PathBuf {
        self.path.join("streamwatch")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
