//! Whose executable is read next, and who waits for what. Pure: no thread, no clock, nothing is read here.
//!
//! In: files that are wanted, who pays for them, and answers that wait for their hashes. Out: the file that is read on
//! next, and answers. A user is a real user id of this host. Users take turns, each with the smallest of its files: what
//! one of them has to be read costs another's small file one turn. What is read is paid from a credit of the user that
//! has its turn, and no answer waits for longer than [`PATIENCE`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::identity::{Executable, Version};
use crate::watch::Budget;

/// How long an answer waits at most, ns. Flows wait for theirs.
pub const PATIENCE: u64 = 5_000_000_000;
/// How long a file that was begun is read on that nobody waits for any more, ns: those who ask next know it then.
const READ_ON: u64 = 60_000_000_000;

/// Bytes that a user may have read in a second, and root; four times as many at once. A file that was begun may go beyond.
const PER_S: u32 = 64 << 20;
const PER_S_OF_ROOT: u32 = 256 << 20;
/// The same of all users together: a quarter of a processor, and half of one without instructions for it. Who is beyond
/// waits.
const PER_S_OF_ALL: u32 = 256 << 20;
/// See [`Budget`].
const AT_ONCE: u32 = 4;

/// Users that have a credit of their own: all others share one. There are more only where somebody makes them.
const MOST_USERS: usize = 256;
/// Files, and answers. Of these a user has as many as are free.
const MOST_FILES: usize = 1024;
const MOST_ANSWERS: usize = 1024;
/// Files of one user that are held open.
const MOST_HELD: usize = 4;

const ROOT: u32 = 0;
/// No user has this id (setreuid(2)).
const OTHERS: u32 = u32::MAX;

/// Files that are read in turn; `T`: answers that wait for them.
#[derive(Debug)]
pub struct Turns<T> {
    files: HashMap<Version, Wanted<T>>,
    /// Who has the next turn is the first.
    users: VecDeque<User>,
    all: Budget,
}

#[derive(Debug)]
struct User {
    uid: u32,
    credit: Budget,
    /// Answers that wait.
    answers: usize,
}

#[derive(Debug)]
struct Wanted<T> {
    /// `None`: it is being read.
    executable: Option<Executable>,
    /// Who has asked for it, and so pays for it in its turn.
    users: Vec<u32>,
    answers: Vec<Waiting<T>>,
    asked_ns: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    answer: T,
    uid: u32,
    until_ns: u64,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns { files: HashMap::new(), users: VecDeque::new(), all: Budget::new(PER_S_OF_ALL) }
    }
}

impl<T> Turns<T> {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// `answer` waits for the hash of this file.
    ///
    /// # Errors
    /// It cannot: this user has too much that waits.
    pub fn ask(&mut self, mut executable: Executable, uid: u32, answer: T, now_ns: u64) -> Result<(), T> {
        let uid = self.user(uid, now_ns);
        let waiting: usize = self.users.iter().map(|user| user.answers).sum();
        let Some(user) = self.users.iter_mut().find(|user| user.uid == uid) else { return Err(answer) };
        let version = executable.version();
        let of_user = |wanted: &&Wanted<T>| wanted.users.contains(&uid);
        let is_room = self.files.contains_key(&version)
            || self.files.values().filter(of_user).count() < MOST_FILES - self.files.len();
        if !is_room || user.answers >= MOST_ANSWERS - waiting {
            return Err(answer);
        }
        let is_held = |wanted: &&Wanted<T>| wanted.executable.as_ref().is_some_and(Executable::is_held);
        if self.files.values().filter(of_user).filter(is_held).count() >= MOST_HELD {
            executable.let_go();
        }
        user.answers += 1;
        let waiting = Waiting { answer, uid, until_ns: now_ns + PATIENCE };
        match self.files.entry(version) {
            Entry::Vacant(place) => {
                let (users, answers) = (vec![uid], vec![waiting]);
                place.insert(Wanted { executable: Some(executable), users, answers, asked_ns: now_ns });
            }
            Entry::Occupied(mut place) => {
                let wanted = place.get_mut();
                wanted.asked_ns = now_ns;
                wanted.answers.push(waiting);
                if !wanted.users.contains(&uid) {
                    wanted.users.push(uid);
                }
                if let Some(known) = &mut wanted.executable {
                    known.is_run_too(executable);
                }
            }
        }
        Ok(())
    }

