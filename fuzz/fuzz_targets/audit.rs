//! What a server may answer an audit, any bytes: no panic, no talk without an end, and no more kept than asked.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monitor::audit::fuzzing::{flight, talk};

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    flight(bytes);
    talk(usize::from(*which), bytes);
});
