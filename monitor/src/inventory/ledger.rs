//! Bytes by how they were protected: each payload byte counts once, under what its flow turned out to be.

use std::collections::HashMap;
use std::sync::Arc;

use dissect::Facts;

use super::ClassView;
use crate::posture::{Class, UNKNOWN};

/// Classes held apart; further ones are counted as unknown. There are far fewer, unless somebody plays.
const CLASSES: usize = 4096;

/// Sums a class.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Vec<(Class, u64)>,
    ids: HashMap<Class, u32>,
}

/// What one flow has in the ledger.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// What its class was made of; `None`: nothing is counted yet.
    facts: Option<Arc<Facts>>,
    class: u32,
    bytes: u64,
}

impl Ledger {
    /// Counts more bytes of a flow. Where its facts have changed, what it had counted moves along.
    pub fn count(&mut self, tally: &mut Tally, facts: &Arc<Facts>, more: u64) {
        if tally.facts.as_ref().is_none_or(|known| !Arc::ptr_eq(known, facts)) {
            let class = self.id(Class::of(facts));
            if class != tally.class && tally.facts.is_some() {
                self.add(tally.class, tally.bytes, false);
                self.add(class, tally.bytes, true);
            }
            tally.class = class;
            tally.facts = Some(facts.clone());
        }
        self.add(tally.class, more, true);
        tally.bytes += more;
    }

    fn id(&mut self, class: Class) -> u32 {
        if let Some(id) = self.ids.get(&class) {
            return *id;
        }
        let class = if self.rows.len() >= CLASSES {
            Class {
                version: UNKNOWN.into(),
                key_exchange: UNKNOWN.into(),
                cipher: UNKNOWN.into(),
                post_quantum: None,
            }
        } else {
            class
        };
        let next = self.rows.len() as u32;
        let id = *self.ids.entry(class.clone()).or_insert(next);
        if id == next {
            self.rows.push((class, 0));
        }
        id
    }

    fn add(&mut self, id: u32, bytes: u64, more: bool) {
        if let Some((_, sum)) = self.rows.get_mut(id as usize) {
            *sum = if more { sum.saturating_add(bytes) } else { sum.saturating_sub(bytes) };
        }
    }

    /// A row a class that has bytes.
    pub fn views(&self) -> Vec<ClassView> {
        let rows = self.rows.iter().filter(|(_, bytes)| *bytes > 0);
        rows.map(|(class, bytes)| ClassView::new(class, 0, *bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use dissect::UnknownReason;

    use super::*;
    use crate::posture::tests::tls;

    fn bytes(ledger: &Ledger, version: &str) -> u64 {
        ledger.views().iter().filter(|row| row.version == version).map(|row| row.bytes).sum()
    }

    #[test]
    fn bytes_move_with_what_a_flow_turns_out_to_be() {
        let mut ledger = Ledger::default();
        let (mut one, mut other) = (Tally::default(), Tally::default());
        let silent = Arc::new(Facts::unknown(UnknownReason::Silent));
        let modern = Arc::new(tls("1.3", "TLS_AES_256_GCM_SHA384", Some("x25519")));
        ledger.count(&mut one, &silent, 100);
        ledger.count(&mut other, &silent, 7);
        assert_eq!(bytes(&ledger, "unknown"), 107);
        ledger.count(&mut one, &modern, 11);
        ledger.count(&mut one, &modern, 1);
        assert_eq!((bytes(&ledger, "unknown"), bytes(&ledger, "TLS 1.3")), (7, 112));
        // The same again, in another place of memory.
        ledger.count(&mut one, &Arc::new((*modern).clone()), 0);
        assert_eq!((bytes(&ledger, "unknown"), bytes(&ledger, "TLS 1.3")), (7, 112));
    }

    #[test]
    fn classes_are_bounded() {
        let mut ledger = Ledger::default();
        for number in 0..2 * CLASSES {
            let facts = Arc::new(tls("1.3", &format!("0x{number:04x}"), None));
            ledger.count(&mut Tally::default(), &facts, 1);
        }
        assert!(ledger.rows.len() <= CLASSES + 1);
        assert_eq!(ledger.views().iter().map(|row| row.bytes).sum::<u64>(), 2 * CLASSES as u64);
    }
}
