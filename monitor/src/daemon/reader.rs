//! Ring to core: drained in bounded steps, decoded, sent on in batches.
//!
//! The kernel wakes a consumer that has caught up with every record, and a wake-up costs more than
//! the record itself. So under load this thread falls behind on purpose, by [`PAUSE`]: then one
//! record in many wakes it. After silence the first record is read at once.
//!
//! A core that is slow makes this thread wait, then the ring fills, and the kernel counts what does
//! not fit: a loss is always counted where it happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use monitor_common::Kind;

use crate::event::{Event, decode};
use crate::kernel::Ring;
use crate::tally::{Tallies, Tally};

/// Records taken at one go.
pub const BATCH: usize = 256;

/// How far the reader falls behind under load.
const PAUSE: Duration = Duration::from_millis(2);

/// Kinds of events: those of the ring, and those that are read from maps.
pub(super) const KINDS: [&str; monitor_common::KINDS + 2] = {
    let mut names = ["unknown"; monitor_common::KINDS + 2];
    let mut kind = 0;
    while kind < Kind::ALL.len() {
        names[kind + 1] = Kind::ALL[kind].as_str();
        kind += 1;
    }
    names[monitor_common::KINDS] = "udp";
    names[monitor_common::KINDS + 1] = "counters";
    names
};

/// The place of an event in [`KINDS`].
pub(super) fn kind_of(event: &Event) -> usize {
    match event {
        Event::Flow(kind, _) => *kind as usize,
        Event::Capture(..) => Kind::Capture as usize,
        Event::Udp { .. } => monitor_common::KINDS,
        Event::Counters(_) => monitor_common::KINDS + 1,
    }
}

/// Events by kind, added up before they are counted where others look: counting costs more than adding.
#[derive(Default)]
pub(super) struct Sums([u64; KINDS.len()]);

impl Sums {
    pub fn add(&mut self, kind: usize) {
        self.0[kind] += 1;
    }

    pub fn of(events: &[Event]) -> Sums {
        let mut sums = Sums::default();
        events.iter().for_each(|event| sums.add(kind_of(event)));
        sums
    }

    pub fn each(&self, mut each: impl FnMut(usize, u64)) {
        self.0
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .for_each(|(kind, count)| each(kind, *count));
    }
}

/// What the reader counts: records read from the ring; those that went on as events; those that could not be
/// decoded, or that nobody takes any more.
#[derive(Debug)]
pub struct ReaderCounters {
    pub(super) tallies: Tallies,
}

impl Default for ReaderCounters {
    fn default() -> Self {
        ReaderCounters { tallies: Tallies::new(&KINDS) }
    }
}

impl ReaderCounters {
    fn count(&self, sums: &Sums, how: fn(&Tally, u64)) {
        sums.each(|kind, count| how(self.tallies.of(kind), count));
    }
}

/// Where records come from.
pub(super) trait Source {
    /// See [`Ring::drain`].
    fn drain(&mut self, limit: usize, each: impl FnMut(&[u8])) -> usize;
    /// See [`Ring::wait`].
    fn wait(&self, at_most: Duration);
}

impl Source for Ring {
    fn drain(&mut self, limit: usize, each: impl FnMut(&[u8])) -> usize {
        Ring::drain(self, limit, each)
    }

    fn wait(&self, at_most: Duration) {
        Ring::wait(self, at_most);
    }
}

/// Reads until `stop` is set and the ring is empty.
pub(super) fn run(
    mut ring: impl Source,
    events: &Sender<Vec<Event>>,
    counters: &Arc<ReaderCounters>,
    stop: &AtomicBool,
) {
    let mut busy = false;
    loop {
        let stopping = stop.load(Ordering::Acquire);
        let mut batch = Vec::with_capacity(BATCH);
        let (mut offered, mut broken) = (Sums::default(), Sums::default());
        let read = ring.drain(BATCH, |record| {
            let kind = record.first().and_then(|byte| Kind::from_byte(*byte)).map_or(0, |kind| kind as usize);
            offered.add(kind);
            match decode(record) {
                Ok(event) => batch.push(event),
                Err(_) => broken.add(kind),
            }
        });
        counters.count(&offered, Tally::offer);
        counters.count(&broken, Tally::lose);
        if !batch.is_empty() {
            let sums = Sums::of(&batch);
            if events.send(batch).is_err() {
                counters.count(&sums, Tally::lose);
                return;
            }
            counters.count(&sums, Tally::deliver);
        }
        if read == 0 && stopping {
            return;
        }
        if read == 0 && !busy {
            ring.wait(Duration::from_millis(200));
        } else if read < BATCH {
            thread::sleep(PAUSE);
        }
        busy = read > 0;
    }
}
