//! From a cgroup v2 id to its place, for processes that ended before they could be looked at: the
//! kernel programs say the id, and the cgroup mostly outlives the process.
//!
//! Must never: do work that grows with the cgroups that somebody makes, or wait for somebody. The kernel opens a cgroup by
//! its id, which is a matter of microseconds; only where it has forgotten its name, it goes through those beside it
//! (`get_name` in `fs/exportfs/expfs.c`). So whoever made a look take long is not looked for until a multiple of that has
//! passed. It does so under the lock of the directory that they are in, which whoever lists that can hold (its buffer is
//! on a file system that does not answer): so a look is a looker's, and one that stalls is no answer.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use monitor_sys::open_cgroup;
use rustix::fs::{CWD, readlinkat_raw};

use super::cgroup::{Maker, Place, place_of_cgroup_path};
use super::cgroup_places::Places;
use super::cgroup_rests::Rests;
use super::clock::processor_time;
use super::lookers::{Lookers, StillOut, Who};
use super::namespaces::mounts;
use super::users::Users;

/// Directories of a path whose owner is asked for.
const DEEPEST: usize = 32;

#[derive(Default)]
pub struct CgroupTree {
    mount: Option<Arc<Mount>>,
    places: Places,
    rests: Rests,
    lookers: Lookers<Seen>,
}

/// Where a cgroup is, if anywhere, and how much of the processor's time it took to find that out.
type Seen = (Option<Place>, Duration);

struct Mount {
    point: PathBuf,
    directory: File,
}

impl CgroupTree {
    /// Finds version 2 in the mount table; a host without it has no ids.
    pub fn new(still_out: StillOut) -> CgroupTree {
        let whole = mounts().into_iter().find(|mount| mount.kind == "cgroup2" && mount.root == "/");
        let mount = whole.and_then(|mount| Mount::open(mount.point)).map(Arc::new);
        CgroupTree { mount, lookers: Lookers::after(still_out), ..CgroupTree::default() }
    }

    /// Where a cgroup is, or was when it was met. `uid`: whose process was in it. `now_ns`: CLOCK_MONOTONIC.
    pub fn place(&mut self, id: u64, uid: u32, users: &mut Users, now_ns: u64) -> Place {
        self.meet(id, uid, users, now_ns);
        self.places.get(id).cloned().unwrap_or_default()
    }

    /// Remembers where a cgroup is: it may be gone when that is asked. Waits for that no longer than for a look at a process.
    pub fn meet(&mut self, id: u64, uid: u32, users: &mut Users, now_ns: u64) {
        let Some(mount) = self.mount.clone().filter(|_| id != 0 && self.places.get(id).is_none()) else {
            return;
        };
        let find = move || {
            let path = mount.path(id)?;
            Some(place_of_cgroup_path(&path, &|path| mount.maker(path)))
        };
        let is_named = uid == 0 || users.name(uid, now_ns).is_some();
        self.find(id, uid, is_named, now_ns, find);
    }

    /// What `find` finds. The user may make that hang.
    fn find(
        &mut self,
        id: u64,
        uid: u32,
        is_named: bool,
        now_ns: u64,
        find: impl FnOnce() -> Option<Place> + Send + 'static,
    ) {
        if !self.rests.may_look(uid, now_ns) {
            return;
        }
        let job = move || {
            let before = processor_time();
            let place = find();
            (place, processor_time().saturating_sub(before))
        };
        // One that stalls has been paid for with the user's patience.
        let Ok((place, took)) = self.lookers.look(&Who::User { uid, is_named }, job) else { return };
        self.rests.took(uid, took, now_ns);
        if let Some(place) = place {
            self.places.remember(id, place);
        }
    }

    /// Who may have made what is below a directory.
    pub fn maker(&self, path: &str) -> Maker {
        self.mount.as_ref().map_or(Maker::Unknown, |mount| mount.maker(path))
    }
}

impl Mount {
    fn open(point: PathBuf) -> Option<Mount> {
        let directory = File::open(&point).ok()?;
        Some(Mount { point, directory })
    }

    /// See [`CgroupTree::maker`].
    fn maker(&self, path: &str) -> Maker {
        let mut directory = self.point.clone();
        for (depth, component) in path.split('/').enumerate() {
            directory.push(component);
            match fs::metadata(&directory).map(|meta| meta.uid()) {
                Ok(0) if depth < DEEPEST => {}
                Ok(uid) if uid != 0 => return Maker::User(uid),
                _ => return Maker::Unknown,
            }
        }
        Maker::Host
    }

