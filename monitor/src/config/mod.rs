//! Settings of the daemon.
//!
//! In: a TOML file (every key of it optional), and what the command line and the environment say
//! ([`Overrides`]). Out: one [`Config`] whose values are all inside their ranges. It never touches
//! the network or the kernel, and a file that is wrong anywhere is refused as a whole.
//!
//! `deploy/streamwatch.toml` lists every key with its default; a test keeps the two equal.

mod alerts;
mod detect;
mod file;
mod memory;
mod origin;
mod range;
mod state;
mod worker;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use alerts::{Alerts, Hook};
pub use detect::{
    AuthFailures, Certificates, ConnectFailures, Detect, HandshakeFailures, PostQuantum, Sampling, Scans,
    Sensitivity, Traffic, WeakCipher, WeakTls,
};
pub use file::{FileError, parse_toml, place, read_capped, read_judged};
pub use memory::Memory;
pub use origin::{Field, Origin};
use range::Ranges;
pub use state::{AwsService, State, VaultService};
pub use worker::Worker;

/// Longest configuration that is read, and the longest policy, all its files together: some ten thousand services. Whoever
/// reads it hears nothing else meanwhile.
pub const LARGEST_FILE: u64 = 4 << 20;

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub memory: Memory,
    pub kernel: Kernel,
    pub flows: Flows,
    pub pipeline: Pipeline,
    pub worker: Worker,
    pub policy: PolicyFile,
    pub api: Api,
    pub output: Output,
    pub alerts: Alerts,
    pub state: State,
    pub detect: Detect,
    pub sampling: Sampling,
    pub histograms: Histograms,
}

/// Sizes of the kernel's maps and what its programs capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kernel {
    /// Root of the cgroup v2 hierarchy; `None`: as the mount table has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// Ring buffer between kernel and daemon, bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// First bytes captured of each direction of a TCP connection.
    pub tcp_budget: u32,
    /// The same for a TLS handshake that shows its certificates (TLS 1.2 and earlier).
    pub handshake_budget: u32,
    /// First bytes captured of each direction of a UDP flow.
    pub udp_budget: u32,
    /// Milliseconds between two progress events of one flow.
    pub tick_ms: u32,
    /// UDP flows counted at a time.
    pub udp_flows: u32,
    /// Closed flows kept by the kernel while the ring is full.
    pub overflow: u32,
    /// Decisions on flows under way to the kernel.
    pub decisions: u32,
    /// Captures that one listening socket may send in one tick.
    pub listener_captures: u32,
    /// Where programs and maps outlive the daemon.
    pub pin: Pin,
    /// Hooks that somebody detached or replaced are put right.
    pub restore: bool,
}

/// Where programs and maps outlive the daemon: `auto`, `off`, or a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Pin {
    /// In the usual place, for a daemon with the usual socket; others do without.
    #[default]
    Auto,
    Off,
    At(PathBuf),
}

impl From<String> for Pin {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => Pin::Auto,
            "off" => Pin::Off,
            path => Pin::At(PathBuf::from(path)),
        }
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        match pin {
            Pin::Auto => "auto".to_owned(),
            Pin::Off => "off".to_owned(),
            Pin::At(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Kernel {
            cgroup: None,
            ring_bytes: 16 << 20,
            tcp_budget: 8192,
            handshake_budget: 65_536,
            udp_budget: 16_384,
            tick_ms: 1000,
            udp_flows: 65_536,
            overflow: 28_672,
            decisions: 16_384,
            listener_captures: 1024,
            pin: Pin::Auto,
            restore: false,
        }
    }
}

/// The table of flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flows {
    /// Flows held at a time, open and closed.
    pub capacity: u32,
    /// Closed flows kept for listings.
    pub closed_keep: u32,
    /// Seconds without a datagram after which a UDP flow is closed.
    pub udp_idle_s: u32,
}

impl Default for Flows {
    fn default() -> Self {
        Flows { capacity: 100_000, closed_keep: 4096, udp_idle_s: 60 }
    }
}

/// Bounds between the stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pipeline {
    /// Messages waiting between two stages.
    pub channel: u32,
    /// Records waiting for the output to take them.
    pub sink_queue: u32,
}

impl Default for Pipeline {
    fn default() -> Self {
        Pipeline { channel: 8192, sink_queue: 27_648 }
    }
}

/// Where the policy is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyFile {
    /// `None`: the built-in rules alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// The Unix socket that the command line asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    pub socket: PathBuf,
    /// Group whose members may look; `None`: nobody but operators.
    #[serde(alias = "group", skip_serializing_if = "Option::is_none")]
    pub viewers: Option<String>,
    /// Group whose members may also acknowledge, silence and begin anew; `None`: root alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<String>,
    /// Connections served at a time.
    pub connections: u32,
}

