//! Ends that were taken from the ring and given back to it before they were told: whoever reads next tells them.
//!
//! In: ends, with the ring's position after each; how far everything was told. Out: what the reader before had kept
//! and not told, and how many found no room. It is a map that no program touches, pinned with the ring: it lives as
//! long as the ring's positions mean something, and on no disk. Must never: hold up the reader; believe what it
//! finds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Release};

use monitor_common::{FlowEvent, JOURNAL_SLOTS, JournalSlot, Kind, Plain};
use monitor_sys::Mapping;

const SLOT: usize = size_of::<JournalSlot>();
const _: () = assert!(SLOT.is_multiple_of(8));

/// Ends that it has room for.
const PLACES: u64 = JOURNAL_SLOTS as u64 - 1;

// Words of the head, which has the place of the first slot, by their offsets.
/// Ends that were put in.
const WRITTEN: usize = 0;
/// Those of them that were told. With nothing left both begin anew.
const TOLD: usize = 8;
/// Ends that found no room, and are perhaps not told.
const UNKEPT: usize = 16;
/// The ring's position after the last of them.
const UNKEPT_AT: usize = 24;
/// The count before it was given back.
const UNKEPT_BEFORE: usize = 32;
/// Rounds of ends that found the ring full, and were told.
const LATE_TOLD: usize = 40;
/// Such ends that had to make room for others, and are perhaps not told.
const LATE_UNTOLD: usize = 48;
/// The same of readers before this one, for the next to tell.
const LATE_LEFT: usize = 56;

/// Memory in pages, as the kernel maps it.
fn length() -> usize {
    (SLOT * JOURNAL_SLOTS as usize).next_multiple_of(rustix::param::page_size())
}

/// The journal. One thread of one process keeps it.
pub struct Journal {
    file: OwnedFd,
    head: Mapping,
    /// All of it, while something is in it: what the kernel maps of it counts as memory of the process.
    slots: Option<Mapping>,
    written: u64,
    told: u64,
    unkept: u64,
    unkept_at: u64,
}

/// What the reader before left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Ends that are given back to the ring and perhaps not told.
    pub ends: Vec<(Kind, FlowEvent)>,
    /// How many such there were for which there was no room: lost, unless they were told after all.
    pub lost: u64,
    /// Bytes of the ring that nobody could read, as it left them.
    pub skipped: u64,
}

/// Whether a record is an end: what is lost with it cannot be had any more.
fn is_end(kind: u8) -> Option<Kind> {
    Kind::from_byte(kind).filter(|kind| matches!(kind, Kind::Close | Kind::Failed | Kind::SocketClosed))
}

