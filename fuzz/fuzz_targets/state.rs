//! Any bytes where state is kept: both copies of the daemon's, certificates of the audit. Never a panic; and
//! what cannot be read is told, never taken for nothing. A part of the inputs are changes to a whole state.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use monitor::alert::{Change, Saved};
use monitor::audit::Memory;
use monitor::config::State;
use monitor::detect::Baseline;
use monitor::keys::Keys;
use monitor::store::{Opened, Store};

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = place.join(format!("streamwatch-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for what is kept");
    directory
});

/// A state that is whole: its two copies, and what is in it.
static WHOLE: LazyLock<([Vec<u8>; 2], Saved)> = LazyLock::new(|| {
    let Opened { mut store, .. } = open().expect("a new state");
    let baseline = |n: u8| Change::Baseline(Baseline::Kept(format!("stream {n}"), vec![n; 300]));
    for n in 0..16 {
        store.keep(&[baseline(n)]).expect("kept");
    }
    drop(store);
    let saved = open().expect("whole").saved;
    (paths().map(|path| std::fs::read(path).expect("a copy")), saved)
});

fn paths() -> [PathBuf; 2] {
    ["state.redb", "state.redb.copy"].map(|name| DIRECTORY.join(name))
}

fn open() -> Result<Opened, monitor::store::StoreError> {
    let state = DIRECTORY.join("state.redb");
    Store::open(&state, &Keys::new(&State::default(), &state).expect("the default key"))
}

/// Three bytes where, one what.
fn change(bytes: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(4) {
        let at = usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
        let length = bytes.len();
        bytes[at % length] ^= change[3];
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((head, bytes)) = input.split_first() else { return };
    if head & 3 == 0 {
        let file = DIRECTORY.join("audit.redb");
        for old in monitor::audit::state_files(&file) {
            let _ = std::fs::remove_file(old);
        }
        std::fs::write(&file, bytes).expect("written");
        match Memory::open(&file, &State::default()) {
            Ok(mut memory) => {
                memory.save().expect("what was read can be kept");
                memory.close();
                let again = Memory::open(&file, &State::default()).expect("and read again");
                assert_eq!(again.damage, Vec::<String>::new());
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(std::fs::read(&file).expect("still there"), bytes, "written over");
            }
        }
        return;
    }
    let (whole, saved) = &*WHOLE;
    let [mut first, mut second] = whole.clone();
    match head & 3 {
        // A copy that is anything at all.
        1 => first = bytes.to_vec(),
        2 => change(&mut first, bytes),
        _ => {
            let (one, other) = bytes.split_at(bytes.len() / 2);
            change(&mut first, one);
            change(&mut second, other);
        }
    }
    let [at, beside] = paths();
    std::fs::write(at, &first).expect("written");
    std::fs::write(beside, &second).expect("written");
    match open() {
        Ok(Opened { store, saved: found, damage, .. }) => {
            // It holds the lock.
            drop(store);
            assert!(
                found.baselines.iter().all(|one| saved.baselines.contains(one)),
                "something that was not kept"
            );
            if second == whole[1] {
                assert_eq!(&found, saved, "one copy is whole");
            }
            assert!(&found == saved || !damage.is_empty(), "lost without a word");
            let again = open().expect("what was put together");
            assert_eq!((again.saved, again.damage), (found, Vec::new()));
        }
        // An envelope that names another key and is whole: the files wait for it.
        Err(error) => assert!(error.to_string().starts_with("no key for "), "{error}"),
    }
});
