//! What goes into all network namespaces: the sockets that are there, tunnels, and whose they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, Sender};

use super::super::clock::monotonic_ns;
use super::super::core::{Found, Rest};
use super::super::stages::Stage;
use crate::flows::FlowKey;
use crate::identity::{
    self, InNamespace, Realm, Realms, SocketError, SocketKey, SocketLister, Tunnels, processor_time,
};
use crate::watch::Budget;

/// All sockets are listed at most this often.
const LIST_EVERY: Duration = Duration::from_secs(1);

/// Ways that are looked for in a second; four times as many at once.
const WAYS_PER_S: u32 = 20_000;

/// All namespaces are looked through for some at most this often, and that takes at most a twentieth of a processor's time.
const SEARCH_EVERY: Duration = Duration::from_millis(50);
const SEARCH_SHARE: u32 = 20;

/// Sockets that wait for that.
const SEARCHED: usize = 4096;

/// Sockets that go in one message.
const TOGETHER: usize = 1024;

/// Lists all sockets when asked to, and once a second at most.
pub fn list(asked: &Receiver<()>, found: &Sender<Found>, looks: &Stage) {
    let mut not_before = Instant::now();
    while asked.recv().is_ok() {
        std::thread::sleep(not_before.saturating_duration_since(Instant::now()));
        not_before = Instant::now() + LIST_EVERY;
        // One answer is for all who asked before it.
        let count = 1 + asked.try_iter().count();
        looks.look("sockets").deliver(count as u64);
        let began_ns = monotonic_ns();
        // Where not every namespace could be looked into, nothing can be concluded from what is absent.
        let rest = match tell_counts(found, began_ns) {
            Ok(()) => Rest::Nothing,
            Err(_) => Rest::Unseen,
        };
        if found.send(Found::Sockets { seen: Vec::new(), rest, began_ns }).is_err() {
            return;
        }
    }
}

/// Tells the counters of all sockets, a namespace after the other, some at a time.
fn tell_counts(found: &Sender<Found>, began_ns: u64) -> Result<(), SocketError> {
    // A user may have thousands that are empty, and each list has the kernel go through all sockets of the host.
    for namespace in identity::namespaces().into_iter().filter(|namespace| !namespace.is_without_tcp()) {
        for seen in SocketLister::enter(&namespace)?.counts()?.chunks(TOGETHER) {
            // Whoever is gone is not missed.
            let _ = found.send(Found::Sockets { seen: seen.to_vec(), rest: Rest::Follows, began_ns });
        }
    }
    Ok(())
}

/// Says which way the packets of sockets go, and whether there is any tunnel.
pub struct Ways {
    pub asked: Receiver<(FlowKey, SocketKey)>,
    pub found: Sender<Found>,
    pub looks: Arc<Stage>,
    /// It was told whether there is any.
    pub scanned: Sender<()>,
}

impl Ways {
    pub fn run(self) {
        let mut tunnels = Tunnels::default();
        let mut any = false;
        let mut rate = Budget::new(WAYS_PER_S);
        loop {
            if tunnels.due_in().is_zero() {
                let now = tunnels.scan();
                if now != std::mem::replace(&mut any, now) && self.found.send(Found::Tunnels(now)).is_err() {
                    return;
                }
                let _ = self.scanned.try_send(());
            }
            match self.asked.recv_timeout(tunnels.due_in()) {
                Ok((key, socket)) => {
                    let tally = self.looks.look("tunnel");
                    // Who is not answered asks again.
                    if !rate.take(1, monotonic_ns()) {
                        tally.lose(1);
                        continue;
                    }
                    tally.deliver(1);
                    let way = tunnels.way(&socket);
                    if self.found.send(Found::Tunnel { key, way }).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Says whose the network namespaces of sockets are.
pub struct Namespaces {
    pub asked: Receiver<InNamespace>,
    pub found: Sender<Found>,
    pub looks: Arc<Stage>,
}

impl Namespaces {
    pub fn run(self) {
        let mut realms = Realms::default();
        let mut waiting: Vec<InNamespace> = Vec::new();
        let mut search_at = Instant::now();
        loop {
            let wait = search_at.saturating_duration_since(Instant::now());
            let first = match waiting.is_empty() {
                true => self.asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => self.asked.recv_timeout(wait),
            };
            match first {
                Ok(first) => {
                    let sockets: Vec<InNamespace> =
                        std::iter::once(first).chain(self.asked.try_iter().take(TOGETHER - 1)).collect();
                    let near = realms.near(&sockets);
                    let (known, left): (Vec<_>, Vec<_>) =
                        sockets.into_iter().zip(near).partition(|(_, realm)| realm.is_some());
                    let room = SEARCHED.saturating_sub(waiting.len()).min(left.len());
                    let tally = self.looks.look("namespace");
                    tally.deliver(known.len() as u64);
                    tally.lose((left.len() - room) as u64);
                    waiting.extend(left.into_iter().take(room).map(|(socket, _)| socket));
                    if self.tell(known).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if waiting.is_empty() || Instant::now() < search_at {
                continue;
            }
            let before = processor_time();
            let sockets = std::mem::take(&mut waiting);
            let (found, is_all) = realms.anywhere(&sockets);
            let unknown = found.iter().filter(|realm| realm.is_none()).count();
            // Who is not answered asks again.
            let lost = if is_all { 0 } else { unknown };
            let tally = self.looks.look("namespace");
            tally.lose(lost as u64);
            tally.deliver((found.len() - lost) as u64);
            if self.tell(sockets.into_iter().zip(found).collect()).is_err() {
                return;
            }
            let used = processor_time().saturating_sub(before);
            search_at = Instant::now() + SEARCH_EVERY.max(used * SEARCH_SHARE);
        }
    }

    fn tell(&self, answers: Vec<(InNamespace, Option<Realm>)>) -> Result<(), SendError<Found>> {
        answers.into_iter().try_for_each(|(InNamespace { socket, checks_address }, realm)| {
            let SocketKey { netns, cookie, local, .. } = socket;
            let address = checks_address.then_some(local.ip());
            self.found.send(Found::Namespace { netns, cookie, address, realm })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn all_sockets_are_listed_at_once_and_then_once_a_second_at_most() {
        let begin = Instant::now();
        let (ask, asked) = bounded(4);
        let (found, answers) = bounded(16);
        let looks = Stage::looks(4);
        let counts = Arc::clone(&looks);
        let listing = thread::spawn(move || list(&asked, &found, &looks));
        let mut made = Vec::new();
        // Wanted all the time, until the third answer.
        while made.len() < 3 {
            let _ = ask.try_send(());
            if let Ok(Found::Sockets { rest: Rest::Nothing, .. }) =
                answers.recv_timeout(Duration::from_millis(10))
            {
                made.push(begin.elapsed());
            }
        }
        drop(ask);
        drop(answers);
        assert!(listing.join().is_ok());
        assert!(made[0] < LIST_EVERY, "{made:?}");
        assert!(made[2] >= LIST_EVERY * 2, "{made:?}");
        assert!(counts.look("sockets").delivered() > 3, "one answer is for all who asked before it");
    }
}
