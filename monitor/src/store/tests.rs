#![allow(clippy::unwrap_used)]

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;
use crate::alert::SavedAlert;
use crate::config::State;
use crate::keys::Place;
use crate::model::{AlertView, Silence};
use crate::record::samples;

mod another_key;
mod damage;
mod instead;
mod killed;
mod misplaced;

/// A directory with a state in it; removed on drop.
struct Site {
    directory: PathBuf,
    path: PathBuf,
}

impl Site {
    fn new(name: &str) -> Site {
        // What is tested is not the disk.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = place.join(format!("streamwatch-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        Site { path: directory.join("state.redb"), directory }
    }

    fn keys(&self) -> Keys {
        Keys::new(&State::default(), &self.path).unwrap()
    }

    fn open(&self) -> Opened {
        self.open_by(&self.keys()).unwrap()
    }

    fn open_by(&self, keys: &Keys) -> Result<Opened, StoreError> {
        // Another test that starts a process holds our lock between fork and exec.
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            match Store::open(&self.path, keys) {
                Err(StoreError::InUse { .. }) if Instant::now() < patience => std::thread::yield_now(),
                opened => return opened,
            }
        }
    }

    /// Two alerts are open, `told` were told, some streams are known, one silence.
    fn filled(name: &str, told: u64) -> (Site, Saved) {
        let site = Site::new(name);
        let mut store = site.open().store;
        for cursor in 1..=told {
            store.keep(&[Change::Told(alert(cursor))]).unwrap();
        }
        store.keep(&[Change::Open(alert(1)), Change::Open(alert(2)), Change::Open(alert(3))]).unwrap();
        let silence = |id| Silence {
            id,
            filter: "rule.id = plaintext".into(),
            by: 0,
            at: Timestamp::UNIX_EPOCH,
            until: Timestamp::UNIX_EPOCH,
            why: "known".into(),
        };
        store.keep(&[Change::Silences(vec![silence(1), silence(2)])]).unwrap();
        store.keep(&[Change::Silences(vec![silence(2)]), Change::Closed(alert(3).key)]).unwrap();
        let baseline =
            |n: u8| Change::Baseline(Baseline::Kept(format!("curl → secret-host-{n}:443/tcp"), vec![n; 900]));
        store.keep(&(0..20).map(baseline).collect::<Vec<_>>()).unwrap();
        store.close();
        let Opened { store, saved, damage, .. } = site.open();
        assert_eq!(damage, Vec::<String>::new());
        store.close();
        (site, saved)
    }

    fn copies(&self) -> [PathBuf; 2] {
        paths(&self.path)
    }

    fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let [a, b] = self.copies();
        [a, b, sums::path(&self.path)]
            .into_iter()
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }

    fn put(&self, files: &[(PathBuf, Vec<u8>)]) {
        for (path, bytes) in files {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn alert(cursor: u64) -> SavedAlert {
    let view = AlertView { cursor, key: format!("plaintext|secret-{cursor}"), ..samples::alert() };
    SavedAlert { reason: "secret-reason".into(), ..SavedAlert::of(&view) }
}

fn random(seed: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])
}

#[test]
fn what_is_kept_is_there_after_opening_again() {
    let (site, saved) = Site::filled("again", 5);
    assert_eq!(saved.open, [alert(1), alert(2)]);
    assert_eq!(saved.told.len(), 5);
    assert_eq!((saved.silences.len(), saved.silences[0].id), (1, 2));
    assert_eq!(saved.baselines.len(), 20);
    assert_eq!(saved.baselines[0], ("curl → secret-host-0:443/tcp".to_owned(), vec![0; 900]));
    let Opened { mut store, .. } = site.open();
    // A second daemon is refused; the files stay as they are.
    assert!(matches!(Store::open(&site.path, &site.keys()), Err(StoreError::InUse { .. })));
    store
        .keep(&[Change::Closed(alert(1).key), Change::Baseline(Baseline::Gone(saved.baselines[0].0.clone()))])
        .unwrap();
    drop(store);
    let again = site.open().saved;
    assert_eq!((again.open.len(), again.baselines.len()), (1, 19));
    for path in files(&site.path).into_iter().filter(|path| path.exists()) {
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o077, 0, "{}", path.display());
    }
    // And no file that is not in the list.
    for file in std::fs::read_dir(&site.directory).unwrap() {
        assert!(files(&site.path).contains(&file.unwrap().path()));
    }
}

#[test]
fn of_what_was_told_the_last_are_kept() {
    let site = Site::new("told");
    let mut store = site.open().store;
    let all: Vec<Change> = (1..=KEPT as u64 + 50).map(|cursor| Change::Told(alert(cursor))).collect();
    store.keep(&all).unwrap();
    store.keep(&[Change::Told(alert(KEPT as u64 + 51))]).unwrap();
    drop(store);
    let Opened { saved, damage, .. } = site.open();
    assert_eq!(damage, Vec::<String>::new());
    assert_eq!((saved.told.len(), saved.told[0].cursor), (KEPT, 52));
}

