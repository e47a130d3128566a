//! What the loader says, to whom it concerns.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::Sender;

use super::super::core::Found;
use super::super::link::{FROM_LOADER, ToLoader, ToWorker};
use super::super::reader::Batch;
use super::super::stages::Loader;
use super::super::work::Order;
use crate::event::Event;
use crate::policy::Policy;
use crate::wire::{self, WireError};

/// What the maps say.
pub(in super::super) struct FromMaps {
    pub events: Sender<Batch>,
    pub late: Sender<Vec<Event>>,
    /// The ring is at its end: nobody takes late ends any more.
    pub ring_read: Arc<AtomicBool>,
    /// Dropped with the others, when all is said.
    pub _until_here: Sender<()>,
}

/// Where it goes.
pub(in super::super) struct Ears {
    pub found: Sender<Found>,
    /// Until nothing comes from them any more.
    pub maps: Option<FromMaps>,
    pub orders: Sender<Order>,
    /// Answers to what was ordered.
    pub replies: Sender<ToLoader>,
    pub loader: Arc<Loader>,
    /// See [`super::super::work::Outlets`].
    pub alive: Arc<AtomicU64>,
    /// Told whether the hooks stay when it is to end.
    pub stop: Sender<bool>,
}

/// Hears until the loader is gone: answers may come when nothing comes from the maps any more.
///
/// # Errors
/// It cannot be understood.
pub(in super::super) fn run(mut from: BufReader<UnixStream>, mut ears: Ears) -> Result<(), WireError> {
    let mut buffer = Vec::new();
    while let Some(message) = wire::read(&mut from, FROM_LOADER, &mut buffer)? {
        ears.pass_on(message);
    }
    Ok(())
}

impl FromMaps {
    fn late(&self, ends: Vec<Event>) {
        if self.ring_read.load(Ordering::Acquire) {
            let _ = self.events.send(Batch { events: ends, end: None });
        } else {
            let _ = self.late.send(ends);
        }
    }
}

impl Ears {
    /// Nobody who is gone is missed: then the end is near.
    fn pass_on(&mut self, message: ToWorker) {
        match message {
            ToWorker::Found(found) => drop(self.found.send(found)),
            ToWorker::Events(events) => {
                if let Some(maps) = &self.maps {
                    let _ = maps.events.send(Batch { events, end: None });
                }
            }
            ToWorker::Late(ends) => {
                if let Some(maps) = &self.maps {
                    maps.late(ends);
                }
            }
            ToWorker::MapsRead => self.maps = None,
            ToWorker::SelfCheck { port, pid } => {
                let ready = self.reply(|()| ToLoader::Expecting);
                self.order(Order::SelfCheck { port, pid, ready });
            }
            ToWorker::SelfCheckFailed(why) => self.order(Order::SelfCheckFailed(why)),
            ToWorker::Refresh => self.order(Order::Refresh(self.reply(|()| ToLoader::Refreshed))),
            ToWorker::Restore(saved) => {
                let reply = self.reply(|damaged: usize| ToLoader::Restored(damaged as u64));
                self.order(Order::Restore(Box::new(saved), reply));
            }
            ToWorker::Policy(texts, resolvers) => match Policy::compile(&texts) {
                Ok(policy) => self.order(Order::Policy(Arc::new(policy.with_host_resolvers(resolvers)))),
                // The loader has checked it.
                Err(error) => say!("streamwatch: the old policy stays in force: {error}"),
            },
            ToWorker::Report(report) => {
                self.loader.set(report);
                // One that finds no room is made up for by the next.
                let _ = self.replies.try_send(ToLoader::Alive(self.alive.load(Ordering::Relaxed)));
            }
            ToWorker::Stop { hooks_stay } => drop(self.stop.send(hooks_stay)),
        }
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    fn reply<T>(&self, form: impl FnOnce(T) -> ToLoader + Send + 'static) -> Box<dyn FnOnce(T) + Send> {
        let replies = self.replies.clone();
        // There is room: the loader asks one thing at a time.
        Box::new(move |value| drop(replies.try_send(form(value))))
    }
}
