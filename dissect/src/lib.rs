//! First bytes of a flow to facts: which protocol, encrypted or not, negotiated how.
//!
//! In: the contiguous bytes from the start of each direction ([`Prefix`]), or the first datagrams.
//! Out: an [`Inspection`]. Pure: no clock, no I/O, no state; the same bytes give the same answer
//! however they were cut. Must never: panic, whatever the bytes; say `Encrypted` of what it did not
//! see negotiated; hand a captured byte on (facts only, with every string capped and printable).

#![forbid(unsafe_code)]

pub mod activity;
mod bytes;
mod facts;
mod inspect;
mod layers;
mod plain;
mod probe;
mod readable;
mod reassembly;
mod secure;
mod text;
mod web;

pub use facts::{
    Basis, Certificate, Cipher, ClientCertificate, ClientCertificateState, EarlyData, End, Facts, Plain,
    Protection, Protocol, SshAuthentication, SshAuthenticationState, SshFacts, TlsAlert, TlsFacts,
    UnknownReason, Upgrade,
};
pub use inspect::{
    Hint, Inspection, Wants, begins_tls_record, inspect_datagrams, inspect_sample, inspect_stream,
    sample_renegotiates,
};
pub use layers::{Layer, LayerKind};
pub use probe::{Prefix, Sealed, Segments};
pub use reassembly::Reassembly;
pub use secure::certificates;
