//! Ring to core: drained in bounded steps, decoded, sent on in batches.
//!
//! The kernel wakes a consumer that has caught up with every record, and a wake-up costs more than
//! the record itself. So under load this thread falls behind on purpose, by [`PAUSE`]: then one
//! record in many wakes it. After silence the first record is read at once.
//!
//! A core that is slow makes this thread wait, then the ring fills, and the kernel counts what does
//! not fit: a loss is always counted where it happens.
//!
//! Where the hooks outlive the daemon, a record is given back to the kernel once everything that came of it
//! was told: what a killed daemon had read and not told is read again. That holds up nobody: no more than a
//! part of the ring is kept, and not for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use monitor_common::Kind;

use crate::event::{Event, decode};
use crate::kernel::Ring;
use crate::tally::{Tallies, Tally};

/// Records taken at one go.
pub const BATCH: usize = 256;

/// How far the reader falls behind under load. Longer costs less, and what is asked of the kernel because of what
/// was read comes too late: sampled sessions then miss what they are read for.
const PAUSE: Duration = Duration::from_millis(2);

/// How much of the ring is kept for what is still to be told, in a thousand: no more is read before something of
/// it was told. Captures have half of the ring, and the fuller it is, the less of it a cgroup may fill.
const KEPT: u64 = 350;

/// How long something is kept without anything being told.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Where nothing more is read until then.
    pub held_up: Duration,
    /// Where there is room; and at the start, when everybody has to be found out.
    pub otherwise: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { held_up: Duration::from_secs(1), otherwise: Duration::from_secs(10) }
    }
}

/// Events on their way to the core.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
    /// The ring's position after them; `None`: they did not come from it.
    pub end: Option<u64>,
}

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
        Event::UdpLeft(..) => monitor_common::KINDS,
        Event::Counters(_) | Event::Tampered(_) => monitor_common::KINDS + 1,
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
    /// See [`Ring::produced`].
    fn produced(&self) -> u64;
    /// See [`Ring::position`].
    fn position(&self) -> u64;
    /// See [`Ring::held`].
    fn held(&self) -> u64;
    /// See [`Ring::held_share`].
    fn held_share(&self) -> u64;
    /// See [`Ring::give_back`].
    fn give_back(&mut self, up_to: u64);
}

impl Source for Ring {
    fn drain(&mut self, limit: usize, each: impl FnMut(&[u8])) -> usize {
        Ring::drain(self, limit, each)
    }

    fn wait(&self, at_most: Duration) {
        Ring::wait(self, at_most);
    }

    fn produced(&self) -> u64 {
        Ring::produced(self)
    }

    fn position(&self) -> u64 {
        Ring::position(self)
    }

    fn held(&self) -> u64 {
        Ring::held(self)
    }

    fn held_share(&self) -> u64 {
        Ring::held_share(self)
    }

    fn give_back(&mut self, up_to: u64) {
        Ring::give_back(self, up_to);
    }
}

/// What is read when, and given back when.
pub struct Reading {
    pub counters: Arc<ReaderCounters>,
    pub stop: Arc<AtomicBool>,
    /// The position up to which everything was told; `None`: nobody reads again what was read.
    pub told: Option<Arc<AtomicU64>>,
    /// Ends that found the ring full: they come after what stood in it before them.
    pub late: Receiver<Vec<Event>>,
    pub patience: Patience,
}

