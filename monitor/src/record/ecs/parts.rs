//! The nested objects of a record, each with its rule for when it is there at all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use dissect::{Facts, Upgrade};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::model::{Count, Identity, LossRow, Transport, Verdict};
use crate::posture;
use crate::record::Context;
use crate::record::secure::{Ssh, TlsMore};

/// RFC 3339, UTC, always nine digits of a second.
pub(in crate::record) struct Nanoseconds(pub Timestamp);

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}", self.0)
    }
}

impl Serialize for Nanoseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number that ECS wants as a keyword.
pub(super) struct Keyword(pub u32);

impl Serialize for Keyword {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
pub(super) struct Ecs {
    pub version: &'static str,
}

#[derive(Serialize)]
pub(super) struct Event<'a> {
    pub kind: &'static str,
    pub category: &'static [&'static str],
    #[serde(rename = "type")]
    pub types: &'static [&'static str],
    pub action: &'a str,
    pub dataset: &'static str,
    pub module: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Nanoseconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Nanoseconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Host<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub id: &'a str,
}

#[derive(Serialize)]
pub(super) struct Observer<'a> {
    pub product: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub version: &'a str,
}

impl<'a> Host<'a> {
    pub fn of(context: &'a Context) -> Self {
        Host { name: &context.host_name, id: &context.host_id }
    }
}

impl<'a> Observer<'a> {
    pub fn of(context: &'a Context) -> Self {
        Observer { product: "streamwatch", kind: "sensor", version: &context.version }
    }
}

#[derive(Serialize)]
pub(super) struct RuleFields {
    pub id: &'static str,
    pub name: &'static str,
    pub description: &'static str,
}

#[derive(Serialize)]
pub(super) struct Network<'a> {
    pub transport: Transport,
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'a str>,
    pub direction: crate::model::Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_id: Option<String>,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
}

/// `ipv4` or `ipv6`.
pub(super) fn network_type(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct Endpoint {
    pub ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
}

impl Endpoint {
    pub fn new(address: SocketAddr, count: Count) -> Self {
        Endpoint {
            ip: address.ip(),
            port: Some(address.port()),
            bytes: Some(count.bytes),
            packets: Some(count.packets),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Process<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Pid and start in clock ticks since boot: never another process with the same pid later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub executable_elsewhere: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct User<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Keyword>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct ContainerFields<'a> {
    pub id: &'a str,
    pub runtime: &'a str,
}

#[derive(Serialize)]
pub(super) struct Service<'a> {
    pub name: &'a str,
}

#[derive(Serialize)]
pub(super) struct Orchestrator<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub resource: Resource<'a>,
}

#[derive(Serialize)]
pub(super) struct Resource<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: &'a str,
}

/// An identity, as the same fields stand at the top level (ours) and under `streamwatch.peer`.
#[derive(Default, Serialize)]
pub(super) struct Who<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Service<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orchestrator: Option<Orchestrator<'a>>,
}

impl<'a> Who<'a> {
    pub fn new(identity: &'a Identity) -> Self {
        let process = Process {
            pid: identity.pid,
            entity_id: identity
                .pid
                .zip(identity.start_ticks)
                .map(|(pid, start_ticks)| format!("{pid}-{start_ticks}")),
            name: identity.name.as_deref(),
            executable: identity.executable.as_deref(),
            executable_elsewhere: identity.executable_elsewhere,
            command_line: identity.command_line.as_deref(),
        };
        let known = process.pid.is_some()
            || process.name.is_some()
            || process.executable.is_some()
            || process.command_line.is_some();
        let user = User { id: identity.uid.map(Keyword), name: identity.user.as_deref() };
        let container = identity.container.as_ref();
        Who {
            process: known.then_some(process),
            user: (user.id.is_some() || user.name.is_some()).then_some(user),
            container: container.map(|it| ContainerFields { id: &it.id, runtime: &it.runtime }),
            service: identity.unit.as_deref().map(|name| Service { name }),
            orchestrator: container
                .and_then(|it| it.pod.as_deref())
                .map(|id| Orchestrator { kind: "kubernetes", resource: Resource { kind: "pod", id } }),
        }
    }
}

/// The peer on this host: who, and why something is missing.
#[derive(Serialize)]
pub(super) struct Peer<'a> {
    #[serde(flatten)]
    pub who: Who<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<&'a str>,
}

impl<'a> Peer<'a> {
    pub fn new(identity: &'a Identity) -> Self {
        Peer { who: Who::new(identity), missing: identity.missing.as_deref() }
    }
}

#[derive(Serialize)]
pub(super) struct Tcp {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u32>,
    pub retransmits: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_ns: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct FlowFields<'a> {
    pub id: &'a str,
    pub state: crate::model::FlowState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<crate::model::FailReason>,
    /// Opened before the monitor started: start and totals are from when it was found.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub before_start: bool,
    /// Cookie of the network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct StreamFields<'a> {
    pub key: &'a str,
    pub client: &'a str,
    pub server: &'a str,
    pub flows: u64,
    pub open: u64,
    pub failed: u64,
    pub first_seen: Nanoseconds,
    pub last_seen: Nanoseconds,
}

#[derive(Serialize)]
pub(super) struct AlertFields<'a> {
    pub key: &'a str,
    pub state: crate::model::AlertState,
    pub count: u64,
    pub first_seen: Nanoseconds,
    pub last_seen: Nanoseconds,
    pub remedy: &'a str,
    pub cursor: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<&'a crate::model::Acknowledgement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silenced: Option<&'a crate::model::Silence>,
}

#[derive(Serialize)]
pub(super) struct LossFields<'a> {
    pub offered: u64,
    pub delivered: u64,
    pub lost: u64,
    pub lost_bytes: u64,
    pub rows: &'a [LossRow],
}

#[derive(Serialize)]
pub(super) struct ThrottleFields<'a> {
    /// `start` or `end`.
    pub state: &'static str,
    pub of: &'static str,
    pub cgroup: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    pub since: Nanoseconds,
    pub given_up: u64,
}

/// All of this project's own fields.
#[derive(Default, Serialize)]
pub(super) struct Own<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<ThrottleFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'a Verdict>,
    /// Why this end's owner is not (wholly) known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer<'a>>,
    /// From the client's hello until the handshake was seen to be through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// How well it is encrypted, in one short line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMore<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<&'a Upgrade>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
}

impl<'a> Own<'a> {
    /// All that is told of a flow's facts.
    pub fn add_facts(&mut self, facts: &'a Facts) {
        self.posture = posture::line(facts);
        self.tls = facts.tls.as_ref().map(TlsMore::new);
        self.ssh = facts.ssh.as_ref().map(Ssh::new);
        self.upgrade = facts.upgrade.as_ref();
        self.detail = facts.detail.as_deref();
    }
}
