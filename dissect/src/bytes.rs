//! Reading bounded fields from hostile bytes, and making strings of them that are safe to show.
//!
//! In: captured bytes. Out: fields, or nothing where the bytes end. Must never: panic, or let a
//! control character through.

/// The longest string that facts hold.
const LONGEST: usize = 255;

/// A cursor; every read either succeeds whole or returns `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    pub fn u24(&mut self) -> Option<usize> {
        self.take(3).map(|b| usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2]))
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A field led by its length in one byte.
    pub fn vector8(&mut self) -> Option<&'a [u8]> {
        let n = self.u8()?;
        self.take(usize::from(n))
    }

    /// A field led by its length in two bytes.
    pub fn vector16(&mut self) -> Option<&'a [u8]> {
        let n = self.u16()?;
        self.take(usize::from(n))
    }
}

/// At most 255 bytes, printable ASCII; whatever else was there shows as `?`.
pub(crate) fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(LONGEST)
        .map(|&b| if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { '?' })
        .collect()
}

/// Caps a phrase composed of printable parts.
pub(crate) fn capped(mut phrase: String) -> String {
    if phrase.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| phrase.is_char_boundary(at)).unwrap_or(0);
        phrase.truncate(end);
    }
    phrase
}

/// Whether `bytes` start with `word`, whatever the case of either.
pub(crate) fn starts_with_ignore_case(bytes: &[u8], word: &[u8]) -> bool {
    bytes.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Whether `bytes` could still become, or already are, something that starts with `word`.
pub(crate) fn may_start_with(bytes: &[u8], word: &[u8]) -> bool {
    let n = bytes.len().min(word.len());
    bytes[..n] == word[..n]
}

/// Where `word`, which is not empty, starts in `bytes`.
pub(crate) fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, word)
}

/// Where this byte is first.
pub(crate) fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    memchr::memchr(byte, bytes)
}

/// The line at the start of `bytes`, without its end, and where the next one begins. `None` while
/// the line's end is not there.
pub(crate) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = position(bytes, b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

/// The lines of `bytes` that have an end, without it.
pub(crate) fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (line, next) = line(bytes)?;
        bytes = &bytes[next..];
        Some(line)
    })
}
