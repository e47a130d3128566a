//! How much of a table each party (a cgroup, mostly) holds, and which of them gives a place up when it is full:
//! one that holds more than its fair share, so that a noisy one pushes out its own and nobody else's.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

#[derive(Debug)]
struct Share<P> {
    party: P,
    held: u32,
}

/// Entries by party. A share is named by a number, which is given out again when it holds nothing.
#[derive(Debug)]
pub(crate) struct Shares<P = u32> {
    shares: Vec<Share<P>>,
    by_party: HashMap<P, u32, RandomState>,
    free: Vec<u32>,
    total: u64,
    /// The last one that had to give something up.
    victim: u32,
    /// The last one that got something: it is often the next, too.
    latest: u32,
}

impl<P> Default for Shares<P> {
    fn default() -> Self {
        let (shares, free) = (Vec::new(), Vec::new());
        Shares { shares, by_party: HashMap::default(), free, total: 0, victim: 0, latest: 0 }
    }
}

impl<P: Clone + Eq + Hash> Shares<P> {
    /// One entry more; gives the number of the share.
    pub fn add(&mut self, party: P) -> u32 {
        let number = self.number(party);
        let share = &mut self.shares[number as usize];
        share.held += 1;
        self.total += 1;
        // A louder one has come.
        if share.held / 2 > self.held(self.victim) {
            self.victim = number;
        }
        number
    }

    fn number(&mut self, party: P) -> u32 {
        if let Some(number) = self.of(&party) {
            self.latest = number;
            return number;
        }
        let share = Share { party: party.clone(), held: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                self.shares[number as usize] = share;
                number
            }
            None => {
                self.shares.push(share);
                self.shares.len() as u32 - 1
            }
        };
        self.by_party.insert(party, number);
        self.latest = number;
        number
    }

    /// The number of the share that holds something of a party.
    pub fn of(&self, party: &P) -> Option<u32> {
        let latest = self.shares.get(self.latest as usize);
        if latest.is_some_and(|share| share.held > 0 && share.party == *party) {
            return Some(self.latest);
        }
        self.by_party.get(party).copied()
    }

    /// One entry less.
    pub fn remove(&mut self, number: u32) {
        let Some(share) = self.shares.get_mut(number as usize).filter(|share| share.held > 0) else { return };
        share.held -= 1;
        self.total -= 1;
        if share.held == 0 {
            self.by_party.remove(&share.party);
            self.free.push(number);
        }
    }

    /// Entries of all together.
    pub fn total(&self) -> usize {
        self.total as usize
    }

    fn held(&self, number: u32) -> u32 {
        self.shares.get(number as usize).map_or(0, |share| share.held)
    }

    /// One that holds no less than the average; `None` where nobody holds anything. The last one for as
    /// long as that is true of it, else the next: who holds the most is not looked for, but a louder one
    /// makes itself heard in [`Shares::add`].
    pub fn victim(&mut self) -> Option<u32> {
        let (total, groups) = (self.total, self.by_party.len() as u64);
        let all = self.shares.len() as u32;
        let begin = self.victim.min(all);
        let loud = |number: &u32| {
            let held = u64::from(self.held(*number));
            held > 0 && held * groups >= total
        };
        let victim = (begin..all).chain(0..begin).find(loud)?;
        self.victim = victim;
        Some(victim)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes and goes, whoever gives up holds no less than the average.
        #[test]
        fn who_gives_up_holds_more_than_others(steps in proptest::collection::vec((0_u32..8, any::<bool>()), 1..400)) {
            let mut shares = Shares::default();
            let mut entries: Vec<(u32, u32)> = Vec::new();
            for (cgroup, come) in steps {
                if come {
                    entries.push((cgroup, shares.add(cgroup)));
                } else if let Some(at) = entries.iter().position(|entry| entry.0 == cgroup) {
                    shares.remove(entries.swap_remove(at).1);
                }
                prop_assert_eq!(shares.total(), entries.len());
                let groups: std::collections::HashSet<u32> = entries.iter().map(|entry| entry.0).collect();
                let Some(victim) = shares.victim() else {
                    prop_assert!(entries.is_empty());
                    continue;
                };
                let held = entries.iter().filter(|entry| entry.1 == victim).count();
                prop_assert!(held * groups.len() >= entries.len());
            }
        }
    }

    #[test]
    fn a_louder_one_is_heard() {
        let mut shares = Shares::default();
        let quiet: Vec<u32> = (0..100).map(|_| shares.add(1)).collect();
        let small = shares.add(2);
        assert_eq!(shares.victim(), Some(quiet[0]));
        let loud: Vec<u32> = (0..1000).map(|_| shares.add(3)).collect();
        assert_eq!(shares.victim(), Some(loud[0]));
        assert_ne!(small, loud[0]);
    }
}
