//! The words of the house, as types: flow, stream, identity, verdict, finding, alert.
//!
//! Plain values that every later stage reads: records, listings, policy, detectors. No behaviour
//! beyond naming.

mod alert;
mod called;
mod identity;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use alert::{Acknowledgement, AlertState, AlertView, ListenerView, Rule, Severity, Silence, Tampered};
pub use called::called;
pub use identity::{Container, Identity, Workload, is_of_user};

/// IP protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

/// Which end of the flow this host's socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The peer began it: our socket serves.
    Ingress,
    /// We began it: our socket is the client.
    Egress,
}

impl Direction {
    /// What it is at the other end.
    pub fn reversed(self) -> Direction {
        match self {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        }
    }
}

/// Where a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowState {
    Opening,
    Open,
    Closed,
    Failed,
}

/// Why a connection never came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// The peer answered with a reset.
    Refused,
    /// Nobody answered.
    TimedOut,
    /// No route, or the network said no before the peer could.
    Unreachable,
    /// The client gave up by itself.
    Abandoned,
}

/// Payload bytes and packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub bytes: u64,
    pub packets: u64,
}

impl Count {
    /// The larger one of each.
    #[must_use]
    pub fn max(self, other: Count) -> Count {
        Count { bytes: self.bytes.max(other.bytes), packets: self.packets.max(other.packets) }
    }
}

/// Yes, no, or "cannot say".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Yes,
    No,
    Unknown,
}

impl Answer {
    pub fn as_str(self) -> &'static str {
        match self {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Unknown => "unknown",
        }
    }
}

/// One of the four answers, with its reason. There is no answer without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub answer: Answer,
    pub reason: String,
    /// What the answer rests on: a rule, a fact, a count.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evidence: Option<String>,
}

impl Judged {
    pub fn new(answer: Answer, reason: impl Into<String>) -> Self {
        Judged { answer, reason: reason.into(), evidence: None }
    }

    #[must_use]
    pub fn with_evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = Some(evidence.into());
        self
    }
}

/// The four answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub encrypted: Judged,
    pub authenticated: Judged,
    pub authorised: Judged,
    pub watched: Judged,
}

/// What encrypts the packets of a flow on their way out, below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    Wireguard,
    Ipsec,
}

/// A tunnel that a flow goes through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tunnel {
    pub kind: TunnelKind,
    /// The interface (`wg0`), or the ends of the security association (`192.0.2.1-192.0.2.2`).
    pub name: String,
    /// What that rests on, and what of it is inferred.
    pub evidence: String,
    /// The interface that its packets pass; `None`: that of any other packet.
    pub interface: Option<Interface>,
}

/// The interface of a tunnel, in its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interface {
    pub index: u32,
    /// The VRF that it is in, whose interface the kernel names for what arrives.
    pub vrf: Option<u32>,
}

/// One flow as it stands: everything that a record, a listing, a policy or a detector reads.
#[derive(Clone, Debug)]
pub struct FlowView {
    /// Boot id and socket cookie (and, for UDP, the peer): stable for the flow's life.
    pub id: String,
    pub transport: Transport,
    pub direction: Direction,
    pub state: FlowState,
    /// Set with [`FlowState::Failed`].
    pub failure: Option<FailReason>,
    /// v4-mapped addresses stand here as IPv4.
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Cookie of the network namespace; 0: unknown.
    pub netns: u64,
    /// Our end.
    pub owner: Arc<Identity>,
    /// The other end, where it is on this host.
    pub peer: Option<Arc<Identity>>,
    pub sent: Count,
    pub received: Count,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// Nanoseconds from start to end, or to now; from the monotonic clock.
    pub duration_ns: u64,
    /// Connect to established, ns.
    pub setup_ns: Option<u64>,
    /// From the client's hello until the handshake (TLS, DTLS, QUIC, SSH) was seen to be through, ns.
    pub handshake_ns: Option<u64>,
    /// Opened before the monitor started: the start is when it was found; the totals are the kernel's,
    /// from its real beginning.
    pub before_start: bool,
    pub rtt_us: Option<u32>,
    pub retransmits: u32,
    pub facts: Arc<dissect::Facts>,
    /// What its packets go through.
    pub tunnel: Option<Arc<Tunnel>>,
    pub verdict: Arc<Verdict>,
}

impl FlowView {
    pub fn client(&self) -> SocketAddr {
        match self.direction {
            Direction::Egress => self.local,
            Direction::Ingress => self.remote,
        }
    }

    pub fn server(&self) -> SocketAddr {
        match self.direction {
            Direction::Egress => self.remote,
            Direction::Ingress => self.local,
        }
    }

    pub fn client_identity(&self) -> Option<&Arc<Identity>> {
        match self.direction {
            Direction::Egress => Some(&self.owner),
            Direction::Ingress => self.peer.as_ref(),
        }
    }

    pub fn server_identity(&self) -> Option<&Arc<Identity>> {
        match self.direction {
            Direction::Egress => self.peer.as_ref(),
            Direction::Ingress => Some(&self.owner),
        }
    }

    /// Bytes and packets that the client sent.
    pub fn client_count(&self) -> Count {
        match self.direction {
            Direction::Egress => self.sent,
            Direction::Ingress => self.received,
        }
    }

