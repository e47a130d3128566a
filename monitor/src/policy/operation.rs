//! What a client does on a stream, and whether its roles allow that.
//!
//! In: an [`Operation`], read from bytes in the clear by somebody else. Out: a [`Decision`]. A grant
//! speaks of verbs, and of objects of some kinds (topics, queues, paths, …); an operation on an
//! object whose name could not be read, or of a kind that the grant is silent on, is unknown, never
//! allowed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::selector::Held;
use super::{Action, ClientRule, Decision, FlowFacts, Policy, Seen, Service, Side};

/// What an operation does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Read,
    Write,
    Admin,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Admin => "admin",
        }
    }
}

/// One operation of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    pub verb: Verb,
    /// What the object is: `topic`, `queue`, `exchange`, `subject`, `key`, `path`, `statement`,
    /// `command`, …
    pub kind: &'static str,
    /// Its name; of a `path` either `/path` or `METHOD /path`. `None`: it could not be read.
    pub object: Option<String>,
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.verb.as_str(), self.kind)?;
        match &self.object {
            Some(object) => write!(out, " {}", object.escape_debug()),
            None => Ok(()),
        }
    }
}

/// A kind of object that a grant can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Topic,
    Subject,
    Exchange,
    Queue,
    Key,
    Path,
    Statement,
    Command,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Topic => "topic",
            Kind::Subject => "subject",
            Kind::Exchange => "exchange",
            Kind::Queue => "queue",
            Kind::Key => "key",
            Kind::Path => "path",
            Kind::Statement => "statement",
            Kind::Command => "command",
        }
    }
}

/// Objects of one kind: any of the wanted (none: all), but for the excepted (`!name`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    pub wanted: Vec<Pattern>,
    pub excepted: Vec<Pattern>,
}

/// What a client may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grant {
    pub may: Vec<Verb>,
    /// HTTP methods, upper case; empty: any.
    pub methods: Vec<String>,
    /// Empty: all objects.
    pub objects: Vec<(Kind, Objects)>,
}

impl Grant {
    pub fn covers(&self, operation: &Operation) -> Held {
        if !self.may.contains(&operation.verb) {
            return Held::No;
        }
        if self.objects.is_empty() && self.methods.is_empty() {
            return Held::Yes;
        }
        if !self.methods.is_empty() && operation.kind == Kind::Path.as_str() {
            match operation.object.as_deref().and_then(method_and_path) {
                Some((Some(method), _)) if !self.methods.iter().any(|allowed| allowed == method) => {
                    return Held::No;
                }
                Some((Some(_), _)) => {}
                _ => return Held::Unknown,
            }
        }
        if self.objects.is_empty() {
            let of_http = operation.kind == Kind::Path.as_str();
            return if of_http { Held::Yes } else { Held::Unknown };
        }
        let Some((kind, objects)) = self.objects.iter().find(|(kind, _)| kind.as_str() == operation.kind)
        else {
            return Held::Unknown;
        };
        match operation.object.as_deref() {
            None => Held::Unknown,
            Some(object) if objects.hold(*kind, object) => Held::Yes,
            Some(_) => Held::No,
        }
    }
}

impl Objects {
    fn hold(&self, kind: Kind, object: &str) -> bool {
        let object = match kind {
            Kind::Path => match method_and_path(object) {
                Some((_, path)) => path,
                None => return false,
            },
            _ => object,
        };
        // A subscription may itself speak of many: those of MQTT (+, #) and of NATS (*, >).
        let many = matches!(kind, Kind::Topic | Kind::Subject) && object.contains(['+', '#', '*', '>']);
        if self
            .excepted
            .iter()
            .any(|pattern| if many { overlaps(object, pattern) } else { holds(kind, pattern, object) })
        {
            return false;
        }
        self.wanted.is_empty()
            || self.wanted.iter().any(|pattern| {
                // One character of the policy does not stand for a wildcard that stands for many.
                (!many || !pattern.as_str().contains('?')) && holds(kind, pattern, object)
            })
    }
}

/// A path is held by what it begins with, everything else by its whole name.
fn holds(kind: Kind, pattern: &Pattern, object: &str) -> bool {
    if kind != Kind::Path || matches!(pattern, Pattern::Glob { .. }) {
        return pattern.matches(object);
    }
    let prefix = pattern.as_str();
    let Some(rest) = object.strip_prefix(prefix) else { return false };
    rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/')
}

/// Whether a subscription with wildcards takes in something that the pattern names, or may.
fn overlaps(subscription: &str, pattern: &Pattern) -> bool {
    let asked = Pattern::new(&subscription.replace(['+', '#', '>'], "*"));
    match pattern {
        Pattern::Exact(name) => asked.matches(name),
        Pattern::Glob { .. } => {
            let (a, b) = (asked.prefix(), pattern.prefix());
            a.starts_with(b) || b.starts_with(a)
        }
    }
}

/// `GET /path?query` or `/path`: method and path. A path that does not say where it leads (`..`,
/// encoded dots or slashes, backslashes) is none.
fn method_and_path(object: &str) -> Option<(Option<&str>, &str)> {
    let (method, target) = match object.split_once(' ') {
        Some((method, target)) => (Some(method), target),
        None => (None, object),
    };
    let path = &target[..target.find(['?', '#']).unwrap_or(target.len())];
    let lower = path.to_ascii_lowercase();
    let astray = path.split('/').any(|segment| segment == ".." || segment == ".")
        || ["%2e", "%2f", "%5c", "\\", "//"].iter().any(|trick| lower.contains(trick));
    (!astray && path.starts_with('/')).then_some((method, path))
}

