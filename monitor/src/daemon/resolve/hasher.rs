//! Hashes of executables, for the answers that wait for one.
//!
//! In: an answer that lacks a hash, and the file. Out: the answer, with the hash, or without it where it was not known in
//! time: then nothing says that it is the one that a policy names. One thread gives answers, and another one reads: no other
//! reads an executable. Where a read does not return, only hashes are missing, and another thread reads for others in place
//! of that one, of which there may be so many ([`turns`](super::turns)) until their reads return.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use super::super::clock::monotonic_ns;
use super::super::core::Found;
use super::super::stages::{HASH, Stage};
use super::turns::{Cost, Turns};
use crate::identity::{Executable, Hashes, Step, Unhashed, Version, Who};
use crate::model::Identity;

/// What is read in one turn, bytes: a few milliseconds.
const SLICE: u64 = 4 << 20;
/// Answers on their way here.
const QUEUE: usize = 256;
/// How often it is looked whether an answer has waited for too long, or somebody has credit again.
const TICK: Duration = Duration::from_millis(20);
/// A turn that takes longer has one read that does.
const LONGEST: Duration = Duration::from_millis(100);
/// One that takes longer may never end: another thread reads for others.
const STUCK: Duration = Duration::from_secs(2);
/// How long what was there before the start waits for all its hashes.
const AT_START: Duration = Duration::from_secs(3);

/// An answer, and the file whose hash it lacks.
struct Asked {
    executable: Executable,
    who: Who,
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
        let Some(Unhashed { executable, who }) = unhashed else { return Some(found) };
        self.looks.look(HASH).offer(1);
        let asked = Asked { executable, who, answer: Answer::Core(found) };
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
        for Unhashed { executable, who } in files {
            self.looks.look(HASH).offer(1);
            let answer = Answer::Many(executable.version(), done.clone());
            if self.asked.send_deadline(Asked { executable, who, answer }, end).is_err() {
                self.looks.look(HASH).lose(1);
            }
        }
        drop(done);
        let answers = std::iter::from_fn(|| hashes.recv_deadline(end).ok());
        answers.filter_map(|(version, hash)| Some((version, hash?))).collect()
    }
}

/// A file that was read on, how far, and what that took.
type Read = (Executable, Step, Cost);

/// Gives answers, until all who ask have ended.
pub struct Hasher {
    asked: Receiver<Asked>,
    found: Sender<Found>,
    hashes: Hashes,
    looks: Arc<Stage>,
    reading: Reading,
    /// Threads that wait for a read of these files to return.
    lost: Vec<(Version, Weak<()>)>,
    still_read: StillRead,
}

/// Reads, until the other has ended.
pub struct Reader {
    turns: Receiver<Executable>,
    read: Sender<Read>,
    _alive: Arc<()>,
}

/// The other end of a [`Reader`].
struct Reading {
    turns: Sender<Executable>,
    read: Receiver<Read>,
    alive: Weak<()>,
    /// What it reads, and since when.
    turn: Option<(Version, Instant)>,
}

fn reader() -> (Reading, Reader) {
    let (turns, turns_out) = bounded(1);
    let (read_in, read) = bounded(1);
    let alive = Arc::new(());
    let reading = Reading { turns, read, alive: Arc::downgrade(&alive), turn: None };
    (reading, Reader { turns: turns_out, read: read_in, _alive: alive })
}

/// Reads that had not returned when who asked for them ended, and who pays for that.
#[derive(Clone, Debug, Default)]
pub struct StillRead(Arc<Mutex<Vec<Left>>>);

/// The file, the payer, and whether the thread lives.
type Left = (Version, Who, Weak<()>);

impl StillRead {
    fn take(&self) -> Vec<Left> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, reads: impl Iterator<Item = Left>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(reads);
    }
}

pub fn hashing(
    found: Sender<Found>,
    hashes: Hashes,
    looks: Arc<Stage>,
    still_read: StillRead,
) -> (Hashing, Hasher, Reader) {
    let (asked, asked_out) = bounded(QUEUE);
    let (reading, reader) = reader();
    let (looks_too, lost) = (looks.clone(), Vec::new());
    let hasher = Hasher { asked: asked_out, found, hashes, looks: looks_too, reading, lost, still_read };
    (Hashing { asked, looks }, hasher, reader)
}

