//! What a client does on a stream, and whether its roles allow that.
//!
//! In: an [`Operation`], read from bytes in the clear by somebody else. Out: a [`Decision`]. A grant
//! speaks of verbs, and of objects of some kinds (topics, queues, paths, …); an operation on an
//! object whose name could not be read, or of a kind that the grant is silent on, is unknown, never
//! allowed.

use std::fmt;
use std::sync::Arc;

pub use dissect::activity::{Operation, Verb};
use serde::{Deserialize, Serialize};

use super::objects::{Kind, Objects, Target};
use super::pattern::Pattern;
use super::selector::Held;
use super::{Action, ClientRule, Decision, FlowFacts, Policy, Seen, Service, Side};

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
        let method = self.takes_method(operation);
        if method == Held::No || self.objects.is_empty() {
            return method;
        }
        let Some((kind, objects)) = self.objects.iter().find(|(kind, _)| kind.as_str() == operation.kind)
        else {
            return Held::Unknown;
        };
        match operation.object.as_deref() {
            None => Held::Unknown,
            Some(object) => method.min(objects.hold(*kind, object)),
        }
    }

    /// Methods are those of HTTP: of anything else such a grant says nothing.
    fn takes_method(&self, operation: &Operation) -> Held {
        if self.methods.is_empty() {
            return Held::Yes;
        }
        let object = operation.object.as_deref().filter(|_| operation.kind == Kind::Path.as_str());
        match object.and_then(|object| Target::new(object).method) {
            Some(method) if self.methods.iter().any(|allowed| allowed == method) => Held::Yes,
            Some(_) => Held::No,
            None => Held::Unknown,
        }
    }
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
                        expected: format!("{}, not to {operation}", rule.with_grants()).into(),
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
