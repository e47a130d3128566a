//! The consumer's end of a ring buffer of the kernel (kernel/bpf/ringbuf.c).
//!
//! aya's reader gives each record back to the kernel as soon as it was looked at. Here what was read and
//! what was given back are two things: what was read, and not told to anybody yet when the process was
//! killed, is read again by the next one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::Mapping;

/// Head of a record: its length and two flags, and an offset that only the kernel needs.
const HEAD: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// Pages of the kernel's own before the data, at most: three in all versions so far.
const PAGES_BEFORE: u32 = 8;

/// So much of the data is mapped at a time, and what a record may take besides: what the kernel maps of it counts as
/// memory of the process, twice.
const WINDOW: usize = 1 << 20;
const LONGEST: usize = 1 << 17;

/// One reader of one ring.
#[derive(Debug)]
pub struct RingReader {
    /// The consumer's position.
    consumer: Mapping,
    /// The producer's position.
    producer: Mapping,
    data: Data,
    /// Everything before this was read.
    read: u64,
    /// Everything before this was given back.
    given: u64,
    skipped: u64,
}

/// The ring, to be waited for.
impl AsFd for RingReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.data.map.as_fd()
    }
}

/// The data, which the kernel has twice in a row: so no record is in two pieces.
#[derive(Debug)]
struct Data {
    map: OwnedFd,
    size: usize,
    window: Mapping,
    /// Where in the data the window begins.
    begins: usize,
}

impl Data {
    /// # Errors
    /// It cannot be mapped.
    fn new(map: OwnedFd, size: usize, place: usize) -> io::Result<Data> {
        let (window, begins) = Data::window(&map, size, place)?;
        Ok(Data { map, size, window, begins })
    }

    fn window(map: &OwnedFd, size: usize, place: usize) -> io::Result<(Mapping, usize)> {
        let page = rustix::param::page_size();
        let begins = if size <= WINDOW { 0 } else { place - place % page };
        let length = (WINDOW + LONGEST).next_multiple_of(page).min(2 * size - begins);
        Ok((Mapping::new(map, 2 * page + begins, length, false)?, begins))
    }

    /// Where a position is in the data, the first time.
    fn place(&self, position: u64) -> usize {
        (position & (self.size as u64 - 1)) as usize
    }

    /// So many bytes from a place on, which is below the size: where they are in the window, which is moved there if it
    /// has to be. `None`: there are none, or the kernel does not map them now.
    fn seen(&mut self, place: usize, length: usize) -> Option<usize> {
        if self.in_window(place, length).is_none() {
            (self.window, self.begins) = Data::window(&self.map, self.size, place).ok()?;
        }
        self.in_window(place, length)
    }

    fn in_window(&self, place: usize, length: usize) -> Option<usize> {
        let at = place.checked_sub(self.begins)?;
        (at.checked_add(length)? <= self.window.len()).then_some(at)
    }

    /// The head of a record: its length and flags, and the offset.
    fn head(&mut self, place: usize) -> Option<[&AtomicU32; 2]> {
        let at = self.seen(place, HEAD)?;
        Some([self.window.half(at)?, self.window.half(at + 4)?])
    }
}

