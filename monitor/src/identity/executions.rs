//! What the kernel says of what processes execute: under which name one that has ended ran, and whether one is another
//! program by now than when it was seen.
//!
//! In: a sighting. Out: what was executed last says of it, or nothing. Must never: take what a process became later, or what
//! another process with its number is, for what was seen.

use std::sync::Arc;

use monitor_common::Executed;

use super::ProcessSeen;

/// Asks what a process executed last. `None`: it is not known.
type Ask = dyn Fn(u32) -> Option<Executed> + Send + Sync;

/// Whom to ask, if anybody.
#[derive(Clone, Default)]
pub struct Executions(Option<Arc<Ask>>);

impl Executions {
    pub fn asked_of(ask: impl Fn(u32) -> Option<Executed> + Send + Sync + 'static) -> Executions {
        Executions(Some(Arc::new(ask)))
    }

    fn last(&self, seen: &ProcessSeen) -> Option<Executed> {
        self.0.as_ref()?(seen.tgid)
    }

    /// `comm` of the process when it was seen, unless it gave itself another one after it was executed. What executes
    /// itself anew (`/proc/self/exe`: BusyBox, runc) has no name by that, and gives itself one.
    pub(super) fn comm(&self, seen: &ProcessSeen) -> Option<[u8; 16]> {
        self.executed_before(seen).filter(|comm| !comm.starts_with(b"exe\0"))
    }

    fn executed_before(&self, seen: &ProcessSeen) -> Option<[u8; 16]> {
        let Executed { at_ns, ended_ns, comm, .. } = self.last(seen)?;
        (at_ns <= seen.seen_ns && (ended_ns == 0 || seen.seen_ns <= ended_ns)).then_some(comm)
    }

    /// As far as the kernel has told, it has executed nothing after that moment.
    pub fn nothing_after(&self, seen: &ProcessSeen, ns: u64) -> bool {
        self.last(seen).is_none_or(|last| last.at_ns <= ns)
    }

    /// The last that it has executed was before it was seen.
    pub(super) fn before(&self, seen: &ProcessSeen) -> bool {
        self.executed_before(seen).is_some()
    }

    /// It has executed something since it was seen, or another process has that has its number by now.
    pub(super) fn since(&self, seen: &ProcessSeen) -> bool {
        !self.nothing_after(seen, seen.seen_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: u64) -> ProcessSeen {
        ProcessSeen { tgid: 7, seen_ns: at, ..ProcessSeen::default() }
    }

    fn executed(at_ns: u64, ended_ns: u64) -> Executions {
        let comm = *b"dig\0\0\0\0\0\0\0\0\0\0\0\0\0";
        Executions::asked_of(move |tgid| {
            (tgid == 7).then_some(Executed { at_ns, ended_ns, comm, ..Executed::default() })
        })
    }

    #[test]
    fn what_was_executed_names_who_was_seen_between_then_and_the_end_and_nobody_else() {
        let named = |at_ns, ended_ns, at| executed(at_ns, ended_ns).comm(&seen(at)).is_some();
        assert!(named(10, 0, 10) && named(10, 0, 99) && named(10, 20, 20));
        // Before: what it ran then is not known. After: another process has the number.
        assert!(!named(10, 0, 9) && !named(10, 20, 21));
        let other = ProcessSeen { tgid: 8, ..seen(15) };
        assert_eq!((executed(10, 0).comm(&other), Executions::default().comm(&seen(15))), (None, None));
    }

    #[test]
    fn what_executes_itself_anew_has_no_name_by_that() {
        let comm = *b"exe\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let own = Executions::asked_of(move |_| Some(Executed { at_ns: 10, comm, ..Executed::default() }));
        assert_eq!((own.comm(&seen(15)), own.before(&seen(15))), (None, true));
    }

    #[test]
    fn only_what_came_after_the_sighting_makes_it_another_program() {
        let since = |at_ns, at| executed(at_ns, 0).since(&seen(at));
        assert_eq!((since(10, 9), since(10, 10), since(10, 11)), (true, false, false));
        assert!(!Executions::default().since(&seen(9)));
    }
}
