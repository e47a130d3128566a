//! Whose executable is read next, and who waits for what. Pure: no thread, no clock, nothing is read here.
//!
//! In: files that are wanted, who pays for them, and answers that wait for their hashes. Out: the file that is read on
//! next, and answers. A user is whoever could have begun what runs it ([`Who`]). Users take turns, each with the smallest of
//! its files: what one of them has to be read costs another's small file one turn. Those that this host has no name for, of
//! whom somebody may have thousands, have one turn together. What is read is paid from a credit of the user that has its
//! turn, and no answer waits for longer than [`PATIENCE`].
//!
//! Whose read hangs has nothing read until it has returned, and then for many times as long as others waited for it. The
//! file is not read meanwhile for anybody.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::identity::{Executable, Version, Who};
use crate::watch::Budget;

/// How long an answer waits at most, ns. Flows wait for theirs.
pub const PATIENCE: u64 = 5_000_000_000;
/// How long a file that was begun is read on that nobody waits for any more, ns: those who ask next know it then.
const READ_ON: u64 = 60_000_000_000;

/// Bytes that a user may have read in a second, and root; four times as many at once. A file that was begun may go beyond.
const PER_S: u32 = 64 << 20;
const PER_S_OF_ROOT: u32 = 128 << 20;
/// The same of all users together: half of a processor, where that has no instructions for SHA-256. Who is beyond waits.
const PER_S_OF_ALL: u32 = 128 << 20;
/// See [`Budget`].
const AT_ONCE: u32 = 4;

/// Users that have a credit of their own: all others share one. There are more only where somebody makes them.
const MOST_USERS: usize = 256;
/// Files, and answers. Of these a user has as many as are free.
const MOST_FILES: usize = 1024;
const MOST_ANSWERS: usize = 1024;
/// Files of one user that are held open.
const MOST_HELD: usize = 4;

/// A turn that took longer, ns, kept others waiting, whatever was read: see [`RESTS`].
const SLOW: u64 = 500_000_000;
/// How many times as long as its turn took who was slow has no other: of others' time, a user can cost so small a share.
const RESTS: u64 = 50;
/// Reads that do not return, each of which has a thread; and those of root, which needs no rest. They take no places from
/// each other.
const MOST_LOST: usize = 8;
const MOST_LOST_OF_ROOT: usize = 4;

/// Files that are read in turn; `T`: answers that wait for them.
#[derive(Debug)]
pub struct Turns<T> {
    files: HashMap<Version, Wanted<T>>,
    /// Who has the next turn is the first.
    users: VecDeque<User>,
    all: Budget,
    /// Whose turn it is, and with which file.
    reading: Option<(Who, Version)>,
    /// Files whose reads do not return, and who pays for that.
    lost: HashMap<Version, Who>,
    /// Until when nothing is read for them.
    rests: HashMap<Who, u64>,
}

/// What a turn has cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub bytes: u64,
    pub ns: u64,
}

#[derive(Debug)]
struct User {
    who: Who,
    credit: Budget,
    /// Answers that wait.
    answers: usize,
}

#[derive(Debug)]
struct Wanted<T> {
    /// `None`: it is being read.
    executable: Option<Executable>,
    /// Others that ran it while it was read.
    besides: Option<Executable>,
    /// Who has asked for it, and so pays for it in its turn.
    users: Vec<Who>,
    answers: Vec<Waiting<T>>,
    asked_ns: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    answer: T,
    who: Who,
    until_ns: u64,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns {
            files: HashMap::new(),
            users: VecDeque::new(),
            all: Budget::new(PER_S_OF_ALL),
            reading: None,
            lost: HashMap::new(),
            rests: HashMap::new(),
        }
    }
}

