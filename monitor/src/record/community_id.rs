//! Community ID v1: one name for a connection across tools (Zeek, Suricata, Wireshark).
//!
//! Specification: <https://github.com/corelight/community-id-spec>. Seed 0.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::model::Transport;

/// `1:` and the base64 of a SHA-1 over the ordered 5-tuple.
pub fn community_id(transport: Transport, one: SocketAddr, other: SocketAddr) -> String {
    format!("1:{}", STANDARD.encode(digest(transport, one, other)))
}

/// The SHA-1 alone.
pub(super) fn digest(transport: Transport, one: SocketAddr, other: SocketAddr) -> [u8; 20] {
    let (first, second) =
        if (one.ip(), one.port()) <= (other.ip(), other.port()) { (one, other) } else { (other, one) };
    let mut hash = Sha1::new();
    hash.update(0u16.to_be_bytes());
    add_address(&mut hash, first.ip());
    add_address(&mut hash, second.ip());
    hash.update([iana_number(transport), 0]);
    hash.update(first.port().to_be_bytes());
    hash.update(second.port().to_be_bytes());
    hash.finalize().into()
}

/// The IANA protocol number.
pub fn iana_number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

fn add_address(hash: &mut Sha1, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => hash.update(v4.octets()),
        IpAddr::V6(v6) => hash.update(v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::community_id;
    use crate::model::Transport;

    fn id(transport: Transport, one: &str, other: &str) -> String {
        community_id(transport, one.parse().unwrap(), other.parse().unwrap())
    }

    /// Vectors of the specification's baseline and of pycommunityid's tests.
    #[test]
    fn published_vectors() {
        let tcp = "1:LQU9qZlK+B5F3KDmev6m5PMibrg=";
        assert_eq!(id(Transport::Tcp, "128.232.110.120:34855", "66.35.250.204:80"), tcp);
        assert_eq!(id(Transport::Tcp, "66.35.250.204:80", "128.232.110.120:34855"), tcp);
        let udp = "1:d/FP5EW3wiY1vCndhwleRRKHowQ=";
        assert_eq!(id(Transport::Udp, "192.168.1.52:54585", "8.8.8.8:53"), udp);
        assert_eq!(id(Transport::Udp, "8.8.8.8:53", "192.168.1.52:54585"), udp);
        let v6 = "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=";
        assert_eq!(
            id(
                Transport::Tcp,
                "[2001:470:e5bf:dead:4957:2174:e82c:4887]:63943",
                "[2607:f8b0:400c:c03::1a]:25"
            ),
            v6
        );
    }
}
