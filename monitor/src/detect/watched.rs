//! What detectors remember of many at a time: bounded, and forgotten when nothing was added for a while.
//!
//! When it is full, a party that holds no less than the average gives up what it was heard of longest ago, so
//! that nobody makes the detectors blind to others; and that is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::hash::Hash;
use std::net::IpAddr;

use foldhash::quality::RandomState;

use crate::flows::Shares;
use crate::model::FlowView;

/// When something was added, ns; and the how manieth addition that was.
type Stamp = (u64, u64);

/// See the module.
#[derive(Debug)]
pub(super) struct Watched<K, V> {
    capacity: usize,
    keep_ns: u64,
    entries: HashMap<K, Entry<V>, RandomState>,
    /// All in order of time, and those of each share.
    order: BTreeMap<Stamp, K>,
    of_share: Vec<BTreeSet<Stamp>>,
    shares: Shares<String>,
    stamps: u64,
    made: u64,
    pushed_out: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    stamp: Stamp,
    share: u32,
}

/// How full such a table is, and what it had no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub capacity: usize,
    pub used: usize,
    /// Entries ever, and those that had to go for others before their time.
    pub made: u64,
    pub pushed_out: u64,
}

impl<K: Clone + Eq + Hash, V: Default> Watched<K, V> {
    /// `keep_ns`: an entry to which nothing was added for longer says nothing any more.
    pub fn new(capacity: usize, keep_ns: u64) -> Self {
        Watched {
            capacity,
            keep_ns,
            entries: HashMap::default(),
            order: BTreeMap::new(),
            of_share: Vec::new(),
            shares: Shares::default(),
            stamps: 0,
            made: 0,
            pushed_out: 0,
        }
    }

    pub fn fill(&self) -> Fill {
        let Watched { capacity, made, pushed_out, .. } = *self;
        Fill { capacity, used: self.entries.len(), made, pushed_out }
    }

    pub fn get(&self, key: &K, now_ns: u64) -> Option<&V> {
        let entry = self.entries.get(key)?;
        (now_ns.saturating_sub(entry.stamp.0) <= self.keep_ns).then_some(&entry.value)
    }

    /// What is to be added to; made where there is none, as one of this party's.
    pub fn add(&mut self, key: K, party: impl FnOnce() -> String, now_ns: u64) -> &mut V {
        self.expire(now_ns);
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            self.push_out();
        }
        self.stamps += 1;
        let stamp = (now_ns, self.stamps);
        let entry = match self.entries.entry(key) {
            hash_map::Entry::Occupied(held) => {
                let entry = held.into_mut();
                if let Some(key) = self.order.remove(&entry.stamp) {
                    self.order.insert(stamp, key);
                }
                if let Some(own) = self.of_share.get_mut(entry.share as usize) {
                    own.remove(&entry.stamp);
                    own.insert(stamp);
                }
                entry.stamp = stamp;
                entry
            }
            hash_map::Entry::Vacant(free) => {
                self.made += 1;
                let share = self.shares.add(party());
                if self.of_share.len() <= share as usize {
                    self.of_share.resize_with(share as usize + 1, BTreeSet::new);
                }
                if let Some(own) = self.of_share.get_mut(share as usize) {
                    own.insert(stamp);
                }
                self.order.insert(stamp, free.key().clone());
                free.insert(Entry { value: V::default(), stamp, share })
            }
        };
        &mut entry.value
    }

    fn expire(&mut self, now_ns: u64) {
        while let Some((stamp, _)) = self.order.first_key_value()
            && now_ns.saturating_sub(stamp.0) > self.keep_ns
        {
            let stamp = *stamp;
            self.remove(stamp);
        }
    }

    fn push_out(&mut self) {
        let victim = self.shares.victim().and_then(|share| self.of_share.get(share as usize));
        if let Some(stamp) = victim.and_then(|own| own.first().copied()) {
            self.pushed_out += 1;
            self.remove(stamp);
        }
    }

    fn remove(&mut self, stamp: Stamp) {
        let Some(entry) = self.order.remove(&stamp).and_then(|key| self.entries.remove(&key)) else { return };
        if let Some(own) = self.of_share.get_mut(entry.share as usize) {
            own.remove(&stamp);
        }
        self.shares.remove(entry.share);
    }
}

