//! Every process there is, with what a look at its open files would cost; and in which order they are looked at.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, statat};

use super::process::{each_entry, is_gone, open_directory, read_stat, read_status, user_ids};

/// Ancestors that are gone through. Processes that are nested deeper are of no family.
const DEEPEST: usize = 64;

/// The process that all others descend from, and that takes those whose parents have ended.
const FIRST: u32 = 1;

/// How long what was read of a process is remembered, ns, and as much as that longer for some of them, so that not all
/// are read again at once.
const REMEMBER_NS: u64 = 60_000_000_000;
/// A process of root's with more open files may be another user's by now: that is asked.
const MANY: u64 = 256;
const ROOT: u32 = 0;

/// A process, as proc_pid_status(5) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub pid: u32,
    /// Its start, in clock ticks since boot.
    pub start_ticks: u64,
    pub parent: u32,
    /// The real one: another one than who began it may have chosen the effective one.
    pub uid: u32,
    /// Open files; on kernels before 6.2 the room that there is for them, which is no less.
    pub files: u64,
    /// Who pays for the look at it.
    pub payer: u32,
}

impl Candidate {
    /// # Errors
    /// [`is_gone`] says whether it has ended.
    pub fn read(pid: u32, process: BorrowedFd<'_>) -> io::Result<Candidate> {
        let start_ticks = read_stat(process)?.start_ticks;
        let of = |status: &[u8]| {
            let uid = user_ids(status)?.real;
            let (parent, room) = (number(status, "PPid:")?, number(status, "FDSize:")?);
            let (parent, files) = (u32::try_from(parent).ok()?, files(process).unwrap_or(room));
            Some(Candidate { pid, start_ticks, parent, uid, files, payer: uid })
        };
        of(&read_status(process)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The same with as many files as it has open now. Its errors are as of [`Candidate::read`].
    pub fn now(mut self, process: BorrowedFd<'_>) -> io::Result<Candidate> {
        let counted = files(process);
        self.files = counted.unwrap_or(self.files);
        if counted.is_some() && (self.files < MANY || self.uid != ROOT) {
            return Ok(self);
        }
        let own = self.payer == self.uid;
        let now = Candidate::read(self.pid, process)?;
        Ok(Candidate { payer: if own { now.uid } else { self.payer }, ..now })
    }
}

/// How many a process has open: `proc_fd_getattr` in `fs/proc/fd.c` says it since 6.2, and 0 before. `None`: that is not
/// known.
fn files(process: BorrowedFd<'_>) -> Option<u64> {
    let counted = statat(process, "fd", AtFlags::empty()).ok()?.st_size;
    u64::try_from(counted).ok().filter(|files| *files > 0)
}

fn number(status: &[u8], name: &str) -> Option<u64> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    std::str::from_utf8(rest).ok()?.trim().parse().ok()
}

/// All processes, as they were read a while ago. When one began, and that it is there, is always so; who its parent is and
/// how many files it has open is as of then, and so is its user, but for what has begun lately and may not be yet who it
/// will be.
#[derive(Debug, Default)]
pub struct Census(HashMap<u32, Known>);

/// What a census found.
#[derive(Debug, Default)]
pub struct Among {
    pub all: Vec<Candidate>,
    /// All that there are could be read.
    pub is_whole: bool,
}

#[derive(Debug)]
struct Known {
    /// Of its directory: another process with its pid has another one.
    inode: u64,
    candidate: Candidate,
    until_ns: u64,
}

impl Census {
    /// `began_lately`: whether a process with this start did.
    pub fn take(&mut self, now_ns: u64, began_lately: impl Fn(u64) -> bool) -> Among {
        let mut known = HashMap::with_capacity(self.0.len());
        let mut all = Vec::with_capacity(self.0.len());
        let mut is_whole = true;
        let listed = each_entry(|pid, inode, proc| {
            let before = self.0.remove(&pid).filter(|it| it.inode == inode && now_ns < it.until_ns);
            let read = || {
                let directory = open_directory(proc, pid.to_string())?;
                let candidate = Candidate::read(pid, directory.as_fd())?;
                let longer_ns = REMEMBER_NS / 64 * u64::from(pid % 64);
                Ok(Known { inode, candidate, until_ns: now_ns + REMEMBER_NS + longer_ns })
            };
            let entry = match before.map_or_else(read, Ok) {
                Ok(entry) => entry,
                Err(error) => {
                    is_whole &= is_gone(&error);
                    return;
                }
            };
            all.push(entry.candidate);
            if !began_lately(entry.candidate.start_ticks) {
                known.insert(pid, entry);
            }
        });
        self.0 = known;
        Among { all, is_whole: is_whole && listed.is_ok() }
    }
}

/// First who descends from a process that made one of the sockets, the youngest first; then processes of the users that
/// made them; then all others, of which who has few files open comes first. A maker's own children are looked at at the
/// cost of its user (workers of a server): further down there are other users' sessions, and below the first process is
/// everybody.
pub fn in_order(mut all: Vec<Candidate>, makers: &HashSet<u32>, users: &HashSet<u32>) -> Vec<Candidate> {
    let parents: HashMap<u32, (u32, u32)> = all.iter().map(|it| (it.pid, (it.parent, it.uid))).collect();
    let is_maker = |pid: &u32| *pid != FIRST && makers.contains(pid);
    let has_maker = |pid: u32| {
        let mut line = std::iter::successors(Some(pid), |pid| parents.get(pid).map(|(parent, _)| *parent));
        line.by_ref().take(DEEPEST).any(|pid| is_maker(&pid))
    };
    for candidate in &mut all {
        let maker = Some(candidate.parent).filter(is_maker).and_then(|maker| parents.get(&maker));
        candidate.payer = maker.map_or(candidate.uid, |(_, uid)| *uid);
    }
    let families: HashSet<u32> = all.iter().map(|it| it.pid).filter(|pid| has_maker(*pid)).collect();
    all.sort_by_key(|it| match families.contains(&it.pid) {
        true => (0, u64::MAX - it.start_ticks),
        false => (if users.contains(&it.uid) { 1 } else { 2 }, it.files),
    });
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;

    use super::*;
    use crate::identity::process::ProcessDirectory;

    fn candidate(pid: u32, parent: u32, uid: u32, files: u64) -> Candidate {
        Candidate { pid, start_ticks: pid.into(), parent, uid, files, payer: uid }
    }

    #[test]
    fn the_family_of_who_made_it_comes_first_then_its_user_then_who_has_few_files_open() {
        let all = vec![
            candidate(10, 1, 7, 20_000),
            candidate(11, 1, 8, 30),
            candidate(12, 1, 5, 900),
            candidate(13, 1, 5, 40),
            candidate(20, 1, 0, 50),
            candidate(21, 20, 33, 100_000),
            candidate(22, 21, 33, 10),
            candidate(1, 0, 0, 500),
        ];
        let ordered = in_order(all, &HashSet::from([20]), &HashSet::from([5]));
        let pids: Vec<u32> = ordered.iter().map(|it| it.pid).collect();
        assert_eq!(pids, [22, 21, 20, 13, 12, 11, 1, 10]);
        // What a server's children have open is at the cost of who began the server; what theirs have is not.
        assert_eq!((ordered[1].pid, ordered[1].payer), (21, 0));
        assert_eq!((ordered[0].payer, ordered[7].payer), (33, 7));
    }

    /// Or whoever lets its parent end would be looked at for nothing, wherever a service manager made a socket.
    #[test]
    fn the_first_process_has_no_family() {
        let all = vec![candidate(1, 0, 0, 500), candidate(10, 1, 7, 20_000), candidate(11, 1, 8, 30)];
        let ordered = in_order(all, &HashSet::from([1]), &HashSet::from([0]));
        let order: Vec<(u32, u32)> = ordered.iter().map(|it| (it.pid, it.payer)).collect();
        assert_eq!(order, [(1, 0), (11, 8), (10, 7)]);
    }

    #[test]
    fn parents_that_go_round_in_circles_are_of_no_family() {
        let all = vec![candidate(10, 11, 7, 1), candidate(11, 10, 7, 2)];
        assert_eq!(in_order(all, &HashSet::from([12]), &HashSet::new()).len(), 2);
    }

    #[test]
    fn open_files_are_counted_or_their_room_is_known() {
        let own = ProcessDirectory::open(std::process::id()).unwrap();
        let before = Candidate::read(std::process::id(), own.as_fd()).unwrap();
        let _more: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
        let now = Candidate::read(std::process::id(), own.as_fd()).unwrap();
        assert!(now.files >= 300 && now.files >= before.files, "{before:?} {now:?}");
        assert_eq!(now.parent, std::os::unix::process::parent_id());
        assert_eq!(now.uid, rustix::process::getuid().as_raw());
    }

    /// What is remembered is told from what is true by a start that no process has.
    #[test]
    fn a_process_is_remembered_and_never_taken_for_another_with_its_pid() {
        const REMEMBERED: u64 = u64::MAX;
        let pid = std::process::id();
        let start = |census: &mut Census, now_ns: u64, is_young: bool| {
            let among = census.take(now_ns, |_| is_young);
            assert!(among.is_whole);
            among.all.iter().find(|it| it.pid == pid).unwrap().start_ticks
        };
        let mut census = Census::default();
        let own = start(&mut census, 1, false);
        let mut remember = |change: &dyn Fn(&mut Known), now_ns: u64, is_young: bool| {
            let known = census.0.get_mut(&pid).unwrap();
            known.candidate.start_ticks = REMEMBERED;
            change(known);
            start(&mut census, now_ns, is_young)
        };
        assert_eq!(remember(&|_| {}, 2, false), REMEMBERED);
        assert_eq!(remember(&|known| known.inode += 1, 3, false), own, "another one has its pid");
        assert_eq!(remember(&|_| {}, 3 + 2 * REMEMBER_NS, false), own, "that was long ago");
        // One that began lately is read again each time.
        remember(&|_| {}, 4 + 2 * REMEMBER_NS, true);
        assert_eq!(start(&mut census, 5 + 2 * REMEMBER_NS, true), own);
        assert!(census.0.is_empty());
    }

    #[test]
    fn open_files_are_counted_when_they_are_looked_at() {
        let own = ProcessDirectory::open(std::process::id()).unwrap();
        let before = Candidate { files: 0, ..Candidate::read(std::process::id(), own.as_fd()).unwrap() };
        let _more: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
        assert!(before.now(own.as_fd()).unwrap().files >= 300);
        // Who was root, and has many open, is asked again.
        let was_root = Candidate { uid: 0, payer: 0, parent: 77, ..before };
        assert_eq!(was_root.now(own.as_fd()).unwrap().parent, std::os::unix::process::parent_id());
    }

    #[test]
    fn a_name_is_no_field() {
        let status = b"Name:\tFDSize:\t9\\nPPid:\t3\nPPid:\t4\nUid:\t1\t2\t3\t4\nFDSize:\t64\n";
        assert_eq!((number(status, "PPid:"), number(status, "FDSize:")), (Some(4), Some(64)));
    }
}