impl<T> Turns<T> {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// `answer` waits for the hash of this file.
    ///
    /// # Errors
    /// It cannot: this user has too much that waits, or its reads hang, or those of this file do.
    pub fn ask(&mut self, mut executable: Executable, who: &Who, answer: T, now_ns: u64) -> Result<(), T> {
        let who = self.user(who, now_ns);
        let version = executable.version();
        if self.lost.contains_key(&version) || !self.may_read(&who, now_ns + PATIENCE) {
            return Err(answer);
        }
        let waiting: usize = self.users.iter().map(|user| user.answers).sum();
        let Some(user) = self.users.iter_mut().find(|user| user.who == who) else { return Err(answer) };
        let of_user = |wanted: &&Wanted<T>| wanted.users.contains(&who);
        let is_room = self.files.contains_key(&version)
            || self.files.values().filter(of_user).count() < MOST_FILES - self.files.len();
        if !is_room || user.answers >= MOST_ANSWERS - waiting {
            return Err(answer);
        }
        let is_held = |wanted: &&Wanted<T>| {
            [&wanted.executable, &wanted.besides].into_iter().flatten().any(Executable::is_held)
        };
        if self.files.values().filter(of_user).filter(is_held).count() >= MOST_HELD {
            executable.let_go();
        }
        user.answers += 1;
        let waiting = Waiting { answer, who: who.clone(), until_ns: now_ns + PATIENCE };
        match self.files.entry(version) {
            Entry::Vacant(place) => {
                let (users, answers, executable) = (vec![who], vec![waiting], Some(executable));
                place.insert(Wanted { executable, besides: None, users, answers, asked_ns: now_ns });
            }
            Entry::Occupied(mut place) => {
                let wanted = place.get_mut();
                wanted.asked_ns = now_ns;
                wanted.answers.push(waiting);
                if !wanted.users.contains(&who) {
                    wanted.users.push(who);
                }
                match wanted.executable.as_mut().or(wanted.besides.as_mut()) {
                    Some(known) => known.is_run_too(executable),
                    None => wanted.besides = Some(executable),
                }
            }
        }
        Ok(())
    }

    /// Whose turn it is, and what is read on: to be given back by [`Turns::read`] or [`Turns::done`], or to be
    /// [`Turns::lost`]. `None`: nothing may be read now.
    pub fn next(&mut self, now_ns: u64) -> Option<Executable> {
        if !self.all.allows(1, now_ns) {
            return None;
        }
        for _ in 0..self.users.len() {
            let mut user = self.users.pop_front()?;
            let may = user.credit.allows(1, now_ns) && self.may_read(&user.who, now_ns);
            let who = user.who.clone();
            self.users.push_back(user);
            if !may {
                continue;
            }
            let of_user = self.files.values_mut().filter(|wanted| wanted.users.contains(&who));
            let left = |wanted: &&mut Wanted<T>| wanted.executable.as_ref().map(Executable::left);
            let smallest = of_user.filter(|wanted| wanted.executable.is_some()).min_by_key(left);
            if let Some(executable) = smallest.and_then(|wanted| wanted.executable.take()) {
                if !who.is_named() {
                    // All others come before the next of these.
                    self.users.make_contiguous().sort_by_key(|user| !user.who.is_named());
                }
                self.reading = Some((who, executable.version()));
                return Some(executable);
            }
        }
        None
    }

    /// This was read of what was next, and there is more.
    pub fn read(&mut self, mut executable: Executable, cost: Cost, now_ns: u64) {
        self.pay(cost, now_ns);
        if let Some(wanted) = self.files.get_mut(&executable.version()) {
            if let Some(besides) = wanted.besides.take() {
                executable.is_run_too(besides);
            }
            wanted.executable = Some(executable);
        }
    }

    /// It was the last of it: those who have waited.
    pub fn done(&mut self, version: &Version, cost: Cost, now_ns: u64) -> Vec<T> {
        self.pay(cost, now_ns);
        let answers = self.files.remove(version).map(|wanted| wanted.answers).unwrap_or_default();
        self.given(answers)
    }

    /// What was next does not return, for so long, and another thread reads for others: those who wait for it, and for what
    /// else the same user has to be read.
    pub fn lost(&mut self, took_ns: u64, now_ns: u64) -> Vec<T> {
        let Some((who, version)) = self.reading.take() else { return Vec::new() };
        self.rest(&who, took_ns, now_ns);
        let mut answers = self.files.remove(&version).map(|wanted| wanted.answers).unwrap_or_default();
        let payer = who.payer();
        if !is_root(&payer) {
            for wanted in self.files.values_mut() {
                answers.extend(wanted.answers.extract_if(.., |it| it.who.payer() == payer));
            }
        }
        self.lost.insert(version, payer);
        self.given(answers)
    }

