//! Any bytes of both directions, cut anywhere: never a panic, nothing that cannot be shown, and what was
//! settled stays.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::{hold_stream, turns};

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else { return };
    hold_stream(turns(rest).take(64), flags & 1 != 0);
});
