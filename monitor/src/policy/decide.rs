//! One flow against the policy.

use std::net::IpAddr;
use std::sync::Arc;

use super::end::{End, Role};
use super::selector::Held;
use super::{ClientRule, Decision, Egress, FlowFacts, Policy, Seen, Service, Side, Target};
use crate::model::{Answer, Identity, Transport};
use dissect::Protection;

impl Policy {
    /// Whether this client may use this service, by who is at the ends alone.
    pub fn decide(&self, facts: &FlowFacts<'_>) -> Decision {
        self.decide_seen(facts, Seen::default())
    }

    /// Whether this client may use this service.
    ///
    /// Every service that the server end matches is asked, and every `[[client]]` that the client
    /// end matches. Of each kind, one that allows is enough; both kinds must agree.
    pub fn decide_seen(&self, facts: &FlowFacts<'_>, seen: Seen<'_>) -> Decision {
        let decision = self.ends(facts, seen);
        let Some(wire) = seen.facts.filter(|_| matches!(decision, Decision::Allowed { .. })) else {
            return decision;
        };
        let hidden = matches!(wire.protection, Protection::Encrypted(_));
        self.unseen_operations(facts, seen, hidden).unwrap_or(decision)
    }

    /// The same of a client that does nothing there, so that no role limits it.
    pub fn ends(&self, facts: &FlowFacts<'_>, seen: Seen<'_>) -> Decision {
        if self.is_empty() {
            return Decision::NoPolicy;
        }
        let (ingress, egress) = self.with_ends(facts, seen, |client, server| {
            let ingress = if self.services.is_empty() {
                Decision::NoPolicy
            } else {
                self.ingress(facts, client, server)
            };
            let egress =
                if self.egress.is_empty() { Decision::NoPolicy } else { self.egress(facts, client, server) };
            (ingress, egress)
        });
        match (ingress, egress) {
            (broken @ Decision::Unexpected { .. }, _) | (_, broken @ Decision::Unexpected { .. }) => broken,
            (unknown @ Decision::Unknown { .. }, _) | (_, unknown @ Decision::Unknown { .. }) => unknown,
            (Decision::NoPolicy, egress) => egress,
            (ingress, _) => ingress,
        }
    }

    /// Whether the policy has a service at this listening socket, for the rule `new-service`. An
    /// unspecified address serves on every one, so that it is inside every range.
    pub fn covers_service(
        &self,
        transport: Transport,
        address: IpAddr,
        port: u16,
        server: Option<&Identity>,
    ) -> Answer {
        let end = End::new(Role::Server, server, address, Seen::default());
        let groups = self.memberships(&end);
        let end = End { groups: &groups, ..end };
        let anywhere = end.address.is_unspecified();
        let best = self
            .service_candidates(&end, port)
            .map(|service| service.covers(transport, port, &end, anywhere))
            .max();
        match best {
            Some(Held::Yes) => Answer::Yes,
            Some(Held::Unknown) => Answer::Unknown,
            Some(Held::No) | None => Answer::No,
        }
    }

    /// Calls `with` with both ends, and the groups that they belong to.
    pub(super) fn with_ends<T>(
        &self,
        facts: &FlowFacts<'_>,
        seen: Seen<'_>,
        with: impl FnOnce(&End<'_>, &End<'_>) -> T,
    ) -> T {
        let client = End::new(Role::Client, facts.client, facts.client_address.ip(), seen);
        let server = End::new(Role::Server, facts.server, facts.server_address.ip(), seen);
        let (of_client, of_server) = (self.memberships(&client), self.memberships(&server));
        with(&End { groups: &of_client, ..client }, &End { groups: &of_server, ..server })
    }

