//! Protocols in the clear, recognised by content.
//!
//! In: the first bytes of both directions, or the first datagrams. Out: which protocol, and whether an
//! upgrade to TLS was offered, asked for, granted or refused. Must never: go back on an answer when
//! more bytes come; name a protocol by its port; repeat what a user typed (product versions and
//! commands from fixed lists are all that is shown).
//!
//! How strong the evidence of each is stands at the head of its file; in short, the bits that a flow of
//! another kind would have to hit by chance:
//!
//! | protocol | alone | with the other side's answer |
//! |---|---|---|
//! | PostgreSQL, MySQL, TDS, RDP, NATS, AMQP, MQTT, MongoDB, STOMP, Git, rsync, BGP, DNS, SSDP | 50 to 150 | |
//! | Redis, memcached, Cassandra, ZooKeeper, Kafka | 45 to 80 (arrays, storage, `OPTIONS`, sessions, `ApiVersions`) | inline, text, four letters, other requests |
//! | syslog, DHCP, STUN | 50 | |
//! | NTP | 280 (mostly zero) | 64 and more |
//! | Telnet | 48 | 32 |
//! | statsd | 21 of text | |
//!
//! The side that speaks first leads: its word alone is yes or no (see [`evidence`]).

mod amqp;
mod bgp;
mod cassandra;
mod dhcp;
mod dns;
mod evidence;
mod git;
mod kafka;
mod memcached;
mod mongodb;
mod mqtt;
mod mysql;
mod nats;
mod ntp;
mod postgresql;
mod rdp;
pub(crate) mod redis;
mod rsync;
mod ssdp;
mod statsd;
mod stomp;
pub(crate) mod stun;
mod syslog;
mod tds;
mod telnet;
#[cfg(test)]
mod tests;
mod zookeeper;

pub(crate) use tds::payload as tds_payload;

use crate::probe::Probe;
use crate::{Hint, Prefix};

/// Looks at (client, server) of a connection.
type StreamProbe = fn(Prefix<'_>, Prefix<'_>, Hint) -> Probe;

/// Looks at the first datagrams of (client, server).
type DatagramProbe = fn(&[&[u8]], &[&[u8]], Hint) -> Probe;

/// Asked in this order of TCP connections.
pub(crate) const STREAM: &[StreamProbe] = &[
    postgresql::probe,
    mysql::probe,
    tds::probe,
    rdp::probe,
    nats::probe,
    amqp::zero,
    amqp::one,
    mqtt::probe,
    zookeeper::probe,
    kafka::probe,
    mongodb::probe,
    cassandra::probe,
    dns::stream,
    redis::probe,
    memcached::stream,
    stomp::probe,
    git::probe,
    rsync::probe,
    bgp::probe,
    telnet::probe,
    syslog::stream,
    statsd::stream,
];

/// Asked in this order of UDP flows.
pub(crate) const DATAGRAM: &[DatagramProbe] = &[
    dns::datagram,
    dhcp::datagram,
    ssdp::datagram,
    memcached::datagram,
    syslog::datagram,
    statsd::datagram,
    ntp::datagram,
];
