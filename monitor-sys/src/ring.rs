//! The consumer's end of a ring buffer of the kernel (kernel/bpf/ringbuf.c).
//!
//! aya's reader gives each record back to the kernel as soon as it was looked at. Here what was read and
//! what was given back are two things: what was read, and not told to anybody yet when the process was
//! killed, is read again by the next one.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};

use crate::Mapping;

/// Head of a record: its length and two flags, and an offset that only the kernel needs.
const HEAD: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// One reader of one ring.
#[derive(Debug)]
pub struct RingReader {
    consumer: Mapping,
    /// The producer's position, and after a page the data, twice in a row.
    producer: Mapping,
    data: usize,
    mask: u64,
    /// Everything before this was read.
    read: u64,
    /// Everything before this was given back.
    given: u64,
    is_sound: bool,
}

impl RingReader {
    /// Reads the ring `map` of `size` bytes from where its last reader gave back.
    ///
    /// # Errors
    /// It cannot be mapped, or the size is no power of two of at least a page.
    pub fn new(map: impl AsFd, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        if !size.is_power_of_two() || size < page {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map = map.as_fd();
        let consumer = Mapping::new(map, 0, page, true)?;
        let producer = Mapping::new(map, page, page + 2 * size, false)?;
        let mut given = consumer.word(0).load(Ordering::Acquire);
        let produced = producer.word(0).load(Ordering::Acquire);
        let is_sound = produced.wrapping_sub(given) <= size as u64 && given.is_multiple_of(8);
        if !is_sound {
            given = produced;
            consumer.word(0).store(given, Ordering::Release);
        }
        let mask = size as u64 - 1;
        Ok(RingReader { consumer, producer, data: page, mask, read: given, given, is_sound })
    }

    /// Where its last reader gave back is a place in the ring. If not, the kernel could put nothing in, and what
    /// stood there is left out.
    pub fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Hands over at most `limit` records, oldest first; returns how many there were.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < limit && self.read != self.producer.word(0).load(Ordering::Acquire) {
            let Some((record, next)) = self.record(self.read) else { break };
            if let Some(record) = record {
                each(record);
                count += 1;
            }
            self.read = next;
        }
        count
    }

    /// Hands over, once more, what was read and not given back, each with the position after it.
    pub fn each_held(&self, mut each: impl FnMut(u64, &[u8])) {
        let mut at = self.given;
        while at < self.read
            && let Some((record, next)) = self.record(at)
        {
            if let Some(record) = record {
                each(next, record);
            }
            at = next;
        }
    }

    /// The record at a position that was not given back, unless it was discarded, and the position after it;
    /// `None`: it is not whole yet.
    fn record(&self, position: u64) -> Option<(Option<&[u8]>, u64)> {
        let at = self.data + (position & self.mask) as usize;
        // Pairs with the kernel's exchange when it commits the record.
        let head = self.producer.half(at)?.load(Ordering::Acquire);
        if head & BUSY != 0 {
            return None;
        }
        let length = (head & !(BUSY | DISCARDED)) as usize;
        // SAFETY: committed, so the kernel writes it no more until it is given back, for which `self` would
        // have to be borrowed a second time.
        let record = unsafe { self.producer.bytes(at + HEAD, length)? };
        let next = position + (HEAD + length).next_multiple_of(8) as u64;
        if next > self.produced() {
            return None;
        }
        Some(((head & DISCARDED == 0).then_some(record), next))
    }

    /// Everything before this was read.
    pub fn position(&self) -> u64 {
        self.read
    }

    /// Everything before this was reserved by a producer.
    pub fn produced(&self) -> u64 {
        self.producer.word(0).load(Ordering::Acquire)
    }

    /// Bytes that were read and not given back.
    pub fn held(&self) -> u64 {
        self.read - self.given
    }

    /// Bytes of the ring.
    pub fn size(&self) -> u64 {
        self.mask + 1
    }

    /// Gives back what was read before a position; one that was given back already changes nothing.
    pub fn give_back(&mut self, up_to: u64) {
        let up_to = up_to.min(self.read);
        if up_to <= self.given {
            return;
        }
        self.given = up_to;
        self.consumer.word(0).store(up_to, Ordering::Release);
        // Either a look after this one sees a new record, or its producer sees this position and wakes us.
        fence(Ordering::SeqCst);
    }
}
