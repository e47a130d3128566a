//! One direction in order: captures may overtake each other, and some are lost.

/// Bytes that wait behind a gap.
const WAITING: usize = 32 * 1024;

/// How long a gap may stay, ns: what fills it was lost, not late.
const PATIENCE: u64 = 1_000_000_000;

/// The next byte to be read, and what waits behind it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    next: u32,
    /// Offset and bytes, ascending.
    waiting: Vec<(u32, Box<[u8]>)>,
    since_ns: u64,
}

/// What is to be read next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Bytes(Box<[u8]>),
    /// Bytes are missing here.
    Gap,
}

impl Lane {
    /// Begins at this offset.
    pub fn at(next: u32) -> Self {
        Lane { next, ..Lane::default() }
    }

    /// Up to where it has been read.
    pub fn reached(&self) -> u32 {
        self.next
    }

    /// Bytes that wait behind a gap.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(|(_, piece)| piece.len()).sum()
    }

    /// Takes a piece; gives what can be read now.
    pub fn push(&mut self, offset: u32, data: &[u8], now_ns: u64) -> Vec<Piece> {
        if self.waiting.is_empty() {
            self.since_ns = now_ns;
        }
        let at = self.waiting.partition_point(|(other, _)| *other < offset);
        self.waiting.insert(at, (offset, data.into()));
        let mut ready = self.in_order();
        if self.waiting() > WAITING {
            ready.extend(self.give_up());
        }
        ready
    }

    /// Time has passed: what still waits may wait in vain.
    pub fn tick(&mut self, now_ns: u64) -> Vec<Piece> {
        if !self.waiting.is_empty() && now_ns.saturating_sub(self.since_ns) > PATIENCE {
            return self.give_up();
        }
        Vec::new()
    }

    /// Passes over the gap.
    fn give_up(&mut self) -> Vec<Piece> {
        let Some((offset, _)) = self.waiting.first() else { return Vec::new() };
        self.next = *offset;
        let mut ready = vec![Piece::Gap];
        ready.extend(self.in_order());
        ready
    }

    fn in_order(&mut self) -> Vec<Piece> {
        let mut ready = Vec::new();
        while let Some((offset, _)) = self.waiting.first()
            && *offset <= self.next
        {
            let (offset, piece) = self.waiting.remove(0);
            let known = (self.next - offset) as usize;
            if let Some(fresh) = piece.get(known..).filter(|fresh| !fresh.is_empty()) {
                self.next = self.next.saturating_add(fresh.len() as u32);
                ready.push(Piece::Bytes(fresh.into()));
            }
        }
        ready
    }
}
