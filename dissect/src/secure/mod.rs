//! Handshakes that lead to encryption: TLS, DTLS, QUIC, SSH, WireGuard.
//!
//! In: both directions. Out: an inspection, once the handshake shows itself. Must never: say
//! `Encrypted` before both ends took part in the handshake on this very wire.

mod alert;
mod certificate;
mod client_certificate;
mod content;
pub(crate) mod dtls;
mod fingerprint;
mod flight;
pub(crate) mod hello;
pub(crate) mod midstream;
pub(crate) mod names;
mod order;
pub(crate) mod quic;
pub(crate) mod record;
mod seen_chains;
mod seen_hellos;
pub(crate) mod ssh;
mod ssl2;
mod suites;
pub(crate) mod tls;
pub(crate) mod wireguard;

pub use certificate::certificates;

use crate::Inspection;

/// Datagrams of each direction that are looked at behind a handshake, before it is settled what they are:
/// what can be read among them was not sealed.
const DATAGRAMS_BEHIND: usize = 2;

/// What a recogniser of encryption says. Like a probe's answer, except that the handshake itself
/// is already something to report.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once a look, taken apart at once")]
pub(crate) enum Secure {
    No,
    /// Not against it so far.
    Maybe,
    /// It began like this protocol, and then these offsets of (client, server) hold something
    /// else: to be judged as bytes of no known protocol.
    Broken {
        at: (usize, usize),
        detail: &'static str,
    },
    Is(Inspection),
}
