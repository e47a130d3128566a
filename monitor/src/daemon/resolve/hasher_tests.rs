#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;

use super::*;
use crate::identity::TestDirectory;

struct Rig {
    hashing: Hashing,
    hashes: Hashes,
    found: Receiver<Found>,
    looks: Arc<Stage>,
    hasher: Hasher,
    reader: Reader,
}

fn rig() -> Rig {
    let (found_in, found) = bounded(64);
    let (hashes, looks) = (Hashes::default(), Stage::looks(4));
    let (hashing, hasher, reader) = hashing(found_in, hashes.clone(), looks.clone(), StillRead::default());
    Rig { hashing, hashes, found, looks, hasher, reader }
}

fn user(uid: u32) -> Who {
    Who::User { uid, is_named: true }
}

/// This test's program.
fn own(hashes: &Hashes) -> Option<Unhashed> {
    let pid = std::process::id();
    let executable = hashes.executable(TestDirectory::open(pid).unwrap().as_fd(), pid).unwrap();
    Some(Unhashed { executable, who: user(0) })
}

fn answer(cookie: u64) -> Found {
    Found::Listener {
        cookie,
        identity: Arc::new(Identity { name: Some("it".into()), ..Identity::default() }),
    }
}

fn said() -> String {
    let said = std::process::Command::new("sha256sum")
        .arg(format!("/proc/{}/exe", std::process::id()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&said.stdout).split_whitespace().next().unwrap().to_owned()
}

fn hash(found: &Found) -> Option<&str> {
    let Found::Listener { identity, .. } = found else { panic!("{found:?}") };
    assert_eq!(identity.name.as_deref(), Some("it"));
    identity.executable_sha256.as_deref()
}

#[test]
fn an_answer_waits_for_the_hash_that_it_lacks_and_no_other_answer_does() {
    let Rig { hashing, hashes, found, looks, hasher, reader } = rig();
    assert!(hashing.tell(answer(1), None).is_some(), "it lacks none");
    assert!(hashing.tell(answer(2), own(&hashes)).is_none());
    assert!(hashing.tell(answer(3), own(&hashes)).is_none());
    let threads = [std::thread::spawn(|| hasher.run()), std::thread::spawn(|| reader.run())];
    let said = said();
    for _ in 0..2 {
        assert_eq!(hash(&found.recv_timeout(Duration::from_secs(30)).unwrap()), Some(&*said));
    }
    let version = own(&hashes).unwrap().executable.version();
    assert_eq!(hashes.get(&version), Some(said.clone()));
    assert_eq!(hashing.all(own(&hashes).into_iter().collect()), HashMap::from([(version, said)]));
    drop(hashing);
    for thread in threads {
        thread.join().unwrap();
    }
    let tally = looks.look(HASH);
    assert_eq!((tally.offered(), tally.delivered(), tally.lost()), (3, 3, 0));
}

#[test]
fn where_a_read_does_not_return_names_are_told_without_a_hash() {
    let Rig { hashing, hashes, found, looks, hasher, reader: _never_reads } = rig();
    assert!(hashing.tell(answer(1), own(&hashes)).is_none());
    let began = Instant::now();
    let hashing_thread = std::thread::spawn(|| hasher.run());
    assert_eq!(hash(&found.recv_timeout(Duration::from_secs(30)).unwrap()), None);
    assert!(began.elapsed() >= STUCK);
    // From now on at once.
    let began = Instant::now();
    assert!(hashing.tell(answer(2), own(&hashes)).is_none());
    assert_eq!(hash(&found.recv_timeout(Duration::from_secs(30)).unwrap()), None);
    assert!(began.elapsed() < STUCK, "{:?}", began.elapsed());
    drop(hashing);
    hashing_thread.join().unwrap();
    let tally = looks.look(HASH);
    assert_eq!((tally.offered(), tally.delivered(), tally.lost()), (2, 0, 2));
}

/// Who waits beside it has its hash after that moment.
#[test]
fn where_a_read_does_not_return_another_thread_reads_for_others() {
    let Rig { hashing, hashes, found, hasher, reader, .. } = rig();
    let own = |uid| own(&hashes).map(|unhashed| Unhashed { who: user(uid), ..unhashed });
    let told = || found.recv_timeout(Duration::from_secs(30)).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let executable = loop {
        let process = TestDirectory::open(child.id()).unwrap();
        let executable = hashes.executable(process.as_fd(), child.id()).unwrap();
        if executable.version() != own(8).unwrap().executable.version() {
            break executable;
        }
    };
    let began = Instant::now();
    assert!(hashing.tell(answer(1), own(7)).is_none());
    let hashing_thread = std::thread::spawn(|| hasher.run());
    std::thread::sleep(STUCK / 4);
    assert!(hashing.tell(answer(3), Some(Unhashed { executable, who: user(8) })).is_none());
    assert_eq!(hash(&told()), None);
    assert!(hash(&told()).is_some());
    assert!(began.elapsed() < STUCK * 2, "{:?}", began.elapsed());
    // Not for the same user, nor the same file.
    for uid in [7, 8] {
        let began = Instant::now();
        assert!(hashing.tell(answer(2), own(uid)).is_none());
        assert_eq!(hash(&told()), None);
        assert!(began.elapsed() < STUCK, "{:?}", began.elapsed());
    }
    // Its read has returned.
    drop(reader);
    assert!(hashing.tell(answer(4), own(8)).is_none());
    assert_eq!(hash(&told()), Some(&*said()));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(hashing);
    hashing_thread.join().unwrap();
}

/// The worker is started anew: the thread still hangs, and no other is begun for the same file or user.
#[test]
fn a_read_that_does_not_return_counts_on_where_another_one_asks() {
    let still_read = StillRead::default();
    let begin = || {
        let (found_in, found) = bounded(64);
        let (hashes, looks) = (Hashes::default(), Stage::looks(4));
        let (hashing, hasher, reader) = hashing(found_in, hashes.clone(), looks, still_read.clone());
        let own = move |uid| own(&hashes).map(|unhashed| Unhashed { who: user(uid), ..unhashed });
        (hashing, hasher, reader, found, own)
    };
    let told = |found: &Receiver<Found>| found.recv_timeout(Duration::from_secs(30)).unwrap();
    let (hashing, hasher, hangs, _found, own) = begin();
    assert!(hashing.tell(answer(1), own(7)).is_none());
    let hashing_thread = std::thread::spawn(|| hasher.run());
    // It has its turn.
    while hangs.turns.is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(hashing);
    hashing_thread.join().unwrap();
    let (hashing, hasher, reader, found, own) = begin();
    let threads = [std::thread::spawn(|| hasher.run()), std::thread::spawn(|| reader.run())];
    for uid in [7, 8] {
        assert!(hashing.tell(answer(2), own(uid)).is_none());
        assert_eq!(hash(&told(&found)), None);
    }
    drop(hangs);
    assert!(hashing.tell(answer(3), own(8)).is_none());
    assert_eq!(hash(&told(&found)), Some(&*said()));
    drop(hashing);
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Who asked for many waits no more.
#[test]
fn an_answer_that_comes_too_late_counts_as_lost() {
    let Rig { hashes, looks, hasher, .. } = rig();
    let version = own(&hashes).unwrap().executable.version();
    let (many, waits) = bounded(1);
    assert!(hasher.give(Answer::Many(version, many.clone()), Some("f".into())).is_ok());
    assert_eq!(waits.recv().unwrap().1.as_deref(), Some("f"));
    drop(waits);
    assert!(hasher.give(Answer::Many(version, many), Some("f".into())).is_ok());
    assert_eq!((looks.look(HASH).delivered(), looks.look(HASH).lost()), (1, 1));
}

#[test]
fn where_too_many_wait_the_next_is_told_without_a_hash() {
    let Rig { hashing, hashes, found: _found, looks, hasher: _never_runs, reader: _reader } = rig();
    let told: Vec<Found> =
        (0..QUEUE as u64 + 2).filter_map(|it| hashing.tell(answer(it), own(&hashes))).collect();
    assert!(told.len() == 2 && told.iter().all(|found| hash(found).is_none()));
    assert_eq!(looks.look(HASH).lost(), 2);
}

/// The process is another one by now, or runs another file: what it was is told, without a hash.
#[test]
fn no_hash_is_that_of_another_file() {
    let Rig { hashing, hashes, found, hasher, reader, .. } = rig();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let version = own(&hashes).unwrap().executable.version();
    let executable = Executable::of(child.id(), version);
    assert!(hashing.tell(answer(1), Some(Unhashed { executable, who: user(0) })).is_none());
    let threads = [std::thread::spawn(|| hasher.run()), std::thread::spawn(|| reader.run())];
    let answer = found.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!((hash(&answer), hashes.get(&version)), (None, None));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(hashing);
    for thread in threads {
        thread.join().unwrap();
    }
}
