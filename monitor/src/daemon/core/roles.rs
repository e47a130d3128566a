//! What a client does on a stream in the clear, held against what its roles let it do.

use dissect::activity::{self, Operation as Done};

use super::*;
use crate::policy::{self, Operation, Verb};

/// Different operations of one flow that are remembered.
const OPERATIONS: usize = 64;

/// What the client of a flow was seen to do.
#[derive(Debug, Default)]
pub(super) struct Doings {
    list: Vec<Operation>,
    /// There were more than are remembered.
    more: bool,
}

impl Doings {
    /// True where it is a new one.
    pub fn add(&mut self, done: Done) -> bool {
        let verb = match done.verb {
            activity::Verb::Read => Verb::Read,
            activity::Verb::Write => Verb::Write,
            activity::Verb::Admin => Verb::Admin,
        };
        let operation = Operation { verb, kind: done.kind, object: done.object };
        if self.list.contains(&operation) {
            return false;
        }
        self.more |= self.list.len() >= OPERATIONS;
        if self.more {
            // The latest counts: what was allowed before need not be.
            self.list.remove(0);
        }
        self.list.push(operation);
        true
    }
}

/// What the policy says of a flow, with what its client was seen to do. `whole`: nothing of it was
/// passed over, so that what was seen is all there was.
pub(super) fn decide(
    decisions: &mut Decisions,
    policy: &Policy,
    names: &Names,
    flow: &Flow,
    seen: Option<(&Doings, bool)>,
) -> Arc<policy::Decision> {
    use policy::Decision::{Allowed, Unexpected};
    let ends = decisions.decide(policy, names, flow);
    let Some((doings, whole)) = seen else { return ends };
    if !matches!(*ends, Allowed { .. } | policy::Decision::Unknown { .. }) {
        return ends;
    }
    let told = named::of(policy, names, flow);
    let judged: Vec<policy::Decision> = told.with(|facts, seen| {
        doings.list.iter().map(|operation| policy.operation_seen(facts, seen, operation)).collect()
    });
    if let Some(broken) = judged.iter().find(|decision| matches!(decision, Unexpected { .. })) {
        return Arc::new(broken.clone());
    }
    // Only what waited for the operations becomes a yes by them.
    let waited = told.with(|facts, seen| policy.unseen_operations(facts, seen, false));
    let all = judged.iter().all(|decision| matches!(decision, Allowed { .. }));
    match judged.last() {
        Some(allowed) if all && whole && !doings.more && waited.as_ref() == Some(&*ends) => {
            Arc::new(allowed.clone())
        }
        _ => ends,
    }
}
