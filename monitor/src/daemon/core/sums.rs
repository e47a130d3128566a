//! Sums over connections: each payload byte counts once, in its stream and in the total.

use std::collections::{HashMap, VecDeque};

use dissect::{Facts, UnknownReason};
use foldhash::quality::RandomState;

use super::forgotten::{Before, Bytes, Forgotten, less, plus};
use super::pushed_out::{Counted, Keeps, Oldest, PushedOut};
use crate::flows::{Addresses, Flow, FlowKey, StreamId, Streams};
use crate::inventory::{Ledger, Place};
use crate::model::Direction;

/// What flows have added up to.
#[derive(Debug)]
pub struct Sums {
    /// Payload bytes of clients and of servers.
    pub bytes: (u64, u64),
    /// The same bytes by how they were protected.
    pub ledger: Ledger,
    /// Flows that were pushed out of the table: they may be heard of again, and so may their other ends.
    pushed_out: PushedOut,
    /// Flows that were pushed out.
    pub pushed: u64,
    /// Those that are no longer remembered one by one.
    pub forgotten: Forgotten,
    /// Flows that were counted and have ended, by their addresses: their other ends may be heard of later, when
    /// events were lost on the way.
    ended: HashMap<Addresses, Ended, RandomState>,
    ended_order: VecDeque<Addresses>,
}

/// The flow at the other end of a connection, where that is on this host.
#[derive(Clone, Debug)]
pub struct OtherEnd {
    pub is: Is,
    /// The addresses that it has, if it was pushed out.
    pub at: Vec<Addresses>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// Not in the table.
    Away,
    /// To be put into its stream.
    Waiting,
    /// In its stream.
    Counting,
    /// In none.
    Silent,
}

impl OtherEnd {
    /// Whether a flow is to count, whose other end this is: of two that may, the client's does.
    pub fn leaves_it_to(&self, flow: &Flow) -> bool {
        match self.is {
            Is::Away | Is::Silent => true,
            Is::Waiting => flow.direction == Direction::Egress,
            Is::Counting => false,
        }
    }
}

/// What a flow is held to have counted of which nobody knows how much was.
const ALL: Bytes = (u64::MAX, u64::MAX);

/// A flow that was counted and has ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    direction: Direction,
    began_ns: Option<u64>,
    closed_ns: u64,
    /// Bytes of client and server.
    counted: (u64, u64),
}

/// Ended flows remembered.
const ENDED: usize = 16_384;

impl Sums {
    /// Remembers up to `capacity` flows that were pushed out, and the sums of so many groups of those before.
    pub fn new(capacity: usize, groups: usize) -> Self {
        Sums {
            bytes: (0, 0),
            ledger: Ledger::default(),
            pushed_out: PushedOut::new(capacity),
            pushed: 0,
            forgotten: Forgotten::new(groups),
            ended: HashMap::default(),
            ended_order: VecDeque::new(),
        }
    }

    /// Puts a flow into its stream, once. With both ends on this host one of them counts: the client's, unless the
    /// other one was counted before that was heard of. What the sums hold of the connection goes from one end to the
    /// other with that. Gives what they hold of it besides what the other end knows of, where that one counts.
    pub fn assign(&mut self, streams: &mut Streams, flow: &mut Flow, other: &OtherEnd) -> Option<Bytes> {
        if flow.assigned {
            return None;
        }
        flow.assigned = true;
        let counts = other.leaves_it_to(flow);
        let taken = if counts { self.pushed_out.take_other_end(flow, &other.at) } else { None };
        let ended = if counts && taken.is_none() { self.other_end_counted(flow) } else { None };
        let of_other = taken.map(|counted| counted.bytes).or(ended);
        // Where the other end counts, it does so of all.
        let rest = if counts { less(flow.countable(), of_other.unwrap_or_default()) } else { (0, 0) };
        let before = self.before(flow, rest);
        if let Before::Unsure(Some(missing)) = before {
            self.make_up(streams, flow, missing);
        }
        if !counts {
            return self.leave_to_other_end(flow, other.is, before);
        }
        if let Some(counted) = taken {
            flow.in_ledger = counted.place;
        }
        flow.accounted = match (before, of_other) {
            (Before::Counted(own), of_other) => plus(own, of_other.unwrap_or_default()),
            // What it has by now is left to its group.
            (Before::Unsure(_), of_other) => plus(of_other.unwrap_or_default(), rest),
            (Before::Elsewhere, None) => ALL,
            (Before::Never | Before::Elsewhere, of_other) => of_other.unwrap_or_default(),
        };
        if ended.is_some() || flow.accounted == ALL {
            return None;
        }
        let id = streams.of(flow);
        flow.stream = Some(id);
        if let Some(stream) = streams.get_mut(id) {
            stream.flows += u64::from(before == Before::Never && taken.is_none());
            stream.open += 1;
        }
        streams.learn(id, flow);
        None
    }

