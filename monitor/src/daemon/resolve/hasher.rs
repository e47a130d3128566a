//! Hashes of executables, for the answers that wait for one.
//!
//! In: an answer that lacks a hash, and the file. Out: the answer, with the hash, or without it where it was not known in
//! time: then nothing says that it is the one that a policy names. Two threads: one that gives answers, and one that
//! reads. No other thread reads an executable, and where a read does not return, only hashes are missing.

use std::collections::HashMap;
use std::sync::Arc;
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
/// A turn that takes longer may never end.
const STUCK: Duration = Duration::from_secs(2);
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
    turns: Sender<Turn>,
    read: Receiver<(Turn, Step, u64)>,
}

/// Reads, until the other has ended.
pub struct Reader {
    turns: Receiver<Turn>,
    read: Sender<(Turn, Step, u64)>,
}

pub fn hashing(found: Sender<Found>, hashes: Hashes, looks: Arc<Stage>) -> (Hashing, Hasher, Reader) {
    let (asked, asked_out) = bounded(QUEUE);
    let (turns, turns_out) = bounded(1);
    let (read_in, read) = bounded(1);
    let hasher = Hasher { asked: asked_out, found, hashes, looks: looks.clone(), turns, read };
    (Hashing { asked, looks }, hasher, Reader { turns: turns_out, read: read_in })
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
    pub fn run(self) {
        let mut turns = Turns::default();
        let mut reading: Option<Instant> = None;
        while self.round(&mut turns, &mut reading).is_ok() {}
    }

    fn round(&self, turns: &mut Turns<Answer>, reading: &mut Option<Instant>) -> Result<(), HungUp> {
        if reading.is_none()
            && let Some(turn) = turns.next(monotonic_ns())
        {
            self.turns.send(turn).map_err(|_| HungUp)?;
            *reading = Some(Instant::now());
        }
        let tick = if turns.is_empty() { never() } else { crossbeam_channel::after(TICK) };
        select! {
            recv(self.asked) -> asked => self.take(asked.map_err(|_| HungUp)?, turns)?,
            recv(self.read) -> read => {
                *reading = None;
                let (turn, step, bytes) = read.map_err(|_| HungUp)?;
                self.was_read(turn, step, bytes, turns)?;
            }
            recv(tick) -> _ => {}
        }
        let is_stuck = reading.is_some_and(|since| since.elapsed() > STUCK);
        turns.overdue(is_stuck, monotonic_ns()).into_iter().try_for_each(|answer| self.give(answer, None))
    }

    fn take(&self, asked: Asked, turns: &mut Turns<Answer>) -> Result<(), HungUp> {
        let Asked { executable, uid, answer } = asked;
        // It may have been read since.
        if let Some(hash) = self.hashes.get(&executable.version()) {
            return self.give(answer, Some(hash));
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
