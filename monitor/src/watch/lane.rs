//! One direction in order: captures may overtake each other, and some are lost.

/// Bytes that wait behind a gap.
const WAITING: usize = 32 * 1024;

/// How long a gap may stay, ns: what fills it was lost, not late.
const PATIENCE: u64 = 1_000_000_000;

/// The next byte to be read, and what waits behind a gap, which few have at a time.
#[derive(Debug, Default)]
pub(super) struct Lane {
    next: u32,
    behind: Option<Box<Behind>>,
}

/// Not empty.
#[derive(Debug)]
struct Behind {
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
        let waiting = self.behind.iter().flat_map(|behind| &behind.waiting);
        waiting.map(|(_, piece)| piece.len()).sum()
    }

    /// Takes a piece; gives what can be read now.
    pub fn push(&mut self, offset: u32, data: &[u8], now_ns: u64) -> Vec<Piece> {
        if self.behind.is_none() && offset <= self.next {
            return self.read(offset, data).into_iter().collect();
        }
        let behind =
            self.behind.get_or_insert_with(|| Box::new(Behind { waiting: Vec::new(), since_ns: now_ns }));
        let at = behind.waiting.partition_point(|(other, _)| *other < offset);
        behind.waiting.insert(at, (offset, data.into()));
        let mut ready = self.in_order();
        if self.waiting() > WAITING {
            ready.extend(self.give_up());
        }
        ready
    }

    /// Time has passed: what still waits may wait in vain.
    pub fn tick(&mut self, now_ns: u64) -> Vec<Piece> {
        let since_ns = self.behind.as_ref().map(|behind| behind.since_ns);
        if since_ns.is_some_and(|since_ns| now_ns.saturating_sub(since_ns) > PATIENCE) {
            return self.give_up();
        }
        Vec::new()
    }

    /// Passes over the gap.
    fn give_up(&mut self) -> Vec<Piece> {
        let Some(offset) = self.first_waiting() else { return Vec::new() };
        self.next = offset;
        let mut ready = vec![Piece::Gap];
        ready.extend(self.in_order());
        ready
    }

    fn in_order(&mut self) -> Vec<Piece> {
        let mut ready = Vec::new();
        while self.first_waiting().is_some_and(|offset| offset <= self.next)
            && let Some(behind) = &mut self.behind
        {
            let (offset, piece) = behind.waiting.remove(0);
            if behind.waiting.is_empty() {
                self.behind = None;
            }
            ready.extend(self.read(offset, &piece));
        }
        ready
    }

    fn first_waiting(&self) -> Option<u32> {
        let (offset, _) = self.behind.as_ref()?.waiting.first()?;
        Some(*offset)
    }

    /// What is new of a piece that begins no later than where the next byte is.
    fn read(&mut self, offset: u32, piece: &[u8]) -> Option<Piece> {
        let known = (self.next - offset) as usize;
        let fresh = piece.get(known..).filter(|fresh| !fresh.is_empty())?;
        self.next = self.next.saturating_add(fresh.len() as u32);
        Some(Piece::Bytes(fresh.into()))
    }
}
