//! The shape of every recogniser.
//!
//! A probe looks at both directions from their start. It is monotone: more bytes may turn `Maybe`
//! into `Yes` or `No`, never `Yes` or `No` into something else. So the answer does not depend on
//! how the bytes were cut.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Protocol, UnknownReason};

/// The contiguous bytes from the start of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefix<'a> {
    /// From stream offset 0 on, without a gap.
    pub bytes: &'a [u8],
    /// No more will come: budget spent, direction closed, or a gap that will not be filled.
    pub ended: bool,
    /// Offset 0 is not the start of the stream (opened before we started, first bytes lost).
    pub midstream: bool,
    /// How the bytes were cut on the wire, as far as it is known.
    pub segments: Segments<'a>,
    /// What earlier looks at these bytes, when there were fewer of them, need not find out again.
    pub sealed: Option<&'a Sealed>,
}

/// Which records of a direction were read to the end of what is there, and cannot be read by anyone. It saves work,
/// and changes no answer, as long as it goes with bytes that only grow.
#[derive(Debug, Default)]
pub struct Sealed(AtomicU64);

/// Records that follow each other, as offsets in the prefix: where the first one begins, and where what was read of the
/// last one ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SealedRecords {
    pub from: usize,
    pub to: usize,
}

impl Sealed {
    pub(crate) fn get(&self) -> SealedRecords {
        let both = self.0.load(Ordering::Relaxed);
        SealedRecords { from: (both >> 32) as usize, to: (both & u64::from(u32::MAX)) as usize }
    }

    pub(crate) fn set(&self, SealedRecords { from, to }: SealedRecords) {
        if let (Ok(from), Ok(to)) = (u32::try_from(from), u32::try_from(to)) {
            self.0.store(u64::from(from) << 32 | u64::from(to), Ordering::Relaxed);
        }
    }
}

impl SealedRecords {
    /// How much of the payload from this offset on is in here, of a record that begins at `at`.
    pub fn of(self, at: usize, payload: usize) -> usize {
        if at < self.from { 0 } else { self.to.saturating_sub(payload) }
    }

    /// A record, up to `to`, with those in front of it if it follows them.
    pub fn and(self, at: usize, to: usize) -> SealedRecords {
        let from = if at == self.to { self.from } else { at };
        SealedRecords { from, to }
    }
}

/// Where the segments of one direction end. What is told of encrypted bytes may rest on it, and on
/// nothing else: a sender that wants to cuts his bytes as he likes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segments<'a> {
    ends: &'a [u32],
    /// Bytes in front of the prefix.
    before: u32,
}

impl<'a> Segments<'a> {
    /// `ends`: offsets in the stream, ascending; from some point on they may be missing.
    pub fn new(ends: &'a [u32]) -> Self {
        Segments { ends, before: 0 }
    }

    /// The lengths of segments; of the first, what of it is in the prefix.
    pub(crate) fn lengths(self) -> impl Iterator<Item = u32> + 'a {
        let mut from = self.before;
        self.ends.iter().filter(move |end| **end > self.before).map(move |end| {
            let length = end.saturating_sub(from);
            from = *end;
            length
        })
    }

    fn after(self, n: usize) -> Segments<'a> {
        let before = self.before.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        Segments { before, ..self }
    }
}

impl<'a> Prefix<'a> {
    /// The same prefix without its first `n` bytes.
    pub(crate) fn after(self, n: usize) -> Prefix<'a> {
        let segments = self.segments.after(n);
        let sealed = self.sealed.filter(|_| n == 0);
        Prefix { bytes: self.bytes.get(n..).unwrap_or(&[]), segments, sealed, ..self }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub protocol: Protocol,
    /// TLS begins at these offsets of (client, server): the upgrade was asked for and granted.
    pub upgraded_at: Option<(usize, usize)>,
    /// It began as HTTP/1, and was turned into this by a request of the client.
    pub switched: bool,
    /// The handshake of that TLS comes in packets of TDS.
    pub wrapped: bool,
    /// It may not be in the clear, and what it is instead cannot be told.
    pub hidden: Option<UnknownReason>,
    /// An upgrade was offered or asked for. With `upgraded_at` none and `settled`: not taken.
    pub upgrade_offered: bool,
    /// The client asked and the server said no.
    pub upgrade_refused: bool,
    /// Nothing later can change this answer (no upgrade can follow any more).
    pub settled: bool,
    /// See [`crate::Facts::detail`].
    pub detail: Option<String>,
}

impl Found {
    /// A protocol in the clear, settled.
    pub fn plain(protocol: Protocol) -> Self {
        Found {
            protocol,
            upgraded_at: None,
            switched: false,
            wrapped: false,
            hidden: None,
            upgrade_offered: false,
            upgrade_refused: false,
            settled: true,
            detail: None,
        }
    }
}

/// The answer of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    No,
    /// Not against it so far.
    Maybe,
    Yes(Found),
}
