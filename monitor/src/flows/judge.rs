//! Verdicts, each judged once: most flows rest on the same facts and decisions as others before.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use dissect::{Facts, UnknownReason};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::Interned;
use crate::model::{Tunnel, Verdict};
use crate::policy::Decision;
use crate::tunnel::{Course, Passed, way_unknown};
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
    /// `None`: which way its packets go is not known.
    passed: Option<Passed>,
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
        course: Course<'_>,
    ) -> Arc<Verdict> {
        let (tunnel, passed) = match course {
            Course::Direct | Course::Into(_, Passed::Around) => (None, Some(Passed::Around)),
            Course::Into(tunnel, passed) => (Some(tunnel), Some(passed)),
            Course::Unknown => (None, None),
        };
        let hash = hash_judged(&self.state, facts, seen, decision);
        let same = |judged: &Judged| {
            Arc::ptr_eq(&judged.facts, facts)
                && judged.seen == seen
                && address(judged.decision.as_ref()) == address(decision)
                && address(judged.tunnel.as_ref()) == address(tunnel)
                && judged.passed == passed
        };
        if let Some(judged) = self.judged.find(hash, same) {
            return judged.verdict.clone();
        }
        if self.judged.len() >= self.sweep_at {
            self.judged.retain(|judged| Arc::strong_count(&judged.verdict) > 1);
            self.sweep_at = FEW.max(2 * self.judged.len());
        }
        let mut verdict = verdict::judge(facts, seen, decision.map(|decision| &**decision));
        verdict.encrypted = match (tunnel, passed) {
            (Some(tunnel), Some(Passed::Through)) => tunnel.covers(verdict.encrypted, facts),
            (Some(tunnel), _) => tunnel.may_cover(verdict.encrypted, facts),
            (None, Some(_)) => verdict.encrypted,
            (None, None) => way_unknown(verdict.encrypted),
        };
        let verdict = Arc::new(verdict);
        let judged = Judged {
            facts: facts.clone(),
            seen,
            decision: decision.cloned(),
            tunnel: tunnel.cloned(),
            passed,
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

/// By all that an end may choose: facts that hash alike are compared one by one.
fn hash_of(facts: &Facts, state: &RandomState) -> u64 {
    let mut hasher = state.build_hasher();
    facts.protocol.hash(&mut hasher);
    facts.protection.hash(&mut hasher);
    facts.detail.hash(&mut hasher);
    facts.upgrade.as_ref().map(std::mem::discriminant).hash(&mut hasher);
    if let Some(tls) = &facts.tls {
        (&tls.version, &tls.version_protocol, &tls.version_offered).hash(&mut hasher);
        (&tls.cipher, &tls.group, &tls.signature).hash(&mut hasher);
        (&tls.server_name, &tls.alpn, &tls.alpn_offered).hash(&mut hasher);
        (&tls.ja3, &tls.ja3s, &tls.ja4, &tls.ja4s).hash(&mut hasher);
        (tls.established, tls.resumed, tls.retried, tls.renegotiated, tls.early_data).hash(&mut hasher);
        (tls.post_quantum, tls.post_quantum_offered, tls.encrypted_client_hello).hash(&mut hasher);
        tls.alert.as_ref().map(|alert| (alert.from, &alert.description)).hash(&mut hasher);
        tls.client_certificate.hash(&mut hasher);
        for certificate in tls.server_certificates.iter().chain(&tls.client_certificates) {
            certificate.sha256.hash(&mut hasher);
        }
    }
    if let Some(ssh) = &facts.ssh {
        (&ssh.client_version, &ssh.server_version).hash(&mut hasher);
        (&ssh.key_exchange, &ssh.host_key, ssh.post_quantum).hash(&mut hasher);
        (&ssh.client_cipher, &ssh.server_cipher, &ssh.client_mac, &ssh.server_mac).hash(&mut hasher);
        ssh.authentication.hash(&mut hasher);
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
        let first = judge.judge(&facts, Seen::default(), None, Course::Direct);
        assert!(Arc::ptr_eq(&first, &judge.judge(&again, Seen::default(), None, Course::Direct)));
        let lost = judge.judge(&facts, Seen { lost_captures: 1, ..Seen::default() }, None, Course::Direct);
        assert_eq!(lost.watched.answer, Answer::No);
        let concluded =
            judge.judge(&facts, Seen { end_concluded: true, ..Seen::default() }, None, Course::Direct);
        assert_eq!(concluded.watched.answer, Answer::No);
        let none = Arc::new(Decision::NoPolicy);
        let decided = judge.judge(&facts, Seen::default(), Some(&none), Course::Direct);
        assert_ne!(decided.authorised.reason, first.authorised.reason);
    }

    /// Whoever chooses what differs does not choose that many facts are looked through.
    #[test]
    fn facts_that_differ_hash_apart() {
        use dissect::{Certificate, End, SshFacts, TlsAlert, TlsFacts};
        type Set = (&'static str, fn(&mut TlsFacts, &mut SshFacts, String));
        let sets: [Set; 13] = [
            ("alpn_offered", |tls, _, text| tls.alpn_offered = vec!["h2".into(), text]),
            ("alpn", |tls, _, text| tls.alpn = Some(text)),
            ("group", |tls, _, text| tls.group = Some(text)),
            ("server_name", |tls, _, text| tls.server_name = Some(text)),
            ("ja3s", |tls, _, text| tls.ja3s = Some(text)),
            ("ja4", |tls, _, text| tls.ja4 = Some(text)),
            ("signature", |tls, _, text| tls.signature = Some(text)),
            ("alert", |tls, _, text| {
                tls.alert = Some(TlsAlert { from: End::Client, description: Some(text) });
            }),
            ("second certificate", |tls, _, text| {
                let other = Certificate { sha256: text, ..Certificate::default() };
                tls.client_certificates = vec![Certificate::default(), other];
            }),
            ("key_exchange", |_, ssh, text| ssh.key_exchange = Some(text)),
            ("host_key", |_, ssh, text| ssh.host_key = Some(text)),
            ("client_cipher", |_, ssh, text| ssh.client_cipher = Some(text)),
            ("server_mac", |_, ssh, text| ssh.server_mac = Some(text)),
        ];
        let state = RandomState::default();
        for (field, set) in sets {
            let hashes = (0..100).map(|n| {
                let (mut tls, mut ssh) = (TlsFacts::default(), SshFacts::default());
                set(&mut tls, &mut ssh, format!("{n}"));
                let facts =
                    Facts { tls: Some(tls), ssh: Some(ssh), ..Facts::unknown(UnknownReason::Handshake) };
                hash_of(&facts, &state)
            });
            assert_eq!(hashes.collect::<std::collections::HashSet<u64>>().len(), 100, "{field}");
        }
    }

    #[test]
    fn verdicts_that_nobody_has_go() {
        let mut judge = Judge::default();
        for lost_captures in 0..10 * FEW as u32 {
            let silent = judge.silent();
            judge.judge(&silent, Seen { lost_captures, ..Seen::default() }, None, Course::Direct);
        }
        assert!(judge.judged.len() <= 2 * FEW);
    }
}
