//! DTLS from the inside: records and fragments of messages that are as long as they say, in any order, one a
//! datagram.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::outside::dtls_record;
use streamwatch_fuzz::{hold_datagrams, turns};

fuzz_target!(|input: &[u8]| {
    let records: Vec<_> = turns(input).take(32).map(|(from, piece)| (from, dtls_record(piece))).collect();
    hold_datagrams(records.iter().map(|(from, record)| (*from, record.as_slice())));
});
