//! Puts captured pieces of one direction together, whatever their order.

use smallvec::SmallVec;

/// The bytes of one direction, from offset 0 on, bounded. The first copy of a byte stays; where a later
/// one differs, both readings are kept: which one the receiver took depends on what it thought of the
/// segments (a wrong checksum, an old timestamp), which is not seen here.
///
/// Takes `limit` bytes at most (twice that with two readings), four for each of the first pieces, and eight
/// for every piece that stands alone behind a gap: pieces that touch become one, so there are at most half
/// as many as bytes.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// Up to the furthest byte seen; gaps hold zeros.
    bytes: Vec<u8>,
    /// The length of the prefix without a gap.
    have: u32,
    limit: u32,
    /// Where pieces end, as long as each began where the one before it ended.
    ends: SmallVec<[u32; 4]>,
    /// One did not: no more ends are noted.
    disordered: bool,
    /// Of most directions there is no such thing.
    unusual: Option<Box<Unusual>>,
}

/// What comes of pieces that are out of order, or came twice.
#[derive(Debug, Default)]
struct Unusual {
    /// What is there behind the first gap: start and end, disjoint, ascending, never touching.
    islands: Vec<(u32, u32)>,
    /// The last copy of each byte, once two differed.
    later: Option<Vec<u8>>,
    /// Of a byte that has two readings came a third one: a copy between the first and the last may be what was
    /// taken.
    disputed: bool,
}

/// Pieces whose ends are noted.
const ENDS: usize = 64;

impl Reassembly {
    /// Keeps at most `limit` bytes, pieces behind a gap included.
    pub fn new(limit: u32) -> Self {
        Reassembly { limit, ..Reassembly::default() }
    }

    /// The contiguous bytes from offset 0.
    pub fn prefix(&self) -> &[u8] {
        &self.bytes[..self.have as usize]
    }

    /// The same with the last copy of each byte, if it differs.
    pub fn later_prefix(&self) -> Option<&[u8]> {
        self.later().map(|later| &later[..self.have as usize])
    }

    /// A byte came more than twice, and not alike: neither reading needs to be what the receiver took.
    pub fn is_disputed(&self) -> bool {
        self.unusual.as_ref().is_some_and(|unusual| unusual.disputed)
    }

    fn later(&self) -> Option<&Vec<u8>> {
        self.unusual.as_ref()?.later.as_ref()
    }

    fn islands(&self) -> &[(u32, u32)] {
        self.unusual.as_ref().map_or(&[], |unusual| &unusual.islands)
    }

    /// Memory that it takes beside itself, bytes: pieces behind a gap, and the gap, included.
    pub fn memory(&self) -> usize {
        let ends = if self.ends.spilled() { self.ends.capacity() * size_of::<u32>() } else { 0 };
        let unusual = self.unusual.as_ref().map_or(0, |unusual| {
            size_of::<Unusual>()
                + unusual.islands.capacity() * size_of::<(u32, u32)>()
                + unusual.later.as_ref().map_or(0, Vec::capacity)
        });
        self.bytes.capacity() + ends + unusual
    }

    /// Pieces wait behind a gap.
    pub fn has_gap(&self) -> bool {
        !self.islands().is_empty()
    }

    /// Where the first pieces ended, as they came. Empty with two readings.
    pub fn ends(&self) -> &[u32] {
        if self.later().is_some() { &[] } else { &self.ends }
    }

    /// Adds a piece at `offset`; returns whether the prefix grew, or has another reading now.
    pub fn push(&mut self, offset: u32, piece: &[u8]) -> bool {
        self.note(offset, piece);
        let Some((offset, piece)) = self.within_limit(offset, piece) else { return false };
        let differs = self.differs(offset, piece);
        if differs && self.later().is_none() {
            self.unusual.get_or_insert_default().later = Some(self.bytes.clone());
        } else if differs && self.is_third(offset, piece) {
            self.unusual.get_or_insert_default().disputed = true;
        }
        let grew = self.add(offset, piece);
        if let Some(later) = self.unusual.as_mut().and_then(|unusual| unusual.later.as_mut()) {
            lengthen(later, self.bytes.len());
            later[offset as usize..offset as usize + piece.len()].copy_from_slice(piece);
        }
        grew || differs
    }

    /// The same of a piece that nobody else needs: the first one of most directions is the beginning, and stays where
    /// it is.
    pub fn push_owned(&mut self, offset: u32, piece: Box<[u8]>) -> bool {
        let is_beginning = offset == 0 && self.bytes.is_empty();
        if !is_beginning || piece.is_empty() || piece.len() > self.limit as usize {
            return self.push(offset, &piece);
        }
        self.note(0, &piece);
        self.have = piece.len() as u32;
        self.bytes = piece.into_vec();
        true
    }

