//! Where programs and maps outlive the daemon: one directory in a bpffs, 0700.
//!
//! ```text
//! PIN/abi-5/map_EVENTS …   the maps, with everything that was counted and not yet told
//! PIN/abi-5/link_sent …    the hooks, which hold their programs
//! ```
//! In: a path. Out: what was left there by the daemon before. Must never: take over a set that is not
//! whole, or whose layout or sizes are other than ours.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use monitor_sys::bpf;
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::load::{HOOKS, Hook, MAPS};

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS: u64 = 0xcafe_4a11;

/// Where distributions mount one.
const USUAL: &str = "/sys/fs/bpf";

/// Why nothing can be pinned. One line.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("cannot {what} {}: {source}", .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: another streamwatch has pinned its programs here; give this one its own with --pin", .0.display())]
    InUse(PathBuf),
    #[error("{}: belongs to somebody else, or others may write there; give another with --pin", .0.display())]
    NotOurs(PathBuf),
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    move |source| PinError::Io { what, path: path.to_owned(), source }
}

/// The directory, held by this process alone.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    _lock: fs::File,
}

/// What was left by the daemon before.
#[derive(Debug)]
pub enum Left {
    Nothing,
    /// Whole, and of this layout: its links, in the order of the hooks.
    Same(Vec<OwnedFd>),
    /// It cannot be taken over, for this reason.
    Other(String),
}

/// The place where pins are, unless another is named: below the usual bpffs, or else a bpffs of our own.
pub fn usual_place() -> PathBuf {
    if is_bpffs(Path::new(USUAL)) {
        Path::new(USUAL).join("streamwatch")
    } else {
        PathBuf::from("/run/streamwatch/bpf")
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|info| info.f_type as u64 == BPF_FS)
}

impl Pins {
    /// Opens the directory, made and mounted where it is missing.
    ///
    /// # Errors
    /// It cannot be made, is not ours alone, or another daemon holds it.
    pub fn open(root: &Path) -> Result<Pins, PinError> {
        if !root.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed("make", root))?;
        }
        if !is_bpffs(root) {
            mount(
                "bpf",
                root,
                "bpf",
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
                c"mode=0700",
            )
            .map_err(|error| failed("mount a bpffs at", root)(error.into()))?;
        }
        let seen = fs::metadata(root).map_err(failed("look at", root))?;
        if seen.uid() != rustix::process::geteuid().as_raw() {
            return Err(PinError::NotOurs(root.to_owned()));
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(failed("protect", root))?;
        let lock = fs::File::open(root).map_err(failed("open", root))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Pins { root: root.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(PinError::InUse(root.to_owned())),
            Err(error) => Err(failed("lock", root)(error.into())),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn ours(&self) -> PathBuf {
        self.root.join(format!("abi-{}", monitor_common::ABI_VERSION))
    }

    /// The name of a map's pin.
    pub fn map(&self, name: &str) -> PathBuf {
        self.ours().join(format!("map_{name}"))
    }

    /// The name of a hook's pin.
    pub fn link(&self, hook: &Hook) -> PathBuf {
        self.ours().join(format!("link_{}", hook.name))
    }

    /// What was left here. `wants`: entries of each map, as [`MAPS`] names them; 0: any number.
    pub fn left(&self, wants: &[u32; MAPS.len()], cgroup: u64) -> Left {
        let sets = self.sets();
        if sets.is_empty() {
            return Left::Nothing;
        }
        let ours = self.ours();
        if !sets.contains(&ours) {
            let names: Vec<_> = sets.iter().filter_map(|set| set.file_name()?.to_str()).collect();
            return Left::Other(format!(
                "the layout of events changed ({} there, abi-{} now)",
                names.join(", "),
                monitor_common::ABI_VERSION
            ));
        }
        for (name, wants) in MAPS.iter().zip(wants) {
            match MapInfo::from_pin(self.map(name)) {
                Err(_) => return Left::Other(format!("the map {name} is missing")),
                Ok(info) if *wants != 0 && info.max_entries() != *wants => {
                    return Left::Other(format!(
                        "the map {name} has {} places, and {wants} are wanted now",
                        info.max_entries()
                    ));
                }
                Ok(_) => {}
            }
        }
        let mut links = Vec::new();
        for hook in &HOOKS {
            let Ok(link) = bpf::open(&self.link(hook)) else {
                return Left::Other(format!("the hook {} is missing", hook.name));
            };
            match bpf::link_info(link.as_fd()) {
                Ok(info) if info.cgroup == cgroup => links.push(link),
                Ok(info) if info.cgroup == 0 => {
                    return Left::Other(format!("the hook {} was taken away", hook.name));
                }
                _ => return Left::Other("another cgroup was watched".to_owned()),
            }
        }
        Left::Same(links)
    }

    /// Makes room for a new set; what was there keeps counting until [`Pins::forget_others`].
    ///
    /// # Errors
    /// The directory cannot be changed.
    pub fn prepare(&self) -> Result<(), PinError> {
        let ours = self.ours();
        if ours.exists() {
            let old = self.root.join("old");
            remove_set(&old)?;
            fs::rename(&ours, &old).map_err(failed("rename", &ours))?;
        }
        fs::DirBuilder::new().mode(0o700).create(&ours).map_err(failed("make", &ours))
    }

    /// Takes away every set but ours: its hooks are gone with it.
    ///
    /// # Errors
    /// A name cannot be removed.
    pub fn forget_others(&self) -> Result<(), PinError> {
        let ours = self.ours();
        self.sets().iter().filter(|set| **set != ours).try_for_each(|set| remove_set(set))
    }

    fn sets(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let mut sets: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name == "old" || name.to_str().is_some_and(|name| name.starts_with("abi-"))
            })
            .map(|entry| entry.path())
            .collect();
        sets.sort();
        sets
    }

    /// Takes everything away: hooks, maps, the directory, and the mount if it is ours.
    ///
    /// # Errors
    /// A name cannot be removed.
    pub fn remove(self) -> Result<(), PinError> {
        for set in self.sets() {
            remove_set(&set)?;
        }
        let Pins { root, _lock: lock } = self;
        drop(lock);
        if is_mount_point(&root) {
            // Somebody looks into it: it goes when they leave.
            let _ = unmount(&root, UnmountFlags::DETACH);
        }
        match fs::remove_dir(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &root)(error)),
            _ => Ok(()),
        }
    }
}

/// Whether the file system begins here.
fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|seen| seen.dev()).ok();
    path.parent().is_some_and(|parent| device(parent) != device(path))
}

fn remove_set(set: &Path) -> Result<(), PinError> {
    let entries = match fs::read_dir(set) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("read", set))?,
    };
    // Hooks first: programs without their maps count for nobody.
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for name in &names {
        if name.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"link_"))
            && let Ok(link) = bpf::open(name)
        {
            // Somebody else may hold a descriptor. Gone with its cgroup, it cannot be ended a second time.
            let _ = bpf::link_detach(link.as_fd());
        }
        fs::remove_file(name).map_err(failed("remove", name))?;
    }
    fs::remove_dir(set).map_err(failed("remove", set))
}
