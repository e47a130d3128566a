//! Reader to loader: processes that begin to use sockets, told the moment that the reader sees them, on a pipe of their own.
//! The question who they are goes through the core, and may come when they have ended.
//!
//! In: beginnings of flows. Out: processes to be glimpsed. Nobody waits for it at either end, and nothing counts on it: what
//! finds the pipe full is told as it is without. A worker in other hands can have any process glimpsed, which the core's
//! questions can do as well.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use monitor_common::{Kind, Owner, Plain};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::core::recent::MOMENT;
use super::core::seen_of;
use crate::event::Event;
use crate::identity::{Glimpser, Glimpses};

/// Told in one go, at most: a pipe takes that whole or not at all (PIPE_BUF).
const TOGETHER: usize = 64;
/// Processes that are remembered as told, each for a [`MOMENT`] from the sighting that was told: for as long an answer
/// about that one is shared. A glimpse says nothing of what comes after it, and what begins later needs one of its own.
const TOLD: usize = 1024;
/// See [`Newcomers::come`].
const LATELY: Duration = Duration::from_millis(100);

/// Both ends. The worker's never waits.
///
/// # Errors
/// No more descriptors.
pub(super) fn pipe() -> io::Result<(PipeReader, OwnedFd)> {
    let (from, to) = io::pipe()?;
    let to = OwnedFd::from(to);
    fcntl_setfl(&to, fcntl_getfl(&to)? | OFlags::NONBLOCK)?;
    Ok((from, to))
}

/// The worker's end.
pub(super) struct Newcomers<'a> {
    to: Option<&'a File>,
    told: Box<[Owner; TOLD]>,
    waiting: Vec<u8>,
    /// One of those that wait was not told a moment before.
    is_new: bool,
    last: Option<Instant>,
}

impl<'a> Newcomers<'a> {
    /// `to`: `None`: nobody wants to know.
    pub fn new(to: Option<&'a File>) -> Self {
        Newcomers {
            to,
            told: Box::new([Owner::default(); TOLD]),
            waiting: Vec::new(),
            is_new: false,
            last: None,
        }
    }

    pub fn note(&mut self, event: &Event) {
        let Event::Flow(Kind::Open | Kind::Listen, event) = event else { return };
        let owner = event.owner;
        if self.to.is_none() || owner.tgid == 0 {
            return;
        }
        let told = &mut self.told[owner.tgid as usize % TOLD];
        let is_known = (told.tgid, told.uid, told.comm, told.cgroup)
            == (owner.tgid, owner.uid, owner.comm, owner.cgroup);
        let is_told = is_known && owner.seen_ns.saturating_sub(told.seen_ns) < MOMENT;
        if !is_told {
            *told = owner;
            self.is_new |= !is_known;
            self.waiting.extend_from_slice(owner.as_bytes());
        }
    }

    /// Tells those that were noted.
    pub fn tell(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if std::mem::take(&mut self.is_new) {
            self.last = Some(Instant::now());
        }
        if let Some(mut to) = self.to {
            for some in self.waiting.chunks(TOGETHER * size_of::<Owner>()) {
                // Full, or nobody is there.
                let _ = to.write(some);
            }
        }
        self.waiting.clear();
    }

    /// Whether any came lately, so that more are to be expected: one that goes on as before is told once more, and
    /// says nothing of others.
    pub fn come(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < LATELY)
    }
}

/// The loader's end: until the worker has ended.
pub(super) fn glimpse(mut from: PipeReader, glimpses: Glimpses) {
    let mut glimpser = Glimpser::new(glimpses);
    let mut buffer = [0; TOGETHER * size_of::<Owner>()];
    loop {
        let length = match from.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        for owner in buffer[..length].chunks(size_of::<Owner>()).filter_map(Owner::read_from) {
            glimpser.glimpse(&seen_of(&owner));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use monitor_common::FlowEvent;

    use super::*;

    fn event(kind: Kind, tgid: u32, seen_ns: u64) -> Event {
        let owner = Owner { tgid, seen_ns, ..Owner::default() };
        Event::Flow(kind, FlowEvent { owner, ..FlowEvent::default() })
    }

    #[test]
    fn a_process_is_told_once_in_a_moment_and_again_after_it() {
        let (mut from, to) = pipe().unwrap();
        let to = File::from(to);
        let mut newcomers = Newcomers::new(Some(&to));
        for (kind, tgid, seen_ns) in [
            (Kind::Open, 7, 1),
            (Kind::Close, 8, 1),
            (Kind::Open, 0, 1),
            (Kind::Open, 7, MOMENT / 2),
            (Kind::Open, 7, MOMENT),
            (Kind::Listen, 9, 5),
            (Kind::Open, 7, MOMENT + 1),
            (Kind::Open, 7, 2 * MOMENT),
        ] {
            newcomers.note(&event(kind, tgid, seen_ns));
        }
        newcomers.tell();
        drop(to);
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        let told: Vec<(u32, u64)> = bytes
            .chunks(size_of::<Owner>())
            .map(|owner| Owner::read_from(owner).map(|owner| (owner.tgid, owner.seen_ns)).unwrap())
            .collect();
        assert_eq!(told, [(7, 1), (9, 5), (7, MOMENT + 1)]);
    }

    #[test]
    fn who_goes_on_as_before_lets_nobody_be_expected() {
        let (_from, to) = pipe().unwrap();
        let to = File::from(to);
        let mut newcomers = Newcomers::new(Some(&to));
        newcomers.note(&event(Kind::Open, 7, 1));
        newcomers.tell();
        let first = newcomers.last;
        assert!(first.is_some());
        newcomers.note(&event(Kind::Open, 7, 1 + MOMENT));
        assert!(!newcomers.waiting.is_empty());
        newcomers.tell();
        assert_eq!(newcomers.last, first);
        newcomers.note(&event(Kind::Open, 8, 1 + MOMENT));
        newcomers.tell();
        assert_ne!(newcomers.last, first);
    }

    #[test]
    fn nobody_waits_where_nobody_reads_and_what_is_there_is_whole() {
        let (mut from, to) = pipe().unwrap();
        let to = File::from(to);
        let mut newcomers = Newcomers::new(Some(&to));
        for tgid in 1..100_000 {
            newcomers.note(&event(Kind::Open, tgid, 1));
            if tgid % 100 == 0 {
                newcomers.tell();
            }
        }
        drop(to);
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        assert!(!bytes.is_empty() && bytes.len() % size_of::<Owner>() == 0);
        let all = bytes.chunks(size_of::<Owner>()).map(|owner| Owner::read_from(owner).unwrap());
        assert!(all.map(|owner| owner.tgid).is_sorted());
    }
}
