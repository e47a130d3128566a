//! Bytes of the ring to events. Pure; holds no aya type.
//!
//! In: one record of the ring. Out: an [`Event`]. A record that is too short, or of a kind that this
//! version does not know, is an error that the caller counts: it never stops the stream.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use monitor_common::{CaptureHead, Counters, FlowEvent, Kind, Record, Refusal, UdpFlow, UdpKey};

use serde::{Deserialize, Serialize};

use crate::model::Tampered;
use crate::wire::{kind, plain, plain_box, plain_option};

/// What the kernel side tells the core.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// A step in the life of a flow, or of a listening socket.
    Flow(#[serde(with = "kind")] Kind, #[serde(with = "plain")] FlowEvent),
    /// First bytes of one direction.
    Capture(#[serde(with = "plain")] CaptureHead, Box<[u8]>),
    /// The counters of all processors, added up; once a second.
    Counters(#[serde(with = "plain_box")] Box<Counters>),
    /// Totals of a UDP flow, read from the table; `ended`: its entry there is gone.
    Udp {
        #[serde(with = "plain")]
        key: UdpKey,
        #[serde(with = "plain_option")]
        totals: Option<UdpFlow>,
        ended: bool,
    },
    /// Counted since before this daemon.
    UdpLeft(#[serde(with = "plain")] UdpKey, #[serde(with = "plain")] UdpFlow),
    /// What was done to our hooks.
    Tampered(Vec<Tampered>),
}

/// A record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a record of {0} bytes is too short")]
    Short(usize),
    #[error("kind {0} is unknown")]
    Kind(u8),
}

/// Reads one record of the ring.
///
/// # Errors
/// When it is too short for what it says it is, or its kind is unknown.
pub fn decode(record: &[u8]) -> Result<Event, DecodeError> {
    match monitor_common::decode(record) {
        Ok(Record::Flow(kind, event)) => Ok(Event::Flow(kind, event)),
        Ok(Record::Capture(head, data)) => Ok(Event::Capture(head, data.into())),
        Err(Refusal::Short) => Err(DecodeError::Short(record.len())),
        Err(Refusal::Kind(kind)) => Err(DecodeError::Kind(kind)),
    }
}

/// An address of the events as the rest of the program has it: v4-mapped ones as IPv4.
pub fn address(bytes: [u8; 16], port: u16) -> SocketAddr {
    let v6 = Ipv6Addr::from(bytes);
    SocketAddr::new(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4), port)
}

/// The other way: an address as the kernel's tables have it.
pub fn to_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_common::Plain as _;
    use proptest::prelude::*;

    #[test]
    fn a_capture_carries_its_bytes() {
        let head = CaptureHead { kind: Kind::Capture as u8, len: 3, ..CaptureHead::default() };
        let mut record = head.as_bytes().to_vec();
        record.extend_from_slice(b"GET and slack of the record");
        match decode(&record) {
            Ok(Event::Capture(read, data)) => {
                assert_eq!(read, head);
                assert_eq!(&*data, b"GET");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_length_beyond_the_record_is_refused() {
        let head = CaptureHead { kind: Kind::Capture as u8, len: 4, ..CaptureHead::default() };
        let mut record = head.as_bytes().to_vec();
        record.extend_from_slice(b"GET");
        assert_eq!(decode(&record).err(), Some(DecodeError::Short(record.len())));
    }

    #[test]
    fn addresses_keep_their_family() {
        for text in ["10.1.2.3:80", "[2001:db8::1]:443", "[::1]:1"] {
            let parsed: SocketAddr = text.parse().expect("an address");
            assert_eq!(address(to_bytes(parsed.ip()), parsed.port()), parsed);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_say_why(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }
    }
}
