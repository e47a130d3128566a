//! QUIC behind its encryption: any frames in Initial packets that open, of either version, among any other
//! packets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::quic::Connection;
use streamwatch_fuzz::{hold_datagrams, turns};

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first() else { return };
    let mut connection = Connection::new(head & 1 != 0);
    let datagrams: Vec<_> =
        turns(rest).take(32).map(|(from, piece)| (from, connection.datagram(from, piece))).collect();
    hold_datagrams(datagrams.iter().map(|(from, datagram)| (*from, datagram.as_slice())));
});
