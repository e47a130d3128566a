//! Any datagrams, in any order and number: never a panic, nothing that cannot be shown, and what was
//! settled stays, whatever comes after it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::{hold_datagrams, turns};

fuzz_target!(|input: &[u8]| hold_datagrams(turns(input)));
