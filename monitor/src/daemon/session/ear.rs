//! What the worker says, to whom it concerns.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;

use super::super::clock::monotonic_ns;
use super::super::confine::Confined;
use super::super::core::{Command, Lookup};
use super::super::link::{FROM_WORKER, ToLoader};
use super::super::state::Keeping;
use super::Asked;
use crate::alert::Change;
use crate::hook::Hooks;
use crate::wire;

/// How far the worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `all`: to its end.
    RingRead { all: bool },
    /// `all_told`: nothing is left for the next one.
    Ended { all_told: bool },
    /// It is gone, or makes no sense.
    Gone,
}

/// It serves.
#[derive(Debug)]
pub struct Ready {
    pub damaged: u64,
    pub confined: Confined,
}

/// Where it goes.
pub struct Ear {
    pub commands: Sender<Command>,
    pub lookups: Sender<Lookup>,
    pub changes: Sender<Vec<Change>>,
    pub keeping: Arc<Keeping>,
    pub hooks: Arc<Hooks>,
    pub asked: Arc<Mutex<Asked>>,
    pub alive: Arc<AtomicU64>,
    pub ready: Sender<Ready>,
    pub steps: Sender<Step>,
}

impl Ear {
    /// Hears until it is gone.
    pub fn run(self, socket: UnixStream) {
        let mut from = BufReader::with_capacity(1 << 16, socket);
        let mut buffer = Vec::new();
        loop {
            match wire::read(&mut from, FROM_WORKER, &mut buffer) {
                Ok(Some(message)) => self.pass_on(message),
                Ok(None) => break,
                Err(error) => {
                    say!("streamwatch: the worker said what it must not: {error}");
                    break;
                }
            }
        }
        // One that waits already does as well.
        let _ = self.steps.try_send(Step::Gone);
    }

    /// Whoever is gone is not missed.
    fn pass_on(&self, message: ToLoader) {
        match message {
            ToLoader::Command(command) => drop(self.commands.send(command)),
            ToLoader::Lookup(lookup) => drop(self.lookups.send(lookup)),
            ToLoader::Changes(changes) => self.keeping.bring(changes, &self.changes),
            ToLoader::Alert(notice) => self.hooks.offer(&Arc::new(notice)),
            // A second one says nothing.
            ToLoader::Ready { damaged, confined } => drop(self.ready.try_send(Ready { damaged, confined })),
            // One that says a later time than it is gains nothing that it could not have by saying it again.
            ToLoader::Alive(at_ns) => self.alive.store(at_ns.min(monotonic_ns()), Ordering::Relaxed),
            ToLoader::Expecting => done(&mut self.asked().expecting, ()),
            ToLoader::Refreshed => done(&mut self.asked().refreshed, ()),
            ToLoader::Restored(damaged) => {
                done(&mut self.asked().restored, usize::try_from(damaged).unwrap_or(usize::MAX));
            }
            ToLoader::RingRead { all } => {
                let _ = self.steps.try_send(Step::RingRead { all });
            }
            ToLoader::Ended { all_told } => {
                let _ = self.steps.try_send(Step::Ended { all_told });
            }
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first that waits has its answer. An answer that nobody asked for is none.
fn done<T>(waiting: &mut Vec<super::Done<T>>, value: T) {
    if !waiting.is_empty() {
        waiting.remove(0)(value);
    }
}