    /// A flow does not count, since its other end does, or will.
    fn leave_to_other_end(&mut self, flow: &Flow, other: Is, before: Before) -> Option<Bytes> {
        let Before::Counted(bytes) = before else { return None };
        if other == Is::Counting {
            return Some(bytes);
        }
        let oldest =
            self.pushed_out.add(flow, flow.began_ns(), Some(Counted { bytes, place: flow.in_ledger }));
        self.forget(oldest);
        None
    }

    /// What the sums hold of a flow that was pushed out, if it was. `rest`: what they may lack of it.
    fn before(&mut self, flow: &mut Flow, rest: Bytes) -> Before {
        match self.pushed_out.take(&flow.key()) {
            Some(Some(Counted { bytes, place })) => {
                // It is what it was, until its bytes say otherwise.
                flow.in_ledger = place;
                Before::Counted(bytes)
            }
            Some(None) => Before::Elsewhere,
            None if flow.seen.pushed_out => self.forgotten.heard(self.pushed_out.hash(&flow.key()), rest),
            None => Before::Never,
        }
    }

    /// What the sums do not hold yet of a flow that is in no stream yet.
    pub fn uncounted(&self, flow: &Flow, other: &OtherEnd) -> Bytes {
        let own = self.pushed_out.of(&flow.key()).flatten().unwrap_or_default();
        let of_other = self.pushed_out.of_other_end(flow, &other.at).or_else(|| self.other_end_counted(flow));
        less(flow.countable(), plus(own, of_other.unwrap_or_default()))
    }

    /// Counts what flows had that nobody can tell apart, under nobody's name.
    fn make_up(&mut self, streams: &mut Streams, flow: &Flow, missing: (u64, u64)) {
        let id = streams.others(flow);
        if let Some(stream) = streams.get_mut(id) {
            stream.client_bytes += missing.0;
            stream.server_bytes += missing.1;
        }
        self.bytes.0 += missing.0;
        self.bytes.1 += missing.1;
        let unknown = Facts::unknown(UnknownReason::Silent);
        self.ledger.count(&mut Place::default(), 0, &unknown, missing.0 + missing.1);
    }

    /// The end of a flow is heard of after it was taken to have ended: counts what it had that had not been counted
    /// by then.
    pub fn make_up_end(&mut self, streams: &mut Streams, flow: &Flow) {
        let began = Some(flow.opened_ns);
        // It may have ended before it was known whose its network namespace is.
        let places = [flow.realm, None].map(|realm| flow.addresses_in(flow.space_of(realm)));
        let is_it = |place: &&Addresses| self.ended.get(place).is_some_and(|ended| ended.began_ns == began);
        let Some(ended) = places.iter().find(is_it).and_then(|place| self.ended.get_mut(place)) else {
            return;
        };
        let ((client, server), counted) = (flow.countable(), ended.counted);
        ended.counted = (client.max(counted.0), server.max(counted.1));
        let missing = (client.saturating_sub(counted.0), server.saturating_sub(counted.1));
        self.make_up(streams, flow, missing);
    }