impl fmt::Display for Grant {
    /// `may=read,write topic=payments`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verbs: Vec<&str> = self.may.iter().map(|verb| verb.as_str()).collect();
        write!(out, "may={}", verbs.join(","))?;
        if !self.methods.is_empty() {
            write!(out, " method={}", self.methods.join(","))?;
        }
        for (kind, objects) in &self.objects {
            let wanted = objects.wanted.iter().map(Pattern::to_string);
            let excepted = objects.excepted.iter().map(|pattern| format!("!{pattern}"));
            let all: Vec<String> = wanted.chain(excepted).collect();
            write!(out, " {}={}", kind.as_str(), all.join(","))?;
        }
        Ok(())
    }
}

impl ClientRule {
    /// Without grants a client may do everything.
    fn allows(&self, operation: &Operation) -> Held {
        match &self.grants {
            None => Held::Yes,
            Some(grants) => grants.iter().map(|grant| grant.covers(operation)).max().unwrap_or(Held::No),
        }
    }
}

impl Policy {
    /// Whether this client may do this at this service. A service that does not name the client at
    /// all has its say in [`Policy::decide`].
    pub fn operation(&self, facts: &FlowFacts<'_>, operation: &Operation) -> Decision {
        self.operation_seen(facts, Seen::default(), operation)
    }

    /// The same, with what the wire tells of the ends.
    pub fn operation_seen(&self, facts: &FlowFacts<'_>, seen: Seen<'_>, operation: &Operation) -> Decision {
        let mut unexpected: Option<Decision> = None;
        let mut unknown: Option<Decision> = None;
        self.each_named(facts, seen, &mut |service, rule, held| {
            let allowed = rule.allows(operation);
            match held.min(allowed) {
                Held::Yes => {
                    return Some(Decision::Allowed {
                        service: service.name.clone(),
                        rule: rule.with_grants(),
                        place: rule.place.clone(),
                    });
                }
                // Another entry may allow it.
                Held::No if held == Held::Yes => {
                    unexpected.get_or_insert_with(|| Decision::Unexpected {
                        service: service.name.clone(),
                        expected: rule.with_grants(),
                        place: rule.place.clone(),
                        side: Side::Operation,
                        action: service.action,
                    });
                }
                Held::No => {}
                Held::Unknown => {
                    unknown.get_or_insert_with(|| Decision::Unknown {
                        service: service.name.clone(),
                        why: match (&operation.object, allowed) {
                            (None, Held::Unknown) => {
                                format!("which {} could not be read", operation.kind).into()
                            }
                            (_, Held::Unknown) => {
                                format!("{} does not speak of a {}", rule.with_grants(), operation.kind)
                                    .into()
                            }
                            _ => "who the client is is not wholly known".into(),
                        },
                    });
                }
            }
            None
        })
        .or(unknown)
        .or(unexpected)
        .unwrap_or(Decision::NoPolicy)
    }

    /// What becomes of a client whose roles limit what it may do, where that is not seen: `hidden`,
    /// because its stream is encrypted. `None`: no role limits it.
    pub fn unseen_operations(&self, facts: &FlowFacts<'_>, seen: Seen<'_>, hidden: bool) -> Option<Decision> {
        let mut limited: Option<Decision> = None;
        let free = self.each_named(facts, seen, &mut |service, rule, held| {
            if rule.grants.is_none() {
                return (held == Held::Yes).then_some(Decision::NoPolicy);
            }
            limited.get_or_insert_with(|| match hidden {
                true => encrypted(service, rule),
                false => Decision::Unknown {
                    service: service.name.clone(),
                    why: "it limits what the client may do, and that was not read".into(),
                },
            });
            None
        });
        if free.is_some() { None } else { limited }
    }

    /// Every client entry that names this client, or may, of every service that this is; until one
    /// gives an answer.
    fn each_named(
        &self,
        facts: &FlowFacts<'_>,
        seen: Seen<'_>,
        each: &mut dyn FnMut(&Service, &ClientRule, Held) -> Option<Decision>,
    ) -> Option<Decision> {
        self.with_ends(facts, seen, |client, server| {
            for (service, covered) in self.covering(facts, server) {
                if covered != Held::Yes {
                    continue;
                }
                for index in service.client_candidates(client) {
                    let Some(rule) = service.clients.get(index as usize) else { continue };
                    let held = rule.selector.holds(client);
                    if held != Held::No
                        && let Some(decision) = each(service, rule, held)
                    {
                        return Some(decision);
                    }
                }
            }
            None
        })
    }
}

fn encrypted(service: &Service, rule: &ClientRule) -> Decision {
    match service.encrypted {
        Encrypted::Accept => Decision::Unknown {
            service: service.name.clone(),
            why: "encrypted: what the client does there cannot be seen, and the policy accepts that".into(),
        },
        Encrypted::Alert => Decision::Unexpected {
            service: service.name.clone(),
            expected: Arc::from(format!("a stream that can be looked into: {}", rule.with_grants())),
            place: rule.place.clone(),
            side: Side::Hidden,
            action: Action::Alert,
        },
    }
}

/// What becomes of a stream that cannot be looked into although roles limit its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encrypted {
    /// It is unknown whether the client keeps to its roles, and that is fine.
    #[default]
    Accept,
    /// It breaks the policy.
    Alert,
}
