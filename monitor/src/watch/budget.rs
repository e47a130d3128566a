//! A rate with a burst: a token bucket; and one of each user beside that of all.

use std::collections::HashMap;

/// Bytes that may be spent, or whatever else is counted. What was spent counts even where it exceeds the
/// budget: then nothing is asked for until that is paid back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    per_s: u32,
    left: i64,
    at_ns: u64,
}

/// Seconds whose share may be spent at once.
const BURST: i64 = 4;

impl Budget {
    pub fn new(per_s: u32) -> Self {
        Budget { per_s, left: i64::from(per_s) * BURST, at_ns: 0 }
    }

    /// Whether `bytes` may be asked for.
    pub fn allows(&mut self, bytes: u32, now_ns: u64) -> bool {
        self.fill(now_ns);
        self.left >= i64::from(bytes)
    }

    pub fn spend(&mut self, bytes: u32, now_ns: u64) {
        self.fill(now_ns);
        self.left = (self.left - i64::from(bytes)).max(-BURST * i64::from(self.per_s));
    }

    /// Spends what may be spent; false where that is not allowed, which costs nothing.
    pub fn take(&mut self, bytes: u32, now_ns: u64) -> bool {
        let is_allowed = self.allows(bytes, now_ns);
        if is_allowed {
            self.spend(bytes, now_ns);
        }
        is_allowed
    }

    fn fill(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.at_ns);
        let earned = u128::from(passed) * u128::from(self.per_s) / 1_000_000_000;
        if earned > 0 {
            self.at_ns = now_ns;
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            self.left = self.left.saturating_add(earned).min(BURST * i64::from(self.per_s));
        }
    }
}

/// What users may spend, each so much a second, and all together.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    pub of_all: Budget,
    pub of_users: HashMap<u32, Budget>,
    of_user_per_s: u32,
    most_users: usize,
}

impl Shares {
    /// So many users are remembered: there are more only where somebody makes them.
    pub fn new(of_all_per_s: u32, of_user_per_s: u32, most_users: usize) -> Self {
        Shares { of_all: Budget::new(of_all_per_s), of_users: HashMap::new(), of_user_per_s, most_users }
    }

    /// Whether a user has anything left. What is spent then may be more than that: the next one waits for longer.
    pub fn is_left(&mut self, uid: u32, now_ns: u64) -> bool {
        self.of_user(uid).allows(1, now_ns) && self.of_all.allows(1, now_ns)
    }

    pub fn spend(&mut self, uid: u32, spent: u32, now_ns: u64) {
        self.of_user(uid).spend(spent, now_ns);
        self.of_all.spend(spent, now_ns);
    }

    fn of_user(&mut self, uid: u32) -> &mut Budget {
        if self.of_users.len() >= self.most_users && !self.of_users.contains_key(&uid) {
            self.of_users.clear();
        }
        self.of_users.entry(uid).or_insert_with(|| Budget::new(self.of_user_per_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever asks for more than there is, all the time, is given all there is, all the time.
    #[test]
    fn what_is_refused_costs_nothing() {
        let mut budget = Budget::new(100);
        let mut taken = 0;
        for ms in 0..10_000 {
            taken += u32::from(budget.take(1, ms * 1_000_000));
        }
        assert!((1300..=1400).contains(&taken), "{taken}");
    }
}
