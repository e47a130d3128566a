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
pub(super) fn expected(field: &Field, operator: Operator, value: &str) -> Option<&'static str> {
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
            (!is_one).then_some(expected)
        }
        Operator::Equal | Operator::NotEqual if all(&|path| path.ends_with(".ip")) => {
            let is_one = value.parse::<IpAddr>().is_ok() || value.parse::<IpNet>().is_ok();
            (!is_one).then_some("an address or a range such as 10.0.0.0/8 (=~ takes a part of one)")
        }
        Operator::Equal | Operator::NotEqual if all(&|path| path.ends_with("user.id")) => {
            value.parse::<u32>().is_err().then_some("a user's number (the field user takes names, too)")
        }
        Operator::Equal | Operator::NotEqual if all(&|path| path.ends_with(".answer")) => {
            (!matches!(value, "yes" | "no" | "unknown")).then_some("yes, no or unknown")
        }
        _ => None,
    }
}
