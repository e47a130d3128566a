//! A rate with a burst: a token bucket.

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
