//! Ring to core: drained in bounded steps, decoded, sent on in batches.
//!
//! The kernel wakes a consumer that has caught up with every record, and a wake-up costs more than
//! the record itself. So under load this thread falls behind on purpose, by [`PAUSE`]: then one
//! record in many wakes it. After silence the first record is read at once.
//!
//! A core that is slow makes this thread wait, then the ring fills, and the kernel counts what does
//! not fit: a loss is always counted where it happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::event::{Event, decode};
use crate::kernel::Ring;

/// Records taken at one go.
pub const BATCH: usize = 256;

/// How far the reader falls behind under load.
const PAUSE: Duration = Duration::from_millis(2);

/// What the reader counts.
#[derive(Debug, Default)]
pub struct ReaderCounters {
    /// Records read from the ring.
    pub read: AtomicU64,
    /// Records that could not be decoded.
    pub undecodable: AtomicU64,
}

/// Reads until `stop` is set and the ring is empty.
pub fn run(mut ring: Ring, events: &Sender<Vec<Event>>, counters: &Arc<ReaderCounters>, stop: &AtomicBool) {
    let mut busy = false;
    loop {
        let stopping = stop.load(Ordering::Acquire);
        let mut batch = Vec::with_capacity(BATCH);
        let read = ring.drain(BATCH, |record| match decode(record) {
            Ok(event) => batch.push(event),
            Err(_) => {
                counters.undecodable.fetch_add(1, Ordering::Relaxed);
            }
        });
        counters.read.fetch_add(read as u64, Ordering::Relaxed);
        if !batch.is_empty() && events.send(batch).is_err() {
            return;
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
