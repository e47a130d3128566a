//! TLS from the inside: records that are well-formed, whatever is in them, messages of a handshake that are
//! as long as they say. What must hold is what must hold of any stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::outside::tls_record;
use streamwatch_fuzz::{hold_stream, turns};

fuzz_target!(|input: &[u8]| {
    let records: Vec<_> = turns(input).take(64).map(|(from, piece)| (from, tls_record(piece))).collect();
    hold_stream(records.iter().map(|(from, record)| (*from, record.as_slice())), false);
});