/// As many streams as there are changes, of names that differ.
fn streams(from: u64, count: u64, bytes: usize) -> Vec<Change> {
    (from..from + count).map(|n| Change::Baseline(Baseline::Kept(format!("s{n}"), vec![0; bytes]))).collect()
}

#[test]
fn a_worker_in_other_hands_has_no_more_kept_than_there_may_be() {
    let (site, before) = Site::filled("bounded", 5);
    let mut store = site.open().store;
    // A part of it, which is had sooner.
    store.most[Table::Open as usize].bytes /= 32;
    store.most[Table::Told as usize].bytes /= 8;
    store.most[Table::Baselines as usize].records /= 32;
    let rooms = store.most;
    let most = |table: Table| rooms[table as usize];
    let size = |store: &Store, table: Table| store.used[table as usize];
    // Many, in one go and again.
    let baselines = most(Table::Baselines).records;
    assert_eq!(store.keep(&streams(0, baselines - 20, 10)).unwrap(), Refused::default());
    let refused = store.keep(&streams(baselines, 100, 10)).unwrap();
    assert_eq!((refused.changes, refused.told.len()), (100, 1), "{:?}", refused.told);
    assert!(refused.told[0].contains("baselines"), "{:?}", refused.told);
    // It is told once, and counted each time.
    let again = Refused { changes: 100, ..Refused::default() };
    assert_eq!(store.keep(&streams(baselines, 100, 10)).unwrap(), again);
    assert_eq!(size(&store, Table::Baselines).records, baselines);
    // What is there is brought up to date, and what goes makes room in the same breath.
    assert_eq!(store.keep(&streams(7, 1, 20)).unwrap().changes, 0);
    let mut swap = streams(baselines, 1, 10);
    swap.push(Change::Baseline(Baseline::Gone("s7".into())));
    assert_eq!(store.keep(&swap).unwrap().changes, 0);
    // Large ones: no record beyond the longest, and of those as many as have room.
    let long = |n: u64, length| Change::Open(SavedAlert { reason: "x".repeat(length), ..alert(n) });
    assert_eq!(store.keep(&[long(100, limits::LONGEST as usize)]).unwrap().changes, 1);
    let fit = most(Table::Open).bytes / (250 << 10);
    let many: Vec<Change> = (0..fit + 20).map(|n| long(1000 + n, 250 << 10)).collect();
    let refused = store.keep(&many).unwrap().changes;
    assert!((20..=22).contains(&refused), "{refused}");
    assert!(size(&store, Table::Open).bytes <= most(Table::Open).bytes);
    // Of what was told the last ones stay, in count and in bytes.
    let told = |cursor| Change::Told(SavedAlert { reason: "x".repeat(250 << 10), ..alert(cursor) });
    for first in [10, 20] {
        assert_eq!(store.keep(&(first..first + 10).map(told).collect::<Vec<_>>()).unwrap().changes, 0);
    }
    assert_eq!(store.keep(&[told(u64::MAX)]).unwrap().changes, 1, "no cursor comes after it");
    // All silences or none.
    let silence = before.silences[0].clone();
    let many: Vec<Silence> = (0..1000).map(|id| Silence { id, ..silence.clone() }).collect();
    let last = vec![Silence { id: u64::MAX, ..silence.clone() }];
    let large = vec![Silence { why: "x".repeat(300 << 10), ..silence }];
    for all in [many, last, large] {
        assert_eq!(store.keep(&[Change::Silences(all)]).unwrap().changes, 1);
    }
    let used = store.used;
    store.close();
    let Opened { store, saved, damage, .. } = site.open();
    assert_eq!(damage, Vec::<String>::new());
    // Nothing that was kept before is gone, except of what was told.
    assert_eq!(saved.silences, before.silences);
    assert!(before.open.iter().all(|alert| saved.open.contains(alert)));
    assert!(before.baselines.iter().all(|past| saved.baselines.contains(past)));
    let told = saved.told.iter().map(|alert| alert.cursor).collect::<Vec<_>>();
    assert!(told.len() as u64 * (250 << 10) <= most(Table::Told).bytes && told.len() > 6);
    assert_eq!(told, (30 - told.len() as u64..30).collect::<Vec<_>>());
    assert_eq!(store.used, used, "what is counted is what is there");
}

