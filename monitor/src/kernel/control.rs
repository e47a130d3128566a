//! The maps beside the ring: decisions down, totals and losses up.

use aya::maps::{HashMap, Map, MapError, PerCpuArray};
use monitor_common::{Counters, Decision, FlowEvent, KINDS, Plain, Secret, UdpFlow, UdpKey};

use super::journal::LateTold;
use super::load::{LoadError, Owned};

type Bytes<const N: usize> = [u8; N];
const DECISION: usize = size_of::<Decision>();
const FLOW: usize = size_of::<FlowEvent>();
const UDP_KEY: usize = size_of::<UdpKey>();
const UDP_FLOW: usize = size_of::<UdpFlow>();
const COUNTERS: usize = size_of::<Counters>();

/// The counters of all processors, added up.
pub type Snapshot = Counters;

/// Totals of one peer of a UDP socket.
pub type UdpTotals = UdpFlow;

/// The maps. One thread holds it.
pub struct Control {
    decisions: HashMap<Owned, u64, Bytes<DECISION>>,
    overflow: HashMap<Owned, u64, Bytes<FLOW>>,
    overflow_capacity: usize,
    udp: HashMap<Owned, Bytes<UDP_KEY>, Bytes<UDP_FLOW>>,
    counters: PerCpuArray<Owned, Bytes<COUNTERS>>,
    late_told: LateTold,
    secret: Secret,
}

impl Control {
    pub(super) fn new(
        decisions: Map,
        overflow: Map,
        udp: Map,
        counters: Map,
        late_told: LateTold,
        secret: Secret,
    ) -> Result<Self, LoadError> {
        let Map::HashMap(entries) = &overflow else { return Err(LoadError::Map("OVERFLOW".to_owned())) };
        let overflow_capacity = entries.info()?.max_entries() as usize;
        Ok(Control {
            overflow_capacity,
            decisions: HashMap::try_from(decisions)?,
            overflow: HashMap::try_from(overflow)?,
            udp: HashMap::try_from(udp)?,
            counters: PerCpuArray::try_from(counters)?,
            late_told,
            secret,
        })
    }

    /// Under which key a decision waits for a flow.
    pub fn decision_key(&self, flow: &UdpKey) -> u64 {
        flow.decision_key(&self.secret)
    }

    /// Tells the programs what is wanted of a flow, by that key; false when the table of decisions is full.
    pub fn decide(&mut self, key: u64, decision: Decision) -> bool {
        self.decisions.insert(key, to_array::<DECISION>(decision.as_bytes()), 0).is_ok()
    }

    /// Takes back every decision that waits.
    pub fn forget_decisions(&mut self) {
        let keys: Vec<u64> = self.decisions.keys().filter_map(Result::ok).collect();
        for key in keys {
            let _ = self.decisions.remove(&key);
        }
    }

    /// The close events that found the ring full, by their place in the table. They stay there until they
    /// are forgotten: whoever reads them may be killed before they are told.
    pub fn overflow(&self) -> impl Iterator<Item = (u64, FlowEvent)> {
        let entries = self.overflow.iter().filter_map(Result::ok);
        entries
            .filter_map(|(key, bytes)| Some((key, FlowEvent::read_from(&bytes)?)))
            // Not whole yet: the next round takes it.
            .filter(|(_, event)| event.kind != 0)
    }

    /// Frees the place of one, unless another has taken it.
    pub fn forget_overflow(&mut self, key: u64, at_ns: u64) {
        let now = self.overflow.get(&key, 0).ok().and_then(|bytes| FlowEvent::read_from(&bytes));
        if now.is_some_and(|now| now.at_ns == at_ns) {
            let _ = self.overflow.remove(&key);
        }
    }

    /// How many rounds of them the worker has told.
    pub fn late_told(&self) -> u64 {
        self.late_told.rounds()
    }

    /// So many of them made room for others before they were told: lost, where their worker is killed.
    pub fn set_late_untold(&self, ends: u64) {
        self.late_told.set_untold(ends);
    }

    /// Another worker begins, and counts its rounds anew.
    pub fn begin(&self) {
        self.late_told.reset();
    }

    /// How many it holds.
    pub fn overflow_capacity(&self) -> usize {
        self.overflow_capacity
    }

    /// Every peer of a UDP socket that is counted.
    pub fn udp_peers(&self) -> Vec<UdpKey> {
        self.udp.keys().filter_map(Result::ok).filter_map(|key| UdpKey::read_from(&key)).collect()
    }

    /// Totals of one peer of a UDP socket.
    pub fn udp(&self, key: &UdpKey) -> Option<UdpTotals> {
        let bytes = self.udp.get(&to_array::<UDP_KEY>(key.as_bytes()), 0).ok()?;
        UdpFlow::read_from(&bytes)
    }

    /// Ends a UDP flow: its last totals, and its place in the table is free.
    pub fn end_udp(&mut self, key: &UdpKey) -> Option<UdpTotals> {
        let totals = self.udp(key);
        let _ = self.udp.remove(&to_array::<UDP_KEY>(key.as_bytes()));
        totals
    }

    /// The counters of all processors, added up.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Snapshot, MapError> {
        let mut sum = Counters::default();
        for bytes in self.counters.get(&0, 0)?.iter() {
            if let Some(one) = Counters::read_from(bytes) {
                add(&mut sum, &one);
            }
        }
        Ok(sum)
    }
}

fn add(sum: &mut Counters, one: &Counters) {
    for kind in 0..KINDS {
        sum.offered[kind] += one.offered[kind];
        sum.lost[kind] += one.lost[kind];
    }
    sum.lost_bytes += one.lost_bytes;
    sum.rescued += one.rescued;
    sum.overflow_full += one.overflow_full;
    sum.storage_refused += one.storage_refused;
    sum.udp_untracked_packets += one.udp_untracked_packets;
    sum.udp_untracked_bytes += one.udp_untracked_bytes;
    for (total, more) in sum.totals.iter_mut().zip(one.totals) {
        *total += more;
    }
}

fn to_array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
