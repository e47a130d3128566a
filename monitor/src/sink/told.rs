//! Which records were written, in memory that outlives the process: a file that is mapped and never
//! written to disk by us. What the daemon before had read of the ring and perhaps not told is read again by
//! the next one, which learns here what need not be told a second time.
//!
//! In: flow records, by id and action. Out: [`Past`]. Must never: hold a name, an address or a byte of
//! traffic: of an id there is a hash.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use monitor_common::{Counters, Plain};
use monitor_sys::Mapping;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::model::{FlowAction, FlowView};
use crate::regular;

/// Entries that are remembered: more than the records that the events of a full ring can make.
const ENTRIES: u64 = 1 << 16;

// Words of the head, by their offsets.
/// The counters of the kernel when a loss was told last.
const LOSSES: usize = 64;
const LOSS_WORDS: usize = size_of::<Counters>() / 8;
const _: () = assert!(size_of::<Counters>().is_multiple_of(8) && LOSSES + size_of::<Counters>() <= HEAD);

const MAGIC: usize = 0;
const RING: usize = 8;
/// Entries that are written for certain.
const WRITTEN: usize = 16;
/// Entries that were about to be written.
const MEANT: usize = 24;
/// 1 while something is written.
const WRITING: usize = 32;
/// Entries that stand in their places, also those of which the writing has not begun: they stand where the oldest
/// stood, and are not to be taken for them.
const PLACED: usize = 40;
/// The cursor of the last alert that was written; 0: none.
const ALERTS: usize = 48;
const HEAD: usize = 4096;
const LENGTH: usize = HEAD + 8 * ENTRIES as usize;

/// `swtold` and a version.
const WORD: u64 = u64::from_le_bytes(*b"swtold\0\x01");

/// What the daemon before said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    No,
    Told,
    /// It was killed while it wrote.
    Perhaps,
}

/// What the daemon before told last.
#[derive(Debug, Default)]
pub struct Past {
    told: HashSet<u64>,
    perhaps: HashSet<u64>,
    /// The counters of the kernel when it told a loss last.
    pub losses: Counters,
    /// The cursor of the last alert that it wrote for certain; 0: none.
    pub alerts: u64,
}

impl Past {
    /// Whether a record of the flow with this id was told.
    pub fn said(&self, id: &str, action: FlowAction) -> Said {
        match entry(id, action) {
            Some(entry) if self.told.contains(&entry) => Said::Told,
            Some(entry) if self.perhaps.contains(&entry) => Said::Perhaps,
            _ => Said::No,
        }
    }

    /// Records remembered.
    pub fn len(&self) -> usize {
        self.told.len() + self.perhaps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The two bits of an end.
const END: u64 = 3;

/// A hash (FNV-1a) of the flow, and two bits for what of it was told; `None`: told as often as it happens.
fn entry(id: &str, action: FlowAction) -> Option<u64> {
    let kind = match action {
        FlowAction::FlowOpened => 1,
        FlowAction::FlowSettled => 2,
        FlowAction::FlowClosed | FlowAction::ConnectionFailed => END,
        FlowAction::FlowProgress => return None,
    };
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Some(hash << 2 | kind)
}

/// The writer's side. One thread holds it.
#[derive(Debug)]
pub struct ToldLog {
    map: Arc<Mapping>,
    meant: u64,
    /// The cursor of the last alert that is about to be written.
    alerts: u64,
    cut: bool,
}

/// Notes which losses were told. One thread holds it.
#[derive(Debug)]
pub struct LossesTold {
    map: Arc<Mapping>,
}

impl LossesTold {
    /// Alerts up to this cursor are of before; where the process before noted how far it came, that stays.
    pub fn begin_alerts(&self, cursor: u64) {
        let word = self.map.word(ALERTS);
        if word.load(Acquire) == 0 {
            word.store(cursor.max(1), Release);
        }
    }

    /// Losses up to these counters were told.
    pub fn note(&self, counters: &Counters) {
        for (number, word) in counters.as_bytes().chunks_exact(8).enumerate() {
            let word = word.try_into().map_or(0, u64::from_ne_bytes);
            self.map.word(LOSSES + 8 * number).store(word, Release);
        }
    }
}

impl ToldLog {
    /// Opens the file, made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn file(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = regular::open_own(path, &mut options)?;
        file.set_len(LENGTH as u64)?;
        Ok(file)
    }

    /// Whether a file is one of these.
    pub fn is_one(path: &Path) -> bool {
        let mut word = [0; 8];
        let file = regular::open_own(path, OpenOptions::new().read(true));
        file.and_then(|mut file| file.read_exact(&mut word)).is_ok() && u64::from_le_bytes(word) == WORD
    }

    /// The same without a place: it outlives the process that writes, if another holds it too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn memory() -> io::Result<File> {
        let file = File::from(memfd_create(c"streamwatch-told", MemfdFlags::CLOEXEC)?);
        file.set_len(LENGTH as u64)?;
        Ok(file)
    }

