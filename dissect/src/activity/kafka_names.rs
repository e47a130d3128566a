//! Which topic of Kafka has which id, as a broker told its clients.
//!
//! A client asks for the names and ids over one connection, and reads and writes over another: so the names are shared
//! by all connections to that broker that are read. What another one says counts for nothing there: anybody may run one, and
//! have it call an id what they like. Where a broker gives one of them two names, nobody knows which holds.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Topics that are remembered: of the broker that has most, the first to come is the first to go.
const TOPICS: usize = 8192;
/// Brokers that have some: one more takes the place of the one that was asked least lately.
const BROKERS: usize = 256;
/// `Topic.MAX_NAME_LENGTH` of Kafka.
const LONGEST: usize = 249;

pub(super) type TopicId = [u8; 16];

/// A network namespace, by any number that tells it from others, and an address in it.
pub type Broker = (u64, SocketAddr);

/// Shared by its clones. See the module.
#[derive(Clone, Debug, Default)]
pub struct TopicNames {
    table: Arc<Mutex<Table>>,
    /// Whose names these are; `None`: of one that has no address.
    broker: Option<Broker>,
}

#[derive(Debug, Default)]
struct Table {
    brokers: HashMap<Option<Broker>, Told>,
    topics: usize,
    /// How often somebody asked.
    asked: u64,
}

/// What one broker told.
#[derive(Debug, Default)]
struct Told {
    /// `None`: it was given two.
    names: HashMap<TopicId, Option<Arc<str>>>,
    order: VecDeque<TopicId>,
    /// When that was asked for last.
    asked: u64,
}

/// What is known of an id.
pub(super) enum Known {
    As(Arc<str>),
    Ambiguous,
    Not,
}

impl TopicNames {
    /// Those that this broker tells.
    #[must_use]
    pub fn of_broker(&self, broker: Broker) -> TopicNames {
        TopicNames { table: Arc::clone(&self.table), broker: Some(broker) }
    }

    pub(super) fn learn(&self, id: TopicId, name: &[u8]) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        // No topic has the nil id: a broker without ids sends it.
        if id == [0; 16] || name.is_empty() || name.len() > LONGEST {
            return;
        }
        let mut table = self.lock();
        if let Some(known) = table.of(self.broker).and_then(|told| told.names.get_mut(&id)) {
            if known.as_deref().is_some_and(|known| known != name) {
                *known = None;
            }
            return;
        }
        table.add(self.broker, id, name);
    }

    pub(super) fn of(&self, id: &TopicId) -> Known {
        match self.lock().of(self.broker).and_then(|told| told.names.get(id)) {
            Some(Some(name)) => Known::As(Arc::clone(name)),
            Some(None) => Known::Ambiguous,
            None => Known::Not,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of(&mut self, broker: Option<Broker>) -> Option<&mut Told> {
        self.asked += 1;
        let told = self.brokers.get_mut(&broker)?;
        told.asked = self.asked;
        Some(told)
    }

    fn add(&mut self, broker: Option<Broker>, id: TopicId, name: &str) {
        if self.topics >= TOPICS
            && let Some(most) = self.brokers.values_mut().max_by_key(|told| told.order.len())
            && let Some(oldest) = most.order.pop_front()
        {
            most.names.remove(&oldest);
            self.topics -= 1;
        }
        if self.brokers.len() >= BROKERS && !self.brokers.contains_key(&broker) {
            let least = self.brokers.iter().min_by_key(|(_, told)| told.asked).map(|(broker, _)| *broker);
            let gone = least.and_then(|least| self.brokers.remove(&least));
            self.topics -= gone.map_or(0, |gone| gone.order.len());
        }
        let told = self.brokers.entry(broker).or_default();
        told.asked = self.asked;
        told.order.push_back(id);
        told.names.insert(id, Some(name.into()));
        self.topics += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> TopicId {
        let mut id = [1; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        id
    }

    fn broker(number: u16) -> Broker {
        (7, SocketAddr::from(([10, 0, 0, 1], number)))
    }

    #[test]
    fn two_names_are_none_and_the_table_is_bounded() {
        let names = TopicNames::default();
        names.learn(id(1), b"payments");
        names.clone().learn(id(1), b"payments");
        assert!(matches!(names.of(&id(1)), Known::As(name) if &*name == "payments"));
        names.learn(id(1), b"public");
        names.learn(id(1), b"payments");
        assert!(matches!(names.of(&id(1)), Known::Ambiguous));
        names.learn([0; 16], b"a");
        assert!(matches!(names.of(&[0; 16]), Known::Not));
        for number in 0..2 * TOPICS as u32 {
            names.learn(id(number), b"a");
        }
        assert_eq!(names.lock().topics, TOPICS);
        assert_eq!(names.lock().brokers.values().map(|told| told.names.len()).sum::<usize>(), TOPICS);
        assert!(matches!(names.of(&id(1)), Known::Not));
    }

    /// Who runs a broker of their own could have it say that what they write to is another topic.
    #[test]
    fn what_another_broker_says_of_an_id_counts_for_nothing() {
        let all = TopicNames::default();
        let (real, false_one) = (all.of_broker(broker(9092)), all.of_broker(broker(9999)));
        // At the same address of a namespace of their own.
        let elsewhere = all.of_broker((8, broker(9092).1));
        for names in [&false_one, &elsewhere] {
            names.learn(id(1), b"public");
        }
        assert!(matches!(real.of(&id(1)), Known::Not));
        real.learn(id(1), b"payments");
        assert!(matches!(real.clone().of(&id(1)), Known::As(name) if &*name == "payments"));
        // Nor does it push out what others said.
        for number in 0..2 * TOPICS as u32 {
            false_one.learn(id(number), b"a");
        }
        assert!(matches!(real.of(&id(1)), Known::As(_)));
        for number in 0..2 * BROKERS as u16 {
            all.of_broker(broker(number)).learn(id(2), b"a");
            assert!(matches!(real.of(&id(1)), Known::As(_)), "it is in use");
        }
        let table = real.lock();
        let held: usize = table.brokers.values().map(|told| told.order.len()).sum();
        assert_eq!((table.brokers.len(), table.topics), (BROKERS, held));
    }
}
