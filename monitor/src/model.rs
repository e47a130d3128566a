//! The words of the house, as types: flow, stream, identity, verdict, finding, alert.
//!
//! Plain values that every later stage reads: records, listings, policy, detectors. No behaviour
//! beyond naming.

mod called;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use called::called;

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

/// A container, as the cgroup path names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Container {
    /// Full id, lower-case hex where the runtime uses that. What others than the host itself may have made
    /// has them in front: `user@1000.service/ID` or `uid:1000/ID` of a user, `NODE/ID` of a pod inside a container. It is
    /// another one than that with the bare id.
    pub id: String,
    /// `docker`, `containerd`, `podman`, `cri-o`, …
    pub runtime: String,
    /// Kubernetes pod uid, where the path has one; with the same in front as the id.
    pub pod: Option<String>,
}

impl Container {
    /// The id as people write it: 12 characters, and short forms of what stands in front.
    pub fn short_id(&self) -> String {
        let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
        match self.id.rsplit_once('/') {
            Some((outer, id)) if outer.len() == 64 => format!("{}/{}", short(outer), short(id)),
            Some((outer, id)) => format!("{outer}/{}", short(id)),
            None => short(&self.id),
        }
    }

    /// A user's own, rootless: what it says of itself is that user's word.
    pub fn is_of_user(&self) -> bool {
        self.id.split_once('/').is_some_and(|(outer, _)| is_of_user(outer))
    }
}

/// The units that a user's own processes are in, and may make cgroups below (pam_systemd(8),
/// user@.service(5)); or a user whose directory it is below.
pub fn is_of_user(unit: &str) -> bool {
    unit.starts_with("user@") && unit.ends_with(".service")
        || unit.starts_with("session-") && unit.ends_with(".scope")
        || unit.starts_with("uid:")
}

/// What the runtime of a container says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    pub name: Option<String>,
    /// As the runtime was told: `docker.io/library/redis:7`.
    pub image: Option<String>,
    /// Kubernetes namespace and pod name.
    pub namespace: Option<String>,
    pub pod: Option<String>,
    /// Of the pod, or of the container where there is none; `None`: the runtime does not tell.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Who is at one end of a flow on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Process id in the initial pid namespace; `None`: not known (any more).
    pub pid: Option<u32>,
    /// Start of the process in clock ticks since boot (field 22 of `/proc/PID/stat`): with the pid,
    /// unique.
    pub start_ticks: Option<u64>,
    /// `comm`; `None`: not known.
    pub name: Option<String>,
    pub executable: Option<String>,
    /// Its path is that of another mount namespace, where it need not be the file that the host has there.
    #[serde(default)]
    pub executable_elsewhere: bool,
    /// Lower-case hex; only where a policy asks for it.
    pub executable_sha256: Option<String>,
    /// Arguments joined with spaces, capped.
    pub command_line: Option<String>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
    pub container: Option<Container>,
    /// Only where a policy asks for it and the runtime tells.
    pub workload: Option<Box<Workload>>,
    /// Why something is missing, for people: `process ended before it could be looked at`, …
    pub missing: Option<String>,
}

/// What a label takes beside its texts, bytes.
const LABEL: usize = 2 * size_of::<String>();

impl Identity {
    /// The name under which people group it: unit, else container, else process name. A unit that
    /// is only a login session or scope of a user does not count.
    pub fn label(&self) -> String {
        if let Some(unit) = &self.unit
            && unit.ends_with(".service")
            && !unit.starts_with("user@")
        {
            return unit.clone();
        }
        let name = self.name.as_deref().map_or(Cow::Borrowed("?"), called);
        match &self.container {
            Some(container) => format!("{name}@{}", container.short_id()),
            None => name.into_owned(),
        }
    }

    /// By whom places in tables are shared: unit, else container, else user; all that a user runs by itself
    /// is that user's. Never a name that a process gives itself, or one could be as many as it likes.
    pub fn party(&self) -> String {
        let outermost = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
        let unit = self.unit.as_deref().map(outermost);
        let of_system = unit.or_else(|| self.container.as_ref().map(|it| outermost(&it.id)));
        match of_system {
            // What runs below a user's manager may have any of that user's many ids (subuid(5)).
            Some(name) => match name.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service")) {
                Some(uid) => format!("uid:{uid}"),
                None => name,
            },
            // Nobody can say whose it is: they all share.
            None => self.uid.map_or_else(|| "uid:?".to_owned(), |uid| format!("uid:{uid}")),
        }
    }

    /// What it takes in memory. Bounded: see [`crate::identity`].
    pub fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        let own = [
            &self.name,
            &self.executable,
            &self.executable_sha256,
            &self.command_line,
            &self.user,
            &self.unit,
            &self.missing,
        ];
        let container = self.container.as_ref().map_or(0, |container| {
            container.id.capacity() + container.runtime.capacity() + length(&container.pod)
        });
        let workload = self.workload.as_ref().map_or(0, |workload| {
            let Workload { name, image, namespace, pod, labels } = &**workload;
            let labels = labels.iter().flatten();
            let of_labels: usize = labels.map(|(key, value)| LABEL + key.capacity() + value.capacity()).sum();
            size_of::<Workload>()
                + of_labels
                + [name, image, namespace, pod].map(length).iter().sum::<usize>()
        });
        size_of::<Identity>() + own.map(length).iter().sum::<usize>() + container + workload
    }
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