    /// Reads what the process before told of the same ring, and goes on from there.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub fn new(file: &File, ring: u64) -> io::Result<(ToldLog, Past)> {
        let map = Arc::new(Mapping::new(file, 0, LENGTH, true)?);
        let mut log = ToldLog { map, meant: 0, alerts: 0, cut: false };
        let same = log.load(MAGIC) == WORD && log.load(RING) == ring;
        let past = if same { log.past() } else { Past::default() };
        log.losses().note(&past.losses);
        let at = if same { log.load(MEANT) } else { 0 };
        // What was being written is settled now: an end in doubt is told again, and is in no doubt for who
        // reads this next, should this daemon be killed before; the rest counts as told.
        for number in if same { log.load(WRITTEN).max(at.saturating_sub(ENTRIES))..at } else { 0..0 } {
            let slot = log.map.word(ToldLog::slot(number));
            if slot.load(Acquire) & 3 == END {
                slot.store(0, Release);
            }
        }
        log.meant = at;
        log.alerts = past.alerts;
        log.map.word(ALERTS).store(past.alerts, Release);
        log.cut = same && log.load(WRITING) != 0;
        log.map.word(WRITING).store(0, Release);
        log.map.word(PLACED).store(at, Release);
        log.map.word(MEANT).store(at, Release);
        log.map.word(WRITTEN).store(at, Release);
        log.map.word(RING).store(ring, Release);
        log.map.word(MAGIC).store(WORD, Release);
        Ok((log, past))
    }

    /// For who tells losses.
    pub fn losses(&self) -> LossesTold {
        LossesTold { map: self.map.clone() }
    }

    fn load(&self, offset: usize) -> u64 {
        self.map.word(offset).load(Acquire)
    }

    fn slot(number: u64) -> usize {
        HEAD + 8 * (number % ENTRIES) as usize
    }

    fn past(&self) -> Past {
        let (written, meant) = (self.load(WRITTEN), self.load(MEANT));
        let placed = self.load(PLACED).max(meant);
        let losses: Vec<u8> =
            (0..LOSS_WORDS).flat_map(|word| self.load(LOSSES + 8 * word).to_ne_bytes()).collect();
        let losses = Counters::read_from(&losses).unwrap_or_default();
        let mut past = Past { losses, alerts: self.load(ALERTS), ..Past::default() };
        // A file that somebody else wrote: no more than there is room for.
        if meant < written || placed - written > ENTRIES {
            return past;
        }
        for number in placed.saturating_sub(ENTRIES)..meant {
            let entry = self.load(ToldLog::slot(number));
            if number < written {
                past.told.insert(entry)
            } else {
                past.perhaps.insert(entry)
            };
        }
        past
    }

    /// A record is about to be written.
    pub fn mean(&mut self, flow: &FlowView, action: FlowAction) {
        if let Some(entry) = entry(&flow.id, action) {
            // First, so that whoever reads this next knows that the place is taken.
            self.map.word(PLACED).store(self.meant + 1, Release);
            self.map.word(ToldLog::slot(self.meant)).store(entry, Release);
            self.meant += 1;
        }
    }

    /// An alert is about to be written.
    pub fn mean_alert(&mut self, cursor: u64) {
        self.alerts = self.alerts.max(cursor);
    }

    /// Whether the process before was killed while it wrote: its last line may be cut.
    pub fn was_cut(&self) -> bool {
        self.cut
    }

    /// Writing begins.
    pub fn begin(&self) {
        self.map.word(WRITING).store(1, Release);
        self.map.word(MEANT).store(self.meant, Release);
    }

    /// Everything that was meant has been written.
    pub fn done(&self) {
        self.map.word(WRITTEN).store(self.meant, Release);
        if self.alerts > 0 {
            self.map.word(ALERTS).store(self.alerts, Release);
        }
        self.map.word(WRITING).store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;
    use crate::record::samples;

    fn open(path: &Path, ring: u64) -> io::Result<(ToldLog, Past)> {
        ToldLog::new(&ToldLog::file(path)?, ring)
    }

    fn flow(id: &str) -> FlowView {
        FlowView { id: id.to_owned(), ..samples::flow() }
    }

    #[test]
    fn alerts_that_were_not_written_are_known() {
        let file = ToldLog::memory().unwrap();
        let (mut log, past) = ToldLog::new(&file, 1).unwrap();
        assert_eq!(past.alerts, 0);
        log.losses().begin_alerts(3);
        log.begin();
        log.done();
        assert_eq!(log.past().alerts, 3, "those of before");
        log.mean_alert(7);
        log.begin();
        log.done();
        log.mean_alert(9);
        log.begin();
        // Killed here.
        let (log, past) = ToldLog::new(&file, 1).unwrap();
        assert_eq!(past.alerts, 7);
        log.losses().begin_alerts(9);
        log.done();
        assert_eq!(ToldLog::new(&file, 1).unwrap().1.alerts, 7);
        assert_eq!(ToldLog::new(&file, 2).unwrap().1.alerts, 0, "of another ring");
    }

    /// A log, and its file, in which ten more were written than it holds.
    fn overfull(action: FlowAction) -> (tempfile::TempDir, PathBuf, ToldLog) {
        let directory = crate::temporary::directory();
        let path = directory.path().join("told");
        let (mut log, _) = open(&path, 1).unwrap();
        for number in 0..ENTRIES + 10 {
            log.mean(&flow(&number.to_string()), action);
            log.begin();
            log.done();
        }
        (directory, path, log)
    }

    #[test]
    fn what_was_written_is_known_and_what_was_being_written_is_in_doubt() {
        let directory = crate::temporary::directory();
        let path = directory.path().join("told");
        let (mut log, past) = open(&path, 7).unwrap();
        assert!(past.is_empty());
        log.mean(&flow("a"), FlowAction::FlowOpened);
        log.mean(&flow("a"), FlowAction::FlowProgress);
        log.begin();
        log.done();
        log.mean(&flow("a"), FlowAction::FlowClosed);
        log.begin();
        log.losses().note(&Counters { lost_bytes: 77, ..Counters::default() });
        // Killed here. One that is only meant and not begun was not written.
        log.mean(&flow("b"), FlowAction::FlowOpened);
        drop(log);
        let (log, past) = open(&path, 7).unwrap();
        assert!(log.was_cut());
        assert_eq!(past.said("a", FlowAction::FlowOpened), Said::Told);
        assert_eq!(past.said("a", FlowAction::FlowSettled), Said::No);
        assert_eq!(past.said("a", FlowAction::FlowClosed), Said::Perhaps);
        assert_eq!(past.said("a", FlowAction::FlowProgress), Said::No);
        assert_eq!(past.said("b", FlowAction::FlowOpened), Said::No);
        assert_eq!(past.losses.lost_bytes, 77);
        drop(log);
        // That one was killed before it told the end.
        let (log, past) = open(&path, 7).unwrap();
        assert!(!log.was_cut());
        assert_eq!(past.said("a", FlowAction::FlowOpened), Said::Told);
        assert_eq!(past.said("a", FlowAction::FlowClosed), Said::No);
        drop(log);
        // Another ring: another life.
        assert!(open(&path, 8).unwrap().1.is_empty());
    }

    /// The places are used again and again: what was only meant stands where the oldest stood.
    #[test]
    fn what_was_only_meant_is_not_taken_for_the_oldest_that_was_written() {
        let (_directory, path, mut log) = overfull(FlowAction::FlowClosed);
        for id in ["a", "b", "c"] {
            log.mean(&flow(id), FlowAction::FlowClosed);
        }
        // Killed here.
        drop(log);
        let (_, past) = open(&path, 1).unwrap();
        for id in ["a", "b", "c"] {
            assert_eq!(past.said(id, FlowAction::FlowClosed), Said::No);
        }
        assert_eq!(past.said(&(ENTRIES + 9).to_string(), FlowAction::FlowClosed), Said::Told);
        assert_eq!(past.said("13", FlowAction::FlowClosed), Said::Told);
        assert_eq!(past.len() as u64, ENTRIES - 3);
    }

    #[test]
    fn more_than_it_holds_pushes_out_the_oldest_and_any_file_is_read() {
        let (_directory, path, log) = overfull(FlowAction::FlowOpened);
        drop(log);
        let (log, past) = open(&path, 1).unwrap();
        assert_eq!(past.len() as u64, ENTRIES);
        assert_eq!(past.said("9", FlowAction::FlowOpened), Said::No);
        assert_eq!(past.said("10", FlowAction::FlowOpened), Said::Told);
        log.map.word(MEANT).store(u64::MAX, Release);
        log.map.word(WRITTEN).store(5, Release);
        drop(log);
        assert!(open(&path, 1).unwrap().1.is_empty());
    }
}
