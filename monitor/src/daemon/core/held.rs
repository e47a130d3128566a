//! Memory for captured bytes that are held for flows, by cgroup.
//!
//! A cgroup may hold as much as is free: one noisy one half of all, two a third each. So there is always
//! something left for those who come later (Choudhury and Hahne, Dynamic queue length thresholds for
//! shared-memory packet switches, 1998).

use std::collections::HashMap;

use foldhash::fast::RandomState;

#[derive(Debug)]
pub(super) struct Held {
    most: usize,
    total: usize,
    by_cgroup: HashMap<u32, usize, RandomState>,
}

impl Held {
    pub fn new(most: usize) -> Self {
        Held { most, total: 0, by_cgroup: HashMap::default() }
    }

    /// Bytes of all together.
    pub fn total(&self) -> usize {
        self.total
    }

    /// So much more is held for a cgroup; false where that is more than it may. It is held all the same,
    /// until it is given back.
    pub fn take(&mut self, cgroup: u32, bytes: usize) -> bool {
        self.total += bytes;
        let own = self.by_cgroup.entry(cgroup).or_default();
        *own += bytes;
        *own <= self.most.saturating_sub(self.total)
    }

    /// Whether what a cgroup holds is far from what it may: what need not be held may be held too.
    pub fn is_little(&self, cgroup: u32) -> bool {
        let own = self.by_cgroup.get(&cgroup).copied().unwrap_or_default();
        own <= self.most.saturating_sub(self.total) / 4
    }

    pub fn give_back(&mut self, cgroup: u32, bytes: usize) {
        self.total = self.total.saturating_sub(bytes);
        if let Some(own) = self.by_cgroup.get_mut(&cgroup) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                self.by_cgroup.remove(&cgroup);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_cgroup_leaves_room_for_others() {
        let mut held = Held::new(1000);
        let taken = (0..100).take_while(|_| held.take(1, 10)).count();
        held.give_back(1, 10);
        assert_eq!((taken, held.total()), (50, 500));
        let taken = (0..100).take_while(|_| held.take(2, 10)).count();
        held.give_back(2, 10);
        assert_eq!(taken, 25);
        assert!(held.is_little(3) && !held.is_little(1));
        assert!(held.take(3, 100));
        held.give_back(1, 500);
        held.give_back(2, 250);
        held.give_back(3, 100);
        assert_eq!((held.total(), held.by_cgroup.len()), (0, 0));
    }
}
