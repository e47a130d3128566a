//! What the fuzz target `link` reaches.

use super::link::{FROM_WORKER, ToLoader};
use crate::wire::{self, Frames};

/// One message of a worker, without its length, read and written again; `None`: it is none.
pub fn said_by_worker(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut framed = u32::try_from(bytes.len()).ok()?.to_le_bytes().to_vec();
    framed.extend_from_slice(bytes);
    let message: ToLoader = wire::read(&mut framed.as_slice(), FROM_WORKER, &mut Vec::new()).ok()??;
    let mut written = Vec::new();
    let mut frames = Frames::new(&mut written);
    frames.put(&message).ok()?;
    frames.flush().ok()?;
    Some(written.split_off(4))
}
