//! Sockets that have one connection after the other: `connect` again after one that failed, or after
//! `connect(AF_UNSPEC)`. The kernel knows the socket by the same cookie all along; each connection is a flow
//! of its own, under an id of its own.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use super::*;

/// Sockets remembered whose connections ended.
const ENDED: usize = 65_536;

/// When the last connection of a socket ended, and when that with a peer of a UDP socket began, CLOCK_MONOTONIC ns:
/// by a hash of the flow's key.
#[derive(Debug, Default)]
pub(super) struct EndedSockets {
    at_ns: HashMap<u64, u64, RandomState>,
    order: VecDeque<u64>,
}

impl EndedSockets {
    pub fn ended(&mut self, flow: &Flow) {
        let at_ns = match flow.transport {
            Transport::Tcp => flow.closed_ns().max(flow.opened_ns),
            Transport::Udp => flow.opened_ns,
        };
        let hash = self.hash(&flow.key());
        if self.at_ns.insert(hash, at_ns).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.at_ns.remove(&oldest);
        }
    }

    /// Whether a connection that began then is another one.
    fn before(&self, cookie: u64, opened_ns: u64) -> bool {
        let key = FlowKey { cookie, ..FlowKey::default() };
        self.at_ns.get(&self.hash(&key)).is_some_and(|closed_ns| *closed_ns <= opened_ns)
    }

    /// Whether what the kernel counts with a peer of a UDP socket since then was told to its end: it was read
    /// before that, and comes after it.
    pub fn has_told(&self, peer: &FlowKey, opened_ns: u64) -> bool {
        self.at_ns.get(&self.hash(peer)).is_some_and(|told_ns| opened_ns <= *told_ns)
    }

    fn hash(&self, key: &FlowKey) -> u64 {
        self.at_ns.hasher().hash_one(key)
    }
}

impl Core {
    /// Whether the socket of an event had another connection, which has left the table.
    pub(super) fn had_another(&self, event: &FlowEvent) -> bool {
        let opened_ns = began_ns(event);
        event.transport == 6
            && opened_ns != 0
            && (self.ended_sockets.before(event.cookie, opened_ns)
                || self.before.told_end_of(event.cookie, opened_ns, &self.boot_id))
    }

    /// Ends the flow of an event's socket where the event is about the connection after it: with what the kernel
    /// saw, if its owner is not known by now. False where it is about this one.
    pub(super) fn ended_for_another(&mut self, id: FlowId, event: &FlowEvent, now_ns: u64) -> bool {
        let Some(flow) = self.table.get(id) else { return false };
        let opened_ns = began_ns(event);
        let over = flow.is_over();
        let another = flow.transport == Transport::Tcp
            && match over {
                true => opened_ns != 0 && opened_ns >= flow.closed_ns(),
                // Nobody told its end.
                false => {
                    event.kind == Kind::Open as u8 && opened_ns > flow.last_ns() && !flow.seen.before_start
                }
            };
        if !another {
            return false;
        }
        let owner = flow.owner.is_none().then(|| unseen(&flow.process_seen()));
        let last_ns = flow.last_ns();
        drop(flow);
        if let Some(mut flow) = self.table.get_mut(id) {
            if let Some(owner) = owner {
                flow.set_owner(self.identities.get(owner));
            }
            flow.seen.end_concluded |= !over;
        }
        if !over {
            self.close(id, last_ns, FlowState::Closed);
        }
        // One that waits for its other end waits no longer.
        self.leave_unsure(id);
        self.advance_alone(id, now_ns);
        true
    }

    /// Whether an end is that of the connection before the one that its socket has now: it found the ring full, and
    /// comes late.
    pub(super) fn is_end_before(&self, event: &FlowEvent) -> bool {
        let opened_ns = began_ns(event);
        let flow = self.table.id(&key_of(event)).and_then(|id| self.table.get(id));
        flow.is_some_and(|flow| flow.marks.has(Marks::AGAIN) && opened_ns != 0 && opened_ns < flow.opened_ns)
    }

    /// That connection has been told to have ended. What it had beyond that is counted.
    pub(super) fn end_before(&mut self, event: &FlowEvent) {
        let mut flow = Flow::from_event(event, &mut self.judge);
        flow.realm = self.realm_of(&flow, event.at_ns);
        self.sums.make_up_end(&mut self.streams, &flow);
    }
}

/// When the connection of an event began; 0: not known.
fn began_ns(event: &FlowEvent) -> u64 {
    if event.flags & flow_flag::MIDSTREAM != 0 {
        return 0;
    }
    let begins = event.opened_ns == 0 && event.kind == Kind::Open as u8;
    // One whose SYN never left is told once, with when its socket was made.
    let never_left = event.flags & flow_flag::NOT_SENT != 0;
    if begins || never_left { event.at_ns } else { event.opened_ns }
}
