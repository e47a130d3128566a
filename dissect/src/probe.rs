//! The shape of every recogniser.
//!
//! A probe looks at both directions from their start. It is monotone: more bytes may turn `Maybe`
//! into `Yes` or `No`, never `Yes` or `No` into something else. So the answer does not depend on
//! how the bytes were cut.

use crate::Protocol;

/// The contiguous bytes from the start of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefix<'a> {
    /// From stream offset 0 on, without a gap.
    pub bytes: &'a [u8],
    /// No more will come: budget spent, direction closed, or a gap that will not be filled.
    pub ended: bool,
    /// Offset 0 is not the start of the stream (opened before we started, first bytes lost).
    pub midstream: bool,
}

impl<'a> Prefix<'a> {
    /// The same prefix without its first `n` bytes.
    pub(crate) fn after(self, n: usize) -> Prefix<'a> {
        Prefix { bytes: self.bytes.get(n..).unwrap_or(&[]), ..self }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub protocol: Protocol,
    /// TLS begins at these offsets of (client, server): the upgrade was asked for and granted.
    pub upgraded_at: Option<(usize, usize)>,
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
