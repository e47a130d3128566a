//! Which values a field can have at all: a filter that asks for another one is a slip, and no flow matching it
//! would look like an answer.

use std::net::IpAddr;

use ipnet::IpNet;

use super::evaluate::{Unit, number_of};
use super::{Field, Operator};

/// Paths that hold a number in every record.
#[rustfmt::skip]
pub(super) const NUMBERS: &[&str] = &[
    "client.bytes", "client.packets", "client.port",
    "destination.bytes", "destination.packets", "destination.port",
    "event.duration", "event.severity",
    "network.bytes", "network.packets",
    "process.pid",
    "server.bytes", "server.packets", "server.port",
    "source.bytes", "source.packets", "source.port",
    "streamwatch.alert.count", "streamwatch.handshake_ns", "streamwatch.peer.process.pid",
    "streamwatch.stream.failed", "streamwatch.stream.flows", "streamwatch.stream.open",
    "streamwatch.tcp.retransmits", "streamwatch.tcp.rtt_us", "streamwatch.tcp.setup_ns",
];

/// Paths that hold one of a few words in every record, and those.
#[rustfmt::skip]
pub(super) const WORDS: &[(&str, &[&str])] = &[
    ("network.direction", &["ingress", "egress"]),
    ("network.transport", &["tcp", "udp"]),
    ("network.type", &["ipv4", "ipv6"]),
    ("streamwatch.alert.state", &["opened", "repeated", "resolved"]),
    ("streamwatch.flow.before_start", BOOLEAN),
    ("streamwatch.flow.failure", &["refused", "timed_out", "unreachable", "abandoned"]),
    ("streamwatch.flow.state", &["opening", "open", "closed", "failed"]),
    ("streamwatch.ssh.post_quantum", BOOLEAN),
    ("streamwatch.tls.early_data", &["offered", "rejected"]),
    ("streamwatch.tls.encrypted_client_hello", BOOLEAN),
    ("streamwatch.tls.post_quantum", BOOLEAN),
    ("streamwatch.tls.post_quantum_offered", BOOLEAN),
    ("streamwatch.tls.renegotiated", BOOLEAN),
    ("streamwatch.tls.retried", BOOLEAN),
    ("tls.established", BOOLEAN),
    ("tls.resumed", BOOLEAN),
];

const BOOLEAN: &[&str] = &["true", "false"];

fn words(path: &str) -> Option<&'static [&'static str]> {
    WORDS.iter().find(|(of, _)| *of == path).map(|(_, words)| *words)
}

/// Those of a time are of nanoseconds, but for this one.
const MICROSECONDS: &str = "streamwatch.tcp.rtt_us";

/// What a number in that path can be of, and how to say so.
fn units(path: &str) -> (&'static [Unit], &'static str) {
    if path == "event.severity" {
        (&[Unit::Severity], "low, medium, high, critical, or 1 to 4")
    } else if path.ends_with(".bytes") {
        (&[Unit::Many, Unit::Bytes], "a number, with or without a unit (kB, MB, GB)")
    } else if path.ends_with("_ns") || matches!(path, "event.duration" | MICROSECONDS) {
        (&[Unit::Time], "a number, with or without a unit (us, ms, s, min, h)")
    } else {
        (&[Unit::Many], "a number")
    }
}

/// The value as the field counts.
pub(super) fn as_counted(field: &Field, value: String) -> String {
    match (field, number_of(&value)) {
        (Field::Paths(paths), Some((nanoseconds, Unit::Time))) if paths.as_slice() == [MICROSECONDS] => {
            (nanoseconds / 1000.0).to_string()
        }
        _ => value,
    }
}

/// What such a field is compared with, where it is never equal to `value`, nor less or more.
pub(super) fn expected(field: &Field, operator: Operator, value: &str) -> Option<String> {
    let paths: &[&str] = match field {
        Field::Paths(paths) => paths,
        Field::Of(_, paths) => paths,
    };
    let all = |test: &dyn Fn(&str) -> bool| paths.iter().all(|path| test(path));
    match operator {
        Operator::Like => None,
        _ if all(&|path| NUMBERS.contains(&path)) => {
            let (can, expected) = paths.first().map_or((&[][..], "a number"), |path| units(path));
            let is_one = number_of(value).is_some_and(|(_, unit)| unit == Unit::Any || can.contains(&unit));
            (!is_one).then(|| expected.to_owned())
        }
        Operator::Equal | Operator::NotEqual if all(&|path| path.ends_with(".ip")) => {
            let is_one = value.parse::<IpAddr>().is_ok() || value.parse::<IpNet>().is_ok();
            (!is_one).then(|| "an address or a range such as 10.0.0.0/8 (=~ takes a part of one)".to_owned())
        }
        Operator::Equal | Operator::NotEqual if all(&|path| path.ends_with("user.id")) => {
            let is_one = value.parse::<u32>().is_ok();
            (!is_one).then(|| "a user's number (the field user takes names, too)".to_owned())
        }
        Operator::Equal | Operator::NotEqual if all(&|path| path.ends_with(".answer")) => {
            (!matches!(value, "yes" | "no" | "unknown")).then(|| "yes, no or unknown".to_owned())
        }
        Operator::Equal | Operator::NotEqual if all(&|path| words(path).is_some()) => {
            let mut all: Vec<&str> = paths.iter().filter_map(|path| words(path)).flatten().copied().collect();
            all.dedup();
            let (last, others) = all.split_last()?;
            let is_one = all.contains(&value);
            (!is_one).then(|| format!("{} or {last}", others.join(", ")))
        }
        _ => None,
    }
}