impl Reader {
    pub fn run(self) {
        while let Ok(mut executable) = self.turns.recv() {
            let begun = Instant::now();
            let (step, bytes) = executable.read_on(SLICE, LONGEST);
            let cost = Cost { bytes, ns: nanos(begun.elapsed()) };
            if self.read.send((executable, step, cost)).is_err() {
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
        self.leave(&turns);
    }

    /// Who comes next counts what still hangs.
    fn leave(self, turns: &Turns<Answer>) {
        let Hasher { reading: Reading { alive, turn, .. }, mut lost, still_read, .. } = self;
        lost.extend(turn.map(|(version, _)| (version, alive)));
        still_read.put(turns.out().filter_map(|(version, who)| {
            let (_, alive) = lost.iter().find(|(of, _)| of == version)?;
            Some((*version, who.payer(), alive.clone()))
        }));
    }

    /// What who was here before has left since, which may take a moment to see that it is over.
    fn take_over(&mut self, turns: &mut Turns<Answer>) {
        for (version, who, alive) in self.still_read.take() {
            turns.left(version, who);
            self.lost.push((version, alive));
        }
    }

    fn round(&mut self, turns: &mut Turns<Answer>) -> Result<(), HungUp> {
        self.take_back(turns);
        if self.reading.turn.is_none()
            && let Some(executable) = turns.next(monotonic_ns())
        {
            self.reading.turn = Some((executable.version(), Instant::now()));
            self.reading.turns.send(executable).map_err(|_| HungUp)?;
        }
        let tick = if turns.is_empty() { never() } else { crossbeam_channel::after(TICK) };
        select! {
            recv(self.asked) -> asked => self.take(asked.map_err(|_| HungUp)?, turns)?,
            recv(self.reading.read) -> read => {
                self.reading.turn = None;
                self.was_read(read.map_err(|_| HungUp)?, turns)?;
            }
            recv(tick) -> _ => {}
        }
        let mut answers = Vec::new();
        let stuck = self.stuck();
        if let Some((version, took)) = stuck
            && self.read_for_others(version)
        {
            answers = turns.lost(nanos(took), monotonic_ns());
        }
        answers.extend(turns.overdue(self.stuck().is_some(), monotonic_ns()));
        answers.into_iter().try_for_each(|answer| self.give(answer, None))
    }

    /// What is read for too long, and for how long. One that waits here to be taken was read.
    fn stuck(&self) -> Option<(Version, Duration)> {
        let (version, since) = self.reading.turn?;
        let took = since.elapsed();
        (took > STUCK && self.reading.read.is_empty()).then_some((version, took))
    }

    /// Has another thread read, if there can be one.
    fn read_for_others(&mut self, version: Version) -> bool {
        let (reading, reader) = reader();
        let is_there = thread::Builder::new().name("hash-reader".into()).spawn(|| reader.run()).is_ok();
        if is_there {
            let lost = std::mem::replace(&mut self.reading, reading);
            self.lost.push((version, lost.alive));
        }
        is_there
    }

    /// Who asks next for what has returned has it read.
    fn take_back(&mut self, turns: &mut Turns<Answer>) {
        self.take_over(turns);
        for (version, _) in self.lost.extract_if(.., |(_, alive)| alive.strong_count() == 0) {
            turns.returned(&version);
        }
    }

    fn take(&mut self, asked: Asked, turns: &mut Turns<Answer>) -> Result<(), HungUp> {
        let Asked { executable, who, answer } = asked;
        self.take_back(turns);
        // It may have been read since.
        if let Some(hash) = self.hashes.get(&executable.version()) {
            return self.give(answer, Some(hash));
        }
        match turns.ask(executable, &who, answer, monotonic_ns()) {
            Ok(()) => Ok(()),
            Err(answer) => self.give(answer, None),
        }
    }

    fn was_read(&self, read: Read, turns: &mut Turns<Answer>) -> Result<(), HungUp> {
        let (executable, step, cost) = read;
        let (version, now_ns) = (executable.version(), monotonic_ns());
        let hash = match step {
            Step::More => {
                turns.read(executable, cost, now_ns);
                return Ok(());
            }
            Step::Done(hash) => Some(hash),
            Step::Failed => None,
        };
        if let Some(hash) = &hash {
            self.hashes.put(version, hash.clone());
        }
        let mut answers = turns.done(&version, cost, now_ns).into_iter();
        answers.try_for_each(|answer| self.give(answer, hash.clone()))
    }

    fn give(&self, answer: Answer, hash: Option<String>) -> Result<(), HungUp> {
        let (tally, mut is_told) = (self.looks.look(HASH), hash.is_some());
        let given = match answer {
            Answer::Core(mut found) => {
                if let Some(identity) = identity(&mut found) {
                    Arc::make_mut(identity).executable_sha256 = hash;
                }
                self.found.send(found).map_err(|_| HungUp)
            }
            // Who asked may wait no more.
            Answer::Many(version, many) => {
                is_told &= many.try_send((version, hash)).is_ok();
                Ok(())
            }
        };
        tally.settle_one(is_told);
        given
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
