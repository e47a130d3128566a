//! The event ring: raw bytes, drained in bounded steps, and given back when they are told.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use monitor_sys::RingReader;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::journal::{Journal, Left};

/// The consumer's end of the ring. One thread of one process holds it.
pub struct Ring {
    reader: RingReader,
    journal: Journal,
}

impl Ring {
    /// The ring `map` of `size` bytes, from where its last reader gave back; and its journal. Asks for no privilege.
    ///
    /// # Errors
    /// They cannot be mapped.
    pub fn new(map: OwnedFd, size: u32, journal: impl AsFd) -> io::Result<Self> {
        let reader = RingReader::new(map, size as usize)?;
        if reader.skipped() > 0 {
            say!(
                "streamwatch: the ring's last reader left it in disorder: what stood in it ({} bytes) is lost",
                reader.skipped()
            );
        }
        Ok(Ring { reader, journal: Journal::new(journal)? })
    }

    /// What the reader before had given back and perhaps not told.
    pub fn left(&mut self) -> Left {
        Left { skipped: self.reader.skipped(), ..self.journal.left(self.reader.position()) }
    }

    /// Waits until there is something to read, or the time is up. With something read and not given back
    /// the kernel wakes nobody, and this returns at once.
    pub fn wait(&mut self, at_most: Duration) {
        self.journal.rest();
        let mut fds = [PollFd::from_borrowed_fd(self.reader.as_fd(), PollFlags::IN)];
        let timeout =
            Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: i64::from(at_most.subsec_nanos()) };
        // An interrupted or failed wait is a short one: the caller looks at the ring anyway.
        let _ = poll(&mut fds, Some(&timeout));
    }

    /// Hands over at most `limit` records, oldest first; returns how many there were.
    pub fn drain(&mut self, limit: usize, each: impl FnMut(&[u8])) -> usize {
        self.reader.drain(limit, each)
    }

    /// Everything before this was read.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Everything before this was written by the programs, or is being written.
    pub fn produced(&self) -> u64 {
        self.reader.produced()
    }

    /// Bytes that were read and not given back.
    pub fn held(&self) -> u64 {
        self.reader.held()
    }

    /// The same as a share of the ring, in a thousand.
    pub fn held_share(&self) -> u64 {
        self.share(self.reader.held())
    }

    /// What is in the ring, read or not, and was not given back, as a share of it, in a thousand.
    pub fn filled_share(&self) -> u64 {
        self.share(self.reader.filled())
    }

    fn share(&self, bytes: u64) -> u64 {
        bytes * 1000 / self.reader.size()
    }

    /// Everything that was read before a position was told: gives it back to the kernel.
    pub fn give_back(&mut self, up_to: u64) {
        self.reader.give_back(up_to);
        self.journal.told(up_to);
    }

    /// Gives back what was read and perhaps not told. Its ends are kept in the journal.
    pub fn give_back_untold(&mut self) {
        let Ring { reader, journal, .. } = self;
        reader.each_held(|position, record| journal.keep(position, record));
        journal.count_unkept();
        reader.give_back(reader.position());
    }

    /// So many rounds of ends that found the ring full were told.
    pub fn late_told(&mut self, rounds: u64) {
        self.journal.late_told(rounds);
    }
}
