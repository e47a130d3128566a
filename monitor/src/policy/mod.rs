//! Policy: which services this host has, who may be their client and do what, and what a client may
//! connect to.
//!
//! In: TOML, one file or a directory of them, and the facts of one flow ([`FlowFacts`], [`Seen`]).
//! Out: one [`Decision`], which says which rule allows a client, or what was expected instead. No
//! I/O but the reading of the files; no clock. It must never say "allowed" or "unexpected" because
//! something could not be seen: that is [`Decision::Unknown`].

mod decide;
mod diff;
mod end;
mod export;
mod file;
mod form;
mod index;
mod learn;
mod objects;
mod observed;
mod operation;
mod pattern;
mod require;
mod schema;
mod selector;
mod show;
mod sources;
mod texts;
mod trial;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::config::FileError as PolicyError;
use crate::model::{Identity, Transport};
pub use diff::diff;
use end::Field;
pub use end::Seen;
pub use export::{Export, Format as ExportFormat};
use index::Index;
pub use learn::learn;
pub use observed::{Observations, Observed};
use operation::Grant;
pub use operation::{Encrypted, Operation, Verb};
pub use require::{Outcome, Require, Required};
pub use schema::schema;
use selector::{Ports, Selector};
pub use show::default_severity;
pub use trial::{Trial, trial};

/// The policy in force.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// In the order of the files.
    services: Vec<Service>,
    service_index: Index,
    /// What clients may connect to.
    egress: Vec<Egress>,
    egress_index: Index,
    groups: Vec<Group>,
    /// Every member of every group, and which group it is of.
    members: Vec<(Selector, u32)>,
    member_index: Index,
    roles: Vec<(String, Vec<Grant>)>,
    /// DNS servers whose answers count; empty: the file names none.
    resolvers: Vec<IpAddr>,
    wants: Wants,
    /// Some service requires something of encryption.
    requires: bool,
}

/// The files of a policy, as they are; none: the built-in policy.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PolicyTexts(Vec<sources::SourceText>);

/// What a policy asks that costs something to find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// SHA-256 of executables.
    pub hashes: bool,
    /// Images, names and labels of containers.
    pub workloads: bool,
    /// Names from DNS answers.
    pub names: bool,
    /// What the first bytes tell: server names, certificates, whether roles can be seen.
    pub facts: bool,
}

/// A named set of ends.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    members: std::ops::Range<usize>,
}

/// One `[[service]]`.
#[derive(Clone, Debug)]
struct Service {
    name: Arc<str>,
    /// `policy.toml:12`.
    place: Arc<str>,
    transport: Option<Transport>,
    ports: Ports,
    server: Selector,
    clients: Vec<ClientRule>,
    client_index: Index,
    require: Option<Arc<Require>>,
    action: Action,
    encrypted: Encrypted,
    /// Who may be its client, for people.
    expected: Arc<str>,
}

/// One `[[service.client]]`.
#[derive(Clone, Debug)]
struct ClientRule {
    selector: Selector,
    /// `None`: it may do everything.
    grants: Option<Vec<Grant>>,
    /// The selector for people.
    text: Arc<str>,
    place: Arc<str>,
}

/// One `[[client]]`.
#[derive(Clone, Debug)]
struct Egress {
    name: Arc<str>,
    place: Arc<str>,
    client: Selector,
    to: Vec<Target>,
    to_index: Index,
    action: Action,
    expected: Arc<str>,
}

/// One `[[client.to]]`.
#[derive(Clone, Debug)]
struct Target {
    /// A service of this policy.
    service: Option<u32>,
    transport: Option<Transport>,
    ports: Ports,
    server: Selector,
    text: Arc<str>,
    place: Arc<str>,
}

/// What to do about a flow that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The flow's record says so.
    Report,
    /// And an alert is opened.
    #[default]
    Alert,
}

/// Which rules were broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Those of the service: it does not name this client.
    Ingress,
    /// Those of the client: they do not name this service.
    Egress,
    /// Those of a role: it may not do this.
    Operation,
    /// Those of a role, and nobody can see what it does.
    Hidden,
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

/// May this client use this service? `place` is the rule that decided: `policy.toml:12`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// `rule`: the client entry that allows it, as text (`unit=payments.service`).
    Allowed { service: Arc<str>, rule: Arc<str>, place: Arc<str> },
    /// The policy covers the service (or, with [`Side::Egress`], the client, and `service` is its
    /// name in the policy) and does not name the other end. `expected`: who may, or what.
    Unexpected { service: Arc<str>, expected: Arc<str>, place: Arc<str>, side: Side, action: Action },
    /// The policy may cover it, but something that it asks could not be found out.
    Unknown { service: Arc<str>, why: Arc<str> },
    /// No rule of the policy is about this.
    NoPolicy,
}

