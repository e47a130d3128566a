//! Who uses a socket, whoever made it: a walk over all processes answers for many.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::super::clock::monotonic_ns;
use super::super::core::Found;
use super::super::stages::Stage;
use super::QUEUE;
use super::hasher::Hashing;
use crate::flows::FlowKey;
use crate::identity::{
    Asked, Before, Existing, Hashes, Hung, Resolver, SocketKey, SocketUsers, Subtree, Unhashed, Version,
    not_reached, processor_time,
};

/// A walk over all descriptors of all processes is made at most this often, and takes at most a
/// fiftieth of a processor's time. Not of time as it passes: where a walk has to wait for a processor, all
/// that wait for its answer would wait fifty times longer.
const EVERY: Duration = Duration::from_millis(100);
const SHARE: u32 = 50;

/// How long a socket is asked for again whose network namespace was not looked into.
const AGAIN: Duration = Duration::from_secs(3);

/// How long the first look for tunnels may take until the others do not wait for it.
const SCAN: Duration = Duration::from_secs(2);

/// A socket whose user is wanted.
struct Waiting {
    key: FlowKey,
    socket: SocketKey,
    until: Instant,
}

/// Finds users of sockets, until the core hangs up. First comes what is there already, of the cgroup that is watched.
pub struct Walker {
    pub users: Receiver<(FlowKey, SocketKey)>,
    pub found: Sender<Found>,
    pub asked: Asked,
    pub hashes: Hashes,
    pub hashing: Hashing,
    pub cgroup: PathBuf,
    /// Whether there are tunnels was told: of what was there already, they are asked for when it is told.
    pub scanned: Receiver<()>,
    /// What was there already was told.
    pub begun: Sender<()>,
    pub looks: Arc<Stage>,
    pub hung: Hung,
}

impl Walker {
    pub fn run(self) {
        let mut resolver =
            Resolver::after(self.hung.clone()).asked(self.asked.clone()).hashes(self.hashes.clone());
        let _ = self.scanned.recv_timeout(SCAN);
        let at_ns = monotonic_ns();
        let Before { mut sockets, unhashed, .. } = resolver.existing();
        self.fill_in_hashes(&mut sockets, unhashed);
        // The hooks see nothing else.
        let watched = Subtree::of(&self.cgroup);
        // A kernel that says it (5.7) says it of each whole socket: what has none is half made, or nearly gone.
        let is_told = sockets.iter().any(|existing| existing.socket.cgroup != 0);
        sockets.retain(|existing| match existing.socket.cgroup {
            0 => !is_told || watched == Subtree::Whole,
            cgroup => watched.has(cgroup),
        });
        if self.found.send(Found::Existing { sockets, at_ns }).is_err() {
            return;
        }
        if self.tell_stalls(&mut resolver).is_err() {
            return;
        }
        let _ = self.begun.try_send(());
        let mut waiting = VecDeque::new();
        let mut walk_at = Instant::now();
        loop {
            let wait = walk_at.saturating_duration_since(Instant::now());
            match self.next(waiting.len(), wait) {
                Ok(first) => self.take(first, &mut waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if waiting.is_empty() || Instant::now() < walk_at {
                continue;
            }
            let before = processor_time();
            let Ok(from_purses) = self.walk(&mut resolver, &mut waiting) else { return };
            // What users' purses paid for has a limit of its own: nobody waits for it.
            let used = processor_time().saturating_sub(before + from_purses);
            walk_at = Instant::now() + EVERY.max(used * SHARE);
        }
    }

    fn fill_in_hashes(&self, sockets: &mut [Existing], unhashed: HashMap<(u32, u64), Unhashed>) {
        let versions: HashMap<(u32, u64), Version> =
            unhashed.iter().map(|(process, file)| (*process, file.executable.version())).collect();
        let files: HashMap<Version, Unhashed> =
            unhashed.into_values().map(|file| (file.executable.version(), file)).collect();
        if files.is_empty() {
            return;
        }
        let hashes = self.hashing.all(files.into_values().collect());
        for holder in sockets.iter_mut().flat_map(|existing| &mut existing.holders) {
            let process = holder.pid.zip(holder.start_ticks);
            if let Some(version) = process.and_then(|process| versions.get(&process)) {
                holder.executable_sha256 = hashes.get(version).cloned();
            }
        }
    }

    /// Waits for another one as long as a walk is not due, where so many wait for it.
    fn next(&self, waiting: usize, wait: Duration) -> Result<(FlowKey, SocketKey), RecvTimeoutError> {
        match waiting {
            0 => self.users.recv().map_err(|_| RecvTimeoutError::Disconnected),
            QUEUE.. => {
                std::thread::sleep(wait);
                Err(RecvTimeoutError::Timeout)
            }
            _ => self.users.recv_timeout(wait),
        }
    }

    /// As many as there is room for: the others stay in the channel.
    fn take(&self, first: (FlowKey, SocketKey), waiting: &mut VecDeque<Waiting>) {
        let until = Instant::now() + AGAIN;
        let room = QUEUE.saturating_sub(waiting.len() + 1);
        let all = std::iter::once(first).chain(self.users.try_iter().take(room));
        waiting.extend(all.map(|(key, socket)| Waiting { key, socket, until }));
        self.looks.observed(self.users.len());
    }

    /// How much of the processor's time was paid from purses.
    fn walk(&self, resolver: &mut Resolver, waiting: &mut VecDeque<Waiting>) -> Result<Duration, ()> {
        let sockets: Vec<SocketKey> = waiting.iter().map(|waiting| waiting.socket).collect();
        let SocketUsers { users, mut unhashed, not_reached: left, stalled, from_purses } =
            resolver.users_of(&sockets);
        self.tell_stalls(resolver)?;
        let now = Instant::now();
        let tally = self.looks.look("user");
        for (place, (asked, identity)) in std::mem::take(waiting).into_iter().zip(users).enumerate() {
            let is_left = left.contains(&place);
            if is_left && now < asked.until {
                waiting.push_back(asked);
                continue;
            }
            let identity = if is_left { Some(not_reached()) } else { identity };
            if is_left || stalled.contains(&place) {
                tally.lose(1)
            } else {
                tally.deliver(1)
            };
            let answer = Found::User { key: asked.key, identity: identity.map(Arc::new) };
            if let Some(answer) = self.hashing.tell(answer, unhashed.remove(&place)) {
                self.found.send(answer).map_err(|_| ())?;
            }
        }
        Ok(from_purses)
    }

    fn tell_stalls(&self, resolver: &mut Resolver) -> Result<(), ()> {
        let mut stalls = resolver.take_stalls().into_iter();
        stalls.try_for_each(|who| self.found.send(Found::Stalled { who }).map_err(|_| ()))
    }
}