impl RingReader {
    /// Reads the ring `map` of `size` bytes from where its last reader gave back.
    ///
    /// # Errors
    /// It cannot be mapped, or the size is no power of two of at least a page.
    pub fn new(map: OwnedFd, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        if !size.is_power_of_two() || size < page {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let consumer = Mapping::new(&map, 0, page, true)?;
        let producer = Mapping::new(&map, page, page, false)?;
        let given = consumer.word(0).load(Ordering::Acquire);
        let data = Data::new(map, size, given as usize & (size - 1))?;
        let mut reader = RingReader { consumer, producer, data, read: given, given, skipped: 0 };
        let produced = reader.produced();
        let behind = produced.wrapping_sub(given);
        if behind > size as u64 || !given.is_multiple_of(8) || !reader.is_followed(given, produced) {
            reader.skipped = behind.min(size as u64);
            (reader.read, reader.given) = (produced, produced);
            reader.consumer.word(0).store(produced, Ordering::Release);
        }
        Ok(reader)
    }

    /// Bytes that were left out at the start, at most, since the last reader gave back to a place where no record
    /// begins: nobody could have read on from there. 0: it did not.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether one record follows the other from `at` up to `produced`. The kernel writes into the head of each,
    /// before it says that it is there, how long it is and on which page of its own memory it begins.
    fn is_followed(&mut self, mut at: u64, produced: u64) -> bool {
        let page = rustix::param::page_size() as u64;
        let mut before = None;
        while at < produced {
            let place = self.data.place(at);
            let Some([head, begins]) = self.data.head(place) else { return false };
            let length = (head.load(Ordering::Acquire) & !(BUSY | DISCARDED)) as usize;
            let begins = begins.load(Ordering::Relaxed);
            let pages = begins.wrapping_sub((place as u64 / page) as u32);
            // As many for all of them.
            if !(1..=PAGES_BEFORE).contains(&pages) || *before.get_or_insert(pages) != pages {
                return false;
            }
            at += (HEAD + length).next_multiple_of(8) as u64;
        }
        at == produced
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
    pub fn each_held(&mut self, mut each: impl FnMut(u64, &[u8])) {
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
    fn record(&mut self, position: u64) -> Option<(Option<&[u8]>, u64)> {
        let place = self.data.place(position);
        // Pairs with the kernel's exchange when it commits the record.
        let head = self.data.head(place)?[0].load(Ordering::Acquire);
        if head & BUSY != 0 {
            return None;
        }
        let length = (head & !(BUSY | DISCARDED)) as usize;
        let next = position + (HEAD + length).next_multiple_of(8) as u64;
        if next > self.produced() {
            return None;
        }
        let at = self.data.seen(place, HEAD + length)? + HEAD;
        // SAFETY: committed, so the kernel writes it no more until it is given back, for which `self` would
        // have to be borrowed a second time.
        let record = unsafe { self.data.window.bytes(at, length)? };
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

    /// Bytes that are in the ring, read or not, and were not given back.
    pub fn filled(&self) -> u64 {
        self.produced().saturating_sub(self.given)
    }

    /// Bytes of the ring.
    pub fn size(&self) -> u64 {
        self.data.size as u64
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    const SIZE: usize = 1 << 14;

    /// A file in the form of a ring, as the kernel lets it be mapped.
    struct Ring {
        file: File,
        size: usize,
        produced: u64,
    }

    impl Ring {
        fn new(size: usize, position: u64) -> Ring {
            let file = File::from(rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
            file.set_len((2 * Ring::page() + 2 * size) as u64).unwrap();
            let mut ring = Ring { file, size, produced: position };
            ring.consumed(position);
            ring.put(&[], 0);
            ring
        }

        fn page() -> usize {
            rustix::param::page_size()
        }

        fn consumed(&self, position: u64) {
            self.file.write_all_at(&position.to_ne_bytes(), 0).unwrap();
        }

        /// A record as the kernel puts it, and the producer's position after it.
        fn put(&mut self, bytes: &[u8], flags: u32) {
            if !bytes.is_empty() {
                let at = self.produced as usize % self.size;
                let page = 3 + (at / Ring::page()) as u32;
                let mut record = (bytes.len() as u32 | flags).to_ne_bytes().to_vec();
                record.extend(page.to_ne_bytes());
                record.extend(bytes);
                record.resize(record.len().next_multiple_of(8), 0);
                // The data is there twice.
                let write = |bytes: &[u8], at: usize| {
                    self.file.write_all_at(bytes, (2 * Ring::page() + at) as u64).unwrap();
                };
                let (end, over) = record.split_at(record.len().min(self.size - at));
                write(&record, at);
                write(end, at + self.size);
                write(over, 0);
                self.produced += record.len() as u64;
            }
            self.file.write_all_at(&self.produced.to_ne_bytes(), Ring::page() as u64).unwrap();
        }

        fn reader(&self) -> RingReader {
            RingReader::new(self.file.try_clone().unwrap().into(), self.size).unwrap()
        }
    }

    fn read(reader: &mut RingReader) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        reader.drain(usize::MAX, |record| all.push(record.to_owned()));
        all
    }

    #[test]
    fn a_position_within_a_record_is_told_and_the_next_record_is_read() {
        // From a place where records go over the end of the ring.
        let begin = 5 * SIZE as u64 - 904;
        let mut ring = Ring::new(SIZE, begin);
        let payloads: Vec<Vec<u8>> = (0..60_u8)
            .map(|n| match n % 4 {
                0 => vec![0; 20 + usize::from(n)],
                1 => vec![0xff; 64],
                2 => vec![n; 100],
                // Words that could be a length and a page, of another ring.
                _ => [40_000_u32.to_ne_bytes(), 7_u32.to_ne_bytes()].concat().repeat(9),
            })
            .collect();
        let mut begins = Vec::new();
        for (n, payload) in payloads.iter().enumerate() {
            begins.push(ring.produced);
            ring.put(payload, if n == 7 { DISCARDED } else { 0 });
        }
        begins.push(ring.produced);
        for position in (begin - 64..=ring.produced + 64).step_by(4) {
            ring.consumed(position);
            let mut reader = ring.reader();
            if let Ok(at) = begins.binary_search(&position) {
                assert_eq!(reader.skipped(), 0, "{position}");
                let whole = payloads[at..].iter().enumerate().filter(|(n, _)| at + n != 7);
                assert!(read(&mut reader).iter().eq(whole.map(|(_, payload)| payload)), "{position}");
            } else {
                let left = ring.produced.wrapping_sub(position).min(SIZE as u64);
                assert_eq!(reader.skipped(), left, "{position}");
                assert_eq!((read(&mut reader).len(), reader.held()), (0, 0));
                assert_eq!(reader.position(), ring.produced);
                // The kernel, and whoever reads next, go on there.
                assert_eq!(ring.reader().skipped(), 0);
            }
        }
        ring.consumed(begin + 4);
        let mut reader = ring.reader();
        ring.put(b"after that", 0);
        assert_eq!(read(&mut reader), [b"after that"]);
    }

    #[test]
    fn of_a_large_ring_a_part_is_mapped_at_a_time() {
        const LARGE: usize = 8 * WINDOW;
        let mut ring = Ring::new(LARGE, 3 * LARGE as u64 - 12_344);
        let mut reader = ring.reader();
        // The longest among them, at every place of a window, four times round the ring.
        let payload = |n: u64| vec![n as u8; [9, 1640, 4200, 65_640][n as usize % 4] + n as usize % 8];
        let (mut n, mut kept) = (0, Vec::new());
        while ring.produced < 7 * LARGE as u64 {
            let begins = ring.produced;
            while ring.produced - begins < 3 * WINDOW as u64 {
                ring.put(&payload(n), 0);
                kept.push((ring.produced, payload(n)));
                n += 1;
            }
            let mut count = 0;
            reader.drain(usize::MAX, |record| {
                assert!(record == kept[count].1, "{n}");
                count += 1;
            });
            assert_eq!((count, reader.position()), (kept.len(), ring.produced));
            // What is held is handed over again, and what comes after it is read.
            let mut held = 0;
            reader.each_held(|position, record| {
                assert!((position, record) == (kept[held].0, &kept[held].1[..]), "{n}");
                held += 1;
            });
            assert_eq!(held, kept.len());
            assert!(reader.data.window.len() <= WINDOW + LONGEST);
            reader.give_back(ring.produced);
            ring.consumed(ring.produced);
            kept.clear();
        }
        assert_eq!(ring.reader().skipped(), 0);
    }

    #[test]
    fn a_record_that_is_being_written_is_no_disorder() {
        let mut ring = Ring::new(SIZE, 0);
        ring.put(b"whole", 0);
        let at = ring.produced;
        ring.put(b"not yet whole", BUSY);
        ring.put(b"behind it", 0);
        let mut reader = ring.reader();
        assert_eq!((reader.skipped(), read(&mut reader).len()), (0, 1));
        assert_eq!(reader.position(), at);
    }
}
