//! Which values a field can have at all: a filter that asks for another one is a slip, and no flow matching it
//! would look like an answer.

use std::net::IpAddr;

use ipnet::IpNet;

use super::evaluate::number;
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
            number(value).is_none().then_some("a number, with or without a unit (kB, MB, GB; ms, s, min, h)")
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
