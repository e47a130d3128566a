//! One end of a flow, as selectors ask about it: every field has values, or has none, or could not
//! be seen.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dissect::{Cipher, ClientCertificateState, Facts, Protection};

use super::pattern::Pattern;
use super::selector::Held;
use crate::model::Identity;
use crate::names::MOST_OF_ONE;
use crate::posture;

/// What a selector may ask of an end, besides its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    Process,
    Unit,
    Container,
    Image,
    Namespace,
    Pod,
    User,
    Executable,
    Sha256,
    Dns,
    Sni,
    San,
    Spiffe,
}

impl Field {
    /// As the policy file has it.
    pub fn key(self) -> &'static str {
        match self {
            Field::Process => "process",
            Field::Unit => "unit",
            Field::Container => "container",
            Field::Image => "image",
            Field::Namespace => "namespace",
            Field::Pod => "pod",
            Field::User => "user",
            Field::Executable => "executable",
            Field::Sha256 => "sha256",
            Field::Dns => "dns",
            Field::Sni => "sni",
            Field::San => "san",
            Field::Spiffe => "spiffe",
        }
    }

    /// Short container ids have this many characters.
    pub const SHORT_ID: usize = 12;

    pub fn holds(self, pattern: &Pattern, value: &str) -> bool {
        if self == Field::Container
            && let Pattern::Exact(id) = pattern
            && id.len() >= Field::SHORT_ID
            && value.starts_with(&**id)
        {
            return true;
        }
        if self == Field::San {
            return posture::is_meant(pattern.as_str(), value, |value| pattern.matches(value));
        }
        pattern.matches(value)
    }

    /// What a value of this field is found by: a name of a certificate also without its kind.
    pub fn each_key(self, value: &str, each: &mut dyn FnMut(&str)) {
        each(value);
        if self == Field::San
            && let Some((_, bare)) = value.split_once(':')
        {
            each(bare);
        }
    }
}

/// Whether all values of a field are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Known,
    /// There may be others.
    Unseen,
}

/// What the wire and the DNS tell of a flow, beside who is at its ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// `None`: nothing was looked at.
    pub facts: Option<&'a Facts>,
    /// Names that this host's DNS answers gave for the address, lower case, without a last dot.
    pub client_names: &'a [Arc<str>],
    pub server_names: &'a [Arc<str>],
    /// No answer can have been missed: what has no name has none.
    pub names_complete: bool,
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Client,
    Server,
}

/// One end.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub role: Role,
    pub identity: Option<&'a Identity>,
    /// Never a v4-mapped one.
    pub address: IpAddr,
    pub seen: Seen<'a>,
    /// Groups that it belongs to, or may belong to, sorted by id.
    pub groups: &'a [(u32, Held)],
}

