//! Bytes of the ring to what they are. In: one record. Out: what it says, its bytes where they are. A record that is
//! too short, or of a kind that this version does not know, is refused with the reason; no bytes are read that are
//! not there, whatever a length in it says.

use crate::{CaptureHead, FlowEvent, Kind, Plain};

/// One record of the ring.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A step in the life of a flow, or of a listening socket.
    Flow(Kind, FlowEvent),
    /// First bytes of one direction.
    Capture(CaptureHead, &'a [u8]),
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is shorter than it says it is.
    Short,
    /// Of a kind that is unknown.
    Kind(u8),
}

/// Reads one record.
///
/// # Errors
/// When it is too short for what it says it is, or its kind is unknown.
pub fn decode(record: &[u8]) -> Result<Record<'_>, Refusal> {
    let byte = *record.first().ok_or(Refusal::Short)?;
    let kind = Kind::from_byte(byte).ok_or(Refusal::Kind(byte))?;
    if kind != Kind::Capture {
        return FlowEvent::read_from(record).map(|event| Record::Flow(kind, event)).ok_or(Refusal::Short);
    }
    let head = CaptureHead::read_from(record).ok_or(Refusal::Short)?;
    let data = record.get(size_of::<CaptureHead>()..).ok_or(Refusal::Short)?;
    let data = data.get(..head.len as usize).ok_or(Refusal::Short)?;
    Ok(Record::Capture(head, data))
}
