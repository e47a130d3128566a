//! Who was behind a socket a moment ago: on a host that opens thousands of connections a second, asking
//! `/proc` about each costs more than all the rest.
//!
//! In: what was found out, and when. Out: the same for another socket of the same process. Must never: name
//! a process that got its pid from another one. So an answer counts for a socket that was made at the same
//! moment (those that one listener accepted), or after it and within [`MOMENT`] of the answer, by the same
//! pid, user, name and cgroup: the kernel goes through all its pids before it gives one out again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::identity::ProcessSeen;
use crate::model::Identity;

/// How long after the answer a process is taken to be the one that it was, ns.
const MOMENT: u64 = 100_000_000;
/// How long an answer about one moment of one process is kept, ns: its name or its command line may change.
const KEEP: u64 = 2_000_000_000;
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Recent {
    known: HashMap<(u32, u32, [u8; 16], u64), Known>,
}

#[derive(Debug)]
struct Known {
    identity: Arc<Identity>,
    seen_ns: u64,
    found_ns: u64,
}

fn key(seen: &ProcessSeen) -> (u32, u32, [u8; 16], u64) {
    (seen.tgid, seen.uid, seen.comm, seen.cgroup)
}

impl Recent {
    /// An answer came.
    pub(super) fn found(&mut self, seen: &ProcessSeen, identity: &Arc<Identity>, now_ns: u64) {
        if seen.tgid == 0 || identity.pid != Some(seen.tgid) || identity.missing.is_some() {
            return;
        }
        if self.known.len() >= MOST {
            self.known.retain(|_, known| now_ns.saturating_sub(known.found_ns) < MOMENT);
            if self.known.len() >= MOST {
                return;
            }
        }
        let known = Known { identity: identity.clone(), seen_ns: seen.seen_ns, found_ns: now_ns };
        self.known.insert(key(seen), known);
    }

    /// The same process, if that is sure.
    pub(super) fn get(&self, seen: &ProcessSeen, now_ns: u64) -> Option<Arc<Identity>> {
        let known = self.known.get(&key(seen))?;
        let same_moment = seen.seen_ns == known.seen_ns && now_ns.saturating_sub(known.found_ns) < KEEP;
        let soon_after = seen.seen_ns > known.seen_ns && seen.seen_ns.saturating_sub(known.found_ns) < MOMENT;
        (same_moment || soon_after).then(|| known.identity.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seen_ns: u64) -> ProcessSeen {
        ProcessSeen { tgid: 7, uid: 1000, comm: *b"ab\0\0\0\0\0\0\0\0\0\0\0\0\0\0", seen_ns, cgroup: 1 }
    }

    #[test]
    fn an_answer_counts_for_its_moment_and_shortly_after() {
        let mut recent = Recent::default();
        let who = Arc::new(Identity { pid: Some(7), ..Identity::default() });
        recent.found(&seen(1_000), &who, 5_000);
        assert!(recent.get(&seen(1_000), KEEP).is_some());
        assert!(recent.get(&seen(1_000), 5_000 + KEEP).is_none(), "too old");
        assert!(recent.get(&seen(5_000 + MOMENT - 1), 5_000 + MOMENT).is_some());
        assert!(recent.get(&seen(5_000 + MOMENT), 5_000 + MOMENT).is_none(), "the pid may be another's");
        assert!(recent.get(&seen(999), 5_000).is_none(), "it may have been another's before");
        for other in [ProcessSeen { uid: 0, ..seen(1_000) }, ProcessSeen { cgroup: 2, ..seen(1_000) }] {
            assert!(recent.get(&other, 5_000).is_none());
        }
    }

    #[test]
    fn what_is_not_known_is_not_remembered() {
        let mut recent = Recent::default();
        for identity in [
            Identity { pid: Some(7), missing: Some("ended".into()), ..Identity::default() },
            Identity { pid: Some(8), ..Identity::default() },
        ] {
            recent.found(&seen(1_000), &Arc::new(identity), 2_000);
            assert!(recent.get(&seen(1_000), 2_000).is_none());
        }
    }
}
