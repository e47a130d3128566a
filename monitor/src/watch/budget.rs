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
