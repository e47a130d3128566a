//! Under which key a decision waits for a flow.

use std::collections::HashSet;

use monitor_common::{Secret, UdpKey};

/// How often something is tried: Miri takes a thousand times as long.
const TIMES: u32 = if cfg!(miri) { 3 } else { 1000 };

/// Numbers that look random (splitmix64), and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn secret(&mut self) -> Secret {
        std::array::from_fn(|_| self.next() as u32)
    }
}

fn peer(remote: [u8; 16], remote_port: u16) -> UdpKey {
    UdpKey { cookie: 77, remote, remote_port, local_port: 53, reserved: 0 }
}

fn with(mut remote: [u8; 16], flips: &[(usize, u8)]) -> [u8; 16] {
    for (at, bits) in flips {
        remote[*at] ^= bits;
    }
    remote
}

#[test]
fn no_two_peers_have_one_key_whatever_their_addresses_differ_in() {
    let mut numbers = Numbers(1);
    let mut remote = [0; 16];
    remote[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    for _ in 0..TIMES {
        let secret = numbers.secret();
        let key = |remote, port| peer(remote, port).decision_key(&secret);
        let this = key(remote, 4000);
        // One bit; and highest bits together, which cancel each other in a sum or product without a secret.
        for at in 0..16 {
            for bit in 0..8 {
                assert_ne!(this, key(with(remote, &[(at, 1 << bit)]), 4000), "byte {at}, bit {bit}");
            }
        }
        for (one, other) in [(7, 15), (3, 7), (11, 15), (3, 11)] {
            assert_ne!(this, key(with(remote, &[(one, 0x80), (other, 0x80)]), 4000), "bytes {one}, {other}");
        }
        for bit in 0..16 {
            assert_ne!(this, key(remote, 4000 ^ 1 << bit), "bit {bit} of the port");
        }
        // Another socket's.
        assert_ne!(this, UdpKey { cookie: 78, ..peer(remote, 4000) }.decision_key(&secret));
    }
}

#[test]
fn many_peers_of_one_socket_have_keys_of_their_own_which_another_secret_changes() {
    let mut numbers = Numbers(2);
    let (secret, another) = (numbers.secret(), numbers.secret());
    let peers = (0..200 * TIMES).map(|n| {
        let mut remote = [0; 16];
        remote[10..12].fill(0xff);
        remote[12..].copy_from_slice(&(0x0a00_0000 | n >> 2).to_be_bytes());
        peer(remote, 1024 + (n & 3) as u16)
    });
    let keys: HashSet<u64> = peers.clone().map(|peer| peer.decision_key(&secret)).collect();
    assert_eq!(keys.len(), 200 * TIMES as usize);
    assert!(peers.clone().all(|peer| !keys.contains(&peer.decision_key(&another))));
    // None is that of a connection: those are cookies.
    assert!(keys.iter().all(|key| key >> 63 == 1));
    let connection = UdpKey { remote_port: 0, local_port: 0, ..peer([9; 16], 0) };
    assert_eq!(connection.decision_key(&secret), 77);
}
