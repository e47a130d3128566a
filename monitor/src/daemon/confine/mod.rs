//! The worker gives up what it does not need, before it reads the first byte that came from outside.
//!
//! In: the user to be. Out: a process without capabilities, without new privileges, that can open no file,
//! make no connection, load no program and signal nobody else: all it has are the descriptors that it was
//! given. Must never: say that something holds which this kernel did not take.

mod files;
mod powers;
mod syscalls;
mod trial;
mod user;

use std::io;

use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

pub use powers::{capabilities, keep_needed};
pub use trial::{Attempt, attempt_all};
pub use user::{User, UserError};

/// Why the worker cannot be confined. One line.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("the worker cannot {what}: {source}")]
    Refused { what: &'static str, source: io::Error },
    #[error("the worker's system calls cannot be limited: {0}")]
    Syscalls(String),
}

/// What holds for the worker, in words for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    pub landlock: String,
    pub seccomp: String,
}

fn refused(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> ConfineError {
    move |error| ConfineError::Refused { what, source: error.into() }
}

/// Gives up everything, for this thread and all that it starts: call it before there is another.
///
/// # Errors
/// The kernel refuses something without which the rest is worth little. Where it merely has no Landlock,
/// [`Confined`] says so.
pub fn confine(user: User) -> Result<Confined, ConfineError> {
    // Read once from a file, and then known: also where the vDSO is, for the clock.
    let _ = rustix::param::page_size();
    // A core dump would hold what was captured.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("forbid core dumps"))?;
    clear_ambient_capability_set().map_err(refused("clear its ambient capabilities"))?;
    for capability in CapabilitySet::all().iter() {
        // Needs CAP_SETPCAP, and knows the capability: what is left in the set cannot be had without new
        // privileges, which are forbidden below. `doctor --self` shows it.
        let _ = remove_capability_from_bounding_set(capability);
    }
    if rustix::process::geteuid().is_root() {
        set_thread_groups(&[]).map_err(refused("leave its groups"))?;
        let group = rustix::process::Gid::from_raw(user.group);
        set_thread_res_gid(Some(group), Some(group), Some(group)).map_err(refused("change its group"))?;
        let id = rustix::process::Uid::from_raw(user.id);
        set_thread_res_uid(Some(id), Some(id), Some(id)).map_err(refused("change its user"))?;
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, none).map_err(refused("give up its capabilities"))?;
    // A change of user makes a process as dumpable as the system's setting says.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("forbid core dumps"))?;
    // Whoever ends the loader ends this one too; a change of user forgets it (prctl(2)).
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused("be ended with its parent"))?;
    set_no_new_privs(true).map_err(refused("forbid itself new privileges"))?;
    let landlock = files::forbid();
    let seccomp = syscalls::limit()?;
    Ok(Confined { landlock, seccomp })
}
