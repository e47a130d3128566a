//! Hashes of executables, for the answers that wait for one.
//!
//! In: an answer that lacks a hash, and the file. Out: the answer, with the hash, or without it where it was not known in
//! time: then nothing says that it is the one that a policy names. Two threads: one that gives answers, and one that
//! reads. No other thread reads an executable, and where a read does not return, only hashes are missing.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use super::super::clock::monotonic_ns;
use super::super::core::Found;
use super::super::stages::{HASH, Stage};
use super::turns::Turns;
use crate::identity::{Executable, Hashes, Step, Unhashed, Version};
use crate::model::Identity;

/// What is read in one turn, bytes: a few milliseconds.
const SLICE: u64 = 4 << 20;
/// Answers on their way here.
const QUEUE: usize = 256;
/// How often it is looked whether an answer has waited for too long, or somebody has credit again.
const TICK: Duration = Duration::from_millis(20);
/// A turn that takes longer may never end: nobody waits for it.
const STUCK: Duration = Duration::from_secs(2);
/// After this time another thread reads for others, where so few are lost.
const LOST: Duration = Duration::from_secs(30);
const MOST_LOST: usize = 8;
const ROOT: u32 = 0;
/// How long what was there before the start waits for all its hashes.
const AT_START: Duration = Duration::from_secs(3);

/// An answer, and the file whose hash it lacks.
struct Asked {
    executable: Executable,
    uid: u32,
    answer: Answer,
}

enum Answer {
    Core(Found),
    /// To who waits for many.
    Many(Version, Sender<(Version, Option<String>)>),
}

/// Takes answers that lack a hash.
#[derive(Clone)]
pub struct Hashing {
    asked: Sender<Asked>,
    looks: Arc<Stage>,
}

impl Hashing {
    /// Gives back what is to be told at once: it lacks no hash, or too many do.
    pub fn tell(&self, found: Found, unhashed: Option<Unhashed>) -> Option<Found> {
        let Some(Unhashed { executable, uid }) = unhashed else { return Some(found) };
        self.looks.look(HASH).offer(1);
        let asked = Asked { executable, uid, answer: Answer::Core(found) };
        let Err(refused) = self.asked.try_send(asked) else { return None };
        self.looks.look(HASH).lose(1);
        match refused.into_inner().answer {
            Answer::Core(found) => Some(found),
            Answer::Many(..) => None,
        }
    }

    /// Waits for the hashes of many, for [`AT_START`].
    pub fn all(&self, files: Vec<Unhashed>) -> HashMap<Version, String> {
        let end = Instant::now() + AT_START;
        let (done, hashes) = bounded(files.len());
        for Unhashed { executable, uid } in files {
            self.looks.look(HASH).offer(1);
            let answer = Answer::Many(executable.version(), done.clone());
            if self.asked.send_deadline(Asked { executable, uid, answer }, end).is_err() {
                self.looks.look(HASH).lose(1);
            }
        }
        drop(done);
        let answers = std::iter::from_fn(|| hashes.recv_deadline(end).ok());
        answers.filter_map(|(version, hash)| Some((version, hash?))).collect()
    }
}

/// A file that is read on, by who pays for it.
type Turn = (u32, Executable);

/// Gives answers, until all who ask have ended.
pub struct Hasher {
    asked: Receiver<Asked>,
    found: Sender<Found>,
    hashes: Hashes,
    looks: Arc<Stage>,
    reading: Reading,
    lost_after: Duration,
    /// Threads that wait for a read to return, and for whom.
    lost: Vec<(u32, Weak<()>)>,
}

/// Reads, until the other has ended.
pub struct Reader {
    turns: Receiver<Turn>,
    read: Sender<(Turn, Step, u64)>,
    _alive: Arc<()>,
}

/// The other end of a [`Reader`].
struct Reading {
    turns: Sender<Turn>,
    read: Receiver<(Turn, Step, u64)>,
    alive: Weak<()>,
    /// Who has the turn that it reads for, and since when.
    turn: Option<(u32, Instant)>,
}

fn reader() -> (Reading, Reader) {
    let (turns, turns_out) = bounded(1);
    let (read_in, read) = bounded(1);
    let alive = Arc::new(());
    let reading = Reading { turns, read, alive: Arc::downgrade(&alive), turn: None };
    (reading, Reader { turns: turns_out, read: read_in, _alive: alive })
}

pub fn hashing(found: Sender<Found>, hashes: Hashes, looks: Arc<Stage>) -> (Hashing, Hasher, Reader) {
    let (asked, asked_out) = bounded(QUEUE);
    let (reading, reader) = reader();
    let (looks_too, lost) = (looks.clone(), Vec::new());
    let hasher =
        Hasher { asked: asked_out, found, hashes, looks: looks_too, reading, lost_after: LOST, lost };
    (Hashing { asked, looks }, hasher, reader)
}