impl<'a> End<'a> {
    pub fn new(role: Role, identity: Option<&'a Identity>, address: IpAddr, seen: Seen<'a>) -> End<'a> {
        End { role, identity, address: address.to_canonical(), seen, groups: &[] }
    }

    pub fn membership(&self, group: u32) -> Held {
        match self.groups.binary_search_by_key(&group, |(id, _)| *id) {
            Ok(at) => self.groups.get(at).map_or(Held::No, |(_, held)| *held),
            Err(_) => Held::No,
        }
    }

    /// Labels of the pod or container; `None`: they are not known, see [`End::may_have_labels`].
    pub fn labels(&self) -> Option<&'a BTreeMap<String, String>> {
        self.identity?.workload.as_deref()?.labels.as_ref()
    }

    /// Whether it may have labels that could not be seen.
    pub fn may_have_labels(&self) -> bool {
        let tells = |identity: &Identity| identity.container.as_ref().is_some_and(|own| !own.is_of_user());
        self.identity.is_some_and(|identity| tells(identity) || identity.missing.is_some())
    }

    /// Whether its executable's path is that of another mount namespace than the host's.
    pub fn executable_is_elsewhere(&self) -> bool {
        self.identity.is_some_and(|identity| identity.executable_elsewhere)
    }

    /// Whether these can all be answered, although its user's name could not be seen: numbers, of a known user.
    pub fn knows_users(&self, patterns: &[Pattern]) -> bool {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        self.identity.is_some_and(|identity| identity.uid.is_some())
            && patterns.iter().all(|pattern| is_number(pattern.as_str()))
    }

    /// Calls `each` with every value of a field.
    pub fn each(&self, field: Field, each: &mut dyn FnMut(&str)) -> Presence {
        match field {
            Field::Dns => {
                let names = match self.role {
                    Role::Client => self.seen.client_names,
                    Role::Server => self.seen.server_names,
                };
                names.iter().for_each(|name| each(name));
                // With as many as are remembered of one, there may be others.
                let some = (1..MOST_OF_ONE).contains(&names.len());
                if self.seen.names_complete || some { Presence::Known } else { Presence::Unseen }
            }
            Field::Sni => self.server_name(each),
            Field::San | Field::Spiffe => self.certificate(field, each),
            _ => self.identity.map_or(Presence::Known, |identity| of_identity(field, identity, each)),
        }
    }

    fn server_name(&self, each: &mut dyn FnMut(&str)) -> Presence {
        let Some(facts) = self.seen.facts else { return Presence::Unseen };
        match &facts.tls {
            // Encrypted Client Hello shows a name that stands for many.
            Some(tls) if tls.encrypted_client_hello => return Presence::Unseen,
            Some(tls) => {
                if let Some(name) = &tls.server_name {
                    each(&name.to_ascii_lowercase());
                    return Presence::Known;
                }
                if tls.established {
                    return Presence::Known;
                }
            }
            None => {}
        }
        without_tls(facts)
    }

    fn certificate(&self, field: Field, each: &mut dyn FnMut(&str)) -> Presence {
        let Some(facts) = self.seen.facts else { return Presence::Unseen };
        let Some(tls) = &facts.tls else { return without_tls(facts) };
        let chain = match self.role {
            Role::Client => &tls.client_certificates,
            Role::Server => &tls.server_certificates,
        };
        let Some(own) = chain.first().filter(|_| tls.established) else {
            let none = self.role == Role::Client
                && matches!(
                    tls.client_certificate.state,
                    ClientCertificateState::NotRequested | ClientCertificateState::Refused
                );
            return if none { Presence::Known } else { Presence::Unseen };
        };
        // Nobody but itself says that these names are its own, and who accepts it may accept any.
        if own.self_signed {
            return Presence::Unseen;
        }
        let uris = own.alternative_names.iter().filter(|name| name.starts_with("URI:")).count();
        match field {
            // Which of several counts, nobody can say: such a certificate is none of SPIFFE's (X.509-SVID, section 2).
            Field::Spiffe if uris > 1 => return Presence::Unseen,
            Field::Spiffe => own.spiffe_id.iter().for_each(|id| each(id)),
            // `DNS:a.example`, `IP:10.0.0.1`.
            _ => own.alternative_names.iter().for_each(|name| each(name)),
        }
        // A SPIFFE ID is one of the names, and there is only one.
        let left_out = own.names_cut && !(field == Field::Spiffe && own.spiffe_id.is_some());
        if left_out { Presence::Unseen } else { Presence::Known }
    }
}

/// Whether there is no TLS whose names could still show.
fn without_tls(facts: &Facts) -> Presence {
    match facts.protection {
        Protection::Plaintext(_) | Protection::Encrypted(Cipher::Ssh | Cipher::Wireguard) => Presence::Known,
        _ => Presence::Unseen,
    }
}

fn of_identity(field: Field, identity: &Identity, each: &mut dyn FnMut(&str)) -> Presence {
    let incomplete = if identity.missing.is_some() { Presence::Unseen } else { Presence::Known };
    let mut one = |value: Option<&str>| match value {
        Some(value) => {
            each(value);
            Presence::Known
        }
        None => incomplete,
    };
    let workload = identity.workload.as_deref();
    match field {
        Field::Process => one(identity.name.as_deref()),
        Field::Unit => one(identity.unit.as_deref()),
        // A replaced binary still runs: after a package upgrade the kernel shows it so.
        Field::Executable => {
            one(identity.executable.as_deref().map(|path| path.strip_suffix(" (deleted)").unwrap_or(path)))
        }
        Field::Sha256 => match &identity.executable_sha256 {
            Some(hash) => one(Some(hash)),
            // A kernel thread has no executable; everybody else has one, hashed or not.
            None if identity.executable.is_none() => incomplete,
            None => Presence::Unseen,
        },
        Field::User => {
            let number = identity.uid.map(|uid| uid.to_string());
            let (number, user) = (one(number.as_deref()), one(identity.user.as_deref()));
            if number == Presence::Known { user } else { number }
        }
        Field::Container => {
            let Some(container) = &identity.container else { return incomplete };
            each(&container.id);
            container.pod.iter().for_each(|pod| each(pod));
            workload.and_then(|workload| workload.name.as_deref()).into_iter().for_each(&mut *each);
            Presence::Known
        }
        Field::Image | Field::Namespace | Field::Pod => {
            let value = workload.and_then(|workload| match field {
                Field::Image => workload.image.as_deref(),
                Field::Namespace => workload.namespace.as_deref(),
                _ => workload.pod.as_deref(),
            });
            match (value, &identity.container) {
                (Some(value), _) => one(Some(value)),
                // A user's own: it has none that counts.
                (None, Some(container)) if container.is_of_user() => incomplete,
                // In a container whose runtime does not tell.
                (None, Some(_)) => Presence::Unseen,
                (None, None) => incomplete,
            }
        }
        Field::Dns | Field::Sni | Field::San | Field::Spiffe => Presence::Known,
    }
}