    /// Whose turn it is, and what is read on: to be given back by [`Turns::read`]. `None`: nothing may be read now.
    pub fn next(&mut self, now_ns: u64) -> Option<(u32, Executable)> {
        if !self.all.allows(1, now_ns) {
            return None;
        }
        for _ in 0..self.users.len() {
            let mut user = self.users.pop_front()?;
            let (uid, may) = (user.uid, user.credit.allows(1, now_ns));
            self.users.push_back(user);
            if !may {
                continue;
            }
            let of_user = self.files.values_mut().filter(|wanted| wanted.users.contains(&uid));
            let left = |wanted: &&mut Wanted<T>| wanted.executable.as_ref().map(Executable::left);
            let smallest = of_user.filter(|wanted| wanted.executable.is_some()).min_by_key(left);
            if let Some(executable) = smallest.and_then(|wanted| wanted.executable.take()) {
                return Some((uid, executable));
            }
        }
        None
    }

    /// So many bytes were read of what was next, and there is more.
    pub fn read(&mut self, uid: u32, executable: Executable, bytes: u64, now_ns: u64) {
        self.pay(uid, bytes, now_ns);
        if let Some(wanted) = self.files.get_mut(&executable.version()) {
            wanted.executable = Some(executable);
        }
    }

    /// It was the last of it: those who have waited.
    pub fn done(&mut self, uid: u32, version: &Version, bytes: u64, now_ns: u64) -> Vec<T> {
        self.pay(uid, bytes, now_ns);
        let answers = self.files.remove(version).map(|wanted| wanted.answers).unwrap_or_default();
        self.given(answers)
    }

    /// Those who have waited for too long; all, where reading goes on no more.
    pub fn overdue(&mut self, is_stuck: bool, now_ns: u64) -> Vec<T> {
        let mut late = Vec::new();
        self.files.retain(|_, wanted| {
            late.extend(wanted.answers.extract_if(.., |it| is_stuck || it.until_ns <= now_ns));
            let is_begun = wanted.executable.as_ref().is_none_or(Executable::is_begun);
            !wanted.answers.is_empty() || is_begun && now_ns.saturating_sub(wanted.asked_ns) < READ_ON
        });
        self.given(late)
    }

    fn given(&mut self, answers: Vec<Waiting<T>>) -> Vec<T> {
        for waiting in &answers {
            if let Some(user) = self.users.iter_mut().find(|user| user.uid == waiting.uid) {
                user.answers -= 1;
            }
        }
        answers.into_iter().map(|waiting| waiting.answer).collect()
    }

    fn pay(&mut self, uid: u32, bytes: u64, now_ns: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.all.spend(bytes, now_ns);
        if let Some(user) = self.users.iter_mut().find(|user| user.uid == uid) {
            user.credit.spend(bytes, now_ns);
        }
    }

    /// Who pays for what this user wants.
    fn user(&mut self, uid: u32, now_ns: u64) -> u32 {
        let is_there = |users: &VecDeque<User>, uid| users.iter().any(|user| user.uid == uid);
        if is_there(&self.users, uid) {
            return uid;
        }
        if self.users.len() >= MOST_USERS {
            let files = &self.files;
            self.users.retain_mut(|user| {
                let is_payer = files.values().any(|wanted| wanted.users.contains(&user.uid));
                is_payer || user.answers > 0 || !user.credit.allows(per_s(user.uid) * AT_ONCE, now_ns)
            });
        }
        let uid = if self.users.len() >= MOST_USERS && uid != ROOT { OTHERS } else { uid };
        if !is_there(&self.users, uid) {
            self.users.push_back(User { uid, credit: Budget::new(per_s(uid)), answers: 0 });
        }
        uid
    }
}

fn per_s(uid: u32) -> u32 {
    if uid == ROOT { PER_S_OF_ROOT } else { PER_S }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
