//! What /proc, the kernel's socket tables, cgroups and container runtimes say, any bytes of it: never a panic,
//! and no text that grows without bound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monitor::identity::fuzzing::{READERS, read};

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    for text in read(usize::from(*which) % READERS, bytes) {
        assert!(text.len() <= bytes.len() * 4 + 4096, "{} bytes of {}", text.len(), bytes.len());
    }
});
