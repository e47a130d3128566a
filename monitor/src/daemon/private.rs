//! What is in the daemon's memory stays there: no core dump, and no debugger of anybody but root.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Before anything secret is read. Programs that hooks start make no core dumps either.
///
/// # Errors
/// The kernel refuses.
pub fn keep_private() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // prctl(2), PR_SET_DUMPABLE: also where core_pattern is a pipe, for which the limit does not count.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn there_are_no_core_dumps_and_nobody_else_reads_our_memory() {
        keep_private().expect("the kernel agrees");
        assert_eq!(dumpable_behavior().expect("a flag"), DumpableBehavior::NotDumpable);
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
}