    /// A copy of what is there ends nowhere else; what comes early, overlaps or is cut by the limit
    /// leaves the ends unknown from there on.
    fn note(&mut self, offset: u32, piece: &[u8]) {
        let end = u32::try_from(piece.len()).ok().and_then(|length| offset.checked_add(length));
        match end.filter(|end| *end <= self.limit) {
            _ if self.disordered || piece.is_empty() => {}
            Some(end) if end <= self.have => {}
            Some(end) if offset == self.have && self.islands().is_empty() && self.ends.len() < ENDS => {
                self.ends.push(end);
            }
            _ => self.disordered = true,
        }
    }

    /// Whether a byte of it is there already, and another one in the last reading.
    fn differs(&self, offset: u32, piece: &[u8]) -> bool {
        let end = offset + piece.len() as u32;
        let held = self.later().unwrap_or(&self.bytes);
        [(0, self.have)].iter().chain(self.islands()).any(|(start, stop)| {
            let (from, to) = (offset.max(*start), end.min(*stop));
            from < to
                && held[from as usize..to as usize] != piece[(from - offset) as usize..(to - offset) as usize]
        })
    }

    /// Whether it has another reading of a byte that has two.
    fn is_third(&self, offset: u32, piece: &[u8]) -> bool {
        let Some(later) = self.later() else { return false };
        let held = self.bytes.iter().zip(later).skip(offset as usize);
        held.zip(piece).any(|((first, last), new)| first != last && last != new)
    }

    fn add(&mut self, offset: u32, piece: &[u8]) -> bool {
        let end = offset + piece.len() as u32;
        if end <= self.have {
            return false;
        }
        if self.bytes.len() < end as usize {
            lengthen(&mut self.bytes, end as usize);
        }
        self.fill(offset, end, piece);
        let before = self.have;
        match &mut self.unusual {
            Some(unusual) => {
                mark(&mut unusual.islands, offset.max(before), end);
                if let Some((start, end)) = unusual.islands.first().copied()
                    && start <= before
                {
                    self.have = end;
                    unusual.islands.remove(0);
                }
            }
            None if offset <= before => self.have = end,
            None => self.unusual.get_or_insert_default().islands.push((offset, end)),
        }
        self.have > before
    }

    fn within_limit<'a>(&self, offset: u32, piece: &'a [u8]) -> Option<(u32, &'a [u8])> {
        let room = self.limit.checked_sub(offset)? as usize;
        let piece = &piece[..piece.len().min(room)];
        (!piece.is_empty()).then_some((offset, piece))
    }

    /// Copies what is not there yet.
    fn fill(&mut self, offset: u32, end: u32, piece: &[u8]) {
        let mut at = offset.max(self.have);
        let beyond = (end, end);
        let islands = self.unusual.as_ref().map_or(&[][..], |unusual| &unusual.islands);
        for (start, stop) in islands.iter().copied().chain([beyond]) {
            let until = start.min(end);
            if at < until {
                let from_piece = &piece[(at - offset) as usize..(until - offset) as usize];
                self.bytes[at as usize..until as usize].copy_from_slice(from_piece);
            }
            at = at.max(stop);
        }
    }
}

/// Notes that these bytes are there, in one island with all that it touches.
fn mark(islands: &mut Vec<(u32, u32)>, start: u32, end: u32) {
    let first = islands.partition_point(|(_, stop)| *stop < start);
    let last = islands.partition_point(|(from, _)| *from <= end);
    let mut merged = (start, end);
    for (from, stop) in &islands[first..last] {
        merged = (merged.0.min(*from), merged.1.max(*stop));
    }
    islands.splice(first..last, [merged]);
}

/// With zeros, to so many bytes. There may be a hundred thousand of these, most of which get one piece and perhaps a
/// short one: what is kept in reserve is an eighth, not as much again.
fn lengthen(bytes: &mut Vec<u8>, length: usize) {
    if bytes.capacity() < length {
        let reserve = if bytes.is_empty() { 0 } else { length / 8 };
        bytes.reserve_exact(length + reserve - bytes.len());
    }
    bytes.resize(length, 0);
}

#[cfg(test)]
mod tests {
    use super::Reassembly;
    use proptest::prelude::*;

    proptest! {
        /// Any pieces of a stream, in any order and overlap, that cover it: the stream.
        #[test]
        fn order_and_overlap_do_not_matter(
            stream in proptest::collection::vec(any::<u8>(), 1..200),
            cuts in proptest::collection::vec((0usize..200, 1usize..50), 0..60),
        ) {
            let mut whole = Reassembly::new(1000);
            for (start, len) in cuts {
                let start = start % stream.len();
                let end = (start + len).min(stream.len());
                whole.push_owned(start as u32, stream[start..end].into());
            }
            prop_assert!(stream.starts_with(whole.prefix()));
            for start in (0..stream.len()).rev() {
                whole.push(start as u32, &stream[start..start + 1]);
            }
            prop_assert_eq!(whole.prefix(), &stream[..]);
            prop_assert!(!whole.has_gap());
        }
    }

