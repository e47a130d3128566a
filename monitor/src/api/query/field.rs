//! The names that a filter may use, and where they stand in a record.

use serde_json::Value;

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The first of these paths that the record has.
    Paths(Vec<&'static str>),
    /// A path below the identity of one end: at the top level when that end is ours, else under
    /// `streamwatch.peer`.
    Of(Side, &'static [&'static str]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// Short names and what they stand for.
pub const SHORT: &[(&str, &[&str])] = &[
    ("alert", &["streamwatch.alert.key"]),
    ("alpn", &["tls.next_protocol"]),
    ("authenticated", &["streamwatch.verdict.authenticated.answer"]),
    ("authorised", &["streamwatch.verdict.authorised.answer"]),
    ("authorized", &["streamwatch.verdict.authorised.answer"]),
    ("bytes", &["network.bytes"]),
    ("cipher", &["tls.cipher"]),
    ("client", &["streamwatch.stream.client", "client.ip"]),
    ("client_certificate", &["streamwatch.tls.client_certificate.state"]),
    ("container", &["container.id"]),
    ("count", &["streamwatch.alert.count", "count"]),
    ("detail", &["streamwatch.detail"]),
    ("direction", &["network.direction"]),
    ("duration", &["event.duration"]),
    ("encrypted", &["streamwatch.verdict.encrypted.answer"]),
    ("end", &["event.end"]),
    ("failed", &["streamwatch.stream.failed"]),
    ("first", &["streamwatch.stream.first_seen", "streamwatch.alert.first_seen", "event.start"]),
    ("flows", &["streamwatch.stream.flows"]),
    ("group", &["tls.curve"]),
    ("handshake", &["streamwatch.handshake_ns"]),
    ("id", &["streamwatch.flow.id"]),
    ("ja3", &["tls.client.ja3"]),
    ("ja4", &["tls.client.ja4"]),
    ("key", &["streamwatch.stream.key", "streamwatch.alert.key"]),
    ("key_exchange", &["streamwatch.tls.key_exchange", "streamwatch.ssh.key_exchange"]),
    ("last", &["streamwatch.stream.last_seen", "streamwatch.alert.last_seen", "@timestamp"]),
    ("open", &["streamwatch.stream.open"]),
    ("packets", &["network.packets"]),
    ("pid", &["process.pid"]),
    ("post_quantum", &["streamwatch.tls.post_quantum", "streamwatch.ssh.post_quantum"]),
    ("posture", &["streamwatch.posture"]),
    ("process", &["process.name"]),
    ("protocol", &["network.protocol"]),
    ("reason", &["event.reason"]),
    ("retransmits", &["streamwatch.tcp.retransmits"]),
    ("rtt", &["streamwatch.tcp.rtt_us"]),
    ("rule", &["rule.id"]),
    ("server", &["streamwatch.stream.server", "server.ip"]),
    ("severity", &["event.severity"]),
    ("sni", &["tls.client.server_name"]),
    ("start", &["event.start"]),
    ("state", &["streamwatch.alert.state", "streamwatch.flow.state"]),
    ("stream", &["streamwatch.stream.key", "stream"]),
    ("transport", &["network.transport"]),
    ("uid", &["user.id"]),
    ("unit", &["service.name"]),
    ("user", &["user.name", "user.id"]),
    ("version", &["tls.version"]),
    ("watched", &["streamwatch.verdict.watched.answer"]),
];

/// After `client.` or `server.`: who is at that end, wherever the record has it.
pub const IDENTITY: &[(&str, &[&str])] = &[
    ("container", &["container.id"]),
    ("executable", &["process.executable"]),
    ("pid", &["process.pid"]),
    ("process", &["process.name"]),
    ("uid", &["user.id"]),
    ("unit", &["service.name"]),
    ("user", &["user.name", "user.id"]),
];

/// The fields of a histogram.
pub const HISTOGRAM: &[&str] =
    &["stream", "name", "unit", "count", "min", "p50", "p90", "p99", "p999", "max", "mean", "v2"];

#[rustfmt::skip]
/// Full ECS paths, and the fields of a histogram (the last row).
pub const FULL: &[&str] = &[
    "@timestamp", "ecs.version", "message",
    "client.bytes", "client.ip", "client.packets", "client.port",
    "container.id", "container.runtime",
    "destination.bytes", "destination.ip", "destination.packets", "destination.port",
    "event.action", "event.category", "event.dataset", "event.duration", "event.end", "event.kind",
    "event.module", "event.outcome", "event.reason", "event.severity", "event.start", "event.type",
    "host.id", "host.name",
    "network.bytes", "network.community_id", "network.direction", "network.packets",
    "network.protocol", "network.transport", "network.type",
    "observer.product", "observer.type", "observer.version",
    "orchestrator.resource.id", "orchestrator.resource.type", "orchestrator.type",
    "process.command_line", "process.entity_id", "process.executable",
    "process.executable_elsewhere", "process.name", "process.pid",
    "rule.description", "rule.id", "rule.name",
    "server.bytes", "server.ip", "server.packets", "server.port",
    "service.name",
    "source.bytes", "source.ip", "source.packets", "source.port",
    "streamwatch.alert.acknowledged.at", "streamwatch.alert.acknowledged.by", "streamwatch.alert.acknowledged.until", "streamwatch.alert.acknowledged.why",
    "streamwatch.alert.cursor",
"streamwatch.alert.silenced.at", "streamwatch.alert.silenced.by", "streamwatch.alert.silenced.filter", "streamwatch.alert.silenced.id", "streamwatch.alert.silenced.until", "streamwatch.alert.silenced.why",
    "streamwatch.alert.count", "streamwatch.alert.first_seen", "streamwatch.alert.key",
    "streamwatch.alert.last_seen", "streamwatch.alert.remedy", "streamwatch.alert.state",
    "streamwatch.detail",
    "streamwatch.flow.before_start", "streamwatch.flow.failure", "streamwatch.flow.id",
    "streamwatch.flow.netns", "streamwatch.flow.state",
    "streamwatch.handshake_ns",
    "streamwatch.missing",
    "streamwatch.peer.container.id", "streamwatch.peer.container.runtime",
    "streamwatch.peer.missing",
    "streamwatch.peer.orchestrator.resource.id", "streamwatch.peer.orchestrator.resource.type",
    "streamwatch.peer.orchestrator.type",
    "streamwatch.peer.process.command_line", "streamwatch.peer.process.entity_id",
    "streamwatch.peer.process.executable", "streamwatch.peer.process.executable_elsewhere",
    "streamwatch.peer.process.name",
    "streamwatch.peer.process.pid", "streamwatch.peer.service.name",
    "streamwatch.peer.user.id", "streamwatch.peer.user.name",
    "streamwatch.posture",
    "streamwatch.ssh.authentication.failures", "streamwatch.ssh.authentication.state",
    "streamwatch.ssh.client_cipher", "streamwatch.ssh.client_mac", "streamwatch.ssh.client_version",
    "streamwatch.ssh.host_key", "streamwatch.ssh.key_exchange", "streamwatch.ssh.post_quantum",
    "streamwatch.ssh.server_cipher", "streamwatch.ssh.server_mac", "streamwatch.ssh.server_version",
    "streamwatch.stream.client", "streamwatch.stream.failed", "streamwatch.stream.first_seen",
    "streamwatch.stream.flows", "streamwatch.stream.key", "streamwatch.stream.last_seen",
    "streamwatch.stream.open", "streamwatch.stream.server",
    "streamwatch.tcp.retransmits", "streamwatch.tcp.rtt_us", "streamwatch.tcp.setup_ns",
    "streamwatch.tls.alert.description", "streamwatch.tls.alert.from", "streamwatch.tls.alpn_offered",
    "streamwatch.tls.client.chain_length", "streamwatch.tls.client.in_order",
    "streamwatch.tls.client.key_sha256", "streamwatch.tls.client.self_signed",
    "streamwatch.tls.client.spiffe_id",
    "streamwatch.tls.client_certificate.basis", "streamwatch.tls.client_certificate.state",
    "streamwatch.tls.early_data", "streamwatch.tls.encrypted_client_hello", "streamwatch.tls.ja4s",
    "streamwatch.tls.key_exchange", "streamwatch.tls.post_quantum",
    "streamwatch.tls.post_quantum_offered", "streamwatch.tls.renegotiated", "streamwatch.tls.retried",
    "streamwatch.tls.server.chain_length", "streamwatch.tls.server.in_order",
    "streamwatch.tls.server.key_sha256", "streamwatch.tls.server.self_signed",
    "streamwatch.tls.server.spiffe_id",
    "streamwatch.tls.signature", "streamwatch.tls.version_offered",
    "streamwatch.upgrade",
    "streamwatch.verdict.authenticated.answer", "streamwatch.verdict.authenticated.evidence",
    "streamwatch.verdict.authenticated.reason",
    "streamwatch.verdict.authorised.answer", "streamwatch.verdict.authorised.evidence",
    "streamwatch.verdict.authorised.reason",
    "streamwatch.verdict.encrypted.answer", "streamwatch.verdict.encrypted.evidence",
    "streamwatch.verdict.encrypted.reason",
    "streamwatch.verdict.watched.answer", "streamwatch.verdict.watched.evidence",
    "streamwatch.verdict.watched.reason",
    "tls.cipher",
    "tls.client.hash.sha256", "tls.client.issuer", "tls.client.ja3", "tls.client.ja4",
    "tls.client.not_after", "tls.client.not_before", "tls.client.server_name", "tls.client.subject",
    "tls.client.x509.alternative_names", "tls.client.x509.public_key_algorithm",
    "tls.client.x509.public_key_size", "tls.client.x509.serial_number",
    "tls.client.x509.signature_algorithm",
    "tls.curve", "tls.established", "tls.next_protocol", "tls.resumed",
    "tls.server.hash.sha256", "tls.server.issuer", "tls.server.ja3s", "tls.server.not_after",
    "tls.server.not_before", "tls.server.subject",
    "tls.server.x509.alternative_names", "tls.server.x509.public_key_algorithm",
    "tls.server.x509.public_key_size", "tls.server.x509.serial_number",
    "tls.server.x509.signature_algorithm",
    "tls.version", "tls.version_protocol",
    "user.id", "user.name",
    "stream", "name", "unit", "count", "min", "p50", "p90", "p99", "p999", "max", "mean",
];

impl Field {
    /// The field of that name, short or full.
    pub fn named(name: &str) -> Option<Self> {
        if let Some((_, paths)) = SHORT.iter().find(|(short, _)| *short == name) {
            let mut paths = paths.to_vec();
            // `unit` of a histogram stands at the top.
            paths.extend(FULL.iter().copied().filter(|full| *full == name));
            return Some(Field::Paths(paths));
        }
        if let Some(full) = FULL.iter().find(|full| **full == name) {
            return Some(Field::Paths(vec![full]));
        }
        let (side, part) = match name.split_once('.')? {
            ("client", part) => (Side::Client, part),
            ("server", part) => (Side::Server, part),
            _ => return None,
        };
        let (_, paths) = IDENTITY.iter().find(|(short, _)| *short == part)?;
        Some(Field::Of(side, paths))
    }

    /// What the record says; `None`: nothing.
    pub fn value<'a>(&self, record: &'a Value) -> Option<&'a Value> {
        match self {
            Field::Paths(paths) => paths.iter().find_map(|path| at(record, path)),
            Field::Of(side, paths) => {
                let ours = match at(record, "network.direction")?.as_str()? {
                    "egress" => Side::Client,
                    _ => Side::Server,
                };
                let end = if *side == ours { record } else { at(record, "streamwatch.peer")? };
                paths.iter().find_map(|path| at(end, path))
            }
        }
    }
}

/// The value at a dotted path.
pub fn at<'a>(record: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(record, |value, name| value.get(name))
}
