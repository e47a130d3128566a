//! Where the cgroup v2 hierarchy is.

use std::path::PathBuf;

/// cgroup v2 cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cannot read the mount table: {0}")]
    Mounts(#[from] procfs::ProcError),
    #[error("cgroup v2 is not mounted: mount it with 'mount -t cgroup2 none /sys/fs/cgroup'")]
    NotMounted,
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
