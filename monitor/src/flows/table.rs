//! The table: one entry a live flow, bounded; and the last closed ones, for listings. When it is full, a
//! cgroup that holds more than its share gives up a flow.
//!
//! Flows lie in a [`Slab`]; what finds them (by key, by addresses, by socket) holds places, not keys.

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::closed::Closed;
use super::order::Order;
use super::peers::Peers;
use super::places::Places;
use super::shares::Shares;
use super::slab::{FlowId, FlowRead, FlowWrite, Slab};
use super::{Endpoint, Flow, FlowKey, FlowsReader, Scene, Space};
use crate::identity::Realm;
use crate::model::{FlowView, Reach, Transport, reach};

/// How many entries are looked at for one that can go.
const CANDIDATES: usize = 16;

/// A flow that was heard of within this time is more valuable than one that was not, ns.
const RECENT: u64 = 10_000_000_000;

/// Namespaces remembered whose loopback is used.
const LOOPBACKS: usize = 256;

pub type Addresses = (Transport, Endpoint, Endpoint, Space);

fn is_loopback(endpoint: Endpoint) -> bool {
    reach(endpoint.ip()) == Reach::Loopback
}

/// Live flows by key, and by their addresses.
pub struct Table {
    flows: Slab,
    state: RandomState,
    by_key: Places,
    by_addresses: Places,
    /// UDP flows by the cookie of their socket.
    by_cookie: Peers,
    /// Namespaces whose loopback addresses are in use.
    loopbacks: Vec<u64>,
    /// How much each cgroup has, and its flows in order of arrival.
    shares: Shares,
    order: Order,
    closed: Closed,
    capacity: usize,
    tcp: usize,
    /// Entries pushed out because the table was full.
    pub evicted: u64,
    /// Flows ever.
    pub seen: u64,
}

impl Table {
    pub fn new(capacity: usize, keep: usize) -> Self {
        Table {
            flows: Slab::default(),
            state: RandomState::default(),
            by_key: Places::default(),
            by_addresses: Places::default(),
            by_cookie: Peers::default(),
            loopbacks: Vec::new(),
            shares: Shares::default(),
            order: Order::default(),
            closed: Closed::new(keep),
            capacity,
            tcp: 0,
            evicted: 0,
            seen: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether one of them is a TCP connection.
    pub fn has_tcp(&self) -> bool {
        self.tcp > 0
    }

    /// Places that flows are or were in; see [`Table::each_in`].
    pub fn places(&self) -> usize {
        self.flows.places()
    }

    pub fn get(&self, id: FlowId) -> Option<FlowRead<'_>> {
        self.flows.get(id)
    }

    pub fn get_mut(&mut self, id: FlowId) -> Option<FlowWrite<'_>> {
        self.flows.get_mut(id)
    }

    /// The flow with this key.
    pub fn id(&self, key: &FlowKey) -> Option<FlowId> {
        let index = self
            .by_key
            .candidates(self.state.hash_one(key))
            .find(|index| self.flows.read_at(*index).is_some_and(|flow| flow.key() == *key))?;
        Some(self.flows.id_at(index))
    }

    /// The flow with this key, to be changed.
    pub fn find_mut(&mut self, key: &FlowKey) -> Option<(FlowId, FlowWrite<'_>)> {
        let id = self.id(key)?;
        Some((id, self.flows.get_mut(id)?))
    }

    pub fn ids(&self) -> Vec<FlowId> {
        let mut ids = Vec::with_capacity(self.len());
        self.each(|id, _| ids.push(id));
        ids
    }

    /// Looks at every flow.
    pub fn each(&self, each: impl FnMut(FlowId, &Flow)) {
        self.flows.each(0..self.places(), each);
    }

    /// Looks at the flows in some places: for walks over all of them in steps.
    pub fn each_in(&self, places: std::ops::Range<usize>, each: impl FnMut(FlowId, &Flow)) {
        self.flows.each(places, each);
    }

    /// Adds a flow; gives its place, and the one that had to go for it, with the place that it had.
    pub fn insert(&mut self, flow: Flow) -> (FlowId, Option<(FlowId, Flow)>) {
        let evicted = if self.len() >= self.capacity { self.evict(flow.last_ns()) } else { None };
        self.seen += 1;
        let (key, place, transport, cgroup) = (flow.key(), flow.addresses(), flow.transport, flow.cgroup);
        let id = self.flows.insert(flow);
        self.by_key.insert(self.state.hash_one(key), id.index);
        self.note_place(place, id.index);
        self.tcp += usize::from(transport == Transport::Tcp);
        if transport == Transport::Udp {
            let hash = self.state.hash_one(key.cookie);
            let head = self.by_cookie.head(hash, |index| index != id.index && self.is_of(index, key.cookie));
            self.by_cookie.insert(hash, head, id.index);
        }
        self.order.push_back(id.index, self.shares.add(cgroup));
        (id, evicted)
    }

    /// The least valuable entry of a cgroup that has more than its share: closed and old first, never one
    /// that was just heard of if another can be found.
    fn evict(&mut self, now_ns: u64) -> Option<(FlowId, Flow)> {
        let share = self.shares.victim()?;
        let mut last_resort = None;
        for _ in 0..CANDIDATES {
            let Some(index) = self.order.first(share) else { break };
            let id = self.flows.id_at(index);
            let Some(flow) = self.flows.get(id) else { break };
            if flow.is_over() || now_ns.saturating_sub(flow.last_ns()) > RECENT {
                last_resort = Some(id);
                break;
            }
            drop(flow);
            self.order.remove(index, share);
            self.order.push_back(index, share);
            last_resort.get_or_insert(id);
        }
        let id = last_resort?;
        let flow = self.remove(id)?;
        self.evicted += 1;
        Some((id, flow))
    }

