//! Load, attach and talk to the kernel programs: the only user of aya.
//!
//! In: settings, a cgroup, and what the daemon before left pinned. Out: a [`Ring`] of raw event bytes and a [`Control`] over the maps. Must
//! never: look into captured bytes, or hand an aya type to another stage.

mod cgroup;
mod clock;
mod control;
mod executed;
mod hooks;
mod journal;
mod load;
#[cfg(feature = "kernel-log")]
mod log;
mod note;
mod pins;
mod remains;
mod ring;

pub use cgroup::{CgroupError, cgroup_at, cgroup_root};
pub use control::{Control, Snapshot, UdpTotals};
pub use executed::{ExecutedAt, LastExecuted};
pub use hooks::{Hooks, SharedHooks, Stays};
pub use journal::{LateTold, Left};
pub use load::{Beginning, Came, Hook, Kernel, LoadError, MapMemory, Sizes, map_memory};
pub use note::{boot_id, noted_place};
pub use pins::{PinError, Pins, usual_place};
pub use ring::Ring;

/// The kernel object that the build embedded; empty when it was built without.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/streamwatch.bpf.o"));

/// Whether this binary carries the kernel programs.
pub fn object_embedded() -> bool {
    !OBJECT.is_empty()
}
