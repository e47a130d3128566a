//! The event ring: raw bytes, drained in bounded steps.

use std::time::Duration;

use aya::maps::{Map, RingBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::load::{LoadError, Owned};

/// The consumer's end of the ring. One thread holds it.
pub struct Ring {
    ring: RingBuf<Owned>,
}

impl Ring {
    pub(super) fn new(map: Map) -> Result<Self, LoadError> {
        Ok(Ring { ring: RingBuf::try_from(map)? })
    }

    /// Waits until there is something to read, or the time is up.
    pub fn wait(&self, at_most: Duration) {
        let mut fds = [PollFd::new(&self.ring, PollFlags::IN)];
        let timeout =
            Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: i64::from(at_most.subsec_nanos()) };
        // An interrupted or failed wait is a short one: the caller looks at the ring anyway.
        let _ = poll(&mut fds, Some(&timeout));
    }

    /// Hands over at most `limit` records, oldest first; returns how many there were.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < limit
            && let Some(record) = self.ring.next()
        {
            each(&record);
            count += 1;
        }
        count
    }
}
