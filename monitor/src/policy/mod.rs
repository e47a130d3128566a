//! Policy: which services this host has, and who may be their client.
//!
//! In: a TOML file, and the facts of one flow ([`FlowFacts`]). Out: one [`Decision`], which says
//! which rule allows a client, or what was expected instead. No I/O but the reading of the file;
//! no clock. It must never say "allowed" or "unexpected" because something could not be seen: that
//! is [`Decision::Unknown`].

mod decide;
mod file;
mod require;
mod selector;
mod show;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

pub use crate::config::FileError as PolicyError;
use crate::config::{LARGEST_FILE, read_capped};
use crate::model::{Identity, Transport};
pub use require::{Outcome, Require, Required};
use selector::{Ports, Selector};
pub use show::default_severity;

/// The policy in force.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// In the order of the file.
    services: Vec<Service>,
    /// Services that name this port, by index.
    by_port: HashMap<u16, Vec<u32>>,
    /// Services that name no port, or a range too wide to be listed.
    anywhere: Vec<u32>,
}

/// One `[[service]]`.
#[derive(Clone, Debug)]
struct Service {
    name: String,
    transport: Option<Transport>,
    ports: Ports,
    server: Selector,
    clients: Vec<Selector>,
    require: Option<Arc<Require>>,
}

/// What a decision rests on. An end on this host whose process is not known (yet) is an
/// [`Identity`] that says what is missing, never `None`.
#[derive(Clone, Copy, Debug)]
pub struct FlowFacts<'a> {
    /// `None`: the client is on another host.
    pub client: Option<&'a Identity>,
    pub client_address: SocketAddr,
    /// `None`: the server is on another host.
    pub server: Option<&'a Identity>,
    pub server_address: SocketAddr,
    pub transport: Transport,
}

/// May this client use this service?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// `rule`: the client entry that allows it, as text (`unit=payments.service`).
    Allowed { service: String, rule: String },
    /// The policy covers the service and does not name this client. `expected`: who may.
    Unexpected { service: String, expected: String },
    /// The policy may cover it, but who is at one end could not be found out.
    Unknown { service: String, why: String },
    /// No service of the policy is this one.
    NoPolicy,
}

impl Policy {
    /// No services: the built-in rules alone.
    pub fn builtin() -> Policy {
        Policy::default()
    }

    /// Reads and checks a file. The error is one line: `file:line:column: what, expected …`.
    pub fn load(path: &Path) -> Result<Policy, PolicyError> {
        Policy::parse(path, &read_capped(path, LARGEST_FILE)?)
    }

    /// Checks a text; `path` only names it in errors.
    pub fn parse(path: &Path, text: &str) -> Result<Policy, PolicyError> {
        file::parse(path, text).map(Policy::new)
    }

    /// Services that the policy has.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    fn new(services: Vec<Service>) -> Policy {
        let mut policy = Policy { services, ..Policy::default() };
        for (index, service) in policy.services.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            match service.ports.listed() {
                Some(ports) => {
                    for port in ports {
                        policy.by_port.entry(port).or_default().push(index);
                    }
                }
                None => policy.anywhere.push(index),
            }
        }
        policy
    }
}

#[cfg(test)]
mod tests;
