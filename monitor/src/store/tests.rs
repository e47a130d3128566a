#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
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
        let Opened { store, saved, damage } = site.open();
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
    let Opened { store, saved, damage } = site.open();
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

/// One file is damaged: everything is there, and it is told.
fn damaged(site: &Site, whole: &[(PathBuf, Vec<u8>)], saved: &Saved, what: &str) {
    let opened = site.open();
    assert_eq!(&opened.saved, saved, "{what}");
    assert!(!opened.damage.is_empty(), "{what}: nobody was told");
    assert!(
        !opened.damage.iter().any(|line| line.contains(" lost"))
            || opened.damage.iter().any(|line| line == "nothing is lost"),
        "{what}: {:?}",
        opened.damage
    );
    // What was written anew is whole.
    opened.store.close();
    let again = site.open();
    assert_eq!((&again.saved, &again.damage), (saved, &Vec::new()), "{what}, opened again");
    drop(again);
    site.put(whole);
}

#[test]
fn any_flipped_bit_is_told_and_nothing_is_lost() {
    let (site, saved) = Site::filled("flips", 12);
    let whole = site.bytes();
    let mut random = random(1);
    for (path, bytes) in &whole {
        let header = (0..320).step_by(9);
        let length = bytes.len();
        let anywhere: Vec<usize> = (0..60).map(|_| random.random_range(0..length)).collect();
        for at in header.chain(anywhere).filter(|at| *at < length) {
            let mut broken = bytes.clone();
            let bit = random.random_range(0..8);
            broken[at] ^= 1 << bit;
            std::fs::write(path, broken).unwrap();
            damaged(&site, &whole, &saved, &format!("bit {bit} of byte {at} of {}", path.display()));
        }
    }
}

#[test]
fn any_truncation_is_told_and_nothing_is_lost() {
    let (site, saved) = Site::filled("cuts", 12);
    let whole = site.bytes();
    let mut random = random(2);
    for (path, bytes) in &whole {
        let some: Vec<usize> = (0..20).map(|_| random.random_range(0..bytes.len())).collect();
        for length in [0, 1, 64, 4096, bytes.len() - 1].into_iter().chain(some) {
            std::fs::write(path, &bytes[..length.min(bytes.len() - 1)]).unwrap();
            damaged(&site, &whole, &saved, &format!("{} cut to {length}", path.display()));
        }
    }
    for (path, _) in &whole[..2] {
        std::fs::remove_file(path).unwrap();
        damaged(&site, &whole, &saved, &format!("{} removed", path.display()));
    }
}

