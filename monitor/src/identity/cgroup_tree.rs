//! From a cgroup v2 id to its path, for processes that ended before they could be looked at: the
//! kernel programs say the id, and the cgroup mostly outlives the process.
//!
//! The id is the inode number of the cgroup's directory and is never given twice since boot
//! (`kernfs_id` in `include/linux/kernfs.h`), so that a path once found stays right.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cgroup::Maker;
use super::namespaces::mounts;

/// Directories that are remembered, and looked at in one walk.
const MOST: usize = 65_536;
const DEEPEST: usize = 32;
/// Nanoseconds between two walks.
const WALK_EVERY_NS: u64 = 1_000_000_000;

#[derive(Default)]
pub struct CgroupTree {
    root: Option<PathBuf>,
    paths: HashMap<u64, String>,
    walked_ns: Option<u64>,
}

impl CgroupTree {
    /// Finds version 2 in the mount table; a host without it has no ids.
    pub fn new() -> CgroupTree {
        let root = mounts().into_iter().find(|mount| mount.kind == "cgroup2").map(|mount| mount.point);
        CgroupTree { root, ..CgroupTree::default() }
    }

    /// Path from the root of the hierarchy. `now_ns`: CLOCK_MONOTONIC.
    pub fn path(&mut self, id: u64, now_ns: u64) -> Option<&str> {
        if id == 0 {
            return None;
        }
        let rested = self.walked_ns.is_none_or(|then| now_ns.saturating_sub(then) >= WALK_EVERY_NS);
        if !self.paths.contains_key(&id) && rested {
            self.walked_ns = Some(now_ns);
            self.walk();
        }
        self.paths.get(&id).map(String::as_str)
    }

    /// Who may have made what is below a directory.
    pub fn maker(&self, path: &str) -> Maker {
        let Some(root) = &self.root else { return Maker::Host };
        let mut directory = root.clone();
        for component in path.split('/') {
            directory.push(component);
            match fs::metadata(&directory).map(|meta| meta.uid()) {
                Ok(0) => {}
                Ok(uid) => return Maker::User(uid),
                Err(_) => return Maker::Unknown,
            }
        }
        Maker::Host
    }

    fn walk(&mut self) {
        let Some(root) = self.root.clone() else { return };
        if self.paths.len() >= MOST {
            self.paths.clear();
        }
        let mut seen = 0;
        let mut waiting = VecDeque::from([(root.clone(), 0)]);
        while let Some((directory, depth)) = waiting.pop_front() {
            seen += 1;
            if seen > MOST || self.paths.len() >= MOST {
                return;
            }
            self.remember(&root, &directory);
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let directories = entries
                .filter_map(Result::ok)
                .filter(|entry| depth < DEEPEST && entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(directories.map(|entry| (entry.path(), depth + 1)));
        }
    }

    fn remember(&mut self, root: &Path, directory: &Path) {
        if let (Ok(meta), Ok(below)) = (fs::metadata(directory), directory.strip_prefix(root)) {
            self.paths.entry(meta.ino()).or_insert_with(|| format!("/{}", below.to_string_lossy()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_directory_of_a_user_may_be_made_by_that_user() {
        let root = std::env::temp_dir().join(format!("streamwatch-cgroups-{}", std::process::id()));
        fs::create_dir_all(root.join("a.service/b")).expect("a directory");
        let owner = fs::metadata(&root).map(|meta| meta.uid()).unwrap_or_default();
        let tree = CgroupTree { root: Some(root.clone()), ..CgroupTree::default() };
        let own = if owner == 0 { Maker::Host } else { Maker::User(owner) };
        assert_eq!(tree.maker("a.service/b"), own);
        assert_eq!(tree.maker("gone.service"), Maker::Unknown);
        if std::os::unix::fs::chown(root.join("a.service"), Some(7), None).is_ok() {
            assert_eq!(tree.maker("a.service"), Maker::User(7));
            assert_eq!(tree.maker("a.service/b"), Maker::User(7), "of one above");
        }
        let _ = fs::remove_dir_all(root);
    }

    #[test]
    #[ignore = "needs cgroup v2"]
    fn the_root_is_found_by_its_id() {
        let mut tree = CgroupTree::new();
        let root = tree.root.clone().expect("cgroup v2 is mounted");
        let id = fs::metadata(root).map(|meta| meta.ino()).unwrap_or_default();
        assert_eq!(tree.path(id, 0), Some("/"));
        assert_eq!(tree.path(0, 0), None);
        assert_eq!(tree.path(u64::MAX, 5), None);
    }
}
