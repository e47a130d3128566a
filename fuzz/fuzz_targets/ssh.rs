//! SSH from the inside: lines of identification, and packets that are as long as they say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::outside::ssh;
use streamwatch_fuzz::{hold_stream, turns};

fuzz_target!(|input: &[u8]| {
    let pieces: Vec<_> = turns(input).take(64).map(|(from, piece)| (from, ssh(piece))).collect();
    hold_stream(pieces.iter().map(|(from, piece)| (*from, piece.as_slice())), false);
});
