//! SSDP, the discovery of UPnP.
//!
//! Source: UPnP Device Architecture 2.0 §1. Evidence: the request line, 150 bits of text.

use super::evidence::one_of;
use crate::probe::{Found, Probe};
use crate::{Hint, Protocol};

const REQUESTS: [&[u8]; 2] = [b"M-SEARCH * HTTP/1.", b"NOTIFY * HTTP/1."];

pub(super) fn datagram(client: &[&[u8]], _: &[&[u8]], _: Hint) -> Probe {
    match client.first().map(|first| one_of(first, &REQUESTS)) {
        None => Probe::Maybe,
        Some(Ok(_)) => Probe::Yes(Found::plain(Protocol::Ssdp)),
        Some(Err(_)) => Probe::No,
    }
}
