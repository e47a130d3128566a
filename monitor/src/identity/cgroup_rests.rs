//! How often cgroups are looked for, by what that took: it may be made to take long, and who names processes does it.
//!
//! In: a user, and how long a look for one of its cgroups took. Out: whether there is another one now. Pure.

use std::collections::HashMap;
use std::time::Duration;

/// A look of this user's may begin when this many times as long as the last ones took has passed.
const OF_USER: u64 = 100;
const OF_ROOT: u64 = 25;
/// The same of all together.
const OF_ALL: u64 = 10;
/// Who has not looked for as long may look as much at once as if it came one by one in that time.
const SAVED_NS: u64 = 4_000_000_000;

/// Users that are remembered. There are more only where somebody makes them; then all together are bounded.
const MOST_USERS: usize = 4096;

#[derive(Default)]
pub struct Rests {
    /// Until when, CLOCK_MONOTONIC.
    of_users: HashMap<u32, u64>,
    of_all: u64,
}

impl Rests {
    pub fn may_look(&self, uid: u32, now_ns: u64) -> bool {
        self.of_all <= now_ns && self.of_users.get(&uid).is_none_or(|until| *until <= now_ns)
    }

    /// `took`: of the processor's time, which who else is busy does not change.
    pub fn took(&mut self, uid: u32, took: Duration, now_ns: u64) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let rest = |until: &mut u64, times: u64| {
            *until =
                (*until).max(now_ns.saturating_sub(SAVED_NS)).saturating_add(took_ns.saturating_mul(times));
        };
        rest(&mut self.of_all, OF_ALL);
        if self.of_users.len() >= MOST_USERS && !self.of_users.contains_key(&uid) {
            self.of_users.clear();
        }
        rest(self.of_users.entry(uid).or_default(), if uid == 0 { OF_ROOT } else { OF_USER });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const START: u64 = 1000 * SECOND;

    /// Nanoseconds that looks took in a minute, of users who all want to look that often.
    fn looked(users: &[(u32, u64)], every_ns: u64) -> HashMap<u32, u64> {
        let (mut rests, mut sums, mut now) = (Rests::default(), HashMap::new(), START);
        while now < START + 60 * SECOND {
            for (uid, takes) in users {
                if rests.may_look(*uid, now) {
                    rests.took(*uid, Duration::from_nanos(*takes), now);
                    *sums.entry(*uid).or_default() += takes;
                    now += takes;
                }
            }
            now += every_ns;
        }
        sums
    }

    #[test]
    fn whose_looks_take_long_waits_and_others_do_not() {
        let sums = looked(&[(7, 200_000_000), (8, 10_000), (0, 10_000)], 100_000);
        // A hundredth of the time, and what it had saved.
        assert!((600_000_000..=1_000_000_000).contains(&sums[&7]), "{}", sums[&7]);
        assert!((500_000_000..=700_000_000).contains(&sums[&8]), "{}", sums[&8]);
        assert!(sums[&0] > 2 * SECOND, "{}", sums[&0]);
    }

    #[test]
    fn many_users_together_take_a_tenth() {
        let users: Vec<(u32, u64)> = (1..=5000).map(|uid| (uid, 1_000_000)).collect();
        let sum: u64 = looked(&users, SECOND / 10).values().sum();
        assert!((5 * SECOND..7 * SECOND).contains(&sum), "{sum}");
    }

    #[test]
    fn a_look_of_a_second_is_paid_for_whole() {
        let mut rests = Rests::default();
        rests.took(7, Duration::from_secs(1), START);
        assert!(!rests.may_look(7, START + 95 * SECOND) && rests.may_look(7, START + 96 * SECOND));
        assert!(!rests.may_look(8, START + 5 * SECOND) && rests.may_look(8, START + 6 * SECOND));
    }
}
