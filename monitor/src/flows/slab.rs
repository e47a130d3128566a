//! Where flows lie: in chunks that never move, each behind a lock of its own.
//!
//! One thread (the core) puts in, changes and takes out; any number may read along, a chunk at a
//! time, so that a listing holds up the core for the length of one chunk at most, and only where the
//! two meet.

use std::num::NonZeroU32;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Flow;

/// Flows of a chunk.
pub(super) const CHUNK: usize = 256;

/// A flow's place in the table, and which of the flows that were there in turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    pub(super) index: u32,
    pub(super) generation: NonZeroU32,
}

#[cfg(test)]
impl FlowId {
    /// The first flow of a place.
    pub fn first_of(index: u32) -> Self {
        FlowId { index, generation: NonZeroU32::MIN }
    }
}

pub(super) type Chunk = RwLock<Vec<Option<Flow>>>;

/// What readers share with the core.
pub(super) type Chunks = Arc<RwLock<Vec<Arc<Chunk>>>>;

/// The core's side.
#[derive(Debug, Default)]
pub(super) struct Slab {
    /// The same as `shared`, without a lock.
    chunks: Vec<Arc<Chunk>>,
    shared: Chunks,
    generations: Vec<NonZeroU32>,
    free: Vec<u32>,
    len: usize,
}

/// A flow that is read.
pub struct FlowRead<'a> {
    chunk: RwLockReadGuard<'a, Vec<Option<Flow>>>,
    at: usize,
}

/// A flow that may be changed.
pub struct FlowWrite<'a> {
    chunk: RwLockWriteGuard<'a, Vec<Option<Flow>>>,
    at: usize,
}

impl Slab {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Places there are, taken or not.
    pub fn places(&self) -> usize {
        self.generations.len()
    }

    pub fn shared(&self) -> Chunks {
        self.shared.clone()
    }

    pub fn insert(&mut self, flow: Flow) -> FlowId {
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        self.len += 1;
        let (chunk, at) = (index as usize / CHUNK, index as usize % CHUNK);
        if let Some(slot) = write(&self.chunks[chunk]).get_mut(at) {
            *slot = Some(flow);
        }
        FlowId { index, generation: self.generations[index as usize] }
    }

    pub fn remove(&mut self, id: FlowId) -> Option<Flow> {
        if !self.holds(id) {
            return None;
        }
        let index = id.index as usize;
        let flow = write(&self.chunks[index / CHUNK])[index % CHUNK].take()?;
        self.generations[index] = id.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.free.push(id.index);
        self.len -= 1;
        Some(flow)
    }

    pub fn get(&self, id: FlowId) -> Option<FlowRead<'_>> {
        if !self.holds(id) {
            return None;
        }
        self.read_at(id.index)
    }

    pub fn get_mut(&mut self, id: FlowId) -> Option<FlowWrite<'_>> {
        if !self.holds(id) {
            return None;
        }
        self.write_at(id.index)
    }

    /// What is in a place now.
    pub fn read_at(&self, index: u32) -> Option<FlowRead<'_>> {
        let chunk = read(self.chunks.get(index as usize / CHUNK)?);
        let at = index as usize % CHUNK;
        chunk.get(at)?.as_ref()?;
        Some(FlowRead { chunk, at })
    }

    /// What is in a place now.
    pub fn write_at(&mut self, index: u32) -> Option<FlowWrite<'_>> {
        let chunk = write(self.chunks.get(index as usize / CHUNK)?);
        let at = index as usize % CHUNK;
        chunk.get(at)?.as_ref()?;
        Some(FlowWrite { chunk, at })
    }

    /// The flow that is in a place now.
    pub fn id_at(&self, index: u32) -> FlowId {
        FlowId { index, generation: self.generations[index as usize] }
    }

    /// Hands over the flows of some places, one chunk after the other.
    pub fn each(&self, places: std::ops::Range<usize>, mut each: impl FnMut(FlowId, &Flow)) {
        let places = places.start..places.end.min(self.places());
        let mut at = places.start;
        while at < places.end {
            let chunk = read(&self.chunks[at / CHUNK]);
            let end = places.end.min((at / CHUNK + 1) * CHUNK);
            for index in at..end {
                if let Some(flow) = &chunk[index % CHUNK] {
                    each(self.id_at(index as u32), flow);
                }
            }
            at = end;
        }
    }

    fn holds(&self, id: FlowId) -> bool {
        self.generations.get(id.index as usize) == Some(&id.generation)
    }

    /// Another chunk; its first place, the others are free.
    fn grow(&mut self) -> u32 {
        let first = self.generations.len();
        let mut flows = Vec::with_capacity(CHUNK);
        flows.resize_with(CHUNK, || None);
        let chunk = Arc::new(RwLock::new(flows));
        self.chunks.push(chunk.clone());
        self.shared.write().unwrap_or_else(PoisonError::into_inner).push(chunk);
        self.generations.resize(first + CHUNK, NonZeroU32::MIN);
        self.free.extend((first + 1..first + CHUNK).rev().map(|index| index as u32));
        first as u32
    }
}

/// A reader that panicked has changed nothing.
pub(super) fn read(chunk: &Chunk) -> RwLockReadGuard<'_, Vec<Option<Flow>>> {
    chunk.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(chunk: &Chunk) -> RwLockWriteGuard<'_, Vec<Option<Flow>>> {
    chunk.write().unwrap_or_else(PoisonError::into_inner)
}

impl Deref for FlowRead<'_> {
    type Target = Flow;

    fn deref(&self) -> &Flow {
        taken(self.chunk[self.at].as_ref())
    }
}

impl Deref for FlowWrite<'_> {
    type Target = Flow;

    fn deref(&self) -> &Flow {
        taken(self.chunk[self.at].as_ref())
    }
}

impl DerefMut for FlowWrite<'_> {
    fn deref_mut(&mut self) -> &mut Flow {
        taken(self.chunk[self.at].as_mut())
    }
}

/// Guards are made for places with a flow, and only a guard's owner could take it out.
#[expect(clippy::expect_used, reason = "see above")]
fn taken<T>(place: Option<T>) -> T {
    place.expect("a guard of an empty place")
}
