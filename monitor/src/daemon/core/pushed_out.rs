//! Flows that a full table pushed out while they lived, one by one: so many of the latest.
//!
//! In: flows that leave the table, and flows that are heard of, again or for the first time. Out: what the sums hold
//! of the latter already, by themselves or by their other end on this host. Must never: grow beyond its capacity, or
//! give what the sums hold of a connection to both of its ends.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::forgotten::Bytes;
use crate::flows::{Addresses, Flow, FlowKey};
use crate::inventory::Place;
use crate::model::Direction;

/// What the sums hold of a connection, and where its bytes are counted by how they were protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub bytes: Bytes,
    pub place: Place,
}

/// What is held of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Held {
    /// Nothing: it was heard of again.
    #[default]
    Gone,
    Counted,
    /// It does not count: its other end does.
    Elsewhere,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Hashes of its key and of its addresses: sixty-four bits, keyed anew at each start. Two flows alike are not to be
    /// expected, and cannot be made.
    key: u64,
    at: u64,
    bytes: Bytes,
    /// CLOCK_MONOTONIC; 0: not known.
    began_ns: u64,
    place: Place,
    is_client: bool,
    held: Held,
}

/// What is remembered of a flow is counted with the table (`config/memory.rs`).
const _: () = assert!(size_of::<Entry>() == 48);

/// Flows with the same addresses that are found by them: in other namespaces, or sockets that share a port, there may
/// be any number.
const ALIKE: usize = 4;

/// One that is no longer remembered: the hash of its key, and what it had counted; `None`: it does not count.
pub(super) type Oldest = (u64, Option<Bytes>);

#[derive(Debug)]
pub(super) struct PushedOut {
    hasher: RandomState,
    /// A ring: the next one takes the place of the oldest.
    entries: Vec<Entry>,
    next: usize,
    capacity: usize,
    /// Positions in it, by hash of key and of addresses.
    by_key: HashTable<u32>,
    by_addresses: HashTable<u32>,
}

impl PushedOut {
    pub fn new(capacity: usize) -> Self {
        PushedOut {
            hasher: RandomState::default(),
            entries: Vec::new(),
            next: 0,
            capacity: capacity.clamp(1, u32::MAX as usize),
            by_key: HashTable::new(),
            by_addresses: HashTable::new(),
        }
    }

