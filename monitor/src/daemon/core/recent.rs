//! Who was behind a socket a moment ago: on a host that opens thousands of connections a second, asking
//! `/proc` about each costs more than all the rest.
//!
//! In: what was found out, and when. Out: the same for another socket of the same process, or that
//! somebody has asked already. Must never: name a process that got its pid from another one. So an answer
//! counts for a socket that was made at the same moment (those that one listener accepted), or within [`MOMENT`] after it,
//! by the same pid, user, name and cgroup, unless it has executed something since: the kernel goes through all its pids
//! before it gives one out again. When the answer came says nothing: it may have waited for seconds since the process was
//! looked at.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::flows::FlowKey;
use crate::identity::{Executions, ProcessSeen};
use crate::model::Identity;

/// How long after it was seen a process is taken to be the one that it was, ns.
pub(in crate::daemon) const MOMENT: u64 = 100_000_000;
/// How long an answer about one moment of one process is kept, ns: its name or its command line may change.
const KEEP: u64 = 2_000_000_000;
/// After this time a question is asked again, ns.
const ASK_AGAIN: u64 = 1_000_000_000;
const MOST: usize = 4096;
/// Flows that wait for the same answer.
const WAITING: usize = 4096;

type Key = (u32, u32, [u8; 16], u64);

#[derive(Debug, Default)]
pub(super) struct Recent {
    known: HashMap<Key, Known, RandomState>,
    asked: HashMap<Key, Question, RandomState>,
    /// Flows whose question is no longer kept: they are to ask again.
    left: Vec<FlowKey>,
}

#[derive(Debug)]
struct Known {
    identity: Arc<Identity>,
    seen_ns: u64,
    found_ns: u64,
}

/// A question that is under way, and who wants to know too.
#[derive(Debug)]
struct Question {
    asked_ns: u64,
    waiting: Vec<FlowKey>,
}

/// What is known of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The same process, for sure.
    Known(Arc<Identity>),
    /// It has been asked for, and [`Recent::found`] will name this flow.
    UnderWay,
    /// It is to be asked for now.
    Ask,
}

/// Whether a process that was seen is the one that was asked for: at the same moment, or within [`MOMENT`] after it.
pub(super) fn is_of_moment(seen: &ProcessSeen, asked: &ProcessSeen, executions: &Executions) -> bool {
    seen.seen_ns == asked.seen_ns
        || seen.seen_ns > asked.seen_ns
            && is_of_moment_ns(seen.seen_ns, asked.seen_ns)
            && executions.nothing_after(seen, asked.seen_ns)
}

fn is_of_moment_ns(seen_ns: u64, asked_ns: u64) -> bool {
    seen_ns.saturating_sub(asked_ns) < MOMENT
}

fn key(seen: &ProcessSeen) -> Key {
    (seen.tgid, seen.uid, seen.comm, seen.cgroup)
}

impl Recent {
    /// An answer came; gives the flows that have waited for it.
    pub(super) fn found(
        &mut self,
        seen: &ProcessSeen,
        identity: &Arc<Identity>,
        now_ns: u64,
    ) -> Vec<FlowKey> {
        let waiting = self.asked.remove(&key(seen)).map(|question| question.waiting).unwrap_or_default();
        if seen.tgid == 0 || identity.pid != Some(seen.tgid) || identity.missing.is_some() {
            return waiting;
        }
        if self.known.len() >= MOST {
            self.known.retain(|_, known| now_ns.saturating_sub(known.found_ns) < MOMENT);
            if self.known.len() >= MOST {
                return waiting;
            }
        }
        let known = Known { identity: identity.clone(), seen_ns: seen.seen_ns, found_ns: now_ns };
        self.known.insert(key(seen), known);
        waiting
    }