/// Reads until `stop` is set and what was in the ring by then is read. Gives the ring back.
pub(super) fn run<R: Source>(mut ring: R, events: &Sender<Batch>, reading: &Reading) -> R {
    let Reading { counters, stop, told, late, patience } = reading;
    let mut held_back: Option<(u64, Vec<Event>)> = None;
    let mut busy = false;
    let mut last = None;
    let mut moved = Instant::now();
    let mut ever_moved = false;
    loop {
        if last.is_none() && stop.load(Ordering::Acquire) {
            last = Some(ring.produced());
        }
        // Nothing is read far ahead of what was told: a backlog that was read at one go would have to be given
        // back untold.
        let waits = told.is_some() && last.is_none() && ring.held_share() > KEPT;
        let mut batch = Batch { events: Vec::with_capacity(BATCH), end: None };
        let (mut offered, mut broken) = (Sums::default(), Sums::default());
        let read = ring.drain(if waits { 0 } else { BATCH }, |record| {
            let kind = record.first().and_then(|byte| Kind::from_byte(*byte)).map_or(0, |kind| kind as usize);
            offered.add(kind);
            match decode(record) {
                Ok(event) => batch.events.push(event),
                Err(_) => broken.add(kind),
            }
        });
        batch.end = Some(ring.position());
        counters.count(&offered, Tally::offer);
        counters.count(&broken, Tally::lose);
        if read > 0 {
            let sums = Sums::of(&batch.events);
            if events.send(batch).is_err() {
                counters.count(&sums, Tally::lose);
                return ring;
            }
            counters.count(&sums, Tally::deliver);
        }
        if let Some((after, _)) = &held_back
            && (ring.position() >= *after || (read == 0 && !waits))
            && let Some((_, ends)) = held_back.take()
            && events.send(Batch { events: ends, end: None }).is_err()
        {
            return ring;
        }
        if held_back.is_none()
            && let Ok(ends) = late.try_recv()
        {
            held_back = Some((ring.produced(), ends));
        }
        if held_back.is_none() && last.is_some_and(|last| ring.position() >= last || read == 0) {
            return ring;
        }
        match told {
            None => ring.give_back(ring.position()),
            Some(told) => {
                let before = ring.held();
                ring.give_back(told.load(Ordering::Acquire));
                ever_moved |= ring.held() < before;
                if ring.held() < before || ring.held() == 0 {
                    moved = Instant::now();
                }
                // Nobody takes our records, or somebody has to be found out: the kernel needs the room.
                if moved.elapsed() > if waits && ever_moved { patience.held_up } else { patience.otherwise } {
                    ring.give_back(ring.position());
                }
            }
        }
        if read == 0 && !busy && ring.held() == 0 && held_back.is_none() {
            ring.wait(Duration::from_millis(200));
        } else if read < BATCH {
            thread::sleep(PAUSE);
        }
        busy = read > 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crossbeam_channel::{never, unbounded};

    use super::*;

    /// A ring of records that nobody can read.
    struct Records {
        all: u64,
        read: u64,
        given_back: u64,
        /// What it says of itself once something is held, in a thousand.
        share: u64,
        stop: Arc<AtomicBool>,
        looks: u32,
    }

    impl Source for Records {
        fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
            let count = limit.min((self.all - self.read) as usize);
            (0..count).for_each(|_| each(&[0]));
            self.read += count as u64;
            self.looks += 1;
            if self.looks == 20 {
                self.stop.store(true, Ordering::Release);
            }
            count
        }

        fn wait(&self, _: Duration) {}

        fn produced(&self) -> u64 {
            self.all
        }

        fn position(&self) -> u64 {
            self.read
        }

        fn held(&self) -> u64 {
            self.read - self.given_back
        }

        fn held_share(&self) -> u64 {
            if self.held() > 0 { self.share } else { 0 }
        }

        fn give_back(&mut self, up_to: u64) {
            self.given_back = self.given_back.max(up_to);
        }
    }

    /// How much is given back when of so much of the ring only the first record was told.
    fn given_back(share: u64) -> u64 {
        let stop = Arc::<AtomicBool>::default();
        let ring = Records { all: 100, read: 0, given_back: 0, share, stop: stop.clone(), looks: 0 };
        let reading = Reading {
            counters: Arc::default(),
            stop,
            told: Some(Arc::new(AtomicU64::new(1))),
            late: never(),
            patience: Patience { held_up: Duration::ZERO, otherwise: Duration::from_secs(3600) },
        };
        let (events, taken) = unbounded();
        let ring = run(ring, &events, &reading);
        assert_eq!((ring.read, taken.len()), (100, 1));
        ring.given_back
    }

    #[test]
    fn what_is_not_told_is_given_back_only_where_it_holds_up_others() {
        assert_eq!(given_back(KEPT), 1);
        assert_eq!(given_back(KEPT + 1), 100);
    }
}
