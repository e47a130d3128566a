//! Records as lines: what the daemon writes and the API lists.
//!
//! In: a [`Record`]. Out: lines of JSON (ECS, OCSF, Zeek) or of text for people. Must never: let a
//! byte through that a terminal acts on; write null, or a value nobody saw; hold a captured byte.

pub mod community_id;
pub mod ecs;
mod format;
mod json;
pub mod ocsf;
mod printable;
#[cfg(test)]
pub(crate) mod samples;
mod secure;
pub mod text;
pub mod units;
pub mod zeek;

pub use format::{Encoder, Format};
pub use json::{write_line, write_value};
pub use printable::{is_active, printable};

use serde::{Deserialize, Serialize};

/// RFC 3339, UTC, always nine digits of a second: as every record writes a time.
pub fn time(at: jiff::Timestamp) -> String {
    format!("{at:.9}")
}

/// A certificate as the records have one, with the ECS names of `tls.server.*`.
pub fn certificate(certificate: &dissect::Certificate) -> serde_json::Value {
    // Our own types: that they are JSON is tested.
    serde_json::to_value(secure::TlsCertificate::new(certificate)).unwrap_or_default()
}

/// What every record says about where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub host_name: String,
    /// Stable for this host: `/etc/machine-id`.
    pub host_id: String,
    /// Of the daemon.
    pub version: String,
}