    fn memberships(&self, end: &End<'_>) -> Vec<(u32, Held)> {
        let mut groups: Vec<(u32, Held)> = Vec::new();
        if self.members.is_empty() {
            return groups;
        }
        let candidates = self.member_index.candidates(end, 0);
        for index in candidates.into_iter().chain(self.member_index.unseen(end)) {
            let Some((member, group)) = self.members.get(index as usize) else { continue };
            let held = member.holds(end);
            if held == Held::No {
                continue;
            }
            match groups.binary_search_by_key(group, |(id, _)| *id) {
                Ok(at) => groups[at].1 = groups[at].1.max(held),
                Err(at) => groups.insert(at, (*group, held)),
            }
        }
        groups
    }

    /// Services that may be at this end, those that are sure to be found first.
    fn service_candidates<'a>(&'a self, server: &'a End<'a>, port: u16) -> impl Iterator<Item = &'a Service> {
        let found = self.service_index.candidates(server, port).into_iter();
        found.chain(self.service_index.unseen(server)).filter_map(|index| self.services.get(index as usize))
    }

    /// Services that this end is, or may be.
    pub(super) fn covering<'a>(
        &'a self,
        facts: &FlowFacts<'_>,
        server: &'a End<'a>,
    ) -> impl Iterator<Item = (&'a Service, Held)> {
        let (transport, port) = (facts.transport, facts.server_address.port());
        self.service_candidates(server, port).filter_map(move |service| {
            let held = service.covers(transport, port, server, false);
            (held != Held::No).then_some((service, held))
        })
    }

    fn ingress(&self, facts: &FlowFacts<'_>, client: &End<'_>, server: &End<'_>) -> Decision {
        let mut unexpected: Option<&Service> = None;
        let mut unknown: Option<(&Service, &End<'_>)> = None;
        for (service, covered) in self.covering(facts, server) {
            if covered == Held::Unknown {
                unknown = unknown.or(Some((service, server)));
                continue;
            }
            match service.allows(client) {
                (Held::Yes, Some(rule)) => {
                    return Decision::Allowed {
                        service: service.name.clone(),
                        rule: rule.text.clone(),
                        place: rule.place.clone(),
                    };
                }
                (Held::No, _) => unexpected = unexpected.or(Some(service)),
                _ => unknown = unknown.or(Some((service, client))),
            }
        }
        // What could not be seen might have allowed it: unknown goes before unexpected.
        if let Some((service, end)) = unknown {
            return Decision::Unknown { service: service.name.clone(), why: end.why() };
        }
        match unexpected {
            Some(service) => Decision::Unexpected {
                service: service.name.clone(),
                expected: service.expected.clone(),
                place: service.place.clone(),
                side: Side::Ingress,
                action: service.action,
            },
            None => Decision::NoPolicy,
        }
    }

    fn egress(&self, facts: &FlowFacts<'_>, client: &End<'_>, server: &End<'_>) -> Decision {
        let mut unexpected: Option<&Egress> = None;
        let mut unknown: Option<(&Egress, &End<'_>)> = None;
        let candidates = self.egress_index.candidates(client, 0).into_iter();
        for index in candidates.chain(self.egress_index.unseen(client)) {
            let Some(egress) = self.egress.get(index as usize) else { continue };
            match egress.client.holds(client) {
                Held::No => continue,
                Held::Unknown => {
                    unknown = unknown.or(Some((egress, client)));
                    continue;
                }
                Held::Yes => {}
            }
            match self.reaches(egress, facts, server) {
                (Held::Yes, Some(to)) => {
                    return Decision::Allowed {
                        service: egress.name.clone(),
                        rule: to.text.clone(),
                        place: to.place.clone(),
                    };
                }
                (Held::No, _) => unexpected = unexpected.or(Some(egress)),
                _ => unknown = unknown.or(Some((egress, server))),
            }
        }
        if let Some((egress, end)) = unknown {
            return Decision::Unknown { service: egress.name.clone(), why: end.why() };
        }
        match unexpected {
            Some(egress) => Decision::Unexpected {
                service: egress.name.clone(),
                expected: egress.expected.clone(),
                place: egress.place.clone(),
                side: Side::Egress,
                action: egress.action,
            },
            None => Decision::NoPolicy,
        }
    }

    fn reaches<'a>(
        &self,
        egress: &'a Egress,
        facts: &FlowFacts<'_>,
        server: &End<'_>,
    ) -> (Held, Option<&'a Target>) {
        let port = facts.server_address.port();
        let candidates = egress.to_index.candidates(server, port).into_iter();
        first_held(candidates, egress.to_index.unseen(server), |index| {
            let target = egress.to.get(index as usize)?;
            Some((self.is_target(target, facts, server), target))
        })
    }

    fn is_target(&self, target: &Target, facts: &FlowFacts<'_>, server: &End<'_>) -> Held {
        let port = facts.server_address.port();
        if target.transport.is_some_and(|wanted| wanted != facts.transport) || !target.ports.holds(port) {
            return Held::No;
        }
        let service = match target.service.and_then(|index| self.services.get(index as usize)) {
            Some(service) => service.covers(facts.transport, port, server, false),
            None => Held::Yes,
        };
        if service == Held::No { Held::No } else { service.min(target.server.holds(server)) }
    }
}

