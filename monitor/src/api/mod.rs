//! The API: HTTP/1.1 and JSON on a Unix socket, for the command line, `curl` and Prometheus.
//!
//! In: requests of root, of the daemon's own user, and of members of two groups: one may look, one may
//! also change something. Out: what the core thread gave
//! (snapshots; of flows, leave to read along), as the same records that the daemon writes. Must never: make the core wait or work
//! for a client; let one client slow another; grow with what a client sends or does not read.
//! Filters, sorting and encoding run on the API's own threads.

mod body;
mod core_link;
mod flows;
mod followers;
#[cfg(fuzzing)]
pub mod fuzzing;
mod holder;
mod listing;
mod metrics;
mod openapi;
mod peer;
pub mod query;
mod request;
mod routes;
mod server;
mod socket;
mod whole;
mod words;

use std::path::PathBuf;
use std::time::Duration;

pub use followers::{Counters, Followers};
pub use holder::Holder;
pub use peer::{Access, Role, check_groups};
pub use request::{Reply, Request, Word};
pub use server::{ApiHandle, Door, serve, start, start_with};
pub use socket::{InstanceLock, SocketError, SocketFile};

use crate::record::Context;

/// Where clients find the daemon.
pub const DEFAULT_SOCKET: &str = "/run/streamwatch/api.sock";

/// How the API is served.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub socket: PathBuf,
    /// Members of this group, by name or number, may look.
    pub viewers: Option<String>,
    /// Members of this group may do what root may.
    pub operators: Option<String>,
    /// What is counted, for whoever shows it.
    pub counters: std::sync::Arc<Counters>,
    /// Open at once; see [`Limits`].
    pub connections: usize,
    /// For the records of listings.
    pub context: Context,
}

/// What clients may take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open at once. A quarter is kept for root.
    pub connections: usize,
    /// Of these, those of one user who is not root.
    pub per_user: usize,
    /// Of these, those that wait for alerts. A quarter is kept for root.
    pub followers: usize,
    /// From accept to the last byte of the request's head.
    pub header_timeout: Duration,
    /// How long a client may not read.
    pub write_timeout: Duration,
    /// From accept to the last byte of an answer, however slowly it is read; followers stay as long as they
    /// read.
    pub life: Duration,
    /// The same of one that holds a copy of much.
    pub life_of_whole: Duration,
    /// How long the core may take.
    pub answer_timeout: Duration,
    /// A request's head.
    pub head_bytes: usize,
}

impl Limits {
    /// For so many connections at once.
    pub fn of(connections: usize) -> Self {
        let connections = connections.max(1);
        Limits {
            connections,
            per_user: connections.div_ceil(4),
            followers: connections.div_ceil(2),
            ..Limits::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 32,
            per_user: 8,
            followers: 16,
            header_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            life: Duration::from_secs(600),
            life_of_whole: Duration::from_secs(120),
            answer_timeout: Duration::from_secs(5),
            head_bytes: 16 * 1024,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
