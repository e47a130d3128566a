//! Which rules may hold for an end, without asking every rule.
//!
//! Each rule stands under one of its conditions: the one that the fewest rules share, so that a
//! look-up finds few. Texts are found by hash; those with wildcards by what they begin or end with, or
//! have in them; addresses by prefix. What has no condition is asked always.

use rustc_hash::FxHashMap;

use super::end::{End, Field, Presence};
use super::selector::{Held, Ports, Selector};
use super::texts::{TextShares, Texts};

type Ids = Vec<u32>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Index {
    ports: FxHashMap<u16, Ids>,
    texts: Vec<Texts>,
    networks: Networks,
    groups: FxHashMap<u32, Ids>,
    /// Rules that have nothing to be found by.
    always: Ids,
}

/// Rules by address range.
#[derive(Clone, Debug, Default)]
struct Networks {
    /// Prefix lengths that occur, of IPv4 and of IPv6.
    v4: Vec<u8>,
    v6: Vec<u8>,
    by_v4: FxHashMap<(u8, u32), Ids>,
    by_v6: FxHashMap<(u8, u128), Ids>,
}

/// What a rule could stand under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Port,
    Text(usize),
    Address,
    Group,
}

impl Index {
    /// Rules by their position; a rule asks about a port where it has some.
    pub fn new<'a>(rules: impl Iterator<Item = (Option<&'a Ports>, &'a Selector)> + Clone) -> Index {
        let mut shared = Shares::default();
        rules.clone().for_each(|(ports, selector)| shared.add(ports, selector));
        let mut index = Index::default();
        for (id, (ports, selector)) in rules.enumerate() {
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            match shared.rarest(ports, selector) {
                None => index.always.push(id),
                Some(Key::Port) => {
                    for port in ports.and_then(Ports::listed).unwrap_or_default() {
                        index.ports.entry(port).or_default().push(id);
                    }
                }
                Some(Key::Address) => index.networks.add(selector, id),
                Some(Key::Group) => {
                    for group in &selector.groups {
                        index.groups.entry(group.id).or_default().push(id);
                    }
                }
                Some(Key::Text(at)) => {
                    if let Some((field, patterns)) = selector.texts.get(at) {
                        index.of_field(*field).add(patterns, &shared.texts, id);
                    }
                }
            }
        }
        index.networks.sort();
        index.texts.iter_mut().for_each(Texts::finish);
        index
    }

    /// Rules that may hold, ascending, each once.
    pub fn candidates(&self, end: &End<'_>, port: u16) -> Ids {
        let mut found = self.always.clone();
        found.extend(self.ports.get(&port).into_iter().flatten());
        for texts in &self.texts {
            end.each(texts.field, &mut |value| {
                texts.field.each_key(value, &mut |key| texts.find(key, &mut found));
            });
        }
        self.networks.find(end, &mut found);
        for (group, held) in end.groups {
            if *held == Held::Yes {
                found.extend(self.groups.get(group).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Rules that stand under something that could not be seen of this end: they may hold as well.
    pub fn unseen(&self, end: &End<'_>) -> impl Iterator<Item = u32> {
        let texts = self.texts.iter().filter(|texts| end.each(texts.field, &mut |_| {}) == Presence::Unseen);
        let groups = end.groups.iter().filter(|(_, held)| *held == Held::Unknown);
        let of_groups = groups.filter_map(|(group, _)| self.groups.get(group)).flatten();
        texts.flat_map(|texts| &texts.all).chain(of_groups).copied()
    }

    fn of_field(&mut self, field: Field) -> &mut Texts {
        let at = match self.texts.iter().position(|texts| texts.field == field) {
            Some(at) => at,
            None => {
                self.texts.push(Texts::new(field));
                self.texts.len() - 1
            }
        };
        &mut self.texts[at]
    }
}

impl Networks {
    fn add(&mut self, selector: &Selector, id: u32) {
        for range in &selector.address {
            match range {
                ipnet::IpNet::V4(range) => {
                    self.v4.push(range.prefix_len());
                    let key = (range.prefix_len(), range.network().to_bits());
                    self.by_v4.entry(key).or_default().push(id);
                }
                ipnet::IpNet::V6(range) => {
                    self.v6.push(range.prefix_len());
                    let key = (range.prefix_len(), range.network().to_bits());
                    self.by_v6.entry(key).or_default().push(id);
                }
            }
        }
    }

    fn sort(&mut self) {
        for lengths in [&mut self.v4, &mut self.v6] {
            lengths.sort_unstable();
            lengths.dedup();
        }
    }

    fn find(&self, end: &End<'_>, found: &mut Ids) {
        // An unspecified address serves on every one.
        if end.address.is_unspecified() {
            found.extend(self.by_v4.values().flatten());
            found.extend(self.by_v6.values().flatten());
            return;
        }
        match end.address {
            std::net::IpAddr::V4(address) => {
                for length in &self.v4 {
                    let masked =
                        address.to_bits() & u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                    found.extend(self.by_v4.get(&(*length, masked)).into_iter().flatten());
                }
            }
            std::net::IpAddr::V6(address) => {
                for length in &self.v6 {
                    let masked =
                        address.to_bits() & u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                    found.extend(self.by_v6.get(&(*length, masked)).into_iter().flatten());
                }
            }
        }
    }
}

/// How many rules share each condition.
#[derive(Default)]
struct Shares<'a> {
    ports: FxHashMap<u16, usize>,
    texts: TextShares<'a>,
    addresses: FxHashMap<ipnet::IpNet, usize>,
    groups: FxHashMap<u32, usize>,
}

impl<'a> Shares<'a> {
    fn add(&mut self, ports: Option<&Ports>, selector: &'a Selector) {
        for port in ports.and_then(Ports::listed).unwrap_or_default() {
            *self.ports.entry(port).or_default() += 1;
        }
        for (field, patterns) in &selector.texts {
            for pattern in patterns {
                self.texts.add(*field, pattern);
            }
        }
        for range in &selector.address {
            *self.addresses.entry(*range).or_default() += 1;
        }
        for group in &selector.groups {
            *self.groups.entry(group.id).or_default() += 1;
        }
    }

    fn rarest(&self, ports: Option<&Ports>, selector: &Selector) -> Option<Key> {
        let count = |shares: Option<&usize>| shares.copied().unwrap_or(usize::MAX);
        let mut best: Option<(usize, Key)> = None;
        let mut offer = |worst: usize, key: Key| {
            if best.is_none_or(|(shares, _)| worst < shares) {
                best = Some((worst, key));
            }
        };
        // Of equal ones the first: what costs least to look up, and is known soonest.
        if let Some(listed) = ports.and_then(Ports::listed) {
            offer(listed.iter().map(|port| count(self.ports.get(port))).max()?, Key::Port);
        }
        if !selector.groups.is_empty() {
            let shares = selector.groups.iter().map(|group| count(self.groups.get(&group.id))).max();
            offer(shares?, Key::Group);
        }
        for (at, (field, patterns)) in selector.texts.iter().enumerate() {
            let shares = |pattern| self.texts.of(*field, pattern);
            offer(patterns.iter().map(shares).max()?, Key::Text(at));
        }
        if !selector.address.is_empty() {
            // A range such as 0.0.0.0/0 is nobody's in particular.
            let wide = selector.address.iter().any(|range| range.prefix_len() < 8);
            let shares = selector.address.iter().map(|range| count(self.addresses.get(range))).max()?;
            offer(if wide { usize::MAX - 1 } else { shares }, Key::Address);
        }
        best.map(|(_, key)| key)
    }
}
