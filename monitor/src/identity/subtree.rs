//! The cgroup that is watched, and those within it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The root of every hierarchy (`kernfs`).
const ROOT: u64 = 1;

/// Cgroups looked at; a host has thousands.
const MOST: usize = 1 << 20;

/// Ids of a cgroup and of all that are within it, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subtree {
    /// It is the root: everything is in it, also what is being removed.
    Whole,
    Of(HashSet<u64>),
}

impl Subtree {
    /// Walks a cgroup v2 directory: the id of a cgroup is the number of its inode. One that cannot be read
    /// has nothing in it.
    pub fn of(cgroup: &Path) -> Subtree {
        let Ok(root) = fs::metadata(cgroup) else { return Subtree::Of(HashSet::new()) };
        if root.ino() == ROOT {
            return Subtree::Whole;
        }
        let mut ids = HashSet::from([root.ino()]);
        let mut todo: Vec<PathBuf> = vec![cgroup.to_owned()];
        while let Some(directory) = todo.pop() {
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && ids.len() < MOST {
                    ids.insert(entry.ino());
                    todo.push(entry.path());
                }
            }
        }
        Subtree::Of(ids)
    }

    /// Whether the cgroup of that id is in it; one that is not known may be.
    pub fn has(&self, id: u64) -> bool {
        match self {
            Subtree::Whole => true,
            Subtree::Of(ids) => id == 0 || ids.contains(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_itself_and_what_is_in_it_and_no_other() {
        let directory = crate::temporary::directory();
        let place = directory.path();
        let (inner, outer) = (place.join("a/b/c"), place.join("z"));
        fs::create_dir_all(&inner).expect("a directory");
        fs::create_dir_all(&outer).expect("a directory");
        let id = |path: &Path| fs::metadata(path).expect("there").ino();
        let subtree = Subtree::of(&place.join("a"));
        assert!(subtree.has(id(&place.join("a"))) && subtree.has(id(&inner)) && subtree.has(0));
        assert!(!subtree.has(id(&outer)) && !subtree.has(id(place)));
        assert!(!Subtree::of(&place.join("none")).has(id(&outer)));
    }
}