/// How bad it is; the numbers of `event.severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low = 1,
    Medium = 2,
    High = 3,
    Critical = 4,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// What was done to a hook of ours, to a map or to the directory where they have names, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tampered {
    /// "hook sent", "map EVENTS".
    pub part: Cow<'static, str>,
    /// The cgroup hook that it is; empty: none.
    pub attach: Cow<'static, str>,
    pub what: Cow<'static, str>,
    /// It does its work all the same: only its name is not as it was.
    pub works: bool,
    /// It was put right, or why it could not be; `None`: that was not wanted.
    pub restored: Option<Result<(), String>>,
}

/// The rules; `as_str` is the promised id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    Plaintext,
    UnexpectedPeer,
    WeakTls,
    WeakCipher,
    NotPostQuantum,
    ClientCertMissing,
    CertExpiring,
    CertExpired,
    ConnectFailures,
    EvidenceLost,
    MonitorTampered,
    NewService,
    AuthFailures,
    CredentialInClear,
    TrafficSpike,
    TrafficStopped,
}

impl Rule {
    pub const ALL: [Rule; 16] = [
        Rule::Plaintext,
        Rule::UnexpectedPeer,
        Rule::WeakTls,
        Rule::WeakCipher,
        Rule::NotPostQuantum,
        Rule::ClientCertMissing,
        Rule::CertExpiring,
        Rule::CertExpired,
        Rule::ConnectFailures,
        Rule::EvidenceLost,
        Rule::MonitorTampered,
        Rule::NewService,
        Rule::AuthFailures,
        Rule::CredentialInClear,
        Rule::TrafficSpike,
        Rule::TrafficStopped,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Rule::Plaintext => "plaintext",
            Rule::UnexpectedPeer => "unexpected-peer",
            Rule::WeakTls => "weak-tls",
            Rule::WeakCipher => "weak-cipher",
            Rule::NotPostQuantum => "not-post-quantum",
            Rule::ClientCertMissing => "client-cert-missing",
            Rule::CertExpiring => "cert-expiring",
            Rule::CertExpired => "cert-expired",
            Rule::ConnectFailures => "connect-failures",
            Rule::EvidenceLost => "evidence-lost",
            Rule::MonitorTampered => "monitor-tampered",
            Rule::NewService => "new-service",
            Rule::AuthFailures => "auth-failures",
            Rule::CredentialInClear => "credential-in-clear",
            Rule::TrafficSpike => "traffic-spike",
            Rule::TrafficStopped => "traffic-stopped",
        }
    }

    /// `rule.name`: a short title.
    pub fn title(self) -> &'static str {
        match self {
            Rule::Plaintext => "Data in the clear",
            Rule::UnexpectedPeer => "Unexpected peer",
            Rule::WeakTls => "Old version of TLS",
            Rule::WeakCipher => "Weak cryptography",
            Rule::NotPostQuantum => "Key exchange not post-quantum",
            Rule::ClientCertMissing => "Client certificate missing",
            Rule::CertExpiring => "Certificate about to expire",
            Rule::CertExpired => "Certificate expired",
            Rule::ConnectFailures => "Connections that never come up",
            Rule::EvidenceLost => "Evidence lost",
            Rule::MonitorTampered => "Monitor tampered with",
            Rule::NewService => "New service",
            Rule::AuthFailures => "Log-ins that fail",
            Rule::CredentialInClear => "Credential in the clear",
            Rule::TrafficSpike => "Unusually much traffic",
            Rule::TrafficStopped => "Traffic has stopped",
        }
    }

    /// `rule.description`.
    pub fn description(self) -> &'static str {
        match self {
            Rule::Plaintext => "A stream carries readable data to or from another host without encryption.",
            Rule::UnexpectedPeer => {
                "A client or a service that the policy does not name for the other end, or a certificate \
                 that is not one for the name that was asked for."
            }
            Rule::WeakTls => {
                "A stream uses a version of TLS that is deprecated or that the policy rules out."
            }
            Rule::WeakCipher => {
                "A stream uses a cipher suite, key or signature that is weak or that the policy rules out."
            }
            Rule::NotPostQuantum => {
                "A stream's key exchange does not withstand a quantum computer: what is recorded now can be \
                 read then."
            }
            Rule::ClientCertMissing => {
                "The policy wants both ends to have certificates, and the client presented none."
            }
            Rule::CertExpiring => "A certificate expires soon.",
            Rule::CertExpired => "A certificate has expired, or is not valid yet.",
            Rule::ConnectFailures => {
                "Connections or TLS handshakes of one client with one service keep failing."
            }
            Rule::EvidenceLost => "The monitor lost events, so part of what happened was not seen.",
            Rule::MonitorTampered => {
                "A hook of the monitor was detached or replaced, or what it says does not arrive any more."
            }
            Rule::NewService => {
                "This host serves on a port that was not served before and is not in the policy."
            }
            Rule::AuthFailures => "Log-ins of one client at one service keep failing.",
            Rule::CredentialInClear => {
                "A password, token or key crossed a stream that anybody on the way can read."
            }
            Rule::TrafficSpike => "A stream carries far more than it usually does.",
            Rule::TrafficStopped => "A stream that always carried something is silent.",
        }
    }
}

