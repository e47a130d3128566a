//! Any bytes where state is kept: alerts and silences of the daemon, certificates of the audit. Never a panic;
//! and what cannot be read is set aside or an error, never taken for nothing.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use monitor::audit::Memory;
use monitor::store::Store;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("streamwatch-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for what is kept");
    directory
});

fuzz_target!(|input: &[u8]| {
    let Some((head, bytes)) = input.split_first() else { return };
    if head & 1 == 0 {
        let file = DIRECTORY.join("audit.json");
        std::fs::write(&file, bytes).expect("written");
        match Memory::load(&file) {
            Ok(memory) => {
                memory.save(&file).expect("what was read can be kept");
                Memory::load(&file).expect("and read again");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        return;
    }
    let file = DIRECTORY.join("state.redb");
    let _ = std::fs::remove_file(file.with_extension("broken"));
    std::fs::write(&file, bytes).expect("written");
    let mut aside = 0;
    match Store::open(&file, |_| aside += 1) {
        Ok((store, saved)) => {
            drop(store);
            assert!(aside == 0 || saved.open.is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