impl Default for Api {
    fn default() -> Self {
        Api {
            socket: PathBuf::from("/run/streamwatch/api.sock"),
            viewers: None,
            operators: None,
            connections: 32,
        }
    }
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `text` on a terminal, `ecs` into anything else.
    #[default]
    Auto,
    /// Elastic Common Schema, one JSON object a line.
    Ecs,
    /// OCSF Network Activity and Detection Finding, one JSON object a line.
    Ocsf,
    /// Zeek's `conn.log` and `ssl.log`, one JSON object a line.
    Zeek,
    /// For people: a line per alert, a summary at the end.
    Text,
}

/// What is written, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    pub format: Format,
    /// Seconds between two records of one open flow; 0: only when it opens, settles and closes.
    pub interval_s: u32,
}

/// Percentiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Histograms {
    /// Streams that have histograms of their own; the others count in the overall ones only.
    pub streams: u32,
    /// Seconds after which all histograms begin again; 0: never.
    pub reset_every_s: u32,
}

impl Default for Histograms {
    fn default() -> Self {
        Histograms { streams: 2048, reset_every_s: 0 }
    }
}

/// What the command line or the environment says; it goes before the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub socket: Option<PathBuf>,
    pub cgroup: Option<PathBuf>,
    pub policy: Option<PathBuf>,
    pub format: Option<Format>,
    pub interval_s: Option<u32>,
    pub pin: Option<Pin>,
}

/// Why there is no configuration. Each is one line, and says where and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value is outside its range.
    #[error("{field} = {value} is out of range: expected {allowed}")]
    Range { field: Field, value: String, allowed: String },
    /// It comes from a flag, or from the environment in the place of that flag.
    #[error("{flag}: {what}")]
    Flag { flag: &'static str, what: String },
    /// It is wrong in another way, and its place is not known.
    #[error("{0}")]
    Wrong(String),
}

