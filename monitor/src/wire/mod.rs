//! Messages between the daemon's processes: frames on a stream, each a length and what postcard makes of a
//! value.
//!
//! In: values of one process. Out: the same values in another. Must never: take more memory for a frame than
//! its reader allows; believe a length.

mod forms;

use std::io::{self, ErrorKind, Read, Write};

use crossbeam_channel::Receiver;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use forms::{json, kind, plain, plain_box, plain_option};

/// Messages of one kind that are taken at one go.
const BURST: usize = 256;

/// Frames that are written together, bytes.
const TOGETHER: usize = 64 << 10;

/// Why a frame cannot be had. One line.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a message of {0} bytes is longer than is allowed")]
    Long(u64),
    #[error("a message cannot be read: {0}")]
    Form(#[from] postcard::Error),
}

/// Writes frames; those that are there at the same time go together.
#[derive(Debug)]
pub struct Frames<W> {
    out: W,
    waiting: Vec<u8>,
}

impl<W: Write> Frames<W> {
    pub fn new(out: W) -> Self {
        Frames { out, waiting: Vec::new() }
    }

    /// Puts one behind those that wait; writes where they are many.
    ///
    /// # Errors
    /// The other end is gone, or the value has no form.
    pub fn put(&mut self, message: &impl Serialize) -> Result<(), WireError> {
        let at = self.waiting.len();
        self.waiting.extend_from_slice(&[0; 4]);
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = postcard::to_extend(message, waiting)?;
        let length = self.waiting.len() - at - 4;
        let length = u32::try_from(length).map_err(|_| WireError::Long(length as u64))?;
        self.waiting[at..at + 4].copy_from_slice(&length.to_le_bytes());
        if self.waiting.len() >= TOGETHER { self.flush() } else { Ok(()) }
    }

    /// Puts one, and those of its channel that are there already, in the form that `form` gives them.
    ///
    /// # Errors
    /// See [`Frames::put`].
    pub fn put_burst<T, M: Serialize>(
        &mut self,
        first: T,
        rest: &Receiver<T>,
        form: impl Fn(T) -> M,
    ) -> Result<(), WireError> {
        std::iter::once(first).chain(rest.try_iter().take(BURST)).try_for_each(|one| self.put(&form(one)))
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn flush(&mut self) -> Result<(), WireError> {
        let written = self.out.write_all(&self.waiting);
        self.waiting.clear();
        // A large one is not kept for ever.
        self.waiting.shrink_to(4 * TOGETHER);
        Ok(written?)
    }
}

/// Reads one frame; `None`: the other end is gone. `buffer` is used again and again.
///
/// # Errors
/// It is longer than `most`, or no such value, or cut.
pub fn read<T: DeserializeOwned>(
    from: &mut impl Read,
    most: u32,
    buffer: &mut Vec<u8>,
) -> Result<Option<T>, WireError> {
    let mut head = [0; 4];
    match from.read_exact(&mut head) {
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            return Ok(None);
        }
        read => read?,
    }
    let length = u32::from_le_bytes(head);
    if length > most {
        return Err(WireError::Long(length.into()));
    }
    buffer.clear();
    // Grows with what comes, not with what was announced.
    let read = from.by_ref().take(length.into()).read_to_end(buffer)?;
    if read != length as usize {
        return Ok(None);
    }
    let value = postcard::from_bytes(buffer)?;
    buffer.shrink_to(4 * TOGETHER);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_put_is_read_and_an_end_is_an_end() {
        let mut bytes = Vec::new();
        let mut frames = Frames::new(&mut bytes);
        for number in 0..3_u64 {
            frames.put(&(number, "text".repeat(number as usize))).unwrap();
        }
        frames.flush().unwrap();
        let mut buffer = Vec::new();
        let mut from = bytes.as_slice();
        for number in 0..3_u64 {
            let read: (u64, String) = read(&mut from, 100, &mut buffer).unwrap().unwrap();
            assert_eq!(read, (number, "text".repeat(number as usize)));
        }
        assert!(read::<u64>(&mut from, 100, &mut buffer).unwrap().is_none());
        // Killed in the middle of one.
        let cut = &bytes[..bytes.len() - 1];
        let mut from = cut;
        for _ in 0..2 {
            read::<(u64, String)>(&mut from, 100, &mut buffer).unwrap().unwrap();
        }
        assert!(read::<(u64, String)>(&mut from, 100, &mut buffer).unwrap().is_none());
    }

    #[test]
    fn one_that_is_too_long_is_refused_before_it_is_read() {
        let mut from = &[0xff, 0xff, 0xff, 0x7f, 0][..];
        assert!(matches!(
            read::<Vec<u8>>(&mut from, 100, &mut Vec::new()),
            Err(WireError::Long(length)) if length == 0x7fff_ffff
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<Vec<(u64, String)>>(&mut bytes.as_slice(), 1 << 20, &mut Vec::new());
        }
    }
}