    /// Takes a flow out.
    pub fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows.remove(id)?;
        let key = flow.key();
        self.tcp -= usize::from(flow.transport == Transport::Tcp);
        self.by_key.remove(self.state.hash_one(key), id.index);
        self.by_addresses.remove(self.state.hash_one(flow.addresses()), id.index);
        if flow.transport == Transport::Udp {
            self.by_cookie.remove(self.state.hash_one(key.cookie), id.index);
        }
        if let Some(share) = self.shares.of(&flow.cgroup) {
            self.shares.remove(share);
            self.order.remove(id.index, share);
        }
        Some(flow)
    }

    /// The addresses of a flow became known or changed (a connect chooses its port late).
    pub fn note_addresses(&mut self, id: FlowId, old: Addresses) {
        let Some(flow) = self.flows.get(id) else { return };
        let place = flow.addresses();
        drop(flow);
        if old != place {
            self.by_addresses.remove(self.state.hash_one(old), id.index);
            self.note_place(place, id.index);
        }
    }

    /// From now on what looks for this place finds this flow.
    fn note_place(&mut self, place: Addresses, index: u32) {
        let netns = if is_loopback(place.1) { place.3.netns() } else { 0 };
        if netns != 0 && !self.loopbacks.contains(&netns) && self.loopbacks.len() < LOOPBACKS {
            self.loopbacks.push(netns);
        }
        let hash = self.state.hash_one(place);
        let flows = &self.flows;
        let old = self
            .by_addresses
            .candidates(hash)
            .find(|old| *old != index && flows.read_at(*old).is_some_and(|flow| flow.addresses() == place));
        if let Some(old) = old {
            self.by_addresses.remove(hash, old);
        }
        self.by_addresses.insert(hash, index);
    }

    /// The flow at the other end of the same connection, where that is on this host: same
    /// addresses the other way round, in a network namespace of the same maker, and the opposite role. One that has its
    /// other end is nobody else's: in another network namespace there may be a connection with the same addresses.
    pub fn find_twin(&self, id: FlowId) -> Option<FlowId> {
        let flow = self.flows.get(id)?;
        let space = flow.space();
        drop(flow);
        self.find_twin_in(id, space)
    }

    /// The same, were it in that space.
    pub fn find_twin_in(&self, id: FlowId, space: Space) -> Option<FlowId> {
        let flow = self.flows.get(id)?;
        let places = self.places_of_other_end_in(&flow, space);
        drop(flow);
        let other = { places }.find_map(|place| self.find_at(place))?;
        if other == id {
            return None;
        }
        self.may_be_twins(id, other).then_some(other)
    }

    /// Whether two that have each other's addresses can be the two ends of one connection.
    pub fn may_be_twins(&self, id: FlowId, other: FlowId) -> bool {
        let (Some(flow), Some(twin)) = (self.flows.get(id), self.flows.get(other)) else { return false };
        let free = twin.twin.is_none_or(|third| third == id || self.flows.get(third).is_none());
        free && twin.may_be_twin_of(&flow)
    }

    /// The addresses that the flow at the other end of the same connection has, where that is on this host.
    pub fn places_of_other_end<'a>(&'a self, flow: &Flow) -> impl Iterator<Item = Addresses> + use<'a> {
        self.places_of_other_end_in(flow, flow.space())
    }

    fn places_of_other_end_in<'a>(
        &'a self,
        flow: &Flow,
        space: Space,
    ) -> impl Iterator<Item = Addresses> + use<'a> {
        let (transport, netns) = (flow.transport, flow.netns);
        let (remote, local) = flow.endpoints();
        // Accepted by a listener from before us: its namespace is not known, or the other's is not.
        let unsure = is_loopback(local);
        let all = if unsure && netns == 0 { &self.loopbacks[..] } else { &[] };
        let none = (unsure && netns != 0).then_some(0);
        let others = all.iter().copied().chain(none).filter_map(move |netns| space.in_realm(netns));
        std::iter::once(space).chain(others).map(move |space| (transport, local, remote, space))
    }

    /// The connection of root's, here or in a container, with these addresses of ours.
    pub fn find_of_root(&self, local: SocketAddr, remote: SocketAddr) -> Option<FlowId> {
        let space = Space::new(Some(Realm::ROOT), 0, false, 0);
        self.find_at((Transport::Tcp, local.into(), remote.into(), space))
    }

    fn find_at(&self, place: Addresses) -> Option<FlowId> {
        let index = self
            .by_addresses
            .candidates(self.state.hash_one(place))
            .find(|index| self.flows.read_at(*index).is_some_and(|flow| flow.addresses() == place))?;
        Some(self.flows.id_at(index))
    }

    /// The peers of a UDP socket.
    pub fn peers(&self, cookie: u64) -> Vec<FlowKey> {
        let Some(head) = self.by_cookie.head(self.state.hash_one(cookie), |index| self.is_of(index, cookie))
        else {
            return Vec::new();
        };
        let flows = self.by_cookie.ring(head).filter_map(|index| self.flows.read_at(index));
        flows.map(|flow| flow.key()).collect()
    }

    /// Whether a place has a flow of this UDP socket.
    fn is_of(&self, index: u32, cookie: u64) -> bool {
        self.flows
            .read_at(index)
            .is_some_and(|flow| flow.transport == Transport::Udp && flow.cookie() == cookie)
    }

    /// Keeps a closed flow for listings.
    pub fn keep_closed(&mut self, cgroup: u32, view: Arc<FlowView>) {
        self.closed.add(cgroup, view);
    }

    /// For listings, which read along.
    pub fn reader(&self, scene: Scene) -> FlowsReader {
        FlowsReader::new(self.flows.shared(), self.closed.all(), scene)
    }
}