impl Reader {
    pub fn run(self) {
        while let Ok((uid, mut executable)) = self.turns.recv() {
            let (step, bytes) = executable.read_on(SLICE);
            if self.read.send(((uid, executable), step, bytes)).is_err() {
                return;
            }
        }
    }
}

/// The core, or who reads, has hung up.
struct HungUp;

impl Hasher {
    pub fn run(mut self) {
        let mut turns = Turns::default();
        while self.round(&mut turns).is_ok() {}
    }

    fn round(&mut self, turns: &mut Turns<Answer>) -> Result<(), HungUp> {
        if self.reading.turn.is_none()
            && let Some(turn) = turns.next(monotonic_ns())
        {
            self.reading.turn = Some((turn.0, Instant::now()));
            self.reading.turns.send(turn).map_err(|_| HungUp)?;
        }
        let tick = if turns.is_empty() { never() } else { crossbeam_channel::after(TICK) };
        select! {
            recv(self.asked) -> asked => self.take(asked.map_err(|_| HungUp)?, turns)?,
            recv(self.reading.read) -> read => {
                self.reading.turn = None;
                let (turn, step, bytes) = read.map_err(|_| HungUp)?;
                self.was_read(turn, step, bytes, turns)?;
            }
            recv(tick) -> _ => {}
        }
        let is_stuck = self.reading.turn.is_some_and(|(_, since)| since.elapsed() > STUCK);
        self.read_for_others();
        turns.overdue(is_stuck, monotonic_ns()).into_iter().try_for_each(|answer| self.give(answer, None))
    }

    /// Has another thread read, where one has waited for too long. Its user asks for nothing more until it is back.
    fn read_for_others(&mut self) {
        let Some((uid, since)) = self.reading.turn else { return };
        if since.elapsed() < self.lost_after {
            return;
        }
        self.lost.retain(|(_, alive)| alive.strong_count() > 0);
        let (reading, reader) = reader();
        let is_room = self.lost.len() < MOST_LOST;
        if is_room && thread::Builder::new().name("hash-reader".into()).spawn(|| reader.run()).is_ok() {
            let lost = std::mem::replace(&mut self.reading, reading);
            self.lost.push((uid, lost.alive));
        }
    }

    fn is_held_up(&self, uid: u32) -> bool {
        uid != ROOT && self.lost.iter().any(|(user, alive)| *user == uid && alive.strong_count() > 0)
    }

    fn take(&self, asked: Asked, turns: &mut Turns<Answer>) -> Result<(), HungUp> {
        let Asked { executable, uid, answer } = asked;
        // It may have been read since.
        if let Some(hash) = self.hashes.get(&executable.version()) {
            return self.give(answer, Some(hash));
        }
        if self.is_held_up(uid) {
            return self.give(answer, None);
        }
        match turns.ask(executable, uid, answer, monotonic_ns()) {
            Ok(()) => Ok(()),
            Err(answer) => self.give(answer, None),
        }
    }

    fn was_read(&self, turn: Turn, step: Step, bytes: u64, turns: &mut Turns<Answer>) -> Result<(), HungUp> {
        let (uid, executable) = turn;
        let (version, now_ns) = (executable.version(), monotonic_ns());
        let hash = match step {
            Step::More => {
                turns.read(uid, executable, bytes, now_ns);
                return Ok(());
            }
            Step::Done(hash) => Some(hash),
            Step::Failed => None,
        };
        if let Some(hash) = &hash {
            self.hashes.put(version, hash.clone());
        }
        let mut answers = turns.done(uid, &version, bytes, now_ns).into_iter();
        answers.try_for_each(|answer| self.give(answer, hash.clone()))
    }

    fn give(&self, answer: Answer, hash: Option<String>) -> Result<(), HungUp> {
        let tally = self.looks.look(HASH);
        if hash.is_some() {
            tally.deliver(1)
        } else {
            tally.lose(1)
        }
        match answer {
            Answer::Core(mut found) => {
                if let Some(identity) = identity(&mut found) {
                    Arc::make_mut(identity).executable_sha256 = hash;
                }
                self.found.send(found).map_err(|_| HungUp)
            }
            // Who asked may wait no more.
            Answer::Many(version, many) => {
                let _ = many.try_send((version, hash));
                Ok(())
            }
        }
    }
}

/// Who an answer says it is.
fn identity(found: &mut Found) -> Option<&mut Arc<Identity>> {
    match found {
        Found::Owner { identity, .. } | Found::Listener { identity, .. } => Some(identity),
        Found::User { identity, .. } => identity.as_mut(),
        _ => None,
    }
}

#[cfg(test)]
#[path = "hasher_tests.rs"]
mod tests;