/// Where an alert stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Opened,
    Repeated,
    Resolved,
}

/// A finding with a key and a life.
#[derive(Clone, Debug)]
pub struct AlertView {
    /// Stable: rule and stream.
    pub key: String,
    pub rule: Rule,
    pub severity: Severity,
    pub state: AlertState,
    /// What happened, for people, one sentence.
    pub reason: String,
    /// What to do, one sentence.
    pub remedy: String,
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Its place in the row of everything that was told: grows, over restarts too.
    pub cursor: u64,
    /// Somebody knows of it: until then it is not repeated.
    pub acknowledged: Option<Acknowledgement>,
    /// Somebody does not want to hear of it: no hook is told, and no terminal.
    pub silenced: Option<Silence>,
    /// The flow that shows it.
    pub flow: Option<Arc<FlowView>>,
    /// The listening socket that shows it.
    pub listener: Option<Arc<ListenerView>>,
}

/// A TCP socket that listens, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerView {
    pub address: SocketAddr,
    pub owner: Identity,
}

/// That somebody knows of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// User id of whoever asked.
    pub by: u32,
    pub at: Timestamp,
    pub until: Timestamp,
    pub why: String,
}

/// That nobody is to be told of alerts that fulfil a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: u64,
    pub filter: String,
    /// User id of whoever asked.
    pub by: u32,
    pub at: Timestamp,
    pub until: Timestamp,
    pub why: String,
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

/// A cgroup that fills more than its share of a full table gives flows up: it begins, or is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleView {
    pub at: Timestamp,
    pub begins: bool,
    /// The kernel's number of it: the inode of its directory.
    pub cgroup: u32,
    /// Unit, container or process, where that is known.
    pub name: Option<String>,
    pub since: Timestamp,
    /// Flows that were pushed out since then: their bytes are counted, their verdicts say that they were.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str, uid: u32, unit: Option<&str>, container: Option<&str>) -> String {
        let container = container.map(|id| Container { id: id.into(), runtime: "docker".into(), pod: None });
        let (name, unit) = (Some(name.to_owned()), unit.map(str::to_owned));
        Identity { name, uid: Some(uid), unit, container, ..Identity::default() }.party()
    }

    #[test]
    fn a_party_is_not_what_a_process_calls_itself() {
        for name in ["a", "nginx", "uid:0"] {
            assert_eq!(who(name, 1000, None, None), "uid:1000");
            assert_eq!(who(name, 33, Some("nginx.service"), None), "nginx.service");
            assert_eq!(who(name, 1000, Some("session-3.scope"), None), "session-3.scope");
            assert_eq!(who(name, 100_007, Some("user@1000.service/init.scope"), None), "uid:1000");
            assert_eq!(who(name, 1000, Some(&format!("user@1000.service/{name}.service")), None), "uid:1000");
            assert_eq!(who(name, 0, None, Some("c1")), "c1");
            assert_eq!(who(name, 0, None, Some(&format!("c1/{name}"))), "c1");
            assert_eq!(who(name, 1000, None, Some(&format!("user@1000.service/{name}"))), "uid:1000");
            assert_eq!(who(name, 0, Some("web.service"), Some("c1")), "web.service");
        }
        assert_eq!(Identity::default().party(), "uid:?");
    }

    #[test]
    fn containers_are_told_apart_by_their_short_ids() {
        let short = |id: String| Container { id, runtime: "docker".into(), pod: None }.short_id();
        let (id, node) = ("0123456789abcdef".repeat(4), "ab".repeat(32));
        assert_eq!(short(id.clone()), "0123456789ab");
        assert_eq!(short(format!("user@1000.service/{id}")), "user@1000.service/0123456789ab");
        assert_eq!(short(format!("{node}/{id}")), "abababababab/0123456789ab");
        assert_eq!(short("é".repeat(20)), "é".repeat(6), "of any text");
    }
}
