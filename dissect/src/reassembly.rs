//! Puts captured pieces of one direction together, whatever their order.

/// The bytes of one direction, from offset 0 on, bounded. The first copy of a byte stays.
///
/// Takes `limit` bytes at most, and eight for every piece that stands alone behind a gap: pieces
/// that touch become one, so there are at most half as many as bytes.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// Up to the furthest byte seen; gaps hold zeros.
    bytes: Vec<u8>,
    /// The length of the prefix without a gap.
    have: u32,
    /// What is there behind the first gap: start and end, disjoint, ascending, never touching.
    islands: Vec<(u32, u32)>,
    limit: u32,
}

impl Reassembly {
    /// Keeps at most `limit` bytes, pieces behind a gap included.
    pub fn new(limit: u32) -> Self {
        Reassembly { limit, ..Reassembly::default() }
    }

    /// The contiguous bytes from offset 0.
    pub fn prefix(&self) -> &[u8] {
        &self.bytes[..self.have as usize]
    }

    /// Pieces wait behind a gap.
    pub fn has_gap(&self) -> bool {
        !self.islands.is_empty()
    }

    /// Adds a piece at `offset`; returns whether the prefix grew.
    pub fn push(&mut self, offset: u32, piece: &[u8]) -> bool {
        let Some((offset, piece)) = self.within_limit(offset, piece) else { return false };
        let end = offset + piece.len() as u32;
        if end <= self.have {
            return false;
        }
        if self.bytes.len() < end as usize {
            self.bytes.resize(end as usize, 0);
        }
        self.fill(offset, end, piece);
        self.mark(offset.max(self.have), end);
        let before = self.have;
        if let Some((start, end)) = self.islands.first().copied()
            && start <= self.have
        {
            self.have = end;
            self.islands.remove(0);
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
        for (start, stop) in self.islands.iter().copied().chain([beyond]) {
            let until = start.min(end);
            if at < until {
                let from_piece = &piece[(at - offset) as usize..(until - offset) as usize];
                self.bytes[at as usize..until as usize].copy_from_slice(from_piece);
            }
            at = at.max(stop);
        }
    }

    /// Notes that these bytes are there, in one island with all that it touches.
    fn mark(&mut self, start: u32, end: u32) {
        let first = self.islands.partition_point(|(_, stop)| *stop < start);
        let last = self.islands.partition_point(|(from, _)| *from <= end);
        let mut merged = (start, end);
        for (from, stop) in &self.islands[first..last] {
            merged = (merged.0.min(*from), merged.1.max(*stop));
        }
        self.islands.splice(first..last, [merged]);
    }
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
                whole.push(start as u32, &stream[start..end]);
            }
            prop_assert!(stream.starts_with(whole.prefix()));
            for start in (0..stream.len()).rev() {
                whole.push(start as u32, &stream[start..start + 1]);
            }
            prop_assert_eq!(whole.prefix(), &stream[..]);
            prop_assert!(!whole.has_gap());
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
    fn pieces_that_touch_become_one() {
        let mut whole = Reassembly::new(1 << 14);
        for at in (1..1 << 14).rev() {
            whole.push(at, b"x");
        }
        assert_eq!(whole.islands.len(), 1);
        assert!(whole.push(0, b"x"));
        assert_eq!(whole.prefix().len(), 1 << 14);
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
