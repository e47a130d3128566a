//! What goes into all network namespaces: the sockets that are there, and tunnels.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::super::clock::monotonic_ns;
use super::super::core::Found;
use super::super::stages::Stage;
use crate::flows::FlowKey;
use crate::identity::{self, SocketKey, SocketLister, Tunnels};
use crate::watch::Budget;

/// All sockets are listed at most this often.
const LIST_EVERY: Duration = Duration::from_secs(1);

/// Ways that are looked for in a second; four times as many at once.
const WAYS_PER_S: u32 = 20_000;

/// Lists all sockets when asked to, and once a second at most.
pub fn list(asked: &Receiver<()>, found: &Sender<Found>, looks: &Stage) {
    let mut not_before = Instant::now();
    while asked.recv().is_ok() {
        std::thread::sleep(not_before.saturating_duration_since(Instant::now()));
        not_before = Instant::now() + LIST_EVERY;
        // One answer is for all who asked before it.
        let count = 1 + asked.try_iter().count();
        looks.look("sockets").deliver(count as u64);
        if found.send(all_sockets()).is_err() {
            return;
        }
    }
}

/// `None` when not every namespace could be looked into: then nothing can be concluded from what
/// is absent.
fn all_sockets() -> Found {
    let began_ns = monotonic_ns();
    let mut seen = HashMap::new();
    // A user may have thousands that are empty, and each list has the kernel go through all sockets of the host.
    for namespace in identity::namespaces().into_iter().filter(|namespace| !namespace.is_without_tcp()) {
        let Ok(lister) = SocketLister::enter(&namespace) else {
            return Found::Sockets { seen: None, began_ns };
        };
        let Ok(list) = lister.list_counting() else { return Found::Sockets { seen: None, began_ns } };
        // What is left of a closed connection (TIME-WAIT) bears its cookie, and no counters.
        seen.extend(list.into_iter().filter_map(|socket| Some((socket.cookie, (socket.state, socket.tcp?)))));
    }
    Found::Sockets { seen: Some(seen), began_ns }
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
            if answers.recv_timeout(Duration::from_millis(10)).is_ok() {
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
