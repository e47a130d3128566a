//! Core to host: who is behind a socket. All reading of `/proc` and all of sock_diag happens here, so that the core never
//! waits for it.
//!
//! Who a process is, is answered at once, on a thread that does nothing else. What goes through all processes, or into
//! network namespaces, of which a user may have thousands, waits in a queue of its own for each: who asks for the one
//! never waits for the other. What finds its queue full is answered as not looked up, and counted. An answer that lacks
//! the hash of an executable waits for that by itself (`hasher`): who names processes reads no executable.

mod errands;
mod hasher;
mod turns;
mod walk;

use std::io::PipeReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::core::{Found, Lookup, Rest};
use super::stages::Stage;
use crate::flows::FlowKey;
use crate::identity::{
    Asked, Executions, Glimpses, Hashes, Hung, InNamespace, Named, ProcessSeen, Resolver, SocketKey,
};

/// Answers that are given together: each that went alone would wake every thread on its way.
const TOGETHER: usize = 64;

/// Sockets that wait for a walk, or for the way of their packets.
const QUEUE: usize = 4096;
/// Questions for all sockets: one answer is for all who asked before it.
const LISTINGS: usize = 4;

/// How long what was there before may keep all answers waiting: it is to come first.
const FIRST: Duration = Duration::from_millis(500);

/// What a worker's end left hanging of all that is done here, for the next one: it counts on.
#[derive(Clone, Debug, Default)]
pub struct LeftHanging {
    names: Hung,
    walker: Hung,
    reads: hasher::StillRead,
}

/// What a thread does.
pub type Work = Box<dyn FnOnce() + Send>;

/// Who does what: each on a thread of its own.
pub struct Resolving {
    names: Names,
    walker: walk::Walker,
    hasher: hasher::Hasher,
    reader: hasher::Reader,
    listings: (Receiver<()>, Sender<Found>, Arc<Stage>),
    ways: errands::Ways,
    namespaces: errands::Namespaces,
}

impl Resolving {
    /// `looks`: counts what is looked up here, by the kinds of [`Lookup`]. `hanging`: shared by all that come one after the
    /// other.
    pub fn new(
        lookups: Receiver<Lookup>,
        found: Sender<Found>,
        asked: Asked,
        cgroup: PathBuf,
        looks: Arc<Stage>,
        hanging: LeftHanging,
        executions: Executions,
    ) -> Resolving {
        let (users, users_out) = bounded(QUEUE);
        let (ways, ways_out) = bounded(QUEUE);
        let (namespaces, namespaces_out) = bounded(QUEUE);
        let (listings, listings_out) = bounded(LISTINGS);
        let (begun_in, begun) = bounded(1);
        let (scanned_in, scanned) = bounded(1);
        let hashes = Hashes::default();
        let (hashing, hasher, reader) =
            hasher::hashing(found.clone(), hashes.clone(), looks.clone(), hanging.reads);
        Resolving {
            walker: walk::Walker {
                users: users_out,
                found: found.clone(),
                asked: asked.clone(),
                hashes: hashes.clone(),
                hashing: hashing.clone(),
                cgroup,
                scanned,
                begun: begun_in,
                looks: looks.clone(),
                hung: hanging.walker,
            },
            hasher,
            reader,
            listings: (listings_out, found.clone(), looks.clone()),
            ways: errands::Ways {
                asked: ways_out,
                found: found.clone(),
                looks: looks.clone(),
                scanned: scanned_in,
            },
            namespaces: errands::Namespaces {
                asked: namespaces_out,
                found: found.clone(),
                looks: looks.clone(),
            },
            names: Names {
                lookups,
                found,
                asked,
                hashes,
                glimpses: Glimpses::default(),
                executions,
                begun,
                patience: FIRST,
                hung: hanging.names,
                errands: Errands { users, ways, namespaces, listings, hashing, looks },
            },
        }
    }