    /// From the root of the hierarchy. `None`: it is gone, or may not be opened (CAP_DAC_READ_SEARCH), or its path is longer
    /// than a page.
    fn path(&self, id: u64) -> Option<String> {
        let cgroup = open_cgroup(self.directory.as_fd(), id).ok()?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let link = format!("/proc/self/fd/{}", cgroup.as_raw_fd());
        let (target, _) = readlinkat_raw(CWD, link, &mut buffer).ok()?;
        let path = target.strip_prefix(self.point.as_os_str().as_bytes())?;
        matches!(path.first(), None | Some(b'/')).then(|| String::from_utf8_lossy(path).into_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsStr;
    use std::time::Instant;

    use super::super::clock::monotonic_ns;
    use super::*;

    /// What a user can do to the lock of a directory.
    #[test]
    fn who_keeps_the_kernel_from_finding_its_cgroups_keeps_nobody_waiting() {
        let (let_go, held) = crossbeam_channel::bounded::<()>(0);
        let mut tree = CgroupTree::default();
        let place = |unit: &str| Some(Place { unit: Some(unit.to_owned()), container: None });
        let begun = Instant::now();
        for id in 1..=100 {
            let held = held.clone();
            tree.find(id, 7, true, monotonic_ns(), move || {
                let _ = held.recv_timeout(Duration::from_secs(20));
                place("of7.service")
            });
            tree.find(1000 + id, 8, true, monotonic_ns(), move || place("of8.service"));
            // What took the processor's time rests.
            tree.rests = Rests::default();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!((1..=100).all(|id| tree.places.get(id).is_none()), "not known now, nor later");
        assert!((1001..=1100).all(|id| tree.places.get(id) == place("of8.service").as_ref()));
        drop(let_go);
        let end = Instant::now() + Duration::from_secs(10);
        while tree.places.get(1).is_none() {
            assert!(Instant::now() < end);
            tree.find(1, 7, true, monotonic_ns(), move || place("of7.service"));
        }
    }

    #[test]
    fn what_is_below_a_directory_of_a_user_may_be_made_by_that_user() {
        let directory = crate::temporary::directory();
        let root = directory.path();
        let deep = vec!["d"; DEEPEST + 1].join("/");
        fs::create_dir_all(root.join("a.service/b")).unwrap();
        fs::create_dir_all(root.join(&deep)).unwrap();
        let owner = fs::metadata(root).map(|meta| meta.uid()).unwrap();
        let tree = CgroupTree { mount: Mount::open(root.to_owned()).map(Arc::new), ..CgroupTree::default() };
        let own = if owner == 0 { Maker::Host } else { Maker::User(owner) };
        assert_eq!(tree.maker("a.service/b"), own);
        assert_eq!(tree.maker("gone.service"), Maker::Unknown);
        assert_eq!(tree.maker(&deep[2..]), own);
        let beyond = if owner == 0 { Maker::Unknown } else { Maker::User(owner) };
        assert_eq!(tree.maker(&deep), beyond, "not told however deep it is");
        if std::os::unix::fs::chown(root.join("a.service"), Some(7), None).is_ok() {
            assert_eq!(tree.maker("a.service"), Maker::User(7));
            assert_eq!(tree.maker("a.service/b"), Maker::User(7), "of one above");
        }
        assert_eq!(CgroupTree::default().maker("a.service"), Maker::Unknown);
    }

    /// Removed with the test.
    struct Made(Vec<PathBuf>);

    impl Made {
        fn id(&mut self, path: PathBuf) -> u64 {
            fs::create_dir(&path).unwrap();
            let id = fs::metadata(&path).unwrap().ino();
            self.0.push(path);
            id
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            for path in self.0.iter().rev() {
                let _ = fs::remove_dir(path);
            }
        }
    }

    #[test]
    #[ignore = "makes cgroups: needs root and cgroup v2"]
    fn a_cgroup_is_found_by_its_id_whatever_it_is_called() {
        let mut tree = CgroupTree::new(StillOut::default());
        let mut users = Users::new("/etc/passwd".into());
        let point = tree.mount.as_ref().unwrap().point.clone();
        let path = |tree: &CgroupTree, id| tree.mount.as_ref().and_then(|mount| mount.path(id));
        assert_eq!(path(&tree, fs::metadata(&point).unwrap().ino()).as_deref(), Some(""));
        assert_eq!((path(&tree, 0), path(&tree, u64::MAX)), (None, None));
        let mut made = Made(Vec::new());
        let slice = point.join(format!("streamwatch_test-{}.slice", std::process::id()));
        made.id(slice.clone());
        let below = slice.file_name().and_then(OsStr::to_str).unwrap().to_owned();
        for (name, shown) in [
            ("plain.service", "plain.service"),
            ("a b\x1b[31m (deleted)", "a b\x1b[31m (deleted)"),
            ("\u{202e}b\\x2d", "\u{202e}b\\x2d"),
        ] {
            let id = made.id(slice.join(name));
            assert_eq!(path(&tree, id), Some(format!("/{below}/{shown}")));
        }
        let id = made.id(slice.join(OsStr::from_bytes(b"\xff.service")));
        assert_eq!(path(&tree, id), Some(format!("/{below}/\u{fffd}.service")));
        // The kernel makes none with a line's end in its name.
        assert!(fs::create_dir(slice.join("a\n0::/b.service")).is_err());
        let id = made.id(slice.join("met.service"));
        tree.meet(id, 0, &mut users, monotonic_ns());
        let later = made.id(slice.join("late.service"));
        drop(made);
        assert_eq!(tree.place(id, 0, &mut users, monotonic_ns()).unit.as_deref(), Some("met.service"));
        assert_eq!(tree.place(later, 0, &mut users, monotonic_ns()), Place::default());
    }
}
