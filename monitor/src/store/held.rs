//! What is held of a state while nothing can be written to it: its files, whatever becomes of their names, and what
//! opens them, whatever becomes of the key. Without it, what was kept is gone where both are removed meanwhile.

use std::fs::File;
use std::path::Path;

use super::copy::{Copy, identity};
use super::record::Sealer;
use super::{StoreError, lock, lock_path, paths};
use crate::keys::Wrapped;

/// See above.
#[derive(Debug)]
pub struct Held {
    known: Vec<(Wrapped, Sealer)>,
    copies: [Option<Copy>; 2],
    lock: File,
}

impl Held {
    pub(super) fn new(known: Vec<(Wrapped, Sealer)>, mut copies: [Option<Copy>; 2], lock: File) -> Held {
        copies.iter_mut().flatten().for_each(Copy::close);
        Held { known, copies, lock }
    }

    /// The key of a file that was wrapped like this.
    pub(super) fn sealer(&self, wrapped: &Wrapped) -> Option<&Sealer> {
        self.known.iter().find(|(known, _)| known == wrapped).map(|(_, sealer)| sealer)
    }

    /// Files that can be found under their names no more.
    pub(super) fn away(&self, path: &Path) -> [Option<&File>; 2] {
        let [a, b] = paths(path);
        let [first, second] = self.copies.each_ref().map(Option::as_ref);
        [(first, a), (second, b)]
            .map(|(copy, path)| copy.filter(|copy| !copy.is_at(&path)).map(|copy| &copy.file))
    }

    /// What keeps other daemons out; another one where others may have begun meanwhile.
    pub(super) fn lock(&self, path: &Path) -> Result<File, StoreError> {
        if !is_lock_of(&self.lock, path) {
            return lock(path);
        }
        self.lock.try_clone().map_err(|source| StoreError::File { path: path.to_owned(), source })
    }
}

/// Whether a lock is that which others would find.
pub fn is_lock_of(ours: &File, path: &Path) -> bool {
    ours.metadata()
        .is_ok_and(|ours| lock_path(path).metadata().is_ok_and(|there| identity(&there) == identity(&ours)))
}