impl Config {
    /// Reads a file; without one, the defaults. Ranges are not checked: see [`Config::read`].
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        Origin::read(path, &Overrides::default())?.parse()
    }

    /// Puts what the command line and the environment say over what the file says.
    pub fn apply(&mut self, overrides: Overrides) {
        let Overrides { socket, cgroup, policy, format, interval_s, pin } = overrides;
        if let Some(pin) = pin {
            self.kernel.pin = pin;
        }
        if let Some(socket) = socket {
            self.api.socket = socket;
        }
        if cgroup.is_some() {
            self.kernel.cgroup = cgroup;
        }
        if policy.is_some() {
            self.policy.file = policy;
        }
        if let Some(format) = format {
            self.output.format = format;
        }
        if let Some(interval_s) = interval_s {
            self.output.interval_s = interval_s;
        }
    }

    /// Reads a file, puts over it what the command line and the environment say, and checks the whole; also from
    /// where each value came.
    ///
    /// # Errors
    /// One line that names the place: the file's line, or the flag.
    pub fn read(path: Option<&Path>, overrides: Overrides) -> Result<(Config, Origin), ConfigError> {
        Config::checked(Origin::read(path, &overrides)?, overrides)
    }

    /// The same of what a file holds; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn of(path: &Path, bytes: &[u8], overrides: Overrides) -> Result<(Config, Origin), ConfigError> {
        Config::checked(Origin::of(path, bytes, &overrides)?, overrides)
    }

    fn checked(origin: Origin, overrides: Overrides) -> Result<(Config, Origin), ConfigError> {
        let mut config: Config = origin.parse()?;
        config.apply(overrides);
        config.check().map_err(|error| origin.placed(error))?;
        Ok((config, origin))
    }

    /// Refuses the first value that is outside its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
        let Kernel {
            cgroup,
            ring_bytes,
            tcp_budget,
            handshake_budget,
            udp_budget,
            tick_ms,
            udp_flows,
            overflow,
            decisions,
            listener_captures,
            pin,
            restore: _,
        } = &self.kernel;
        let mut ranges = Ranges::default();
        ranges.power_of_two("kernel.ring_bytes", *ring_bytes, page, 1 << 30);
        ranges.within("kernel.tcp_budget", *tcp_budget, 4096..=16_384);
        ranges.within("kernel.handshake_budget", *handshake_budget, 4096..=65_536);
        ranges.within("kernel.udp_budget", *udp_budget, 64..=16_384);
        ranges.within("kernel.tick_ms", *tick_ms, 10..=60_000);
        ranges.within("kernel.udp_flows", *udp_flows, 64..=1 << 24);
        ranges.within("kernel.overflow", *overflow, 64..=1 << 20);
        ranges.within("kernel.decisions", *decisions, 64..=1 << 20);
        ranges.within("kernel.listener_captures", *listener_captures, 1..=65_536);
        ranges.absolute("kernel.cgroup", cgroup.as_deref());
        if let Pin::At(path) = pin {
            ranges.absolute("kernel.pin", Some(path));
        }

        let Flows { capacity, closed_keep, udp_idle_s } = self.flows;
        ranges.within("flows.capacity", capacity, 16..=1 << 24);
        let closed = Field::with("flows.closed_keep", &["flows.capacity"]);
        ranges.within(closed, closed_keep, 0..=capacity);
        ranges.within("flows.udp_idle_s", udp_idle_s, 1..=86_400);

        ranges.within("pipeline.channel", self.pipeline.channel, 1..=1 << 22);
        ranges.within("pipeline.sink_queue", self.pipeline.sink_queue, 1..=1 << 24);

        ranges.absolute("api.socket", Some(&self.api.socket));
        // `sun_path` of unix(7) holds 108 bytes, the last of them NUL.
        ranges.shorter("api.socket", &self.api.socket, 108);
        ranges.not_empty("api.viewers", self.api.viewers.as_deref());
        ranges.not_empty("api.operators", self.api.operators.as_deref());
        ranges.within("api.connections", self.api.connections, 1..=4096);

        ranges.within("worker.priority_boost", u32::from(self.worker.priority_boost), 0..=20);
        ranges.within("output.interval_s", self.output.interval_s, 0..=86_400);
        ranges.within("alerts.repeat_every_s", self.alerts.repeat_every_s, 1..=604_800);
        ranges.within("alerts.resolve_after_s", self.alerts.resolve_after_s, 1..=604_800);
        let ConnectFailures { threshold, window_s } = self.detect.connect_failures;
        ranges.within("detect.connect_failures.threshold", threshold, 1..=1 << 20);
        ranges.within("detect.connect_failures.window_s", window_s, 1..=86_400);
        let HandshakeFailures { threshold, window_s } = self.detect.handshake_failures;
        ranges.within("detect.handshake_failures.threshold", threshold, 1..=1 << 20);
        ranges.within("detect.handshake_failures.window_s", window_s, 1..=86_400);
        ranges.within("detect.weak_cipher.rsa_bits", self.detect.weak_cipher.rsa_bits, 1024..=16_384);
        let Certificates { expiring_days, short_lived_h, .. } = &self.detect.certificates;
        ranges.falling("detect.certificates.expiring_days", expiring_days, 1..=365, 8);
        ranges.within("detect.certificates.short_lived_h", *short_lived_h, 0..=8760);
        ranges.absolute("alerts.state", self.alerts.state.as_deref());
        let State { wait_s, timeout_s, check_every_s, memory_bytes, vault, aws, .. } = &self.state;
        ranges.within("state.wait_s", *wait_s, 0..=60);
        ranges.within("state.timeout_s", *timeout_s, 1..=60);
        ranges.within("state.check_every_s", *check_every_s, 1..=604_800);
        ranges.within("state.memory_bytes", *memory_bytes, 1 << 16..=1 << 30);
        ranges.within("state.vault.kv_version", vault.kv_version, 1..=2);
        ranges.absolute("state.vault.ca", vault.ca.as_deref());
        ranges.not_empty("state.vault.namespace", vault.namespace.as_deref());
        ranges.no_token("state.vault.namespace", vault.namespace.as_deref());
        ranges.no_user("state.vault.address", &vault.address);
        ranges.no_user("state.aws.endpoint", aws.endpoint.as_deref().unwrap_or_default());
        ranges.absolute("state.aws.ca", aws.ca.as_deref());
        ranges.not_empty("state.aws.role", aws.role.as_deref());
        for (number, hook) in self.alerts.hooks.iter().enumerate() {
            let field = |name| Field::of("alerts.hooks", number, name);
            ranges.within(field("timeout_s"), hook.timeout_s, 1..=600);
            ranges.within(field("queue"), hook.queue, 1..=65_536);
        }
        let AuthFailures { threshold, window_s } = self.detect.auth_failures;
        ranges.within("detect.auth_failures.threshold", threshold, 1..=1 << 20);
        ranges.within("detect.auth_failures.window_s", window_s, 1..=86_400);
        ranges.within("detect.scans.targets", self.detect.scans.targets, 2..=1024);
        ranges.within("detect.scans.window_s", self.detect.scans.window_s, 1..=86_400);
        ranges.within("detect.traffic.interval_s", self.detect.traffic.interval_s, 1..=3600);
        ranges.within("detect.traffic.warm_up_s", self.detect.traffic.warm_up_s, 1..=604_800);
        let Sampling { flow_bytes_per_s, total_bytes_per_s, encrypted_every_s } = self.sampling;
        ranges.within("sampling.flow_bytes_per_s", flow_bytes_per_s, 0..=1 << 24);
        ranges.within("sampling.total_bytes_per_s", total_bytes_per_s, 0..=1 << 30);
        ranges.within("sampling.encrypted_every_s", encrypted_every_s, 0..=604_800);
        ranges.within("histograms.streams", self.histograms.streams, 1..=1 << 20);
        ranges.within("histograms.reset_every_s", self.histograms.reset_every_s, 0..=604_800);
        ranges.result()?;
        self.check_memory()
    }
}

#[cfg(test)]
mod tests;
