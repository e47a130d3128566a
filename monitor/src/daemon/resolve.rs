//! Core to host: who is behind a socket. All reading of `/proc` and all of sock_diag happens here,
//! so that the core never waits for it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::clock::monotonic_ns;
use super::core::{Found, Lookup};
use crate::flows::FlowKey;
use crate::identity::{
    self, Asked, Resolver, SocketKey, SocketLister, Subtree, Tunnels, Way, processor_time,
};
use crate::watch::Budget;

/// A walk over all descriptors of all processes is made at most this often, and takes at most a
/// fiftieth of a processor's time. Not of time as it passes: where a walk has to wait for a processor, all
/// that wait for its answer would wait fifty times longer.
const WALK_EVERY: Duration = Duration::from_millis(100);
const WALK_SHARE: u32 = 50;

/// All sockets are listed at most this often.
const LIST_EVERY: Duration = Duration::from_secs(1);

/// Ways that are looked for in a second; four times as many at once.
const WAYS_PER_S: u32 = 20_000;

/// Sockets asked for in one walk.
const WALK_AT_MOST: usize = 4096;

/// Answers that are given together: each that went alone would wake every thread on its way.
const TOGETHER: usize = 64;

/// When all sockets are listed.
struct Listing {
    /// Somebody wants it: one answer is for all who asked before it.
    wanted: bool,
    not_before: Instant,
}

impl Listing {
    /// How long until it is due; `None`: nobody wants it.
    fn due_in(&self, now: Instant) -> Option<Duration> {
        self.wanted.then(|| self.not_before.saturating_duration_since(now))
    }

    /// Whether it is to be made now.
    fn begin(&mut self, now: Instant) -> bool {
        let due = self.due_in(now).is_some_and(|wait| wait.is_zero());
        if due {
            *self = Listing { wanted: false, not_before: now + LIST_EVERY };
        }
        due
    }
}

/// Answers until the core hangs up. First comes what is there already, of the cgroup that is watched.
pub fn run(lookups: &Receiver<Lookup>, found: &Sender<Found>, asked: Asked, cgroup: &Path) {
    let mut resolver = Resolver::new().asked(asked);
    let mut tunnels = Tunnels::default();
    let mut any_tunnels = tunnels.scan();
    if any_tunnels && found.send(Found::Tunnels(true)).is_err() {
        return;
    }
    let at_ns = monotonic_ns();
    let (mut sockets, _unreadable) = resolver.existing();
    // The hooks see nothing else.
    let watched = Subtree::of(cgroup);
    sockets.retain(|existing| watched.has(existing.socket.cgroup));
    if found.send(Found::Existing { sockets, at_ns }).is_err() {
        return;
    }
    let mut users: Vec<(FlowKey, SocketKey)> = Vec::new();
    let mut walk_at = Instant::now();
    let mut answers = Vec::with_capacity(TOGETHER);
    let mut listing = Listing { wanted: false, not_before: walk_at };
    let mut ways = Budget::new(WAYS_PER_S);
    loop {
        let now = Instant::now();
        let wait = if users.is_empty() { tunnels.due_in() } else { walk_at.saturating_duration_since(now) };
        let wait = listing.due_in(now).map_or(wait, |due| due.min(wait));
        match lookups.recv_timeout(wait) {
            Ok(first) => {
                let rest = lookups.try_iter().take(TOGETHER - 1);
                answers.extend(std::iter::once(first).chain(rest).filter_map(|lookup| match lookup {
                    Lookup::Owner { key, seen } => {
                        Some(Found::Owner { key, seen, identity: Arc::new(resolver.process(&seen)) })
                    }
                    Lookup::Listener { cookie, seen } => {
                        Some(Found::Listener { cookie, identity: Arc::new(resolver.process(&seen)) })
                    }
                    Lookup::Sockets => {
                        listing.wanted = true;
                        None
                    }
                    Lookup::Tunnel { key, socket } => {
                        let now_ns = monotonic_ns();
                        let way = if ways.allows(1, now_ns) { tunnels.way(&socket) } else { Way::Unknown };
                        ways.spend(1, now_ns);
                        Some(Found::Tunnel { key, way })
                    }
                    Lookup::User { key, socket } if users.len() < WALK_AT_MOST => {
                        users.push((key, socket));
                        None
                    }
                    Lookup::User { key, .. } => Some(Found::User { key, identity: None }),
                }));
                if answers.drain(..).try_for_each(|answer| found.send(answer)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if listing.begin(Instant::now()) && found.send(all_sockets()).is_err() {
            return;
        }
        if tunnels.due_in().is_zero() {
            let any = tunnels.scan();
            if any != std::mem::replace(&mut any_tunnels, any) && found.send(Found::Tunnels(any)).is_err() {
                return;
            }
        }
        if !users.is_empty() && Instant::now() >= walk_at {
            let before = processor_time();
            let Ok(from_purses) = walk(&mut resolver, std::mem::take(&mut users), found) else { return };
            // What users' purses paid for has a limit of its own: nobody waits for it.
            let used = processor_time().saturating_sub(before + from_purses);
            walk_at = Instant::now() + WALK_EVERY.max(used * WALK_SHARE);
        }
    }
}

/// How much of the processor's time was paid from purses.
fn walk(
    resolver: &mut Resolver,
    users: Vec<(FlowKey, SocketKey)>,
    found: &Sender<Found>,
) -> Result<Duration, ()> {
    let sockets: Vec<SocketKey> = users.iter().map(|(_, socket)| *socket).collect();
    let (identities, from_purses) = resolver.users_of(&sockets);
    for ((key, _), identity) in users.into_iter().zip(identities) {
        found.send(Found::User { key, identity: identity.map(Arc::new) }).map_err(|_| ())?;
    }
    Ok(from_purses)
}

/// `None` when not every namespace could be looked into: then nothing can be concluded from what
/// is absent.
fn all_sockets() -> Found {
    let began_ns = monotonic_ns();
    let mut seen = HashMap::new();
    for namespace in identity::namespaces() {
        let Ok(lister) = SocketLister::enter(&namespace) else {
            return Found::Sockets { seen: None, began_ns };
        };
        let Ok(list) = lister.list_counting() else { return Found::Sockets { seen: None, began_ns } };
        // What is left of a closed connection (TIME-WAIT) bears its cookie, and no counters.
        seen.extend(list.into_iter().filter_map(|socket| Some((socket.cookie, (socket.state, socket.tcp?)))));
    }
    Found::Sockets { seen: Some(seen), began_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sockets_are_listed_at_once_and_then_once_a_second_at_most() {
        let begin = Instant::now();
        let mut listing = Listing { wanted: false, not_before: begin };
        let mut made = Vec::new();
        // Wanted all the time, for ten seconds.
        for tenth in 0..100 {
            let now = begin + Duration::from_millis(100) * tenth;
            assert!(!listing.begin(now), "nobody wants it");
            listing.wanted = true;
            if listing.begin(now) {
                made.push(tenth);
            }
            listing.wanted = false;
        }
        assert_eq!(made, (0..10).map(|second| second * 10).collect::<Vec<_>>());
        // Who asks too soon has an answer after all.
        listing.wanted = true;
        let last = begin + Duration::from_secs(9);
        assert_eq!(listing.due_in(last), Some(LIST_EVERY));
        assert!(listing.begin(last + LIST_EVERY));
    }
}