    /// The threads, by their names. Each ends when the core has hung up.
    pub fn threads(self, newcomers: PipeReader) -> [(&'static str, Work); 8] {
        let glimpses = self.names.glimpses.clone();
        let Resolving { names, walker, hasher, reader, listings, ways, namespaces } = self;
        [
            ("glimpser", Box::new(move || super::newcomers::glimpse(newcomers, glimpses))),
            ("resolver", Box::new(move || names.run())),
            ("walker", Box::new(move || walker.run())),
            ("hasher", Box::new(move || hasher.run())),
            ("hash-reader", Box::new(move || reader.run())),
            ("sockets", Box::new(move || errands::list(&listings.0, &listings.1, &listings.2))),
            ("tunnels", Box::new(move || ways.run())),
            ("namespaces", Box::new(move || namespaces.run())),
        ]
    }
}

/// Says who processes are, and passes on what takes longer.
struct Names {
    lookups: Receiver<Lookup>,
    found: Sender<Found>,
    asked: Asked,
    hashes: Hashes,
    /// Of processes that have ended by the time that they are asked for.
    glimpses: Glimpses,
    executions: Executions,
    /// What was there before was told.
    begun: Receiver<()>,
    patience: Duration,
    hung: Hung,
    errands: Errands,
}

/// What others do.
struct Errands {
    users: Sender<(FlowKey, SocketKey)>,
    ways: Sender<(FlowKey, SocketKey)>,
    namespaces: Sender<InNamespace>,
    listings: Sender<()>,
    hashing: hasher::Hashing,
    looks: Arc<Stage>,
}

impl Names {
    fn run(self) {
        let resolver = Resolver::after(self.hung).asked(self.asked).hashes(self.hashes);
        let mut resolver = resolver.glimpses(self.glimpses).executions(self.executions);
        let _ = self.begun.recv_timeout(self.patience);
        let mut answers = Vec::with_capacity(TOGETHER);
        while let Ok(first) = self.lookups.recv() {
            let rest = self.lookups.try_iter().take(TOGETHER - 1);
            let lookups: Vec<Lookup> = std::iter::once(first).chain(rest).collect();
            let processes: Vec<ProcessSeen> = lookups.iter().filter_map(Lookup::process).collect();
            resolver.look_ahead(&processes);
            answers
                .extend(lookups.into_iter().filter_map(|lookup| self.errands.answer(lookup, &mut resolver)));
            resolver.forget_ahead();
            answers.extend(resolver.take_stalls().into_iter().map(|who| Found::Stalled { who }));
            if answers.drain(..).try_for_each(|answer| self.found.send(answer)).is_err() {
                return;
            }
        }
    }
}

impl Errands {
    /// Answers now, or leaves it to another one.
    fn answer(&self, lookup: Lookup, resolver: &mut Resolver) -> Option<Found> {
        let tally = self.looks.of(lookup.kind());
        tally.offer(1);
        let refused = match lookup {
            Lookup::Owner { key, seen } => {
                let Named { identity, unhashed, is_stalled } = resolver.process(&seen);
                tally.settle_one(!is_stalled);
                let answer = Found::Owner { key, seen, identity: Arc::new(identity) };
                return self.hashing.tell(answer, unhashed);
            }
            Lookup::Listener { cookie, seen } => {
                let Named { identity, unhashed, is_stalled } = resolver.process(&seen);
                tally.settle_one(!is_stalled);
                let answer = Found::Listener { cookie, identity: Arc::new(identity) };
                return self.hashing.tell(answer, unhashed);
            }
            Lookup::User { key, socket } => {
                self.looks.observed(self.users.len() + 1);
                let queued = self.users.try_send((key, socket)).is_ok();
                (!queued).then_some(Found::User { key, identity: None })
            }
            Lookup::Tunnel { key, socket } => {
                // Who is not answered asks again.
                if self.ways.try_send((key, socket)).is_err() {
                    tally.lose(1);
                }
                return None;
            }
            Lookup::Namespace { socket, checks_address } => {
                // As of tunnels.
                if self.namespaces.try_send(InNamespace { socket, checks_address }).is_err() {
                    tally.lose(1);
                }
                return None;
            }
            Lookup::Sockets => {
                let queued = self.listings.try_send(()).is_ok();
                let began_ns = super::clock::monotonic_ns();
                (!queued).then_some(Found::Sockets { seen: Vec::new(), rest: Rest::Unseen, began_ns })
            }
        };
        if refused.is_some() {
            tally.lose(1);
        }
        refused
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
