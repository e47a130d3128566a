//! Core to host: who is behind a socket. All reading of `/proc` and all of sock_diag happens here,
//! so that the core never waits for it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::time::{ClockId, clock_gettime};

use super::clock::monotonic_ns;
use super::core::{Found, Lookup};
use crate::flows::FlowKey;
use crate::identity::{self, Asked, Resolver, SocketKey, SocketLister, Subtree, Tunnels};

/// A walk over all descriptors of all processes is made at most this often, and takes at most a
/// fiftieth of a processor's time. Not of time as it passes: where a walk has to wait for a processor, all
/// that wait for its answer would wait fifty times longer.
const WALK_EVERY: Duration = Duration::from_millis(100);
const WALK_SHARE: u32 = 50;

/// Sockets asked for in one walk.
const WALK_AT_MOST: usize = 4096;

/// Answers that are given together: each that went alone would wake every thread on its way.
const TOGETHER: usize = 64;

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
    loop {
        let wait = if users.is_empty() {
            tunnels.due_in()
        } else {
            walk_at.saturating_duration_since(Instant::now())
        };
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
                    Lookup::Sockets => Some(all_sockets()),
                    Lookup::Tunnel { key, socket } => Some(Found::Tunnel { key, way: tunnels.way(&socket) }),
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
        if tunnels.due_in().is_zero() {
            let any = tunnels.scan();
            if any != std::mem::replace(&mut any_tunnels, any) && found.send(Found::Tunnels(any)).is_err() {
                return;
            }
        }
        if !users.is_empty() && Instant::now() >= walk_at {
            let before = processor_time();
            if walk(&mut resolver, std::mem::take(&mut users), found).is_err() {
                return;
            }
            walk_at = Instant::now() + WALK_EVERY.max(processor_time().saturating_sub(before) * WALK_SHARE);
        }
    }
}

/// What this thread has used.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn walk(resolver: &mut Resolver, users: Vec<(FlowKey, SocketKey)>, found: &Sender<Found>) -> Result<(), ()> {
    let sockets: Vec<SocketKey> = users.iter().map(|(_, socket)| *socket).collect();
    let identities = resolver.users_of(&sockets);
    for ((key, _), identity) in users.into_iter().zip(identities) {
        found.send(Found::User { key, identity: identity.map(Arc::new) }).map_err(|_| ())?;
    }
    Ok(())
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