#[test]
fn nothing_readable_is_on_the_disk() {
    let (site, _) = Site::filled("readable", 20);
    for (path, bytes) in site.bytes() {
        for word in ["secret", "plaintext", "curl", "rule.id", "known", "reason"] {
            let found = bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
            assert!(!found, "{word} is in {}", path.display());
        }
    }
    // Nor the key.
    let key = std::fs::read(crate::keys::default_file(&site.path)).unwrap();
    for (path, bytes) in site.bytes() {
        assert!(!bytes.windows(32).any(|window| window == key), "{}", path.display());
    }
}

#[test]
fn without_the_right_key_the_files_stay_as_they_are() {
    let (site, saved) = Site::filled("wrong", 3);
    let whole = site.bytes();
    let key = crate::keys::default_file(&site.path);
    let aside = site.directory.join("aside");
    std::fs::rename(&key, &aside).unwrap();
    let told = Store::open(&site.path, &site.keys()).unwrap_err().to_string();
    assert!(told.contains("state.key: can't be read"), "{told}");
    assert!(!key.exists(), "a new key was made for a file that has one");
    crate::keys::Keys::new(&State::default(), &site.path).unwrap().first_key().unwrap();
    let told = Store::open(&site.path, &site.keys()).unwrap_err().to_string();
    assert!(told.contains("name it in state.previous"), "{told}");
    assert_eq!(site.bytes(), whole);
    // The old one, named as such, opens them.
    let settings = State { previous: vec![Place::File(aside)], ..State::default() };
    let keys = Keys::new(&settings, &site.path).unwrap();
    let Opened { mut store, saved: found, damage, .. } = Store::open(&site.path, &keys).unwrap();
    assert_eq!((found, damage), (saved.clone(), Vec::new()));
    let (key, wrapped) = keys.new_key().unwrap();
    assert!(store.wants_another_key(&wrapped, Timestamp::now()));
    store.rewrite(&key, wrapped, Timestamp::now()).unwrap();
    let (_, now) = keys.new_key().unwrap();
    assert!(!store.wants_another_key(&now, Timestamp::now()));
    let day = jiff::SignedDuration::from_hours(24);
    assert!(store.wants_another_key(&now, Timestamp::now() + day * 91), "a file key is not used for ever");
    store.keep(&[Change::Told(alert(9))]).unwrap();
    store.close();
    // And then it is no longer needed.
    let Opened { saved: found, damage, .. } = site.open();
    assert_eq!((found.told.len(), found.open, damage), (4, saved.open, Vec::new()));
}

#[test]
fn a_crash_while_the_key_is_changed_loses_nothing() {
    let (site, saved) = Site::filled("changed", 3);
    let old = site.bytes();
    let key = crate::keys::default_file(&site.path);
    let mut store = site.open().store;
    std::fs::remove_file(&key).unwrap();
    let keys = site.keys();
    let (file_key, wrapped) = keys.first_key().unwrap();
    store.rewrite(&file_key, wrapped, Timestamp::now()).unwrap();
    drop(store);
    // The second copy had not been written yet.
    std::fs::write(&old[1].0, &old[1].1).unwrap();
    let Opened { saved: found, damage, .. } = site.open();
    assert_eq!(found, saved);
    assert!(damage[0].contains("is under another key") && damage[1] == "nothing is lost", "{damage:?}");
    assert_eq!(site.open().damage, Vec::<String>::new());
}

#[test]
fn a_file_in_the_clear_is_read_once_and_then_gone_from_the_disk() {
    use redb::{Database, TableDefinition};
    let site = Site::new("clear");
    let database = Database::create(&site.path).unwrap();
    let write = database.begin_write().unwrap();
    let texts = |name| TableDefinition::<&str, &[u8]>::new(name);
    let numbers = |name| TableDefinition::<u64, &[u8]>::new(name);
    write
        .open_table(texts("open-alerts"))
        .unwrap()
        .insert(alert(1).key.as_str(), &record::json(&alert(1))[..])
        .unwrap();
    write.open_table(numbers("told-alerts")).unwrap().insert(1, &record::json(&alert(1))[..]).unwrap();
    write.open_table(numbers("silences")).unwrap();
    write.open_table(texts("baselines")).unwrap().insert("curl → secret", &[7; 50][..]).unwrap();
    write.commit().unwrap();
    drop(database);
    let clear = std::fs::read(&site.path).unwrap();
    let Opened { store, saved, damage, .. } = site.open();
    assert_eq!((saved.open.len(), saved.told.len(), saved.baselines.len()), (1, 1, 1));
    assert!(damage.len() == 1 && damage[0].contains("was in the clear"), "{damage:?}");
    drop(store);
    for file in std::fs::read_dir(&site.directory).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
    }
    // Killed before the old file was removed: the next start does it.
    let aside = beside(&site.path, ".broken");
    std::fs::write(&aside, clear).unwrap();
    let Opened { saved: again, damage, .. } = site.open();
    assert_eq!((again, damage), (saved, Vec::new()));
    assert!(!aside.exists(), "it is still there in the clear");
}
