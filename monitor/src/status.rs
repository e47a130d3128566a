//! What the daemon says about itself: health, and histograms as they leave the process.
//!
//! Plain values: the core fills them in, the API writes them, the command line reads them back.

use serde::{Deserialize, Serialize};

use crate::inventory::ClassView;
use crate::model::{LossRow, Shared};

/// The answer of `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Of the daemon.
    pub version: String,
    /// Of the layouts shared with the kernel programs.
    pub abi: u32,
    /// The running kernel's release, as `uname -r` says it.
    pub kernel: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub uptime_ns: u64,
    pub hooks: Vec<HookView>,
    pub ring: RingView,
    pub stages: Vec<StageView>,
    /// Clients that wait for alerts.
    #[serde(default)]
    pub clients: Vec<ClientView>,
    pub tables: Vec<TableView>,
    /// Cgroups that fill more than their share.
    #[serde(default)]
    pub throttled: Vec<ThrottleCount>,
    /// Since the start; one row a stage and kind.
    pub loss: Vec<LossRow>,
    pub flows: FlowCounts,
    pub streams: u64,
    pub alerts: AlertCounts,
    /// Payload bytes over all flows ever seen.
    pub totals: Totals,
    /// How streams and bytes are protected, one row a way; most bytes first.
    #[serde(default)]
    pub classes: Vec<ClassView>,
    /// What reading on in flows that live long costs.
    #[serde(default)]
    pub sampling: SamplingView,
    /// What outlives the daemon.
    #[serde(default)]
    pub state: StateView,
    /// The datagram to ourselves; none where the daemon itself is not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_check: Option<SelfCheckView>,
    /// The process that reads what comes from outside.
    #[serde(default)]
    pub worker: WorkerView,
    /// Resident memory of the daemon, both of its processes.
    pub memory_bytes: u64,
}

/// The process that reads what comes from outside, and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    pub pid: u32,
    /// How often it ended by itself and was started again, and how it ended last.
    pub restarts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
    /// It ended again and again: traffic is counted, and nobody looks at it.
    pub counts_only: bool,
    /// What confines it, in words.
    pub landlock: String,
    pub seccomp: String,
}

/// One kernel program and its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookView {
    pub name: String,
    pub attached: bool,
    /// Where it is attached, or why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The ring between kernel and user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingView {
    pub bytes: u64,
}

/// Whether a datagram of the daemon's own is seen by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfCheckView {
    /// When all of one was seen, RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// The last one was not seen in time.
    pub overdue: bool,
    /// Why none could be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Whether what must outlive the daemon is kept, and under which key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateView {
    pub file: String,
    /// The place of the key.
    pub key: String,
    /// Which key it is, as its source names it; no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Changes are written, sealed, as they come.
    pub kept: bool,
    /// In both copies.
    pub whole: bool,
    /// Since when they wait in memory (RFC 3339), and why; or why the key could not be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Changes that wait, and those that found no room since the start.
    pub pending: u64,
    pub dropped: u64,
    /// What was not as it should be when the files were opened, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
}

/// What is captured of flows after their first bytes, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplingView {
    /// Flows that are read on now.
    pub watched: u64,
    /// Bytes captured for it.
    pub bytes: u64,
    /// Times that a flow was read on without a gap, that it had to pause, and that it was sampled anew.
    pub extended: u64,
    pub paused: u64,
    pub samples: u64,
    /// Events that were not kept, because too many came at once.
    pub dropped: u64,
}

/// A bounded queue between two stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    pub name: String,
    pub capacity: u64,
    /// Entries waiting now, and the most there ever were.
    pub depth: u64,
    pub peak: u64,
    pub offered: u64,
    pub dropped: u64,
}

/// A cgroup that gives things up now, see [`Shared`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleCount {
    pub cgroup: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub of: Shared,
    /// What was given up since that began, see [`Shared`].
    pub given_up: u64,
}

/// A client of the API that waits for alerts, and what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// Of all that ever came.
    pub number: u64,
    /// User id.
    pub uid: u32,
    pub offered: u64,
    pub delivered: u64,
    /// It was too slow for them.
    pub lost: u64,
}

/// A bounded table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableView {
    pub name: String,
    pub capacity: u64,
    pub used: u64,
    /// Entries that found no place.
    pub refused: u64,
    /// Entries that had to go for a newer one.
    pub evicted: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounts {
    /// Open now.
    pub open: u64,
    /// Seen since the start.
    pub seen: u64,
    /// Connections that never came up.
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertCounts {
    /// Not resolved.
    pub open: u64,
    /// Opened since the start.
    pub raised: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub client_bytes: u64,
    pub server_bytes: u64,
    /// Of datagrams that are of no flow, whichever way they went, since the hooks are there: of sockets whose notes the
    /// kernel refused, of peers that found no room, and, with their headers, those that could not be read. In neither
    /// of the two above.
    #[serde(default)]
    pub of_no_flow_bytes: u64,
}

/// One histogram, 3 significant digits: as percentiles and in HdrHistogram's own encoding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistogramView {
    /// Key of the stream; `None`: all streams together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// `duration_ns`, `client_bytes`, `server_bytes`, `rtt_us`, `setup_ns`, `handshake_ns` or
    /// `first_response_ns`.
    pub name: String,
    /// `ns`, `us` or `bytes`.
    pub unit: String,
    pub count: u64,
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub mean: f64,
    /// HdrHistogram V2, compressed (deflate), in base64: what its tools in every language read.
    pub v2: String,
}