impl Journal {
    /// Asks for no privilege.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub fn new(map: impl AsFd) -> io::Result<Self> {
        let file = map.as_fd().try_clone_to_owned()?;
        let head = Mapping::new(&file, 0, rustix::param::page_size(), true)?;
        Ok(Journal { file, head, slots: None, written: 0, told: 0, unkept: 0, unkept_at: 0 })
    }

    /// Its slots; `None`: the kernel gives no memory.
    fn slots(&mut self) -> Option<&Mapping> {
        if self.slots.is_none() {
            self.slots = Mapping::new(&self.file, 0, length(), true).ok();
        }
        self.slots.as_ref()
    }

    /// There is time: needs no memory while nothing is in it.
    pub fn rest(&mut self) {
        if self.told == self.written {
            self.slots = None;
        }
    }

    /// What was left, for a reader that goes on at `given`: what stands in the ring after that is read there.
    /// It stays here until it is told.
    pub fn left(&mut self, given: u64) -> Left {
        let mut left = Left::default();
        let (told, written) = (self.load(TOLD), self.load(WRITTEN));
        (self.told, self.written) = (0, 0);
        // A map that somebody else wrote: no more than there is room for.
        if told < written
            && written - told <= PLACES
            && written < u64::MAX / 2
            && let Some(slots) = self.slots()
        {
            let slots: Vec<JournalSlot> = (told..written).map(|number| read(slots, number)).collect();
            (self.told, self.written) = (told, told);
            for slot in slots {
                if slot.position > given {
                    break;
                }
                self.written += 1;
                if let Some(kind) = is_end(slot.end.kind) {
                    left.ends.push((kind, slot.end));
                }
            }
        }
        left.lost = self.load(if self.load(UNKEPT_AT) > given { UNKEPT_BEFORE } else { UNKEPT });
        left.lost = left.lost.saturating_add(self.load(LATE_LEFT));
        (self.unkept, self.unkept_at) = (left.lost, given);
        self.store(UNKEPT_BEFORE, left.lost);
        self.store(UNKEPT_AT, given);
        self.store(UNKEPT, left.lost);
        self.store(LATE_LEFT, 0);
        self.store(WRITTEN, self.written);
        self.store(TOLD, self.told);
        left
    }

    /// A record that is about to be given back, and was perhaps not told; kept if it is an end. In the order of the
    /// ring.
    pub fn keep(&mut self, position: u64, record: &[u8]) {
        if record.first().copied().and_then(is_end).is_none() {
            return;
        }
        let Some(end) = FlowEvent::read_from(record) else { return };
        let (full, at) = (self.written - self.told == PLACES, place(self.written));
        let Some(slots) = self.slots().filter(|_| !full) else {
            self.unkept = self.unkept.saturating_add(1);
            self.unkept_at = position;
            return;
        };
        for (number, word) in (JournalSlot { position, end }).as_bytes().chunks_exact(8).enumerate() {
            slots.word(at + 8 * number).store(word.try_into().map_or(0, u64::from_ne_bytes), Release);
        }
        self.written += 1;
        self.store(WRITTEN, self.written);
    }

    /// What found no room is counted before it is given back.
    pub fn count_unkept(&mut self) {
        let before = self.load(UNKEPT);
        if self.unkept != before {
            self.store(UNKEPT_BEFORE, before);
            self.store(UNKEPT_AT, self.unkept_at);
            self.store(UNKEPT, self.unkept);
        }
    }

    /// Everything before this position was told.
    pub fn told(&mut self, up_to: u64) {
        let before = self.told;
        if let Some(slots) = &self.slots {
            while self.told < self.written && slots.word(place(self.told)).load(Acquire) <= up_to {
                self.told += 1;
            }
        }
        if self.told != before {
            if self.told == self.written {
                // In this order: told more than was written is nothing left.
                self.store(WRITTEN, 0);
                (self.told, self.written) = (0, 0);
            }
            self.store(TOLD, self.told);
        }
        if self.unkept != 0 && up_to >= self.unkept_at {
            self.unkept = 0;
            self.store(UNKEPT, 0);
        }
    }

    /// So many rounds of ends that found the ring full were told.
    pub fn late_told(&mut self, rounds: u64) {
        self.store(LATE_TOLD, rounds);
    }

    fn load(&self, offset: usize) -> u64 {
        self.head.word(offset).load(Acquire)
    }

    fn store(&self, offset: usize, value: u64) {
        self.head.word(offset).store(value, Release);
    }
}

fn read(slots: &Mapping, number: u64) -> JournalSlot {
    let at = place(number);
    let words = (0..SLOT / 8).map(|word| slots.word(at + 8 * word).load(Acquire));
    let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
    JournalSlot::read_from(&bytes).unwrap_or_default()
}

fn place(number: u64) -> usize {
    SLOT * (1 + (number % PLACES) as usize)
}

/// What the loader sees of it.
pub struct LateTold(Mapping);

impl LateTold {
    /// # Errors
    /// It cannot be mapped.
    pub fn new(map: impl AsFd) -> io::Result<Self> {
        Ok(LateTold(Mapping::new(map, 0, rustix::param::page_size(), true)?))
    }

    /// Rounds of ends that found the ring full, and were told, of those since [`LateTold::reset`].
    pub fn rounds(&self) -> u64 {
        self.0.word(LATE_TOLD).load(Acquire)
    }

    /// So many of them made room for others before they were told.
    pub fn set_untold(&self, ends: u64) {
        self.0.word(LATE_UNTOLD).store(ends, Release);
    }

