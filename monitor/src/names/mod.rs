//! Names of addresses, as the DNS answers that this host saw gave them.
//!
//! In: datagrams between this host's sockets and its DNS servers. Out: the names of an address at a
//! time. Pure: the clock is an argument. Reverse look-ups are never made: whoever owns an address
//! chooses what they say.
//!
//! An answer counts only if it came from a server that is trusted, to the socket that had asked, with
//! the number and the question that it had asked with, and only for sockets of the same network
//! namespace: a user who makes a namespace of their own, with a DNS server of their own in it, names
//! nothing outside. It must never panic or grow beyond its tables, whatever the bytes.

mod answer;
mod resolvers;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use answer::{Answer, Question, answer, question};
pub use resolvers::host_resolvers;

/// Names held, over all addresses.
pub const HELD: usize = 65_536;
/// Names of one address.
pub const MOST_OF_ONE: usize = 64;
/// Questions without an answer so far.
const MOST_PENDING: usize = 8192;
/// How long an answer may take, ns.
const PATIENCE: u64 = 10_000_000_000;
/// A program connects a moment after it asked, whatever the TTL, ns.
const SHORTEST: u64 = 30_000_000_000;
/// The longest TTL that counts, ns: a day.
const LONGEST: u64 = 86_400_000_000_000;
/// Programs may still use what they were told before names were looked at, ns.
const WARM_UP: u64 = 600_000_000_000;

/// The DNS port.
pub const PORT: u16 = 53;

/// Who asked whom: a socket, from one of its ports, in one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    pub netns: u64,
    pub cookie: u64,
    pub local_port: u16,
    pub server: SocketAddr,
}

#[derive(Debug)]
struct Named {
    name: Arc<str>,
    from_ns: u64,
    until_ns: u64,
}

/// The table of names.
#[derive(Debug, Default)]
pub struct Names {
    resolvers: HashSet<IpAddr>,
    pending: HashMap<(Asker, u16), (Question, u64)>,
    /// By network namespace and address.
    by_address: HashMap<(u64, IpAddr), Vec<Named>>,
    held: usize,
    /// When the first question was seen.
    began_ns: Option<u64>,
    refused_ns: Option<u64>,
    /// Answers that taught a name.
    pub learnt: u64,
    /// Names, and questions for them, that found their table full.
    pub refused: u64,
}

impl Names {
    /// Only answers of these servers count.
    pub fn new(resolvers: impl IntoIterator<Item = IpAddr>) -> Names {
        Names { resolvers: resolvers.into_iter().collect(), ..Names::default() }
    }

    /// Other servers count from now on; what was learnt stays.
    pub fn trust(&mut self, resolvers: impl IntoIterator<Item = IpAddr>) {
        self.resolvers = resolvers.into_iter().collect();
    }

    pub fn trusts(&self, server: SocketAddr) -> bool {
        server.port() == PORT && self.resolvers.contains(&server.ip().to_canonical())
    }

    pub fn len(&self) -> usize {
        self.held
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// A datagram to a DNS server.
    pub fn asked(&mut self, asker: Asker, datagram: &[u8], now_ns: u64) {
        if !self.trusts(asker.server) {
            return;
        }
        let Some((id, question)) = question(datagram) else { return };
        self.began_ns.get_or_insert(now_ns);
        if self.pending.len() >= MOST_PENDING {
            self.pending.retain(|_, (_, at_ns)| now_ns.saturating_sub(*at_ns) < PATIENCE);
        }
        if self.pending.len() < MOST_PENDING || self.pending.contains_key(&(asker, id)) {
            self.pending.insert((asker, id), (question, now_ns));
        } else {
            // Its answer will teach no name.
            self.refuse(now_ns);
        }
    }

    /// A datagram from a DNS server; true when it answered a question.
    pub fn answered(&mut self, asker: Asker, datagram: &[u8], now_ns: u64) -> bool {
        if !self.trusts(asker.server) {
            return false;
        }
        let Some(answer) = answer(datagram) else { return false };
        let key = (asker, answer.id);
        let fits = self.pending.get(&key).is_some_and(|(question, at_ns)| {
            *question == answer.question && now_ns.saturating_sub(*at_ns) < PATIENCE
        });
        if !fits {
            return false;
        }
        self.pending.remove(&key);
        let names: Vec<Arc<str>> = answer.names.iter().map(|name| Arc::from(name.as_str())).collect();
        for (address, ttl_s) in &answer.addresses {
            let until_ns =
                now_ns.saturating_add((u64::from(*ttl_s) * 1_000_000_000).clamp(SHORTEST, LONGEST));
            for name in &names {
                self.learn((asker.netns, *address), name, now_ns, until_ns);
            }
        }
        self.learnt += 1;
        true
    }

    fn learn(&mut self, key: (u64, IpAddr), name: &Arc<str>, now_ns: u64, until_ns: u64) {
        if let Some(named) = self.by_address.get_mut(&key)
            && let Some(known) = named.iter_mut().find(|known| known.name == *name)
        {
            if known.until_ns < now_ns {
                known.from_ns = now_ns;
            }
            known.until_ns = known.until_ns.max(until_ns);
            return;
        }
        if self.held >= HELD {
            self.forget(now_ns);
        }
        let of_one = self.by_address.get(&key).map_or(0, Vec::len);
        if self.held >= HELD || of_one >= MOST_OF_ONE {
            self.refuse(now_ns);
            return;
        }
        self.by_address.entry(key).or_default().push(Named { name: name.clone(), from_ns: now_ns, until_ns });
        self.held += 1;
    }

    fn refuse(&mut self, now_ns: u64) {
        self.refused += 1;
        self.refused_ns = Some(now_ns);
    }

    /// What has expired stays until its place is needed: flows that began while it held last longer.
    fn forget(&mut self, now_ns: u64) {
        self.by_address.retain(|_, named| {
            named.retain(|name| name.until_ns > now_ns);
            !named.is_empty()
        });
        self.held = self.by_address.values().map(Vec::len).sum();
    }

    /// Names of an address for a flow of this namespace that began at `at_ns`.
    pub fn of(&self, netns: u64, address: IpAddr, at_ns: u64) -> Vec<Arc<str>> {
        let named = self.by_address.get(&(netns, address.to_canonical()));
        let valid = named.into_iter().flatten();
        valid
            .filter(|name| name.from_ns <= at_ns && at_ns < name.until_ns)
            .map(|name| name.name.clone())
            .collect()
    }

    /// Whether an address without a name at that time has none: not soon after the first question was
    /// seen, not while no answer ever was, and not as long as a name that was refused may be missed.
    pub fn is_complete(&self, at_ns: u64) -> bool {
        self.learnt > 0
            && self.began_ns.is_some_and(|began_ns| at_ns.saturating_sub(began_ns) >= WARM_UP)
            && self.refused_ns.is_none_or(|then| at_ns.saturating_sub(then) >= LONGEST)
    }
}

#[cfg(test)]
pub(crate) mod tests;
