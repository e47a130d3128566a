//! What the loader says, to whom it concerns.

use std::io::BufReader;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::super::core::Found;
use super::super::link::{FROM_LOADER, ToLoader, ToWorker};
use super::super::reader::{Batch, LateEnds};
use super::super::stages::Loader;
use super::super::work::Order;
use crate::policy::{Policy, PolicyTexts};
use crate::wire::{self, WireError};

/// What the maps say.
pub(in super::super) struct FromMaps {
    pub events: Sender<Batch>,
    pub late: Sender<LateEnds>,
    /// The ring is at its end: nobody takes late ends any more.
    pub ring_read: Arc<AtomicBool>,
    /// Dropped with the others, when all is said.
    pub _until_here: Sender<()>,
}

/// The last policy that came, with the DNS servers whose answers count where it names none. A long one takes a second
/// and more to be checked, which is for a thread of its own: all else is heard meanwhile.
#[derive(Debug)]
pub(in super::super) struct Policies {
    sender: Sender<(PolicyTexts, Vec<IpAddr>)>,
    /// See [`make_policies`].
    receiver: Receiver<(PolicyTexts, Vec<IpAddr>)>,
}

impl Policies {
    pub fn new() -> Policies {
        let (sender, receiver) = bounded(1);
        Policies { sender, receiver }
    }

    /// Where they come from.
    pub fn come(&self) -> Receiver<(PolicyTexts, Vec<IpAddr>)> {
        self.receiver.clone()
    }

    /// One that waits is out of date.
    fn put(&self, policy: (PolicyTexts, Vec<IpAddr>)) {
        if let Err(TrySendError::Full(policy)) = self.sender.try_send(policy) {
            drop(self.receiver.try_recv());
            // Nobody else puts any.
            let _ = self.sender.try_send(policy);
        }
    }
}

/// Makes policies of their texts until none comes any more.
pub(in super::super) fn make_policies(texts: &Receiver<(PolicyTexts, Vec<IpAddr>)>, orders: &Sender<Order>) {
    for (texts, resolvers) in texts {
        let made = match Policy::compile(&texts) {
            Ok(policy) => orders.send(Order::Policy(Arc::new(policy.with_host_resolvers(resolvers)))).is_ok(),
            // The loader has checked it.
            Err(error) => {
                say!("streamwatch: the old policy stays in force: {error}");
                true
            }
        };
        if !made {
            return;
        }
    }
}

/// Where it goes.
pub(in super::super) struct Ears {
    pub found: Sender<Found>,
    /// Until nothing comes from them any more.
    pub maps: Option<FromMaps>,
    pub orders: Sender<Order>,
    pub policies: Policies,
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
    fn late(&self, ends: LateEnds) {
        if self.ring_read.load(Ordering::Acquire) {
            let _ = self.events.send(Batch { events: ends.ends, ..Batch::default() });
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
                    let _ = maps.events.send(Batch { events, ..Batch::default() });
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
            ToWorker::Policy(texts, resolvers) => self.policies.put((texts, resolvers)),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_else_is_heard_while_a_policy_is_made_and_the_last_of_those_that_wait_is_next() {
        let (orders, made) = bounded(4);
        let policies = Policies::new();
        let come = policies.come();
        let mut ears = Ears {
            found: bounded(1).0,
            maps: None,
            orders: orders.clone(),
            policies,
            replies: bounded(1).0,
            loader: Arc::default(),
            alive: Arc::default(),
            stop: bounded(1).0,
        };
        let directory = crate::temporary::directory();
        let path = directory.path().join("policy.toml");
        let text = |name: &str| {
            let client = "[[service.client]]\nprocess = \"a\"\n";
            let service = format!("[[service]]\nname = \"{name}\"\nports = [1]\n{client}");
            std::fs::write(&path, service).unwrap();
            Policy::texts(&path).unwrap()
        };
        // Nobody makes any: what comes now is heard all the same.
        for name in ["first", "second", "third"] {
            ears.pass_on(ToWorker::Policy(text(name), Vec::new()));
            ears.pass_on(ToWorker::SelfCheckFailed(name.to_owned()));
            assert!(matches!(made.try_recv(), Ok(Order::SelfCheckFailed(why)) if why == name));
        }
        let maker = std::thread::spawn(move || make_policies(&come, &orders));
        let patience = Duration::from_secs(20);
        let Ok(Order::Policy(policy)) = made.recv_timeout(patience) else { panic!("none is made") };
        assert!(format!("{policy:?}").contains("third"), "{policy:?}");
        // It is the only one.
        drop(ears);
        maker.join().unwrap();
        assert!(made.try_recv().is_err());
    }
}
