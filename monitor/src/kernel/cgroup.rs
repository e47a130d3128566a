//! Where the cgroup v2 hierarchy is.

use std::path::{Path, PathBuf};

/// cgroup v2 cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cannot read the mount table: {0}")]
    Mounts(#[from] procfs::ProcError),
    #[error("cgroup v2 is not mounted: mount it with 'mount -t cgroup2 none /sys/fs/cgroup'")]
    NotMounted,
    #[error("{path}: {why}: expected a directory of cgroup v2")]
    NotOne { path: String, why: String },
}

/// The mount point of cgroup v2: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid host.
///
/// # Errors
/// When the mount table cannot be read or has no cgroup2.
pub fn cgroup_root() -> Result<PathBuf, CgroupError> {
    let mounts = procfs::process::Process::myself()?.mountinfo()?;
    mounts
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2" && mount.root == "/")
        .map(|mount| mount.mount_point)
        .ok_or(CgroupError::NotMounted)
}

/// A directory that somebody named, if it is one of cgroup v2.
///
/// # Errors
/// It is not there, or belongs to another file system (cgroup v1 has directories alike).
pub fn cgroup_at(path: &Path) -> Result<PathBuf, CgroupError> {
    /// linux/magic.h.
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    let not_one = |why: String| CgroupError::NotOne { path: path.display().to_string(), why };
    let found = rustix::fs::statfs(path).map_err(|error| not_one(std::io::Error::from(error).to_string()))?;
    if found.f_type != CGROUP2_SUPER_MAGIC {
        let root = cgroup_root()?;
        return Err(not_one(format!("cgroup v2 is at {}", root.display())));
    }
    Ok(path.to_owned())
}