    /// Adds what the flow has counted since the last time.
    pub fn account(&mut self, streams: &mut Streams, flow: &mut Flow, changed: bool) {
        let Some(id) = flow.stream else { return };
        let Some(stream) = streams.get_mut(id) else { return };
        let (client, server) = flow.countable();
        let more = (client.saturating_sub(flow.accounted.0), server.saturating_sub(flow.accounted.1));
        stream.client_bytes += more.0;
        stream.server_bytes += more.1;
        self.bytes.0 += more.0;
        self.bytes.1 += more.1;
        let counted = flow.accounted.0 + flow.accounted.1;
        self.ledger.count(&mut flow.in_ledger, counted, &flow.facts, more.0 + more.1);
        flow.accounted = (client.max(flow.accounted.0), server.max(flow.accounted.1));
        stream.last_ns = stream.last_ns.max(flow.last_ns());
        if changed {
            streams.learn(id, flow);
        }
    }

    /// What was counted of this connection at its other end, where that has ended since.
    fn other_end_counted(&self, flow: &Flow) -> Option<(u64, u64)> {
        let (local, remote) = flow.endpoints();
        let other = self.ended.get(&(flow.transport, remote, local, flow.space()))?;
        let in_order = match flow.direction {
            Direction::Egress => Flow::is_in_order(flow.began_ns(), other.began_ns),
            Direction::Ingress => Flow::is_in_order(other.began_ns, flow.began_ns()),
        };
        let same = other.direction != flow.direction && in_order && other.closed_ns >= flow.opened_ns;
        same.then_some(other.counted)
    }

    /// A flow that does not count has ended, and so has its other end, which does. What that end cannot have
    /// counted is counted here: the two were no ends of one connection, or the last of it was never acknowledged.
    /// Gives the stream where there is such.
    pub fn make_good(&mut self, streams: &mut Streams, flow: &mut Flow) -> Option<StreamId> {
        let ((client, server), counted) = (flow.countable(), flow.accounted);
        // What had been counted of one from before is not known here.
        let known = !flow.seen.before_start;
        if flow.stream.is_some() || !known || (client <= counted.0 && server <= counted.1) {
            return None;
        }
        flow.stream = Some(streams.of(flow));
        self.account(streams, flow, true);
        flow.stream
    }

    /// A flow has ended.
    pub fn end(&mut self, flow: &Flow) {
        self.pushed_out.end(&flow.key(), Keeps::Counted);
        if flow.stream.is_none() {
            return;
        }
        if self.ended_order.len() >= ENDED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        let own = flow.addresses();
        self.ended_order.push_back(own);
        let ended = Ended {
            direction: flow.direction,
            began_ns: flow.began_ns(),
            closed_ns: flow.last_ns(),
            counted: flow.accounted,
        };
        self.ended.insert(own, ended);
    }

    /// Whether a flow that is heard of was pushed out before, or may have been.
    pub fn was_pushed_out(&self, key: &FlowKey) -> bool {
        self.pushed_out.of(key).is_some() || self.forgotten.may_hold(self.pushed_out.hash(key))
    }

    /// Whether so many bytes of a flow that was pushed out are counted, here or at its other end.
    pub fn has_all(&self, key: &FlowKey, bytes: u64) -> bool {
        self.pushed_out.of(key).is_some_and(|counted| {
            counted.is_none_or(|(client, server)| client.saturating_add(server) >= bytes)
        })
    }

    /// A flow begins anew under a key that another one had: it has counted nothing.
    pub fn begin(&mut self, key: &FlowKey) {
        self.pushed_out.end(key, Keeps::Nothing);
    }

    /// A flow was pushed out of the table while it lived. When it began is not known of it any more.
    pub fn push_out(&mut self, flow: &Flow, began_ns: Option<u64>, other: Is) {
        self.pushed += 1;
        // Also what its other end had counted that has ended: it may go beyond that.
        let known = flow.stream.is_some() || other == Is::Away && flow.accounted != ALL;
        let counted = known.then_some(Counted { bytes: flow.accounted, place: flow.in_ledger });
        let oldest = self.pushed_out.add(flow, began_ns, counted);
        self.forget(oldest);
    }

    fn forget(&mut self, oldest: Option<Oldest>) {
        if let Some((hash, counted)) = oldest {
            self.forgotten.forget(hash, counted);
        }
    }
}
