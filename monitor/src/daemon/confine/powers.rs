//! Capabilities: what the loader keeps of root's, and how they are called.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities as of_thread, set_capabilities};

/// What the loader does with privilege, for as long as it runs (capabilities(7)). Commands of hooks are
/// programs of their own and start with all that the service has.
const NEEDED: [(CapabilitySet, &str); 12] = [
    (CapabilitySet::BPF, "load programs, read and write their maps"),
    (CapabilitySet::NET_ADMIN, "attach them; ask for tunnels"),
    (CapabilitySet::PERFMON, "let them read packets directly"),
    (CapabilitySet::SYS_ADMIN, "the same before Linux 5.8; look into network namespaces"),
    (CapabilitySet::SYS_PTRACE, "see whose a socket is"),
    (CapabilitySet::DAC_READ_SEARCH, "read what belongs to other users: programs, policies, cgroups"),
    (CapabilitySet::CHOWN, "give the socket to its group"),
    (CapabilitySet::SETUID, "make the worker another user"),
    (CapabilitySet::SETGID, "the same for its groups"),
    (CapabilitySet::SETPCAP, "leave the worker nothing to get back"),
    (CapabilitySet::KILL, "end a worker that does not answer"),
    (CapabilitySet::SYS_RESOURCE, "maps of any size before Linux 5.11"),
];

/// Gives up every capability that the loader has no use for, for this thread and those that it starts.
///
/// # Errors
/// The kernel refuses.
pub fn keep_needed() -> io::Result<()> {
    let all = NEEDED.iter().fold(CapabilitySet::empty(), |all, (one, _)| all | *one);
    let permitted = of_thread(None)?.permitted & all;
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    Ok(())
}

/// The names of a set as `/proc/PID/status` has it, without `CAP_`; by number where there is none yet.
pub fn capabilities(set: u64) -> Vec<String> {
    let of = |bit: u32| {
        let known = CapabilitySet::from_bits(1 << bit).and_then(|one| one.iter_names().next());
        known.map_or_else(|| bit.to_string(), |(name, _)| name.to_owned())
    };
    (0..64).filter(|bit| set >> bit & 1 == 1).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_names() {
        assert_eq!(capabilities(1 << 39 | 1 << 12 | 1 << 63), ["NET_ADMIN", "BPF", "63"]);
        assert!(capabilities(0).is_empty());
    }
}
