//! What goes into all network namespaces: the sockets that are there, and tunnels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::super::clock::monotonic_ns;
use super::super::core::{Found, Rest};
use super::super::stages::Stage;
use crate::flows::FlowKey;
use crate::identity::{self, SocketError, SocketKey, SocketLister, Tunnels};
use crate::watch::Budget;

/// All sockets are listed at most this often.
const LIST_EVERY: Duration = Duration::from_secs(1);

/// Ways that are looked for in a second; four times as many at once.
const WAYS_PER_S: u32 = 20_000;

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
