//! Where programs and maps outlive the daemon: one directory in a bpffs, 0700.
//!
//! ```text
//! PIN/abi-5/map_EVENTS …   the maps, with everything that was counted and not yet told
//! PIN/abi-5/link_sent …    the hooks, which hold their programs
//! PIN/old-abi-5/…          those that are being replaced
//! ```
//! In: a path. Out: what was left there by the daemon before. Must never: take over a set that is not
//! whole, whose layout or sizes are other than ours, or that somebody changed; or keep a start from its end by what
//! lies there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use monitor_sys::bpf;
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::load::{HOOKS, Hook, MAPS, Shape};
use super::note::Note;
use super::remains::{Left, Unfit, whole};

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS: u64 = 0xcafe_4a11;

/// Where one is mounted that is ours alone.
const OWN: &str = "/run/streamwatch/bpf";

/// In a bpffs that was mounted here: whoever mounted it unmounts it.
const MOUNTED: &str = "mounted-by-streamwatch";

/// Before the name of a set that is being replaced.
const OLD: &str = "old-";

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
    #[error("{}: is a file system that somebody else mounted; name a directory in it with --pin", .0.display())]
    Mounted(PathBuf),
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    move |source| PinError::Io { what, path: path.to_owned(), source }
}

/// The directory, held by this process alone.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    /// The file that says what is left here.
    note: Option<PathBuf>,
    /// Its file system was mounted just now: nothing can be left in it.
    fresh: bool,
    _lock: fs::File,
}

/// The place where pins are, unless another is named: below the usual bpffs, or else a bpffs of our own.
pub fn usual_place() -> PathBuf {
    if is_bpffs(Path::new(USUAL)) { Path::new(USUAL).join("streamwatch") } else { PathBuf::from(OWN) }
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
        let fresh = !is_bpffs(root);
        if fresh {
            mount(
                "bpf",
                root,
                "bpf",
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
                c"mode=0700",
            )
            .map_err(|error| failed("mount a bpffs at", root)(error.into()))?;
            let mark = root.join(MOUNTED);
            fs::DirBuilder::new().mode(0o700).create(&mark).map_err(failed("make", &mark))?;
        } else if is_mount_point(root) && !is_mounted_by_us(root) {
            return Err(PinError::Mounted(root.to_owned()));
        }
        let seen = fs::metadata(root).map_err(failed("look at", root))?;
        if seen.uid() != rustix::process::geteuid().as_raw() {
            return Err(PinError::NotOurs(root.to_owned()));
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(failed("protect", root))?;
        let lock = fs::File::open(root).map_err(failed("open", root))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Pins { root: root.to_owned(), note: None, fresh, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(PinError::InUse(root.to_owned())),
            Err(error) => Err(failed("lock", root)(error.into())),
        }
    }

    /// What is left here is noted in this file.
    #[must_use]
    pub fn noted_in(self, note: PathBuf) -> Pins {
        Pins { note: Some(note), ..self }
    }

    pub(super) fn note(&self) -> Option<&Path> {
        self.note.as_deref()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where ours are.
    pub fn ours(&self) -> PathBuf {
        self.root.join(format!("abi-{}", monitor_common::ABI_VERSION))
    }

    /// Ours, while they are being replaced.
    fn old(&self) -> PathBuf {
        self.root.join(format!("{OLD}abi-{}", monitor_common::ABI_VERSION))
    }

    /// The name of a map's pin.
    pub fn map(&self, name: &str) -> PathBuf {
        self.ours().join(map_pin(name))
    }

    /// The name of a hook's pin.
    pub fn link(&self, hook: &Hook) -> PathBuf {
        self.ours().join(link_pin(hook))
    }

    /// What was left here. `wants`: how each map is made, as [`MAPS`] names them.
    pub(super) fn left(&self, wants: &[Shape; MAPS.len()], cgroup: u64) -> Left {
        let sets = self.sets();
        let note = self.note.as_deref().and_then(|note| Note::read(note, &self.root));
        if note.is_some() && !sets.iter().any(|set| has_link(set)) {
            // It goes with its mount namespace: that of a container that ended, of a unit that has its own.
            if self.fresh {
                return Left::other("the file system that it was pinned in is gone".to_owned());
            }
            let gone = Unfit::hooks();
            return Left::other(gone.why).with(gone.tampered);
        }
        if sets.is_empty() {
            return Left::nothing();
        }
        let (ours, old) = (self.ours(), self.old());
        // Killed while it replaces another, a start leaves what it had come to: of either set a part may be missing.
        let complete = hooks_in(&old) == 0;
        let found = match whole(&ours, wants, cgroup, complete, note.as_ref()) {
            Ok(links) => return Left::same(links),
            Err(unfit) => unfit,
        };
        match whole(&old, wants, cgroup, false, note.as_ref()) {
            Ok(links) => {
                // A start that was to replace it did not come to its end: it went on counting.
                let back =
                    remove(&ours).and_then(|()| fs::rename(&old, &ours).map_err(failed("rename", &old)));
                match back {
                    Ok(()) => Left::same(links).with(found.tampered),
                    Err(error) => Left::other(error.to_string()).with(found.tampered),
                }
            }
            Err(_) if !ours.exists() && !old.exists() => {
                let names: Vec<_> = sets.iter().filter_map(|set| set.file_name()?.to_str()).collect();
                Left::other(format!(
                    "the layout of events changed ({} there, abi-{} now)",
                    names.join(", "),
                    monitor_common::ABI_VERSION
                ))
            }
            Err(older) => Left::other(found.why).with(found.tampered).with(older.tampered),
        }
    }

    /// Makes room for a new set; what was there keeps counting until [`Pins::forget_others`].
    ///
    /// # Errors
    /// The directory cannot be changed.
    pub fn prepare(&self) -> Result<(), PinError> {
        let (ours, old) = (self.ours(), self.old());
        if hooks_in(&ours) > 0 && hooks_in(&ours) >= hooks_in(&old) {
            // An old one should be gone by now: what others put there may hold it.
            self.clear(&old)?;
            fs::rename(&ours, &old).map_err(failed("rename", &ours))?;
        } else {
            // The last start that was to replace the old one did not come to its end.
            self.clear(&ours)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&ours).map_err(failed("make", &ours))
    }

    /// Removes a set, or gives it another name where it cannot be removed.
    fn clear(&self, set: &Path) -> Result<(), PinError> {
        let Err(error) = remove(set) else { return Ok(()) };
        let aside = (1..100_u32).map(|number| crate::store::beside(&self.old(), &format!("-{number}")));
        match aside.into_iter().find(|aside| fs::symlink_metadata(aside).is_err()) {
            Some(aside) => fs::rename(set, aside).map_err(failed("rename", set)),
            None => Err(error),
        }
    }

    /// Takes away every set but ours: its hooks are gone with it.
    ///
    /// # Errors
    /// A name cannot be removed.
    pub fn forget_others(&self) -> Result<(), PinError> {
        let ours = self.ours();
        all(self.sets().iter().filter(|set| **set != ours).map(|set| remove(set)))
    }

    fn sets(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let mut sets: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                // The first one: of versions before.
                name == "old"
                    || name
                        .to_str()
                        .is_some_and(|name| name.strip_prefix(OLD).unwrap_or(name).starts_with("abi-"))
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
        if let Some(note) = &self.note {
            // First: what is killed here did not lose its hooks to somebody else.
            let _ = fs::remove_file(note);
        }
        all(self.sets().iter().map(|set| remove(set)))?;
        let Pins { root, _lock: lock, .. } = self;
        drop(lock);
        if is_mount_point(&root) && is_mounted_by_us(&root) {
            // Somebody looks into it: it goes when they leave.
            let _ = unmount(&root, UnmountFlags::DETACH);
        }
        match fs::remove_dir(&root) {
            // What others have put there is theirs.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &root)(error)),
            _ => Ok(()),
        }
    }
}

/// A file system of pins takes no dots.
pub(super) fn map_pin(name: &str) -> String {
    format!("map_{}", name.trim_start_matches('.').replace('.', "_"))
}

pub(super) fn link_pin(hook: &Hook) -> String {
    format!("link_{}", hook.name)
}

/// How many hooks have a name in a set.
pub(super) fn hooks_in(set: &Path) -> usize {
    HOOKS.iter().filter(|hook| fs::symlink_metadata(set.join(link_pin(hook))).is_ok()).count()
}

/// Whether a set, of whichever version, has a hook.
fn has_link(set: &Path) -> bool {
    let is_link = |name: OsString| name.as_encoded_bytes().starts_with(b"link_");
    fs::read_dir(set).is_ok_and(|entries| entries.flatten().any(|entry| is_link(entry.file_name())))
}

/// Whether the file system begins here.
fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|seen| seen.dev()).ok();
    path.parent().is_some_and(|parent| device(parent) != device(path))
}

