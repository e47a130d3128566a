//! The table: one entry a live flow, bounded; and the last closed ones, for listings.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Flow, FlowKey};
use crate::model::{FlowView, Reach, Transport, reach};

/// How many entries are looked at for one that can go.
const CANDIDATES: usize = 16;

/// A flow that was heard of within this time is more valuable than one that was not, ns.
const RECENT: u64 = 10_000_000_000;

/// Namespaces remembered whose loopback is used.
const LOOPBACKS: usize = 256;

pub type Addresses = (Transport, SocketAddr, SocketAddr, u64);

/// Live flows by key, and by their addresses.
pub struct Table {
    flows: HashMap<FlowKey, Flow>,
    by_addresses: HashMap<Addresses, FlowKey>,
    /// Namespaces whose loopback addresses are in use.
    loopbacks: Vec<u64>,
    /// Peers of a UDP socket.
    by_cookie: HashMap<u64, Vec<FlowKey>>,
    /// Keys in order of arrival; some are gone already.
    order: VecDeque<FlowKey>,
    closed: VecDeque<Arc<FlowView>>,
    capacity: usize,
    keep: usize,
    /// Entries pushed out because the table was full.
    pub evicted: u64,
    /// Flows ever.
    pub seen: u64,
}

/// Loopback addresses mean something in their own namespace only.
pub fn addresses(transport: Transport, local: SocketAddr, remote: SocketAddr, netns: u64) -> Addresses {
    let netns = if reach(local.ip()) == Reach::Loopback { netns } else { 0 };
    (transport, local, remote, netns)
}

impl Table {
    pub fn new(capacity: usize, keep: usize) -> Self {
        Table {
            flows: HashMap::new(),
            by_addresses: HashMap::new(),
            loopbacks: Vec::new(),
            by_cookie: HashMap::new(),
            order: VecDeque::new(),
            closed: VecDeque::new(),
            capacity,
            keep,
            evicted: 0,
            seen: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn get(&self, key: &FlowKey) -> Option<&Flow> {
        self.flows.get(key)
    }

    pub fn get_mut(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.flows.get_mut(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &FlowKey> {
        self.flows.keys()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.flows.values_mut()
    }

    /// Adds a flow; returns the one that had to go for it.
    pub fn insert(&mut self, flow: Flow) -> Option<Flow> {
        let key = flow.key;
        let evicted = if self.flows.len() >= self.capacity { self.evict(flow.last_ns) } else { None };
        self.seen += 1;
        let place = addresses(flow.transport, flow.local, flow.remote, flow.netns);
        self.by_addresses.insert(place, key);
        if place.3 != 0 && !self.loopbacks.contains(&place.3) && self.loopbacks.len() < LOOPBACKS {
            self.loopbacks.push(place.3);
        }
        if flow.transport == Transport::Udp {
            self.by_cookie.entry(key.cookie).or_default().push(key);
        }
        self.order.push_back(key);
        self.flows.insert(key, flow);
        if self.order.len() > 4 * self.capacity.max(1024) {
            let flows = &self.flows;
            self.order.retain(|key| flows.contains_key(key));
        }
        evicted
    }

    /// The least valuable entry: closed and old first, never one that was just heard of if another
    /// can be found.
    fn evict(&mut self, now_ns: u64) -> Option<Flow> {
        let mut last_resort = None;
        for _ in 0..CANDIDATES {
            let Some(key) = self.order.pop_front() else { break };
            let Some(flow) = self.flows.get(&key) else { continue };
            if flow.is_over() || now_ns.saturating_sub(flow.last_ns) > RECENT {
                last_resort = Some(key);
                break;
            }
            self.order.push_back(key);
            last_resort.get_or_insert(key);
        }
        let flow = self.remove(&last_resort?)?;
        self.evicted += 1;
        Some(flow)
    }

    /// Takes a flow out.
    pub fn remove(&mut self, key: &FlowKey) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        let place = addresses(flow.transport, flow.local, flow.remote, flow.netns);
        if self.by_addresses.get(&place) == Some(key) {
            self.by_addresses.remove(&place);
        }
        if flow.transport == Transport::Udp
            && let Some(list) = self.by_cookie.get_mut(&key.cookie)
        {
            list.retain(|other| other != key);
            if list.is_empty() {
                self.by_cookie.remove(&key.cookie);
            }
        }
        Some(flow)
    }

    /// The addresses of a flow became known or changed (a connect chooses its port late).
    pub fn note_addresses(&mut self, key: FlowKey) {
        if let Some(flow) = self.flows.get(&key) {
            self.by_addresses.insert(addresses(flow.transport, flow.local, flow.remote, flow.netns), key);
        }
    }

    /// The flow at the other end of the same connection, where that is on this host: same
    /// addresses the other way round, and the opposite role.
    pub fn find_twin(&self, key: &FlowKey) -> Option<FlowKey> {
        let flow = self.flows.get(key)?;
        let (transport, local, remote) = (flow.transport, flow.remote, flow.local);
        let mut other = self.find(transport, local, remote, flow.netns);
        if other.is_none() && reach(local.ip()) == Reach::Loopback {
            // Accepted by a listener from before us: its namespace is not known, or the other's is not.
            other = match flow.netns {
                0 => self.loopbacks.iter().find_map(|netns| self.find(transport, local, remote, *netns)),
                _ => self.find(transport, local, remote, 0),
            };
        }
        let other = other?;
        let twin = self.flows.get(&other)?;
        (other != *key && twin.direction != flow.direction).then_some(other)
    }

    /// The flow with these addresses of ours.
    pub fn find(
        &self,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        netns: u64,
    ) -> Option<FlowKey> {
        self.by_addresses.get(&addresses(transport, local, remote, netns)).copied()
    }

    /// The peers of a UDP socket.
    pub fn peers(&self, cookie: u64) -> Vec<FlowKey> {
        self.by_cookie.get(&cookie).cloned().unwrap_or_default()
    }

    /// Keeps a closed flow for listings.
    pub fn keep_closed(&mut self, view: Arc<FlowView>) {
        if self.keep == 0 {
            return;
        }
        if self.closed.len() >= self.keep {
            self.closed.pop_front();
        }
        self.closed.push_back(view);
    }

    pub fn closed(&self) -> impl Iterator<Item = &Arc<FlowView>> {
        self.closed.iter()
    }
}