/// By whom places are shared: the client, by [`crate::model::Identity::party`]; elsewhere, the network that one
/// customer gets.
pub(super) fn party(flow: &FlowView) -> String {
    match (flow.client_identity(), flow.client().ip()) {
        (Some(identity), _) => identity.party(),
        (None, IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        (None, IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// Who does something again and again, by what it cannot change from one time to the next: neither the name that a
/// process gives itself nor, elsewhere, an address of the many that one customer has (RFC 6177).
pub(super) fn source(flow: &FlowView) -> String {
    match (flow.client_identity(), flow.client().ip()) {
        (None, IpAddr::V4(address)) => address.to_string(),
        _ => party(flow),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_noisy_party_pushes_out_its_own_and_that_is_counted() {
        let mut watched: Watched<u32, u32> = Watched::new(100, 1000);
        for key in 0..10 {
            *watched.add(key, || "quiet".into(), 0) += 1;
        }
        for key in 1_000..2_000 {
            watched.add(key, || "noisy".into(), u64::from(key) - 1_000);
        }
        assert!((0..10).all(|key| watched.get(&key, 999) == Some(&1)));
        assert_eq!(watched.fill(), Fill { capacity: 100, used: 100, made: 1_010, pushed_out: 910 });
        // Its latest are there.
        assert!((1_910..2_000).all(|key| watched.get(&key, 999).is_some()));
        assert!(watched.get(&1_909, 999).is_none());
    }

    #[test]
    fn what_is_over_makes_room_and_is_no_loss() {
        let mut watched: Watched<u32, u32> = Watched::new(10, 100);
        for key in 0..10 {
            watched.add(key, || "a".into(), 0);
        }
        watched.add(3, || "a".into(), 50);
        watched.add(77, || "b".into(), 101);
        assert_eq!(watched.fill(), Fill { capacity: 10, used: 2, made: 11, pushed_out: 0 });
        assert!(watched.get(&3, 101).is_some() && watched.get(&77, 101).is_some());
    }

    #[test]
    fn many_addresses_of_one_network_are_one_party() {
        let from = |client: &str| {
            let mut flow = crate::record::samples::flow();
            flow.direction = crate::model::Direction::Ingress;
            (flow.peer, flow.remote) = (None, client.parse().expect("an address"));
            party(&flow)
        };
        assert_eq!(from("10.1.2.3:4"), from("10.1.2.200:5"));
        assert_ne!(from("10.1.2.3:4"), from("10.1.3.3:4"));
        assert_eq!(from("[2001:db8:1:2:3::4]:5"), from("[2001:db8:1:2:ffff::1]:6"));
        assert_ne!(from("[2001:db8:1:2::4]:5"), from("[2001:db8:1:3::4]:5"));
    }

    proptest! {
        /// Whatever comes: it never holds more than it may, forgets nothing before its time without counting
        /// it, and whoever holds less than the average loses nothing.
        #[test]
        fn every_entry_is_held_or_over_or_counted(
            steps in proptest::collection::vec((0_u8..20, 0_u8..4, 0_u64..20), 1..300)
        ) {
            let mut watched: Watched<(u8, u8), u64> = Watched::new(12, 100);
            let mut truth: HashMap<(u8, u8), u64> = HashMap::new();
            let mut now = 0;
            for (key, party, later) in steps {
                now += later;
                truth.retain(|_, last| now - *last <= 100);
                let before = watched.fill();
                let held: Vec<(u8, u8)> = truth.keys().copied().collect();
                watched.add((party, key), || party.to_string(), now);
                truth.insert((party, key), now);
                let after = watched.fill();
                prop_assert!(after.used <= 12);
                if after.pushed_out > before.pushed_out {
                    let gone: Vec<(u8, u8)> =
                        held.iter().copied().filter(|key| watched.get(key, now).is_none()).collect();
                    prop_assert_eq!(gone.len(), 1);
                    let of = |party| held.iter().filter(|key| key.0 == party).count();
                    let parties = (0..4).filter(|party| of(*party) > 0).count();
                    prop_assert!(of(gone[0].0) * parties >= held.len());
                    truth.remove(&gone[0]);
                }
                prop_assert_eq!(after.used, truth.len());
                prop_assert_eq!(watched.order.len(), after.used);
                prop_assert_eq!(watched.of_share.iter().map(BTreeSet::len).sum::<usize>(), after.used);
            }
        }
    }
}