impl PolicyTexts {
    /// Who else than root (or the daemon's user) can change what is read, and what to do, in one line; `None`: nobody.
    pub fn others(&self) -> Option<String> {
        let mut all = self.0.iter().filter_map(|source| Some((&source.path, source.others.as_ref()?)));
        let (path, what) = all.next()?;
        let more = match all.count() {
            0 => String::new(),
            more => format!("; and {more} more of its files"),
        };
        Some(format!("the policy {} {what}{more}", path.display()))
    }
}

impl Policy {
    /// No services: the built-in rules alone.
    pub fn builtin() -> Policy {
        Policy::default()
    }

    /// Reads and checks a file, or all `*.toml` of a directory as one. The error is one line:
    /// `file:line:column: what, expected …`.
    pub fn load(path: &Path) -> Result<Policy, PolicyError> {
        Policy::compile(&Policy::texts(path)?)
    }

    /// Reads a file, or all `*.toml` of a directory, and checks nothing.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn texts(path: &Path) -> Result<PolicyTexts, PolicyError> {
        Ok(PolicyTexts(sources::read(path)?))
    }

    /// Checks what [`Policy::texts`] has read.
    ///
    /// # Errors
    /// See [`Policy::load`].
    pub fn compile(texts: &PolicyTexts) -> Result<Policy, PolicyError> {
        if texts.0.is_empty() { Ok(Policy::builtin()) } else { file::compile(&texts.0) }
    }

    /// Checks a text; `path` only names it in errors.
    pub fn parse(path: &Path, text: &str) -> Result<Policy, PolicyError> {
        file::compile(&[sources::SourceText::new(path.to_owned(), text.to_owned())])
    }

    /// Services and clients that the policy has.
    pub fn len(&self) -> usize {
        self.services.len() + self.egress.len()
    }

    /// Services alone.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.egress.is_empty()
    }

    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// DNS servers whose answers count; empty: none was named.
    pub fn resolvers(&self) -> &[IpAddr] {
        &self.resolvers
    }

    /// Answers of these DNS servers count.
    #[must_use]
    pub fn with_resolvers(self, resolvers: Vec<IpAddr>) -> Policy {
        Policy { resolvers, ..self }
    }

    /// Answers of the host's DNS servers count where it wants names and names no servers of its own.
    #[must_use]
    pub fn with_host_resolvers(self, host: Vec<IpAddr>) -> Policy {
        if self.wants.names && self.resolvers.is_empty() { self.with_resolvers(host) } else { self }
    }

    /// Builds what decisions need, from what the files say.
    fn finish(mut self) -> Policy {
        self.service_index =
            Index::new(self.services.iter().map(|service| (Some(&service.ports), &service.server)));
        self.egress_index = Index::new(self.egress.iter().map(|egress| (None, &egress.client)));
        self.member_index = Index::new(self.members.iter().map(|(member, _)| (None, member)));
        for service in &mut self.services {
            service.client_index = Index::new(service.clients.iter().map(|rule| (None, &rule.selector)));
        }
        for egress in &mut self.egress {
            egress.to_index = Index::new(egress.to.iter().map(|to| (Some(&to.ports), &to.server)));
        }
        self.wants = self.all_wants();
        self.requires = self.services.iter().any(|service| service.require.is_some());
        self
    }

    fn selectors(&self) -> impl Iterator<Item = &Selector> {
        let services = self.services.iter().flat_map(|service| {
            std::iter::once(&service.server).chain(service.clients.iter().map(|rule| &rule.selector))
        });
        let egress = self
            .egress
            .iter()
            .flat_map(|egress| std::iter::once(&egress.client).chain(egress.to.iter().map(|to| &to.server)));
        services.chain(egress).chain(self.members.iter().map(|(member, _)| member))
    }

    fn all_wants(&self) -> Wants {
        let asks = |wanted: &[Field]| {
            self.selectors().any(|selector| wanted.iter().any(|field| !selector.texts_of(*field).is_empty()))
        };
        let labels = self.selectors().any(|selector| !selector.labels.is_empty());
        let limited = self.services.iter().flat_map(|service| &service.clients);
        Wants {
            hashes: asks(&[Field::Sha256]),
            // A container may be named by its name, which only the runtime knows.
            workloads: labels || asks(&[Field::Container, Field::Image, Field::Namespace, Field::Pod]),
            names: asks(&[Field::Dns]),
            facts: asks(&[Field::Sni, Field::San, Field::Spiffe])
                || limited.into_iter().any(|rule| rule.grants.is_some()),
        }
    }
}

#[cfg(test)]
mod tests;