    /// Who that is, for a flow.
    pub(super) fn ask(
        &mut self,
        seen: &ProcessSeen,
        flow: FlowKey,
        executions: &Executions,
        now_ns: u64,
    ) -> Answer {
        if let Some(identity) = self.get(seen, executions, now_ns) {
            return Answer::Known(identity);
        }
        if self.asked.len() >= MOST {
            let left = &mut self.left;
            self.asked.retain(|_, question| {
                let young = now_ns.saturating_sub(question.asked_ns) < ASK_AGAIN;
                if !young {
                    left.append(&mut question.waiting);
                }
                young
            });
        }
        let room = self.asked.len() < MOST;
        match self.asked.get_mut(&key(seen)) {
            Some(question) if now_ns.saturating_sub(question.asked_ns) < ASK_AGAIN => {
                if question.waiting.len() >= WAITING {
                    return Answer::Ask;
                }
                question.waiting.push(flow);
                return Answer::UnderWay;
            }
            Some(question) => question.asked_ns = now_ns,
            None if room => {
                self.asked.insert(key(seen), Question { asked_ns: now_ns, waiting: Vec::new() });
            }
            None => {}
        }
        Answer::Ask
    }

    /// Forgets who was found, and nobody who waits.
    pub(super) fn forget_known(&mut self) {
        self.known.clear();
    }

    /// The flows that are to ask again.
    pub(super) fn take_left(&mut self) -> Vec<FlowKey> {
        std::mem::take(&mut self.left)
    }

    fn get(&self, seen: &ProcessSeen, executions: &Executions, now_ns: u64) -> Option<Arc<Identity>> {
        let known = self.known.get(&key(seen))?;
        let same_moment = seen.seen_ns == known.seen_ns && now_ns.saturating_sub(known.found_ns) < KEEP;
        let soon_after = seen.seen_ns > known.seen_ns
            && is_of_moment_ns(seen.seen_ns, known.seen_ns)
            && executions.nothing_after(seen, known.seen_ns);
        (same_moment || soon_after).then(|| known.identity.clone())
    }
}

#[cfg(test)]
mod tests {
    use monitor_common::Executed;

    use super::*;

    fn seen(seen_ns: u64) -> ProcessSeen {
        ProcessSeen { tgid: 7, uid: 1000, comm: *b"ab\0\0\0\0\0\0\0\0\0\0\0\0\0\0", seen_ns, cgroup: 1 }
    }

    /// Nobody follows what processes execute.
    fn unknown() -> Executions {
        Executions::default()
    }

    #[test]
    fn what_a_process_executed_since_ends_the_moment() {
        let at = |at_ns| Executions::asked_of(move |_| Some(Executed { at_ns, ..Executed::default() }));
        let mut recent = Recent::default();
        let who = Arc::new(Identity { pid: Some(7), ..Identity::default() });
        recent.found(&seen(1_000), &who, 5_000);
        let later = seen(1_500);
        assert!(recent.get(&later, &at(1_000), 5_000).is_some(), "before it was seen");
        assert!(recent.get(&later, &at(1_001), 5_000).is_none());
        assert!(recent.get(&seen(1_000), &at(1_001), 5_000).is_some(), "what it was then does not change");
        assert!(is_of_moment(&later, &seen(1_000), &at(1_000)));
        assert!(!is_of_moment(&later, &seen(1_000), &at(1_001)));
        assert!(is_of_moment(&seen(1_000), &seen(1_000), &at(1_001)));
    }

    #[test]
    fn an_answer_counts_for_its_moment_and_shortly_after() {
        let mut recent = Recent::default();
        let who = Arc::new(Identity { pid: Some(7), ..Identity::default() });
        recent.found(&seen(1_000), &who, 5_000);
        assert!(recent.get(&seen(1_000), &unknown(), KEEP).is_some());
        assert!(recent.get(&seen(1_000), &unknown(), 5_000 + KEEP).is_none(), "too old");
        assert!(recent.get(&seen(1_000 + MOMENT - 1), &unknown(), 5_000 + MOMENT).is_some());
        assert!(
            recent.get(&seen(1_000 + MOMENT), &unknown(), 5_000 + MOMENT).is_none(),
            "the pid may be another's"
        );
        assert!(recent.get(&seen(999), &unknown(), 5_000).is_none(), "it may have been another's before");
        for other in [ProcessSeen { uid: 0, ..seen(1_000) }, ProcessSeen { cgroup: 2, ..seen(1_000) }] {
            assert!(recent.get(&other, &unknown(), 5_000).is_none());
        }
    }