    proptest! {
        /// The two readings are those of a model that keeps every byte by itself.
        #[test]
        fn first_and_last_copies(pieces in proptest::collection::vec((0u32..60, "[ab]{1,20}"), 0..40)) {
            let mut whole = Reassembly::new(64);
            let (mut first, mut last) = ([None; 64], [None; 64]);
            for (offset, piece) in pieces {
                whole.push_owned(offset, piece.as_bytes().into());
                for (at, byte) in (offset as usize..64).zip(piece.bytes()) {
                    first[at] = first[at].or(Some(byte));
                    last[at] = Some(byte);
                }
            }
            let run = |bytes: [Option<u8>; 64]| bytes.into_iter().map_while(|byte| byte).collect::<Vec<u8>>();
            prop_assert_eq!(whole.prefix(), run(first));
            prop_assert_eq!(whole.later_prefix().unwrap_or(whole.prefix()), run(last));
        }
    }

    #[test]
    fn the_first_copy_of_a_byte_stays() {
        let mut whole = Reassembly::new(16);
        whole.push(2, b"CD");
        whole.push(0, b"abcdef");
        assert_eq!(whole.prefix(), b"abCDef");
    }

    #[test]
    fn two_readings_are_kept_where_copies_differ() {
        let mut whole = Reassembly::new(16);
        assert!(whole.push(0, b"abcd"));
        assert!(!whole.push(0, b"abcd"), "the same again is nothing new");
        assert_eq!(whole.later_prefix(), None);
        assert!(whole.push(0, b"GET "));
        assert!(whole.push(4, b"/x"));
        assert_eq!((whole.prefix(), whole.later_prefix()), (&b"abcd/x"[..], Some(&b"GET /x"[..])));
        // Behind a gap, too.
        whole.push(10, b"zz");
        assert!(whole.push(9, b"yyy"));
        assert!(whole.push(6, b"___"));
        assert_eq!(whole.later_prefix(), Some(&b"GET /x___yyy"[..]));
        assert_eq!(whole.prefix(), b"abcd/x___yzz");
    }

    #[test]
    fn what_it_takes_counts_whatever_is_in_order() {
        let mut whole = Reassembly::new(1 << 14);
        assert_eq!(whole.memory(), 0);
        // Behind a gap, which is held too.
        whole.push(8000, b"x");
        assert!((8001..8200).contains(&whole.memory()), "{}", whole.memory());
        // The first piece, and a short one: an eighth more, not as much again.
        let mut whole = Reassembly::new(1 << 14);
        whole.push(0, &[7; 1300]);
        whole.push(1300, b"x");
        assert!((1301..1600).contains(&whole.memory()), "{}", whole.memory());
        // Another reading takes as much again.
        let before = whole.memory();
        whole.push(0, b"x");
        assert!(whole.memory() >= before + 1301, "{}", whole.memory());
    }

    #[test]
    fn a_third_copy_that_differs_leaves_nothing_to_believe() {
        let mut whole = Reassembly::new(16);
        whole.push(0, b"abcd");
        whole.push(0, b"GET ");
        // Of another byte it is the second one.
        whole.push(4, b"efgh");
        whole.push(4, b"EFGH");
        assert!(!whole.is_disputed());
        // What it was at first: first and last copy are alike, and the one between them is not.
        whole.push(0, b"abcd");
        assert!(whole.is_disputed());
    }

    #[test]
    fn pieces_that_touch_become_one() {
        let mut whole = Reassembly::new(1 << 14);
        for at in (1..1 << 14).rev() {
            whole.push(at, b"x");
        }
        assert_eq!(whole.islands().len(), 1);
        assert!(whole.push(0, b"x"));
        assert_eq!(whole.prefix().len(), 1 << 14);
    }

    #[test]
    fn ends_are_those_of_pieces_in_order() {
        let mut whole = Reassembly::new(100);
        for (offset, piece) in [(0, "abc"), (3, "de"), (0, "abc"), (1, "bcd"), (5, "f")] {
            whole.push(offset, piece.as_bytes());
        }
        assert_eq!(whole.ends(), [3, 5, 6]);
        // Early: what follows could be cut in any way.
        whole.push(8, b"i");
        whole.push(6, b"gh");
        whole.push(9, b"j");
        assert_eq!((whole.ends(), whole.prefix().len()), (&[3, 5, 6][..], 10));
        let mut overlapping = Reassembly::new(100);
        overlapping.push(0, b"abc");
        overlapping.push(2, b"cd");
        overlapping.push(4, b"e");
        assert_eq!(overlapping.ends(), [3]);
        // Where two readings differ, neither is one of segments.
        overlapping.push(0, b"xyz");
        assert_eq!(overlapping.ends(), [0; 0]);
        let mut short = Reassembly::new(4);
        short.push(0, b"abc");
        short.push(3, b"de");
        assert_eq!(short.ends(), [3]);
    }

    #[test]
    fn the_limit_holds() {
        let mut whole = Reassembly::new(4);
        whole.push(2, b"cdefgh");
        whole.push(9, b"x");
        whole.push(0, b"ab");
        assert_eq!(whole.prefix(), b"abcd");
    }
}
