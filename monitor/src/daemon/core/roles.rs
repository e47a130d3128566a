//! What a client does on a stream in the clear, held against what its roles let it do.

use std::cell::Cell;

use super::*;
use crate::policy::{self, Operation};

/// Different operations of one flow that are remembered.
const OPERATIONS: usize = 64;

/// What the client of a flow was seen to do.
#[derive(Debug, Default)]
pub(super) struct Doings {
    list: Vec<Operation>,
    /// There were more than are remembered.
    more: bool,
    /// Position of one that broke the policy: it is not forgotten.
    broken: Cell<Option<usize>>,
    /// Whether that was all that the client did, when the policy was asked last.
    whole: Cell<bool>,
}

impl Doings {
    /// Whether the policy would be asked something else by now.
    pub fn is_stale(&self, whole: bool) -> bool {
        !self.list.is_empty() && self.whole.get() != whole
    }

    /// True where it is a new one.
    pub fn add(&mut self, operation: Operation) -> bool {
        if self.list.contains(&operation) {
            return false;
        }
        self.more |= self.list.len() >= OPERATIONS;
        if self.list.len() >= OPERATIONS {
            // The latest counts: what was allowed before need not be.
            let oldest = usize::from(self.broken.get() == Some(0));
            self.list.remove(oldest);
            self.broken.set(self.broken.get().map(|at| at.saturating_sub(1 - oldest)));
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
    doings.whole.set(whole);
    let may_change = match &*ends {
        policy::Decision::Unknown { .. } => true,
        Allowed { .. } => !doings.list.is_empty(),
        _ => false,
    };
    if !may_change {
        return ends;
    }
    let told = named::of(policy, names, flow);
    let judged: Vec<policy::Decision> = told.with(|facts, seen| {
        doings.list.iter().map(|operation| policy.operation_seen(facts, seen, operation)).collect()
    });
    let broken = judged.iter().position(|decision| matches!(decision, Unexpected { .. }));
    doings.broken.set(broken);
    if let Some(broken) = broken.and_then(|at| judged.get(at)) {
        return Arc::new(broken.clone());
    }
    // Only what waited for the operations becomes a yes by them.
    let all = judged.iter().all(|decision| matches!(decision, Allowed { .. }));
    if !all || !whole || doings.more {
        return ends;
    }
    told.with(|facts, seen| match policy.unseen_operations(facts, seen, false) {
        Some(waited) if waited == *ends => match judged.last() {
            Some(allowed) => Arc::new(allowed.clone()),
            None => Arc::new(policy.ends(facts, seen)),
        },
        _ => ends.clone(),
    })
}

#[cfg(test)]
mod tests {
    use dissect::activity::Verb;

    use super::*;

    #[test]
    fn what_broke_the_policy_is_not_forgotten() {
        let operation = |number: usize| Operation {
            verb: Verb::Read,
            kind: "path",
            object: Some(format!("GET /{number}")),
        };
        for broken in [0, 3, OPERATIONS - 1] {
            let mut doings = Doings::default();
            (0..OPERATIONS).for_each(|number| assert!(doings.add(operation(number))));
            doings.broken.set(Some(broken));
            assert!(!doings.add(operation(7)) && !doings.more);
            for number in 0..1000 {
                assert!(doings.add(operation(OPERATIONS + number)) && doings.more);
                assert_eq!(doings.list.len(), OPERATIONS);
                let kept = doings.broken.get().and_then(|at| doings.list.get(at));
                assert_eq!(kept, Some(&operation(broken)));
            }
        }
    }
}
