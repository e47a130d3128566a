//! What services that hold keys answer (Vault's KV store and transit, KMS, STS, the instance metadata), and what files
//! with keys hold, any bytes: never a panic, and no text of it that is long, or does anything to a terminal. The first
//! byte is the reader, two more the status.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monitor::keys::fuzzing::{READERS, Readers};
use monitor::record::is_active;

thread_local!(static ALL: Readers = Readers::default());

fuzz_target!(|input: &[u8]| {
    let Some(([which, high, low], body)) = input.split_first_chunk() else { return };
    let status = 100 + u16::from_be_bytes([*high, *low]) % 500;
    let read = ALL.with(|all| all.read(usize::from(*which) % READERS, status, body));
    let texts = match read {
        Ok(texts) => texts,
        Err(told) => {
            assert!((1..=512).contains(&told.len()), "a line of {} bytes", told.len());
            vec![told]
        }
    };
    for text in texts {
        assert!(text.len() <= 2048, "{} bytes", text.len());
        assert!(!text.contains(is_active), "{text:?}");
    }
});
