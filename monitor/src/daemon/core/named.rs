//! Names from DNS answers, and what else the wire tells the policy.

use super::*;
use crate::names::{self, Asker};

/// Bytes of DNS messages that the kernel captures of each direction before it is told to go on.
const DNS_BUDGET: u32 = 8192;

impl Core {
    /// What the policy says of a flow, with what is known of it now.
    pub(super) fn decide(&self, flow: &Flow) -> crate::policy::Decision {
        let [(client, client_address), (server, server_address)] = flow.ends();
        let facts = FlowFacts {
            client: client.map(|identity| &**identity),
            client_address,
            server: server.map(|identity| &**identity),
            server_address,
            transport: flow.transport,
        };
        let wants = self.policy.wants();
        let named = |address: SocketAddr| match wants.names {
            true => self.names.of(flow.netns, address.ip(), flow.opened_ns),
            false => Vec::new(),
        };
        let (client_names, server_names) = (named(client_address), named(server_address));
        let seen = Seen {
            facts: wants.facts.then_some(&*flow.facts),
            client_names: &client_names,
            server_names: &server_names,
            names_complete: self.names.is_complete(flow.opened_ns),
        };
        self.policy.decide_seen(&facts, seen)
    }

    /// A datagram to or from a DNS server.
    pub(super) fn learn_names(&mut self, head: &CaptureHead, data: &[u8]) {
        let whole = head.payload_len as usize == data.len();
        if !self.policy.wants().names || head.transport != 17 || head.remote_port != names::PORT || !whole {
            return;
        }
        let asker = Asker {
            netns: head.netns,
            cookie: head.cookie,
            local_port: head.local_port,
            server: address(head.remote, head.remote_port),
        };
        if head.flags & capture_flag::SENT != 0 {
            self.names.asked(asker, data, head.at_ns);
        } else if self.names.answered(asker, data, head.at_ns) {
            // A socket may be used for many questions.
            let decision = Decision {
                action: decision::EXTEND,
                sent_limit: DNS_BUDGET,
                received_limit: DNS_BUDGET,
                ..Decision::default()
            };
            self.out.commands.push(Command::Decide { key: key_of_capture(head), decision });
        }
    }

    /// Whether what a settled flow still carries is wanted: answers of DNS servers.
    pub(super) fn is_listened_to(&self, flow: &Flow) -> bool {
        self.policy.wants().names && flow.transport == Transport::Udp && self.names.trusts(flow.remote)
    }

    /// What was decided rested on what the wire had told before.
    pub(super) fn decide_again(&mut self, key: FlowKey) {
        if !self.policy.wants().facts {
            return;
        }
        let Some(flow) = self.table.get(&key) else { return };
        if flow.decision.is_none() {
            return;
        }
        let decision = self.decide(flow);
        if let Some(flow) = self.table.get_mut(&key)
            && flow.decision.as_ref() != Some(&decision)
        {
            flow.undecide();
        }
    }
}
