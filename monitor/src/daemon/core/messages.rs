//! What goes into the core and comes out of it.

use std::net::IpAddr;
use std::sync::Arc;

use monitor_common::Decision;
use serde::{Deserialize, Serialize};

use crate::alert::Change;
use crate::config;
use crate::flows::FlowKey;
use crate::identity::{Existing, ProcessSeen, Realm, SocketCounts, SocketKey, Way};
use crate::model::{Identity, Record};
use crate::wire::plain;

/// What the core wants done by others.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command {
    Decide {
        #[serde(with = "plain")]
        key: FlowKey,
        #[serde(with = "plain")]
        decision: Decision,
    },
    /// Read the totals of a UDP flow.
    ReadUdp {
        #[serde(with = "plain")]
        key: FlowKey,
    },
    /// End a UDP flow and read its last totals.
    EndUdp {
        #[serde(with = "plain")]
        key: FlowKey,
    },
    /// End a UDP flow if it has counted no more than this many packets.
    EndUdpIfIdle {
        #[serde(with = "plain")]
        key: FlowKey,
        packets: u64,
    },
}

impl Command {
    /// See [`Command::kind`].
    pub const KINDS: [&str; 3] = ["decision", "udp_totals", "udp_end"];

    /// Its place in [`Command::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Command::Decide { .. } => 0,
            Command::ReadUdp { .. } => 1,
            Command::EndUdp { .. } | Command::EndUdpIfIdle { .. } => 2,
        }
    }
}

impl Lookup {
    /// See [`Lookup::kind`].
    pub const KINDS: [&str; 6] = ["owner", "user", "listener", "sockets", "tunnel", "namespace"];

    /// Its place in [`Lookup::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Lookup::Owner { .. } => 0,
            Lookup::User { .. } => 1,
            Lookup::Listener { .. } => 2,
            Lookup::Sockets => 3,
            Lookup::Tunnel { .. } => 4,
            Lookup::Namespace { .. } => 5,
        }
    }

    /// The process that is asked for.
    pub fn process(&self) -> Option<ProcessSeen> {
        match self {
            Lookup::Owner { seen, .. } | Lookup::Listener { seen, .. } => Some(*seen),
            _ => None,
        }
    }
}

/// What the core wants to know of the host.
#[derive(Debug, Serialize, Deserialize)]
pub enum Lookup {
    /// The process behind a flow.
    Owner {
        #[serde(with = "plain")]
        key: FlowKey,
        seen: ProcessSeen,
    },
    /// The process that uses a socket now, whoever made it.
    User {
        #[serde(with = "plain")]
        key: FlowKey,
        socket: SocketKey,
    },
    /// The process behind a listening socket.
    Listener { cookie: u64, seen: ProcessSeen },
    /// The TCP sockets that are there, and their counters.
    Sockets,
    /// The tunnel that a flow's packets go through.
    Tunnel {
        #[serde(with = "plain")]
        key: FlowKey,
        socket: SocketKey,
    },
    /// Whose the network namespace is that a socket is in; and whether that has the socket's address.
    Namespace { socket: SocketKey, checks_address: bool },
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub enum Found {
    Owner {
        #[serde(with = "plain")]
        key: FlowKey,
        /// As it was asked.
        seen: ProcessSeen,
        identity: Arc<Identity>,
    },
    /// `None`: nobody holds it (any more), or nothing says that it is another one than who made it. One without a
    /// pid: who made it does not hold it, and why it is not known who does.
    User {
        #[serde(with = "plain")]
        key: FlowKey,
        identity: Option<Arc<Identity>>,
    },
    Listener {
        cookie: u64,
        identity: Arc<Identity>,
    },
    /// State and counters of TCP sockets that are there: some of a look that began then, CLOCK_MONOTONIC ns.
    Sockets {
        seen: Vec<SocketCounts>,
        rest: Rest,
        began_ns: u64,
    },
    /// Whether there is any tunnel on this host.
    Tunnels(bool),
    Tunnel {
        #[serde(with = "plain")]
        key: FlowKey,
        way: Way,
    },
    /// The realm of a network namespace, or of the one that a socket is in where the kernel programs saw none (0); `None`: it
    /// was not found, or not looked for in time. With an address that was asked for, [`Realm::NOWHERE`] where the namespace
    /// does not have it.
    Namespace {
        netns: u64,
        cookie: u64,
        address: Option<IpAddr>,
        realm: Option<Realm>,
    },
    /// A look at a process of that user (or container) has not returned: others of theirs are not looked at until it has.
    Stalled {
        who: String,
    },
    /// The sockets that were there when the monitor started.
    Existing {
        sockets: Vec<Existing>,
        at_ns: u64,
    },
}

/// What comes of a look behind a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// Another part.
    Follows,
    /// That was all there is.
    Nothing,
    /// That is all, and there may be more: not all could be looked at.
    Unseen,
}

/// What one step gave.
#[derive(Debug, Default)]
pub struct Output {
    pub records: Vec<Record>,
    pub commands: Vec<Command>,
    pub lookups: Vec<Lookup>,
    /// To be kept over a restart.
    pub changes: Vec<Change>,
}

/// What the core has to know of the configuration.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    pub capacity: usize,
    pub closed_keep: usize,
    pub udp_idle_ns: u64,
    pub tcp_budget: u32,
    pub handshake_budget: u32,
    pub interval_ns: u64,
    pub loopback_alerts: bool,
    pub repeat_every_s: u32,
    pub resolve_after_s: u32,
    pub failures: (u32, u32),
    pub detect: config::Detect,
    pub sampling: config::Sampling,
    pub streams: usize,
    pub measured_streams: usize,
    /// Histograms begin again after this time; 0: never.
    pub reset_histograms_ns: u64,
    /// Captured bytes are not looked at: who did so before ended again and again.
    pub counts_only: bool,
    /// What the kernel calls the daemon's own network namespace; `None`: it does not say.
    pub own_netns: Option<u64>,
}
