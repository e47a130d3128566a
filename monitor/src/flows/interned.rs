//! Equal values held once: most flows of a stream say the same of themselves.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Values below this number are never looked through for unused ones.
const FEW: usize = 1024;

/// Holds a value as long as somebody else does, and a while longer.
#[derive(Debug)]
pub struct Interned<T> {
    values: HashTable<Arc<T>>,
    state: RandomState,
    /// Looked through for unused ones when there are that many.
    sweep_at: usize,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Interned { values: HashTable::new(), state: RandomState::default(), sweep_at: FEW }
    }
}

impl<T: Eq + Hash> Interned<T> {
    /// The value that is held already, or this one from now on.
    pub fn get(&mut self, value: T) -> Arc<T> {
        self.get_by(value, |value, state| state.hash_one(value))
    }

    /// The same for a value that is shared already.
    pub fn share(&mut self, value: Arc<T>) -> Arc<T> {
        let hash = self.state.hash_one(&*value);
        if let Some(held) = self.values.find(hash, |held| **held == *value) {
            return held.clone();
        }
        self.add(hash, value.clone(), |value, state| state.hash_one(value));
        value
    }
}

impl<T: PartialEq> Interned<T> {
    /// [`Interned::get`] for what has no hash of its own. Equal values must have equal hashes.
    pub fn get_by(&mut self, value: T, hash_of: impl Fn(&T, &RandomState) -> u64) -> Arc<T> {
        let hash = hash_of(&value, &self.state);
        if let Some(held) = self.values.find(hash, |held| **held == value) {
            return held.clone();
        }
        let value = Arc::new(value);
        self.add(hash, value.clone(), hash_of);
        value
    }

    fn add(&mut self, hash: u64, value: Arc<T>, hash_of: impl Fn(&T, &RandomState) -> u64) {
        if self.values.len() >= self.sweep_at {
            self.values.retain(|held| Arc::strong_count(held) > 1);
            self.sweep_at = FEW.max(2 * self.values.len());
        }
        let state = &self.state;
        self.values.insert_unique(hash, value, |held| hash_of(held, state));
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut interned = Interned::default();
        let kept: Vec<Arc<String>> = (0..10).map(|n| interned.get(format!("{n}"))).collect();
        assert!(Arc::ptr_eq(&kept[3], &interned.get("3".to_owned())));
        assert!(Arc::ptr_eq(&kept[4], &interned.share(Arc::new("4".to_owned()))));
        for n in 10..10 * FEW {
            interned.get(format!("{n}"));
        }
        assert!(interned.len() <= 2 * FEW);
        assert!(Arc::ptr_eq(&kept[9], &interned.get("9".to_owned())));
    }
}