    /// It may have waited for a hash.
    #[test]
    fn an_answer_that_comes_late_counts_for_no_socket_of_the_time_it_took() {
        let mut recent = Recent::default();
        let who = Arc::new(Identity { pid: Some(7), ..Identity::default() });
        assert_eq!(recent.ask(&seen(1_000), FlowKey::default(), &unknown(), 2_000), Answer::Ask);
        let flow = FlowKey { cookie: 2, ..FlowKey::default() };
        let later = seen(30 * MOMENT);
        assert_eq!(recent.ask(&later, flow, &unknown(), 1_000), Answer::UnderWay);
        assert_eq!(recent.found(&seen(1_000), &who, 40 * MOMENT), [flow]);
        assert_eq!(recent.ask(&later, flow, &unknown(), 40 * MOMENT), Answer::Ask);
    }

    #[test]
    fn a_question_is_asked_once_and_answers_all_who_waited() {
        let mut recent = Recent::default();
        let flow = |cookie| FlowKey { cookie, ..FlowKey::default() };
        assert_eq!(recent.ask(&seen(1_000), flow(1), &unknown(), 1_000), Answer::Ask);
        assert_eq!(recent.ask(&seen(1_500), flow(2), &unknown(), 1_500), Answer::UnderWay);
        assert_eq!(recent.ask(&seen(1_600), flow(3), &unknown(), 1_600), Answer::UnderWay);
        let other = ProcessSeen { tgid: 8, ..seen(1_600) };
        assert_eq!(recent.ask(&other, flow(4), &unknown(), 1_600), Answer::Ask);
        let who = Arc::new(Identity { pid: Some(7), ..Identity::default() });
        assert_eq!(recent.found(&seen(1_000), &who, 2_000), [flow(2), flow(3)]);
        assert_eq!(recent.ask(&seen(1_500), flow(2), &unknown(), 2_000), Answer::Known(who.clone()));
        assert!(recent.found(&seen(1_000), &who, 2_000).is_empty(), "told once");
    }

    #[test]
    fn a_question_whose_answer_never_comes_is_asked_again() {
        let mut recent = Recent::default();
        let flow = |cookie| FlowKey { cookie, ..FlowKey::default() };
        assert_eq!(recent.ask(&seen(1), flow(1), &unknown(), 1), Answer::Ask);
        assert_eq!(recent.ask(&seen(2), flow(2), &unknown(), ASK_AGAIN), Answer::UnderWay);
        assert_eq!(recent.ask(&seen(3), flow(3), &unknown(), 1 + ASK_AGAIN), Answer::Ask);
        let gone = Arc::new(Identity { missing: Some("ended".into()), ..Identity::default() });
        assert_eq!(recent.found(&seen(3), &gone, 2 * ASK_AGAIN), [flow(2)], "whoever it was");
    }

    #[test]
    fn who_waited_for_a_question_that_had_to_go_asks_again() {
        let mut recent = Recent::default();
        let flow = |cookie| FlowKey { cookie, ..FlowKey::default() };
        assert_eq!(recent.ask(&seen(1), flow(1), &unknown(), 1), Answer::Ask);
        assert_eq!(recent.ask(&seen(2), flow(2), &unknown(), 2), Answer::UnderWay);
        for tgid in 1000..1000 + MOST as u32 {
            let other = ProcessSeen { tgid, ..seen(3) };
            assert_eq!(recent.ask(&other, flow(u64::from(tgid)), &unknown(), 3), Answer::Ask);
        }
        assert!(recent.take_left().is_empty());
        let late = ProcessSeen { tgid: 8, ..seen(ASK_AGAIN + 2) };
        assert_eq!(recent.ask(&late, flow(3), &unknown(), ASK_AGAIN + 2), Answer::Ask);
        assert_eq!(recent.take_left(), [flow(2)]);
        let who = Arc::new(Identity { pid: Some(7), ..Identity::default() });
        assert!(recent.found(&seen(1), &who, ASK_AGAIN + 3).is_empty());
    }

    #[test]
    fn what_is_not_known_is_not_remembered() {
        let mut recent = Recent::default();
        for identity in [
            Identity { pid: Some(7), missing: Some("ended".into()), ..Identity::default() },
            Identity { pid: Some(8), ..Identity::default() },
        ] {
            recent.found(&seen(1_000), &Arc::new(identity), 2_000);
            assert!(recent.get(&seen(1_000), &unknown(), 2_000).is_none());
        }
    }
}
