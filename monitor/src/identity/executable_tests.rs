#![allow(clippy::unwrap_used)]

use std::process::{Child, Command};

use super::*;

/// A version of a file that nobody has.
pub fn version(inode: u64, size: u64) -> Version {
    Version { device: (0, 0), inode, size, modified: (0, 0), changed: (0, 0) }
}

/// As if so many bytes of it had been read.
pub fn pretend_to_read(executable: &mut Executable, bytes: u64) {
    executable.read += bytes;
}

fn own(hashes: &Hashes) -> Executable {
    let pid = std::process::id();
    hashes.executable(ProcessDirectory::open(pid).unwrap().as_fd(), pid).unwrap()
}

fn said_of(path: &str) -> String {
    let said = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&said.stdout).split_whitespace().next().unwrap().to_owned()
}

fn read_all(executable: &mut Executable, most: u64) -> (Step, u64) {
    let mut sum = 0;
    loop {
        let (step, read) = executable.read_on(most, Duration::MAX);
        sum += read;
        if step != Step::More {
            return (step, sum);
        }
    }
}

#[test]
fn this_program_has_the_hash_that_sha256sum_says() {
    let hashes = Hashes::default();
    let said = said_of(&format!("/proc/{}/exe", std::process::id()));
    let mut held = own(&hashes);
    assert!(held.is_held() && !held.is_begun());
    let size = held.version().size;
    assert_eq!(read_all(&mut held, 1_000_000), (Step::Done(said.clone()), size));
    // Opened only when it is read, in one go.
    let mut other = own(&hashes);
    other.let_go();
    assert_eq!(read_all(&mut other, u64::MAX), (Step::Done(said.clone()), size));
    // As little as is read at once, where it takes too long.
    assert_eq!(own(&hashes).read_on(u64::MAX, Duration::ZERO), (Step::More, 64 << 10));
    hashes.put(held.version(), said.clone());
    assert_eq!(hashes.clone().get(&other.version()), Some(said));
}

/// A copy of `sleep` that runs, and where it is.
fn copy() -> (tempfile::TempDir, String, Child) {
    let directory = crate::temporary::directory();
    let path = directory.path().join("sleeps");
    // By another process: an open copy here would be handed to what other tests begin.
    assert!(Command::new("cp").arg("/bin/sleep").arg(&path).status().unwrap().success());
    let child = Command::new(&path).arg("60").spawn().unwrap();
    (directory, path.to_str().unwrap().to_owned(), child)
}

#[test]
fn one_that_ended_is_read_only_where_its_file_is_held_and_one_that_was_written_to_has_no_hash() {
    let hashes = Hashes::default();
    let (_directory, path, mut child) = copy();
    let said = said_of(&path);
    let executable = || {
        let process = ProcessDirectory::open(child.id()).unwrap();
        hashes.executable(process.as_fd(), child.id()).unwrap()
    };
    let (mut held, mut let_go, mut written) = (executable(), executable(), executable());
    let_go.let_go();
    assert_eq!(written.read_on(1000, Duration::MAX), (Step::More, 1000));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(read_all(&mut held, 4096).0, Step::Done(said));
    assert_eq!(let_go.read_on(4096, Duration::MAX), (Step::Failed, 0));
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_at(b"x", 0).unwrap();
    assert_eq!(written.read_on(u64::MAX, Duration::MAX), (Step::Failed, 0));
}

#[test]
fn a_version_is_of_the_process_that_runs_it() {
    let (_directory, _, mut child) = copy();
    let of = |pid| ProcessDirectory::open(pid).unwrap();
    let version = own(&Hashes::default()).version();
    assert_eq!(Version::run_by(of(std::process::id()).as_fd()), Some(version));
    assert_ne!(Version::run_by(of(child.id()).as_fd()), Some(version));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn so_many_files_are_held_and_no_more() {
    let hashes = Hashes::default();
    // Who only know of it take no places.
    let _others = vec![hashes.clone(); 20];
    let mut all: Vec<Executable> = (0..MOST_HELD + 3).map(|_| own(&hashes)).collect();
    assert_eq!(all.iter().filter(|it| it.is_held()).count(), MOST_HELD);
    all.drain(..4);
    assert!(own(&hashes).is_held(), "a place that was given back is another's");
}

/// Its server may never answer, and nobody was asked before whether it may hang.
#[test]
fn the_file_system_of_another_file_than_the_one_that_was_seen_is_asked_nothing() {
    let (_directory, _, mut child) = copy();
    let process = ProcessDirectory::open(child.id()).unwrap();
    let is_asked = |version| {
        let mut is_asked = false;
        let file = Executable::of(child.id(), version).run_still(process.as_fd(), |_| {
            is_asked = true;
            false
        });
        (is_asked, file.is_some())
    };
    let runs = Version::run_by(process.as_fd()).unwrap();
    assert_eq!(is_asked(own(&Hashes::default()).version()), (false, false));
    assert_eq!(is_asked(runs), (true, true));
    assert!(Executable::of(child.id(), runs).run_still(process.as_fd(), |_| true).is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn who_runs_it_too_and_ends_takes_nothing_from_those_who_live() {
    let (_directory, path, mut child) = copy();
    let said = said_of(&path);
    let version = Version::run_by(ProcessDirectory::open(child.id()).unwrap().as_fd()).unwrap();
    let ended = Command::new("true").spawn().map(|mut child| child.wait().map(|_| child.id()));
    let ended = ended.unwrap().unwrap();
    for [first, second] in [[child.id(), ended], [ended, child.id()]] {
        let mut executable = Executable::of(first, version);
        executable.is_run_too(Executable::of(second, version));
        assert_eq!(read_all(&mut executable, 4096).0, Step::Done(said.clone()), "{first} {second}");
    }
    // Many who end do not push out the first.
    let mut executable = Executable::of(child.id(), version);
    (0..1000).for_each(|number| executable.is_run_too(Executable::of(u32::MAX - number, version)));
    assert_eq!(executable.pids.len(), MOST_PIDS);
    assert_eq!(read_all(&mut executable, 4096).0, Step::Done(said));
    child.kill().unwrap();
    child.wait().unwrap();
}
