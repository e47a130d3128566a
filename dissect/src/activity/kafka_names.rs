//! Which topic of Kafka has which id, as brokers told their clients.
//!
//! A client asks one broker for the names and ids, and then reads and writes at another, or over another
//! connection to the same: so the names are shared by all connections that are read. Ids are random
//! numbers of 128 bits (KIP-516): two brokers that give one of them different names do not belong
//! together, or one of them lies, and then nobody's word counts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Topics that are remembered; the first to come is the first to go.
const TOPICS: usize = 8192;
/// `Topic.MAX_NAME_LENGTH` of Kafka.
const LONGEST: usize = 249;

pub(super) type TopicId = [u8; 16];

/// Shared by its clones. See the module.
#[derive(Clone, Debug, Default)]
pub struct TopicNames(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// `None`: it was given two.
    names: HashMap<TopicId, Option<Arc<str>>>,
    order: VecDeque<TopicId>,
}

/// What is known of an id.
pub(super) enum Known {
    As(Arc<str>),
    Ambiguous,
    Not,
}

impl TopicNames {
    pub(super) fn learn(&self, id: TopicId, name: &[u8]) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        // No topic has the nil id: a broker without ids sends it.
        if id == [0; 16] || name.is_empty() || name.len() > LONGEST {
            return;
        }
        let mut table = self.lock();
        if let Some(known) = table.names.get_mut(&id) {
            if known.as_deref().is_some_and(|known| known != name) {
                *known = None;
            }
            return;
        }
        if table.order.len() >= TOPICS
            && let Some(oldest) = table.order.pop_front()
        {
            table.names.remove(&oldest);
        }
        table.order.push_back(id);
        table.names.insert(id, Some(name.into()));
    }

    pub(super) fn of(&self, id: &TopicId) -> Known {
        match self.lock().names.get(id) {
            Some(Some(name)) => Known::As(Arc::clone(name)),
            Some(None) => Known::Ambiguous,
            None => Known::Not,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_are_none_and_the_table_is_bounded() {
        let names = TopicNames::default();
        let id = |number: u32| -> TopicId {
            let mut id = [1; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            id
        };
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
        assert_eq!(names.lock().names.len(), TOPICS);
        assert!(matches!(names.of(&id(1)), Known::Not));
    }
}