    /// Files that are being read, those too whose reads do not return, and whose turns those were.
    pub fn out(&self) -> impl Iterator<Item = (&Version, &Who)> {
        self.lost.iter().chain(self.reading.iter().map(|(who, version)| (version, who)))
    }

    /// A read that was out when another one had the turns, and who pays for it.
    pub fn left(&mut self, version: Version, payer: Who) {
        self.lost.insert(version, payer);
    }

    /// The thread that was lost with this file has returned.
    pub fn returned(&mut self, version: &Version) {
        self.lost.remove(version);
    }

    /// Those who have waited for too long; all, where reading goes on no more.
    pub fn overdue(&mut self, is_stuck: bool, now_ns: u64) -> Vec<T> {
        let mut late = Vec::new();
        self.files.retain(|_, wanted| {
            late.extend(wanted.answers.extract_if(.., |it| is_stuck || it.until_ns <= now_ns));
            // What its user has begun besides may not return either.
            let is_read_on = wanted.executable.as_ref().is_none_or(|it| it.is_begun() && !is_stuck);
            !wanted.answers.is_empty() || is_read_on && now_ns.saturating_sub(wanted.asked_ns) < READ_ON
        });
        self.given(late)
    }

    fn given(&mut self, answers: Vec<Waiting<T>>) -> Vec<T> {
        for waiting in &answers {
            if let Some(user) = self.users.iter_mut().find(|user| user.who == waiting.who) {
                user.answers -= 1;
            }
        }
        answers.into_iter().map(|waiting| waiting.answer).collect()
    }

    fn pay(&mut self, Cost { bytes, ns }: Cost, now_ns: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.all.spend(bytes, now_ns);
        let Some((who, _)) = self.reading.take() else { return };
        if let Some(user) = self.users.iter_mut().find(|user| user.who == who) {
            user.credit.spend(bytes, now_ns);
        }
        if ns >= SLOW {
            self.rest(&who, ns, now_ns);
        }
    }

    /// A user has others wait for so long, once.
    fn rest(&mut self, who: &Who, took_ns: u64, now_ns: u64) {
        if !is_root(who) {
            self.rests.retain(|_, until_ns| *until_ns > now_ns);
            self.rests.insert(who.payer(), now_ns + took_ns.saturating_mul(RESTS));
        }
    }

    /// Whether what this user has read may hang: others go on.
    fn may_read(&self, who: &Who, at_ns: u64) -> bool {
        if self.lost.is_empty() && self.rests.is_empty() {
            return true;
        }
        let (payer, of_root) = (who.payer(), self.lost.values().filter(|who| is_root(who)).count());
        if is_root(&payer) {
            return of_root < MOST_LOST_OF_ROOT;
        }
        let is_back = self.lost.values().all(|who| *who != payer) && self.lost.len() - of_root < MOST_LOST;
        is_back && self.rests.get(&payer).is_none_or(|until_ns| *until_ns <= at_ns)
    }

    /// Who pays for what this user wants.
    fn user(&mut self, who: &Who, now_ns: u64) -> Who {
        let is_there = |users: &VecDeque<User>, who: &Who| users.iter().any(|user| user.who == *who);
        if is_there(&self.users, who) {
            return who.clone();
        }
        if self.users.len() >= MOST_USERS {
            let files = &self.files;
            self.users.retain_mut(|user| {
                let is_payer = files.values().any(|wanted| wanted.users.contains(&user.who));
                is_payer || user.answers > 0 || !user.credit.allows(per_s(&user.who) * AT_ONCE, now_ns)
            });
        }
        let who = if self.users.len() >= MOST_USERS && !is_root(who) { OTHERS } else { who.clone() };
        if !is_there(&self.users, &who) {
            let credit = Budget::new(per_s(&who));
            self.users.push_back(User { who: who.clone(), credit, answers: 0 });
        }
        who
    }
}

/// Those for whom there is no other place. No user has this id (setreuid(2)).
const OTHERS: Who = Who::User { uid: u32::MAX, is_named: false };

fn is_root(who: &Who) -> bool {
    matches!(who, Who::User { uid: 0, .. })
}

fn per_s(who: &Who) -> u32 {
    if is_root(who) { PER_S_OF_ROOT } else { PER_S }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