    /// What stands for a flow, here and where those are that are no longer remembered one by one.
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.hasher.hash_one(key)
    }

    /// What the sums hold of a flow; `Some(None)`: it does not count.
    pub fn of(&self, key: &FlowKey) -> Option<Option<Bytes>> {
        let entry = &self.entries[self.position(self.hash(key))?];
        Some((entry.held == Held::Counted).then_some(entry.bytes))
    }

    /// The same of a flow that is heard of again; it is out no more.
    pub fn take(&mut self, key: &FlowKey) -> Option<Option<Counted>> {
        let entry = self.remove(self.position(self.hash(key))?);
        let counted = Counted { bytes: entry.bytes, place: entry.place };
        Some((entry.held == Held::Counted).then_some(counted))
    }

    /// What the sums hold of a flow by its other end, if that was pushed out. `at`: where that may be.
    pub fn of_other_end(&self, flow: &Flow, at: &[Addresses]) -> Option<Bytes> {
        self.other_end(flow, at).map(|position| self.entries[position].bytes)
    }

    /// The same, for good: from now on it is this flow that counts.
    pub fn take_other_end(&mut self, flow: &Flow, at: &[Addresses]) -> Option<Counted> {
        let entry = self.other_end(flow, at).map(|position| &mut self.entries[position])?;
        entry.held = Held::Elsewhere;
        Some(Counted { bytes: entry.bytes, place: entry.place })
    }

    /// How many were pushed out since.
    fn age(&self, position: usize) -> usize {
        (self.next + self.entries.len() - position - 1) % self.entries.len()
    }

    fn other_end(&self, flow: &Flow, at: &[Addresses]) -> Option<usize> {
        let is_client = flow.direction == Direction::Egress;
        let fits = |entry: &Entry| {
            let began_ns = (entry.began_ns != 0).then_some(entry.began_ns);
            let (client_ns, server_ns) =
                if is_client { (flow.began_ns(), began_ns) } else { (began_ns, flow.began_ns()) };
            entry.held == Held::Counted
                && entry.is_client != is_client
                && Flow::is_in_order(client_ns, server_ns)
        };
        // Another namespace may have the same addresses: the latest is meant.
        let found = at.iter().flat_map(|at| self.alike(self.hasher.hash_one(at)));
        found.filter(|position| fits(&self.entries[*position])).min_by_key(|position| self.age(*position))
    }

    fn alike(&self, at: u64) -> impl Iterator<Item = usize> {
        let found = self.by_addresses.iter_hash(at).map(|position| *position as usize);
        found.filter(move |position| self.entries[*position].at == at)
    }

    /// A flow is out, with what the sums hold of it; `None`: it does not count. Gives the one that goes for it.
    pub fn add(&mut self, flow: &Flow, began_ns: Option<u64>, counted: Option<Counted>) -> Option<Oldest> {
        let key = self.hash(&flow.key());
        let before = self.position(key).map(|position| self.remove(position));
        // What its other end has not taken yet stays.
        let before = before.filter(|entry| entry.held == Held::Counted);
        let before = before.map(|entry| Counted { bytes: entry.bytes, place: entry.place });
        let counted = counted.or(before);
        let Counted { bytes, place } = counted.unwrap_or_default();
        let entry = Entry {
            key,
            at: self.hasher.hash_one(flow.addresses()),
            bytes,
            began_ns: began_ns.unwrap_or(0),
            place,
            is_client: flow.direction == Direction::Egress,
            held: if counted.is_some() { Held::Counted } else { Held::Elsewhere },
        };
        let position = self.next;
        let oldest = if position == self.entries.len() {
            if self.entries.len() == self.entries.capacity() {
                let more = self.entries.len().max(64).min(self.capacity - self.entries.len());
                self.entries.reserve_exact(more);
            }
            self.entries.push(entry);
            None
        } else {
            let oldest = self.remove(position);
            self.entries[position] = entry;
            (oldest.held != Held::Gone)
                .then(|| (oldest.key, (oldest.held == Held::Counted).then_some(oldest.bytes)))
        };
        self.next = (position + 1) % self.capacity;
        if self.alike(entry.at).count() >= ALIKE
            && let Some(longest) = self.alike(entry.at).max_by_key(|position| self.age(*position))
        {
            forget(&mut self.by_addresses, entry.at, longest);
        }
        let (entries, position) = (&self.entries, position as u32);
        self.by_key.insert_unique(entry.key, position, |position| entries[*position as usize].key);
        self.by_addresses.insert_unique(entry.at, position, |position| entries[*position as usize].at);
        oldest
    }

    /// A flow has ended, or another one begins under its key.
    pub fn end(&mut self, key: &FlowKey, keeps: Keeps) {
        if let Some(position) = self.position(self.hash(key))
            && (keeps == Keeps::Nothing || self.entries[position].held == Held::Elsewhere)
        {
            self.remove(position);
        }
    }

    fn position(&self, key: u64) -> Option<usize> {
        let position = self.by_key.find(key, |position| self.entries[*position as usize].key == key)?;
        Some(*position as usize)
    }

    fn remove(&mut self, position: usize) -> Entry {
        let entry = std::mem::take(&mut self.entries[position]);
        if entry.held != Held::Gone {
            forget(&mut self.by_key, entry.key, position);
            forget(&mut self.by_addresses, entry.at, position);
        }
        entry
    }
}

fn forget(table: &mut HashTable<u32>, hash: u64, position: usize) {
    if let Ok(found) = table.find_entry(hash, |other| *other as usize == position) {
        found.remove();
    }
}

/// What stays of a flow that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    Nothing,
    /// What its other end, which is to count, has not taken yet.
    Counted,
}