/// Both files are damaged in any way: no panic, nothing that was not kept, and what is missing is told.
#[test]
fn damage_to_both_copies_costs_what_is_damaged_and_is_told() {
    let (site, saved) = Site::filled("both", 40);
    let whole = site.bytes();
    let mut random = random(3);
    let (mut saved_some, mut lost_some) = (0, 0);
    for round in 0..150 {
        let mut broken = whole.clone();
        for (_, bytes) in &mut broken[..2] {
            for _ in 0..1 + round % 7 {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            if round % 5 == 0 {
                bytes.truncate(random.random_range(0..bytes.len()));
            }
        }
        site.put(&broken);
        let Opened { store, saved: found, damage } = site.open();
        drop(store);
        let told = damage.join("; ");
        assert!(!damage.is_empty(), "round {round}");
        let genuine = found.open.iter().all(|alert| saved.open.contains(alert))
            && found.told.iter().all(|alert| saved.told.contains(alert))
            && found.silences.iter().all(|silence| saved.silences.contains(silence))
            && found.baselines.iter().all(|baseline| saved.baselines.contains(baseline));
        assert!(genuine, "round {round}: {told}");
        if found == saved {
            saved_some += 1;
        } else {
            lost_some += 1;
            let says = ["lost", "nothing of what was kept", "as they were before", "commits"];
            assert!(
                says.iter().any(|word| told.contains(word)) && !told.contains("nothing is lost"),
                "round {round}: {told}"
            );
        }
        let Opened { saved: again, damage, .. } = site.open();
        assert_eq!((again, damage), (found, Vec::new()), "round {round}");
        site.put(&whole);
    }
    assert!(saved_some > 0 && lost_some > 0, "{saved_some} {lost_some}");
}

/// The record of one table is overwritten in both copies: that one is lost, and no other.
#[test]
fn a_record_that_is_damaged_in_both_copies_costs_that_record() {
    let (site, saved) = Site::filled("record", 3);
    let keys = site.keys();
    let look = copy::look(&site.path).unwrap();
    let envelope = Envelope::decode(look.envelope.as_deref().unwrap()).unwrap();
    let sealer = Sealer::new(&keys.unwrap(&envelope.wrapped).unwrap());
    let victim = &look.records[&sealer.address(Table::Told, &2_u64.to_be_bytes())];
    for path in site.copies() {
        let mut bytes = std::fs::read(&path).unwrap();
        let found: Vec<usize> =
            (0..bytes.len() - victim.len()).filter(|at| bytes[*at..].starts_with(victim)).collect();
        assert!(!found.is_empty());
        for at in found {
            bytes[at + 30] ^= 1;
        }
        std::fs::write(path, bytes).unwrap();
    }
    let Opened { saved: found, damage, .. } = site.open();
    assert!(damage.iter().any(|line| line == "1 of 3 alerts told are lost"), "{damage:?}");
    assert_eq!(found.told, [alert(1), alert(3)]);
    assert_eq!(
        (&found.open, &found.silences, &found.baselines),
        (&saved.open, &saved.silences, &saved.baselines)
    );
}

#[test]
fn a_crash_between_the_two_commits_is_made_up_for_without_a_word() {
    let (site, _) = Site::filled("between", 3);
    let [_, second] = site.copies();
    let before = std::fs::read(&second).unwrap();
    let mut store = site.open().store;
    store.keep(&[Change::Told(alert(4))]).unwrap();
    drop(store);
    std::fs::write(&second, &before).unwrap();
    let Opened { store, saved, damage } = site.open();
    assert_eq!((saved.told.len(), damage), (4, Vec::new()));
    drop(store);
    // Two commits are no crash.
    let mut store = site.open().store;
    store.keep(&[Change::Told(alert(5))]).unwrap();
    drop(store);
    std::fs::write(&second, before).unwrap();
    let Opened { saved, damage, .. } = site.open();
    assert_eq!(saved.told.len(), 5);
    assert!(damage[0].contains("lacks the last 2 commits") && damage[1] == "nothing is lost", "{damage:?}");
}

#[test]
fn files_that_are_no_state_are_put_aside_and_told() {
    let site = Site::new("broken");
    for path in site.copies() {
        std::fs::write(path, b"this is no database").unwrap();
    }
    let Opened { saved, damage, .. } = site.open();
    assert_eq!(saved, Saved::default());
    assert!(damage.len() == 3 && damage[2] == "nothing of what was kept could be saved", "{damage:?}");
    for path in site.copies() {
        assert_eq!(std::fs::read(beside(&path, ".broken")).unwrap(), b"this is no database");
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
    let Opened { mut store, saved: found, damage } = Store::open(&site.path, &keys).unwrap();
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
    let Opened { store, saved, damage } = site.open();
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

/// What another process acknowledges is there when it was killed at any moment.
#[test]
fn what_was_acknowledged_outlives_kill_9() {
    const TIMES: u32 = 120;
    let site = Site::new("kill");
    let began = Instant::now();
    let mut random = random(4);
    let mut acknowledged = 0_u64;
    let mut times = 0;
    while times < TIMES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env("STREAMWATCH_TEST_STATE", &site.path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // At least one commit, and then some: killed in the middle of one of them.
        let number = |line: String| line.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
        let some = random.random_range(1..5);
        for _ in 0..some {
            let line = lines.by_ref().find(|line| line.contains("kept ")).expect("the child keeps");
            acknowledged = acknowledged.max(number(line).unwrap());
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..3000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.filter(|line| line.contains("kept ")) {
            acknowledged = acknowledged.max(number(line).unwrap());
        }
        let Opened { saved, damage, .. } = site.open();
        assert_eq!(damage, Vec::<String>::new(), "after {times} times");
        let last = saved.told.last().map(|alert| alert.cursor);
        // One that was kept and not acknowledged any more may be there.
        assert!(last >= Some(acknowledged), "{acknowledged} was acknowledged, {last:?} is there");
        let expected = last.unwrap().min(KEPT as u64) as usize;
        assert_eq!(saved.told.len(), expected, "something in between is missing");
        assert_eq!(saved.open.len(), 1);
        acknowledged = last.unwrap();
        times += 1;
    }
    eprintln!("killed {times} times in {:?}, {acknowledged} commits", began.elapsed());
}

/// The other process of the test above; by itself it does nothing.
#[test]
#[ignore = "is run by what_was_acknowledged_outlives_kill_9"]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("STREAMWATCH_TEST_STATE").map(PathBuf::from) else { return };
    let keys = Keys::new(&State::default(), &path).unwrap();
    let Opened { mut store, saved, .. } = Store::open(&path, &keys).unwrap();
    let mut cursor = saved.told.last().map_or(0, |alert| alert.cursor);
    let mut out = std::io::stdout();
    loop {
        cursor += 1;
        let open = SavedAlert { count: cursor, ..alert(1) };
        store.keep(&[Change::Told(alert(cursor)), Change::Open(open)]).unwrap();
        writeln!(out, "kept {cursor}").unwrap();
        out.flush().unwrap();
    }
}