    /// Another reader begins, and tells what was lost with the one before. Killed in between, it is told too often
    /// rather than not at all.
    pub fn reset(&self) {
        let left = self.0.word(LATE_LEFT).load(Acquire);
        let untold = self.0.word(LATE_UNTOLD).load(Acquire);
        self.0.word(LATE_LEFT).store(left.saturating_add(untold), Release);
        self.set_untold(0);
        self.0.word(LATE_TOLD).store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;

    use proptest::prelude::*;
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    /// Memory that outlives whoever maps it, as the map does.
    fn memory() -> File {
        let file = File::from(memfd_create(c"journal", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(length() as u64).unwrap();
        file
    }

    fn end(cookie: u64) -> Vec<u8> {
        let end = FlowEvent { kind: Kind::Close as u8, cookie, ..FlowEvent::default() };
        end.as_bytes().to_vec()
    }

    fn cookies(left: &Left) -> Vec<u64> {
        left.ends.iter().map(|(_, end)| end.cookie).collect()
    }

    #[test]
    fn ends_that_were_given_back_untold_come_again_until_they_are_told() {
        let file = memory();
        let mut journal = Journal::new(&file).unwrap();
        assert_eq!(journal.left(1000), Left::default());
        journal.keep(1100, &end(1));
        journal.keep(1200, FlowEvent { kind: Kind::Open as u8, ..FlowEvent::default() }.as_bytes());
        journal.keep(1300, &[Kind::Close as u8, 0, 0]);
        journal.keep(1400, &end(2));
        journal.keep(1500, &end(3));
        journal.told(1100);
        // Killed here, when the ring had been given back up to 1400: what is after that is read there.
        let mut journal = Journal::new(&file).unwrap();
        assert_eq!(cookies(&journal.left(1400)), [2]);
        // Killed before it told anything.
        let mut journal = Journal::new(&file).unwrap();
        assert_eq!(cookies(&journal.left(1400)), [2]);
        journal.keep(1500, &end(3));
        journal.told(1450);
        assert_eq!(cookies(&Journal::new(&file).unwrap().left(1500)), [3]);
        let mut journal = Journal::new(&file).unwrap();
        journal.left(1500);
        journal.told(1500);
        assert_eq!(Journal::new(&file).unwrap().left(9999), Left::default());
    }

    #[test]
    fn what_finds_no_room_is_counted_until_it_is_told() {
        let file = memory();
        let mut journal = Journal::new(&file).unwrap();
        for number in 1..=PLACES + 3 {
            journal.keep(number, &end(number));
        }
        journal.count_unkept();
        // Killed before it gave them back: they stand in the ring.
        let left = Journal::new(&file).unwrap().left(PLACES);
        assert_eq!((left.ends.len() as u64, left.lost), (PLACES, 0));
        let mut journal = Journal::new(&file).unwrap();
        journal.left(PLACES);
        for number in PLACES + 1..=PLACES + 3 {
            journal.keep(number, &end(number));
        }
        journal.count_unkept();
        let left = Journal::new(&file).unwrap().left(PLACES + 3);
        assert_eq!((left.ends.len() as u64, left.lost), (PLACES, 3));
        let mut journal = Journal::new(&file).unwrap();
        journal.left(PLACES + 3);
        journal.told(PLACES + 3);
        journal.rest();
        assert!(journal.slots.is_none());
        assert_eq!(Journal::new(&file).unwrap().left(u64::MAX), Left::default());
    }

    #[test]
    fn places_are_used_again_and_again() {
        let file = memory();
        let mut journal = Journal::new(&file).unwrap();
        for number in 1..5 * PLACES {
            journal.keep(number, &end(number));
            journal.told(number.saturating_sub(100));
        }
        journal.count_unkept();
        let left = Journal::new(&file).unwrap().left(u64::MAX);
        assert_eq!(left.lost, 0);
        assert_eq!(cookies(&left), (5 * PLACES - 100..5 * PLACES).collect::<Vec<u64>>());
    }

    #[test]
    fn rounds_of_late_ends_are_for_the_loader_to_see() {
        let file = memory();
        let seen = LateTold::new(&file).unwrap();
        Journal::new(&file).unwrap().late_told(7);
        assert_eq!(seen.rounds(), 7);
        seen.reset();
        assert_eq!(seen.rounds(), 0);
    }

    #[test]
    fn late_ends_that_made_room_untold_are_lost_with_their_reader() {
        let file = memory();
        let seen = LateTold::new(&file).unwrap();
        let lost = || Journal::new(&file).unwrap().left(1000).lost;
        seen.reset();
        assert_eq!(lost(), 0);
        seen.set_untold(9);
        seen.set_untold(4);
        seen.reset();
        assert_eq!(lost(), 4);
        // Killed before it told that.
        seen.reset();
        assert_eq!(lost(), 4);
        let mut journal = Journal::new(&file).unwrap();
        journal.left(1000);
        journal.told(1000);
        seen.set_untold(0);
        seen.reset();
        assert_eq!(lost(), 0);
    }

    proptest! {
        /// The worker may have been taken over by whoever wrote the bytes that it reads.
        #[test]
        fn any_bytes_are_a_journal(head in proptest::array::uniform6(any::<u64>()), near in 0..40_000_u64, fill: u8) {
            let file = memory();
            let map = Mapping::new(&file, 0, length(), true).unwrap();
            for (number, word) in head.iter().enumerate() {
                map.word(8 * number).store(*word, Release);
            }
            for number in 0..PLACES {
                map.word(place(number)).store(u64::from(fill) * number, Release);
                map.word(place(number) + 8).store(u64::from(fill), Release);
            }
            for written in [head[0], head[1].saturating_add(near)] {
                map.word(WRITTEN).store(written, Release);
                map.word(TOLD).store(head[1], Release);
                let mut journal = Journal::new(&file).unwrap();
                let left = journal.left(u64::MAX / 2);
                prop_assert!(left.ends.len() as u64 <= PLACES);
                journal.keep(u64::MAX / 2 + 1, &end(1));
                journal.told(u64::MAX);
                prop_assert_eq!(journal.left(u64::MAX).ends.len(), 0);
            }
        }
    }
}
