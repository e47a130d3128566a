//! One flow against the policy.

use std::net::IpAddr;

use super::selector::Held;
use super::{Decision, FlowFacts, Policy, Service};
use crate::model::{Answer, Identity, Transport};

impl Policy {
    /// Whether this client may use this service.
    ///
    /// Every service that the server end matches is asked; one that allows the client is enough.
    /// Costs a look-up by port and the services that name it.
    pub fn decide(&self, facts: &FlowFacts<'_>) -> Decision {
        let server = (facts.server_address.ip(), facts.server_address.port(), facts.server);
        let mut unexpected: Option<&Service> = None;
        let mut unknown: Option<(&Service, Option<&Identity>)> = None;
        for service in self.candidates(server.1) {
            let covered = service.covers(facts.transport, server.0, server.1, server.2);
            if covered == Held::No {
                continue;
            }
            let mut allowed = Held::No;
            for client in &service.clients {
                let held = client.holds(facts.client, facts.client_address.ip());
                if held == Held::Yes && covered == Held::Yes {
                    return Decision::Allowed { service: service.name.clone(), rule: client.to_string() };
                }
                allowed = allowed.max(held);
            }
            match (covered, allowed) {
                (Held::Yes, Held::No) => unexpected = unexpected.or(Some(service)),
                (Held::Yes, _) => unknown = unknown.or(Some((service, facts.client))),
                _ => unknown = unknown.or(Some((service, facts.server))),
            }
        }
        // What could not be seen might have allowed it: unknown goes before unexpected.
        if let Some((service, end)) = unknown {
            let name = end.and_then(|identity| identity.name.as_deref()).unwrap_or("the process");
            let missing = end.and_then(|identity| identity.missing.as_deref()).unwrap_or("not known");
            return Decision::Unknown { service: service.name.clone(), why: format!("{name}: {missing}") };
        }
        match unexpected {
            Some(service) => {
                Decision::Unexpected { service: service.name.clone(), expected: service.expected() }
            }
            None => Decision::NoPolicy,
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
        let best =
            self.candidates(port).map(|service| service.covers(transport, address, port, server)).max();
        match best {
            Some(Held::Yes) => Answer::Yes,
            Some(Held::Unknown) => Answer::Unknown,
            Some(Held::No) | None => Answer::No,
        }
    }

    /// Services that may be at this port, in the order of the file.
    pub(super) fn candidates(&self, port: u16) -> impl Iterator<Item = &Service> {
        let listed = self.by_port.get(&port).map_or(&[][..], Vec::as_slice);
        let (mut listed, mut anywhere) = (listed.iter().peekable(), self.anywhere.iter().peekable());
        std::iter::from_fn(move || {
            let index = match (listed.peek(), anywhere.peek()) {
                (Some(a), Some(b)) if a < b => listed.next(),
                (_, Some(_)) => anywhere.next(),
                (_, None) => listed.next(),
            };
            index.and_then(|index| self.services.get(*index as usize))
        })
    }
}

impl Service {
    pub(super) fn covers(
        &self,
        transport: Transport,
        address: IpAddr,
        port: u16,
        server: Option<&Identity>,
    ) -> Held {
        if self.transport.is_some_and(|wanted| wanted != transport) || !self.ports.holds(port) {
            return Held::No;
        }
        if address.is_unspecified() && !self.server.address.is_empty() {
            let mut anywhere = self.server.clone();
            anywhere.address.clear();
            return anywhere.holds(server, address);
        }
        self.server.holds(server, address)
    }

    /// Who may be its client, for people.
    pub(super) fn expected(&self) -> String {
        const MOST_NAMED: usize = 4;
        let mut named: Vec<String> = self.clients.iter().take(MOST_NAMED).map(ToString::to_string).collect();
        if self.clients.len() > MOST_NAMED {
            named.push(format!("{} more", self.clients.len() - MOST_NAMED));
        }
        named.join(" or ")
    }
}
