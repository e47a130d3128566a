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

use crossbeam_channel::Sender;

use crate::event::{Event, decode};
use crate::kernel::Ring;

/// Records taken at one go.
pub const BATCH: usize = 256;

/// How far the reader falls behind under load.
const PAUSE: Duration = Duration::from_millis(2);

/// How much of the ring is kept for what is still to be told, in a thousand; and for how long.
const KEPT: u64 = 500;
const KEPT_FOR: Duration = Duration::from_secs(2);

/// Events on their way to the core.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
    /// The ring's position after them; `None`: they did not come from it.
    pub end: Option<u64>,
}

/// What the reader counts.
#[derive(Debug, Default)]
pub struct ReaderCounters {
    /// Records read from the ring.
    pub read: AtomicU64,
    /// Records that could not be decoded.
    pub undecodable: AtomicU64,
}

/// What is read when, and given back when.
pub struct Reading {
    pub counters: Arc<ReaderCounters>,
    pub stop: Arc<AtomicBool>,
    /// The position up to which everything was told; `None`: nobody reads again what was read.
    pub told: Option<Arc<AtomicU64>>,
}

/// Reads until `stop` is set and what was in the ring by then is read. Gives the ring back.
pub fn run(mut ring: Ring, events: &Sender<Batch>, reading: &Reading) -> Ring {
    let Reading { counters, stop, told } = reading;
    let mut busy = false;
    let mut last = None;
    let mut moved = Instant::now();
    loop {
        if last.is_none() && stop.load(Ordering::Acquire) {
            last = Some(ring.produced());
        }
        let mut batch = Batch { events: Vec::with_capacity(BATCH), end: None };
        let read = ring.drain(BATCH, |record| match decode(record) {
            Ok(event) => batch.events.push(event),
            Err(_) => {
                counters.undecodable.fetch_add(1, Ordering::Relaxed);
            }
        });
        batch.end = Some(ring.position());
        counters.read.fetch_add(read as u64, Ordering::Relaxed);
        if read > 0 && events.send(batch).is_err() {
            return ring;
        }
        if last.is_some_and(|last| ring.position() >= last || read == 0) {
            return ring;
        }
        match told {
            None => ring.give_back(ring.position()),
            Some(told) => {
                let before = ring.held();
                ring.give_back(told.load(Ordering::Acquire));
                if ring.held() < before || ring.held() == 0 {
                    moved = Instant::now();
                }
                // Nobody takes our records, or somebody has to be found out: the kernel needs the room.
                if ring.held_share() > KEPT || moved.elapsed() > KEPT_FOR {
                    ring.give_back(ring.position());
                }
            }
        }
        if read == 0 && !busy && ring.held() == 0 {
            ring.wait(Duration::from_millis(200));
        } else if read < BATCH {
            thread::sleep(PAUSE);
        }
        busy = read > 0;
    }
}