/// Versions before the mark mounted one in one place.
fn is_mounted_by_us(root: &Path) -> bool {
    root.join(MOUNTED).is_dir() || root == Path::new(OWN)
}

/// Makes a set's directory again where somebody removed it. Where that fails nothing can be pinned there, which is told.
pub(super) fn make_set(set: &Path) {
    if !set.exists() && set.parent().is_some_and(is_bpffs) {
        let _ = fs::DirBuilder::new().mode(0o700).create(set);
    }
}

/// Takes away what has this name: a set, and whatever is in it.
///
/// # Errors
/// A name cannot be removed; the others are gone.
pub(super) fn remove(path: &Path) -> Result<(), PinError> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(failed("remove", path)),
    };
    if !fs::symlink_metadata(path).is_ok_and(|seen| seen.is_dir()) {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"link_"))
            && let Ok(link) = bpf::open(path)
        {
            // Somebody else may hold a descriptor. Gone with its cgroup, it cannot be ended a second time.
            let _ = bpf::link_detach(link.as_fd());
        }
        return gone(fs::remove_file(path));
    }
    // What others mounted there is theirs.
    if !is_mount_point(path) {
        let entries = fs::read_dir(path).map_err(failed("read", path))?;
        // Hooks first: programs without their maps count for nobody.
        let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        names.sort();
        all(names.iter().map(|name| remove(name)))?;
    }
    gone(fs::remove_dir(path))
}

/// Each of them is done, whatever became of those before; the first error.
fn all(done: impl Iterator<Item = Result<(), PinError>>) -> Result<(), PinError> {
    done.fold(Ok(()), Result::and)
}
