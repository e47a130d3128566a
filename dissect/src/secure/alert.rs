//! Alerts of TLS in the clear (RFC 8446 section 6, RFC 5246 section 7.2).
//!
//! In: a record of the kind alert. Out: the alerts in it. Must never: take for one what no stack sends, since
//! whatever passes as an alert passes unread.

use super::names;

/// Alerts in the clear of one direction: OpenSSL takes as many warnings, others less.
pub(crate) const MOST: usize = 5;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const NO_CERTIFICATE: u8 = 41;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    level: u8,
    pub description: u8,
}

impl Alert {
    /// A warning may be passed over, but for the one that closes.
    pub fn ends(self) -> bool {
        self.level == FATAL || self.description == CLOSE_NOTIFY
    }

    pub fn is_known(self) -> bool {
        names::known_alert(self.description).is_some()
    }

    pub fn is_no_certificate(self) -> bool {
        self.description == NO_CERTIFICATE
    }
}

/// Whether a record of alerts is in the clear, by its length: it holds one, or two (up to TLS 1.2 that is
/// allowed). A protected one is longer.
pub(crate) fn in_the_clear(length: u16) -> bool {
    matches!(length, 2 | 4)
}

/// The alerts that are there in full; `None`: it is none.
pub(crate) fn read(payload: &[u8]) -> Option<Vec<Alert>> {
    let right = payload.iter().step_by(2).all(|level| matches!(*level, WARNING | FATAL));
    let pairs = payload.chunks_exact(2).map(|pair| Alert { level: pair[0], description: pair[1] });
    right.then(|| pairs.collect())
}