/// The first rule that holds for sure, else whether one may. What could not be seen is gone
/// through only until one may hold.
fn first_held<'a, T>(
    candidates: impl Iterator<Item = u32>,
    unseen: impl Iterator<Item = u32>,
    mut holds: impl FnMut(u32) -> Option<(Held, &'a T)>,
) -> (Held, Option<&'a T>) {
    let mut best = Held::No;
    for index in candidates {
        let Some((held, rule)) = holds(index) else { continue };
        if held == Held::Yes {
            return (Held::Yes, Some(rule));
        }
        best = best.max(held);
    }
    // They stand under what is not known, so that none of them holds for sure.
    for index in unseen {
        if best != Held::No {
            break;
        }
        if let Some((held, _)) = holds(index) {
            best = best.max(held);
        }
    }
    (best, None)
}

impl Service {
    /// `anywhere`: the address is that of a listener on every address.
    fn covers(&self, transport: Transport, port: u16, server: &End<'_>, anywhere: bool) -> Held {
        if self.transport.is_some_and(|wanted| wanted != transport) || !self.ports.holds(port) {
            return Held::No;
        }
        if anywhere { self.server.holds_anywhere(server) } else { self.server.holds(server) }
    }

    fn allows(&self, client: &End<'_>) -> (Held, Option<&ClientRule>) {
        let candidates = self.client_index.candidates(client, 0).into_iter();
        first_held(candidates, self.client_index.unseen(client), |index| {
            let rule = self.clients.get(index as usize)?;
            Some((rule.selector.holds(client), rule))
        })
    }

    /// Entries that may name this client, in any order.
    pub(super) fn client_candidates<'a>(&'a self, client: &'a End<'a>) -> impl Iterator<Item = u32> {
        self.client_index.candidates(client, 0).into_iter().chain(self.client_index.unseen(client))
    }
}

impl ClientRule {
    /// Selector and grants, for people.
    pub(super) fn with_grants(&self) -> Arc<str> {
        let Some(grants) = &self.grants else { return self.text.clone() };
        let grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
        format!("{} ({})", self.text, grants.join("; ")).into()
    }
}

impl End<'_> {
    /// Why something of it is not known, for people.
    fn why(&self) -> Arc<str> {
        let Some(identity) = self.identity.filter(|identity| identity.missing.is_some()) else {
            return match self.role {
                Role::Client => "what the policy asks of the client is not known (yet)".into(),
                Role::Server => "what the policy asks of the server is not known (yet)".into(),
            };
        };
        let name = identity.name.as_deref().unwrap_or("the process");
        let missing = identity.missing.as_deref().unwrap_or("not known");
        format!("{name}: {missing}").into()
    }
}
