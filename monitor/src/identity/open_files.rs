//! What a look at open files may cost, and who pays.
//!
//! In: a user, and how many files one of its processes has open. Out: whether they are looked at. A user may have
//! millions of descriptors, and to look at each takes the kernel some microseconds: what one has beyond its share is
//! looked at little by little, so that nobody else's sockets wait for it. Root is not held up: it could end us.

use std::collections::HashMap;
use std::time::Duration;

use super::clock::processor_time;
use crate::watch::Shares;

/// Open files of one user, and of all but root together, in one look.
const OF_USER: u64 = 4096;
const OF_ALL: u64 = 16_384;
/// The same in the look at the start, which is made once.
const AT_START: u64 = 8;

/// Open files beyond that, in a second; four times as many at once.
const MORE_OF_USER_PER_S: u32 = 6144;
const MORE_OF_ALL_PER_S: u32 = 12_288;
/// A process with more is not looked at beyond its user's share.
const MOST_OF_PROCESS: u64 = 65_536;

/// Users that are remembered. There are more only where somebody makes them.
const MOST_USERS: usize = 4096;

const ROOT: u32 = 0;

/// What users have left, from look to look.
pub struct Purses(Shares);

impl Default for Purses {
    fn default() -> Self {
        Purses(Shares::new(MORE_OF_ALL_PER_S, MORE_OF_USER_PER_S, MOST_USERS))
    }
}

/// What one look may cost.
pub struct Allowance<'a> {
    purses: &'a mut Purses,
    times: u64,
    of_users: HashMap<u32, u64>,
    of_all: u64,
    now_ns: u64,
    from_purses: Duration,
}

/// Whether a process's open files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paid {
    /// They are within the share of a look.
    Share,
    /// They are paid from what the user has left, which bounds them by itself.
    Purse,
    /// They are not.
    No,
}

impl Purses {
    /// For one of many looks.
    pub fn look(&mut self, now_ns: u64) -> Allowance<'_> {
        Allowance {
            purses: self,
            times: 1,
            of_users: HashMap::new(),
            of_all: 0,
            now_ns,
            from_purses: Duration::ZERO,
        }
    }

    /// For the look at the start.
    pub fn look_at_start(&mut self, now_ns: u64) -> Allowance<'_> {
        Allowance { times: AT_START, ..self.look(now_ns) }
    }
}

impl Allowance<'_> {
    /// Pays for a process with that many open files. `uid`: the real user, which a setuid program does not change.
    pub fn pay(&mut self, uid: u32, files: u64) -> Paid {
        if uid == ROOT {
            return Paid::Share;
        }
        let spent = self.of_users.entry(uid).or_default();
        if *spent + files <= OF_USER * self.times && self.of_all + files <= OF_ALL * self.times {
            *spent += files;
            self.of_all += files;
            return Paid::Share;
        }
        if self.purses.pays(uid, files, self.now_ns) { Paid::Purse } else { Paid::No }
    }

    /// Does what was paid for.
    pub fn timed<T>(&mut self, paid: Paid, what: impl FnOnce() -> T) -> T {
        let before = processor_time();
        let done = what();
        if paid == Paid::Purse {
            self.from_purses += processor_time().saturating_sub(before);
        }
        done
    }

    /// The processor's time that was paid from purses.
    pub fn paid_beyond(&self) -> Duration {
        self.from_purses
    }
}

impl Purses {
    fn pays(&mut self, uid: u32, files: u64, now_ns: u64) -> bool {
        let pays = files <= MOST_OF_PROCESS && self.0.is_left(uid, now_ns);
        if pays {
            self.0.spend(uid, u32::try_from(files).unwrap_or(u32::MAX), now_ns);
        }
        pays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Open files that are looked at in ten looks a second.
    fn looked_at(purses: &mut Purses, processes: &[(u32, u64)], seconds: u64) -> HashMap<u32, u64> {
        let mut sums = HashMap::new();
        for tenth in 1..=seconds * 10 {
            let mut allowance = purses.look(tenth * SECOND / 10);
            for (uid, files) in processes {
                if allowance.pay(*uid, *files) != Paid::No {
                    *sums.entry(*uid).or_default() += files;
                }
            }
        }
        sums
    }

    #[test]
    fn what_one_user_has_open_takes_nothing_from_others() {
        let mut processes = vec![(7, 20_000); 400];
        processes.extend([(8, 4000), (0, 1_000_000)]);
        let sums = looked_at(&mut Purses::default(), &processes, 100);
        assert_eq!(sums[&8], 4000 * 1000, "each time");
        assert_eq!(sums[&0], 1_000_000 * 1000, "root is not held up");
        // A second's rate, and what may be spent at once.
        assert!((600_000..=680_000).contains(&sums[&7]), "{}", sums[&7]);
    }

    #[test]
    fn many_users_together_are_bounded_too() {
        let processes: Vec<(u32, u64)> = (1000..3000).map(|uid| (uid, 20_000)).collect();
        let sums = looked_at(&mut Purses::default(), &processes, 100);
        assert!(sums.values().sum::<u64>() <= 104 * u64::from(MORE_OF_ALL_PER_S) + 20_000);
        let small: Vec<(u32, u64)> = (1000..3000).map(|uid| (uid, 1000)).collect();
        let mut purses = Purses::default();
        let mut allowance = purses.look(SECOND);
        let within = small.iter().filter(|(uid, files)| allowance.pay(*uid, *files) == Paid::Share).count();
        assert_eq!(within as u64, OF_ALL / 1000);
    }

    #[test]
    fn a_large_process_is_looked_at_now_and_then_and_a_huge_one_at_the_start() {
        let sums = looked_at(&mut Purses::default(), &[(7, 60_000)], 100);
        assert!(sums[&7] >= 600_000, "{}", sums[&7]);
        assert_eq!(looked_at(&mut Purses::default(), &[(7, 70_000)], 100).get(&7), None);
        assert_eq!(Purses::default().look_at_start(SECOND).pay(7, 30_000), Paid::Share);
        assert_eq!(Purses::default().look_at_start(SECOND).pay(7, 1 << 20), Paid::No);
    }
}