    /// Bytes and packets that the server sent.
    pub fn server_count(&self) -> Count {
        match self.direction {
            Direction::Egress => self.received,
            Direction::Ingress => self.sent,
        }
    }
}

/// All flows from one client identity to one service.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// Stable text key: `client → server:port/transport`.
    pub key: String,
    /// How people call the client: unit, container, process, or address.
    pub client: String,
    pub server: String,
    /// Address of the service; of the first flow.
    pub server_address: SocketAddr,
    /// Address of the client; of the first flow.
    pub client_address: IpAddr,
    pub transport: Transport,
    pub direction: Direction,
    pub client_identity: Option<Arc<Identity>>,
    pub server_identity: Option<Arc<Identity>>,
    pub protocol: Option<String>,
    /// Flows ever, and those open now.
    pub flows: u64,
    pub open: u64,
    /// Connections that never came up.
    pub failed: u64,
    pub client_bytes: u64,
    pub server_bytes: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// The worst of its flows' answers: `no` before `unknown` before `yes`.
    pub verdict: Arc<Verdict>,
    /// Of the flow that is protected worst; of equal ones, the last.
    pub facts: Arc<dissect::Facts>,
    /// Certificates that its other flows showed.
    pub shown: crate::flows::Shown,
}

/// What was offered, delivered and lost since the last such record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossView {
    pub at: Timestamp,
    /// One row a kind and stage.
    pub rows: Vec<LossRow>,
}

/// `offered = delivered + lost`, always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossRow {
    /// `kernel`, `channel`, `flows`, `sink`, …
    pub stage: String,
    /// What was lost: `capture`, `close`, `record`, …
    pub kind: String,
    pub offered: u64,
    pub delivered: u64,
    pub lost: u64,
    pub lost_bytes: u64,
}

/// What is full, so that a cgroup gives some of its own up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shared {
    /// The table of flows: its oldest ones go.
    #[default]
    Flows,
    /// The room for first bytes of flows that are not judged: they are judged by what there is.
    FirstBytes,
    /// The kernel's ring, whoever filled it: first bytes of its flows are lost.
    Ring,
}

impl Shared {
    pub const fn as_str(self) -> &'static str {
        match self {
            Shared::Flows => "flows",
            Shared::FirstBytes => "first_bytes",
            Shared::Ring => "ring",
        }
    }

    /// What a cgroup does that gives some up. Of the ring nobody knows who fills it.
    pub const fn begins(self) -> &'static str {
        match self {
            Shared::Flows => "fills more than its share of the table of flows",
            Shared::FirstBytes => "fills more than its share of the room for first bytes",
            Shared::Ring => "loses first bytes: no room in the kernel's ring",
        }
    }

    /// That this is over.
    pub const fn is_over(self) -> &'static str {
        match self {
            Shared::Flows => "no longer fills more than its share of the table of flows",
            Shared::FirstBytes => "no longer fills more than its share of the room for first bytes",
            Shared::Ring => "no longer loses first bytes for want of room in the kernel's ring",
        }
    }

    /// What becomes of what is given up.
    pub const fn given_up(self) -> &'static str {
        match self {
            Shared::Flows => "flows went",
            Shared::FirstBytes => "flows were judged early",
            Shared::Ring => "captures were lost",
        }
    }
}

/// A cgroup gives things up where something is full: it begins, or is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleView {
    pub at: Timestamp,
    pub begins: bool,
    #[serde(default)]
    pub of: Shared,
    /// The kernel's number of it: the inode of its directory.
    pub cgroup: u32,
    /// Unit, container or process, where that is known.
    pub name: Option<String>,
    pub since: Timestamp,
    /// What was given up since then, see [`Shared`]. Bytes are counted all the same, and verdicts say that it was.
    pub given_up: u64,
}

/// One line of output.
#[derive(Clone, Debug)]
pub enum Record {
    Flow { flow: Arc<FlowView>, action: FlowAction, at: Timestamp },
    Alert { alert: Arc<AlertView>, at: Timestamp },
    Loss(LossView),
    Throttle(ThrottleView),
}

/// Why a flow record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowAction {
    FlowOpened,
    FlowSettled,
    FlowProgress,
    FlowClosed,
    ConnectionFailed,
}

/// Whether an address is this host, this network, or the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Never leaves the host: loopback, or both ends are here in one namespace.
    Loopback,
    /// Private address space: RFC 1918, 4193, 6598, link-local.
    Private,
    /// Everything else.
    Public,
}

/// The reach of a peer address.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            if v4.is_loopback() || v4.is_unspecified() {
                Reach::Loopback
            } else if v4.is_private()
                || v4.is_link_local()
                || (a == 100 && b & 0xc0 == 64)
                || v4.is_broadcast()
                || v4.is_multicast()
            {
                Reach::Private
            } else {
                Reach::Public
            }
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return reach(IpAddr::V4(v4));
            }
            if v6.is_loopback() || v6.is_unspecified() {
                Reach::Loopback
            } else if v6.is_unique_local()
                || v6.is_unicast_link_local()
                || (v6.is_multicast() && v6.segments()[0] & 0xf != 0xe)
            {
                Reach::Private
            } else {
                Reach::Public
            }
        }
    }
}
