//! Who is at each end of a flow: process, user, systemd unit, container.
//!
//! In: what the kernel saw of a process ([`ProcessSeen`]), or the addresses and cookie of a socket
//! ([`SocketKey`]). Out: [`Identity`]. Everything here blocks (it reads `/proc`, enters network
//! namespaces and asks the kernel for its sockets), so a [`Resolver`] lives on a thread of its own.
//!
//! It must never name another process that got the same pid later: what cannot be looked at any
//! more is missing, with the reason. Nor must it give what a process has become since for what the kernel saw:
//! who has a connection may keep it open and execute another program, a setuid one too. What `/proc` says is other people's text: read with a cap,
//! taken as lossy UTF-8, and never able to panic or to grow memory without bound.

mod asked;
mod census;
mod cgroup;
mod cgroup_places;
mod cgroup_rests;
mod cgroup_tree;
mod clock;
mod command_line;
mod executable;
mod executions;
#[cfg(fuzzing)]
pub mod fuzzing;
mod glimpse;
mod holders;
mod look;
mod lookers;
mod namespace_cookies;
mod namespaces;
mod open_files;
mod process;
mod realm;
mod realms;
mod resolver;
mod socket_users;
mod sockets;
mod subtree;
mod tunnels;
mod tunnels_ipsec;
mod tunnels_routes;
mod tunnels_userspace;
mod users;
mod workload;

#[cfg(test)]
mod no_descriptor_tests;

pub use asked::Asked;
pub use cgroup::{Maker, Place, place_of_cgroup_path, place_of_proc_cgroup};
pub use clock::processor_time;
#[cfg(test)]
pub use executable::tests as test_executables;
pub use executable::{Executable, Hashes, Step, Unhashed, Version};
pub use executions::Executions;
pub use glimpse::{Glimpser, Glimpses};
pub use holders::holders;
pub use lookers::Who;
pub use namespaces::{Netns, NetnsSource, namespaces};
#[cfg(test)]
pub use process::ProcessDirectory as TestDirectory;
pub(crate) use process::{HOST, sees_the_host};
pub use realm::Realm;
pub use realms::{InNamespace, Realms};
pub use resolver::{Hung, Named, Resolver};
pub use socket_users::{Before, SocketUsers, not_reached};
pub use sockets::{SocketCounts, SocketError, SocketLister, SocketSeen, TcpCounts, TcpState, sockets};
pub use subtree::Subtree;
pub use tunnels::{Tunnels, Way};

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::{Direction, Identity, Transport};

/// A process, as the kernel saw it use a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessSeen {
    /// Thread group id: the pid of user space. 0: unknown.
    pub tgid: u32,
    /// Real user id at the time.
    pub uid: u32,
    /// `comm` at the time, NUL-padded.
    pub comm: [u8; 16],
    /// When, CLOCK_MONOTONIC ns. A process that started later is another one.
    pub seen_ns: u64,
    /// Cgroup v2 id: the inode number of the cgroup's directory. 0: unknown.
    pub cgroup: u64,
}

/// A `comm`, NUL-padded, as text.
fn comm_text(comm: &[u8; 16]) -> String {
    let length = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..length]).into_owned()
}

impl ProcessSeen {
    /// Name of the thread that was seen.
    pub fn name(&self) -> String {
        comm_text(&self.comm)
    }

    /// A worker of the kernel's: it connects for somebody who is not known. (Root can call itself so.)
    pub fn is_of_kernel(&self) -> bool {
        self.uid == 0 && self.comm.starts_with(b"kworker/")
    }

    /// Whose it is, where that is known.
    pub fn known_uid(&self) -> Option<u32> {
        (self.tgid != 0 && !self.is_of_kernel()).then_some(self.uid)
    }
}

/// A socket whose user is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SocketKey {
    pub transport: Transport,
    /// Cookie of the network namespace, as the kernel programs say; 0: unknown, look everywhere.
    pub netns: u64,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Socket cookie: unique on the host since boot; 0: unknown, go by the addresses.
    pub cookie: u64,
    /// The process that made the socket or its listener; 0: unknown, or one that only hands over.
    pub maker: u32,
}

/// A socket that was there already, and who holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Existing {
    pub socket: SocketSeen,
    /// Inode of its network namespace, as in `/proc/PID/ns/net`.
    pub netns: u64,
    /// Whose that is; `None`: it could not be asked.
    pub realm: Option<Realm>,
    /// Which end began it, by whether somebody listens at its local port; `None`: no connection, or
    /// UDP.
    pub direction: Option<Direction>,
    /// The process that uses it; of a listening socket all that hold it, newest first. Empty: the
    /// kernel holds it alone (closing, not yet accepted), or its holder could not be seen. One without a pid: what
    /// could not be looked at, and why.
    pub holders: Vec<Identity>,
}

impl Existing {
    /// The one to name: see [`Resolver::users_of`] for the rule.
    pub fn holder(&self) -> Option<&Identity> {
        self.holders.first()
    }
}
