//! Verdicts, each judged once: most flows rest on the same facts and decisions as others before.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use dissect::{Facts, UnknownReason};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::Interned;
use crate::model::{Tunnel, Verdict};
use crate::policy::Decision;
use crate::verdict::{self, Seen};

/// Verdicts below this number are never looked through for unused ones.
const FEW: usize = 1024;

/// What flows share: facts, tunnels, and the verdicts that rest on them.
#[derive(Debug)]
pub struct Judge {
    facts: Interned<Facts>,
    silent: Arc<Facts>,
    tunnels: Interned<Tunnel>,
    judged: HashTable<Judged>,
    state: RandomState,
    sweep_at: usize,
}

/// A verdict and what it rests on. Facts, decision and tunnel are held, so that their addresses say
/// who they are.
#[derive(Debug)]
struct Judged {
    facts: Arc<Facts>,
    seen: Seen,
    decision: Option<Arc<Decision>>,
    tunnel: Option<Arc<Tunnel>>,
    verdict: Arc<Verdict>,
}

impl Default for Judge {
    fn default() -> Self {
        let mut facts = Interned::default();
        let silent = facts.get_by(Facts::unknown(UnknownReason::Silent), hash_of);
        Judge {
            facts,
            silent,
            tunnels: Interned::default(),
            judged: HashTable::new(),
            state: RandomState::default(),
            sweep_at: FEW,
        }
    }
}

impl Judge {
    /// The facts of a flow without payload.
    pub fn silent(&self) -> Arc<Facts> {
        self.silent.clone()
    }

    /// These facts, shared with every flow that has the same.
    pub fn share(&mut self, facts: Facts) -> Arc<Facts> {
        self.facts.get_by(facts, hash_of)
    }

    /// This tunnel, shared with every flow that goes through it.
    pub fn tunnel(&mut self, tunnel: Tunnel) -> Arc<Tunnel> {
        self.tunnels.get(tunnel)
    }

    /// The four answers.
    pub fn judge(
        &mut self,
        facts: &Arc<Facts>,
        seen: Seen,
        decision: Option<&Arc<Decision>>,
        tunnel: Option<&Arc<Tunnel>>,
    ) -> Arc<Verdict> {
        let hash = hash_judged(&self.state, facts, seen, decision);
        let same = |judged: &Judged| {
            Arc::ptr_eq(&judged.facts, facts)
                && judged.seen == seen
                && address(judged.decision.as_ref()) == address(decision)
                && address(judged.tunnel.as_ref()) == address(tunnel)
        };
        if let Some(judged) = self.judged.find(hash, same) {
            return judged.verdict.clone();
        }
        if self.judged.len() >= self.sweep_at {
            self.judged.retain(|judged| Arc::strong_count(&judged.verdict) > 1);
            self.sweep_at = FEW.max(2 * self.judged.len());
        }
        let mut verdict = verdict::judge(facts, seen, decision.map(|decision| &**decision));
        if let Some(tunnel) = tunnel {
            verdict.encrypted = tunnel.covers(verdict.encrypted, facts);
        }
        let verdict = Arc::new(verdict);
        let judged = Judged {
            facts: facts.clone(),
            seen,
            decision: decision.cloned(),
            tunnel: tunnel.cloned(),
            verdict: verdict.clone(),
        };
        let state = &self.state;
        self.judged.insert_unique(hash, judged, |judged| {
            hash_judged(state, &judged.facts, judged.seen, judged.decision.as_ref())
        });
        verdict
    }
}

fn address<T>(shared: Option<&Arc<T>>) -> *const T {
    shared.map_or(std::ptr::null(), Arc::as_ptr)
}

fn hash_judged(state: &RandomState, facts: &Arc<Facts>, seen: Seen, decision: Option<&Arc<Decision>>) -> u64 {
    state.hash_one((Arc::as_ptr(facts), seen.lost_captures, seen.before_start, address(decision)))
}

/// By what differs most; the rest is left to the comparison.
fn hash_of(facts: &Facts, state: &RandomState) -> u64 {
    let mut hasher = state.build_hasher();
    facts.protocol.hash(&mut hasher);
    facts.protection.hash(&mut hasher);
    facts.detail.hash(&mut hasher);
    if let Some(tls) = &facts.tls {
        tls.version.hash(&mut hasher);
        tls.cipher.hash(&mut hasher);
        tls.server_name.hash(&mut hasher);
        tls.ja3.hash(&mut hasher);
        tls.established.hash(&mut hasher);
        tls.server_certificates.first().map(|first| &first.sha256).hash(&mut hasher);
        tls.client_certificates.first().map(|first| &first.sha256).hash(&mut hasher);
    }
    if let Some(ssh) = &facts.ssh {
        ssh.client_version.hash(&mut hasher);
        ssh.server_version.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Answer;

    #[test]
    fn what_rests_on_the_same_is_judged_once() {
        let mut judge = Judge::default();
        let facts = judge.share(Facts { detail: Some("x".into()), ..Facts::unknown(UnknownReason::Opaque) });
        let again = judge.share(Facts { detail: Some("x".into()), ..Facts::unknown(UnknownReason::Opaque) });
        assert!(Arc::ptr_eq(&facts, &again));
        let first = judge.judge(&facts, Seen::default(), None, None);
        assert!(Arc::ptr_eq(&first, &judge.judge(&again, Seen::default(), None, None)));
        let lost = judge.judge(&facts, Seen { lost_captures: 1, ..Seen::default() }, None, None);
        assert_eq!(lost.watched.answer, Answer::No);
        let concluded = judge.judge(&facts, Seen { end_concluded: true, ..Seen::default() }, None, None);
        assert_eq!(concluded.watched.answer, Answer::No);
        let none = Arc::new(Decision::NoPolicy);
        let decided = judge.judge(&facts, Seen::default(), Some(&none), None);
        assert_ne!(decided.authorised.reason, first.authorised.reason);
    }

    #[test]
    fn verdicts_that_nobody_has_go() {
        let mut judge = Judge::default();
        for lost_captures in 0..10 * FEW as u32 {
            let silent = judge.silent();
            judge.judge(&silent, Seen { lost_captures, ..Seen::default() }, None, None);
        }
        assert!(judge.judged.len() <= 2 * FEW);
    }
}
