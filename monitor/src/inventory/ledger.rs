//! Bytes by how they were protected: each payload byte counts once, under what its flow turned out to be.

use std::collections::HashMap;

use dissect::Facts;

use super::ClassView;
use crate::posture::{Class, UNKNOWN};

/// Classes held apart; further ones are counted as unknown. There are far fewer, unless somebody plays.
const CLASSES: usize = 4096;

/// Sums a class.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Vec<(Class, u64)>,
    ids: HashMap<Class, u16>,
}

/// Where the bytes of one flow are counted, if any are; and whether its facts have changed since. In two
/// bytes: there are many flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(u16);

impl Place {
    const LEFT: u16 = 1 << 15;

    fn row(row: u16) -> Place {
        Place(row + 1)
    }

    /// The row, and whether the flow may belong elsewhere by now.
    fn get(self) -> Option<(u16, bool)> {
        let row = (self.0 & !Place::LEFT).checked_sub(1)?;
        Some((row, self.0 & Place::LEFT != 0))
    }

    /// The facts of the flow have changed: it may belong elsewhere.
    pub fn leave(&mut self) {
        if self.0 != 0 {
            self.0 |= Place::LEFT;
        }
    }
}

const _: () = assert!(CLASSES + 2 < Place::LEFT as usize);

impl Ledger {
    /// Counts more bytes of a flow, that has counted `bytes` so far at its `place`. Where its facts have
    /// changed, what it had counted moves along.
    pub fn count(&mut self, place: &mut Place, bytes: u64, facts: &Facts, more: u64) {
        let row = match place.get() {
            Some((row, false)) => row,
            None => self.row(Class::of(facts)),
            Some((before, true)) => {
                let row = self.row(Class::of(facts));
                if row != before {
                    self.add(before, bytes, false);
                    self.add(row, bytes, true);
                }
                row
            }
        };
        *place = Place::row(row);
        self.add(row, more, true);
    }

    fn row(&mut self, class: Class) -> u16 {
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
        let next = self.rows.len() as u16;
        let id = *self.ids.entry(class.clone()).or_insert(next);
        if id == next {
            self.rows.push((class, 0));
        }
        id
    }

    fn add(&mut self, id: u16, bytes: u64, more: bool) {
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

    /// What a flow has counted, and where.
    #[derive(Default)]
    struct Counted {
        place: Place,
        bytes: u64,
    }

    impl Counted {
        fn count(&mut self, ledger: &mut Ledger, facts: &Facts, more: u64) {
            ledger.count(&mut self.place, self.bytes, facts, more);
            self.bytes += more;
        }
    }

    #[test]
    fn bytes_move_with_what_a_flow_turns_out_to_be() {
        let mut ledger = Ledger::default();
        let (mut one, mut other) = (Counted::default(), Counted::default());
        let silent = Facts::unknown(UnknownReason::Silent);
        let modern = tls("1.3", "TLS_AES_256_GCM_SHA384", Some("x25519"));
        one.count(&mut ledger, &silent, 100);
        other.count(&mut ledger, &silent, 7);
        assert_eq!(bytes(&ledger, "unknown"), 107);
        one.place.leave();
        one.count(&mut ledger, &modern, 11);
        one.count(&mut ledger, &modern, 1);
        assert_eq!((bytes(&ledger, "unknown"), bytes(&ledger, "TLS 1.3")), (7, 112));
        // Learned again, and the same.
        one.place.leave();
        one.place.leave();
        one.count(&mut ledger, &modern, 0);
        assert_eq!((bytes(&ledger, "unknown"), bytes(&ledger, "TLS 1.3")), (7, 112));
    }

    #[test]
    fn classes_are_bounded() {
        let mut ledger = Ledger::default();
        for number in 0..2 * CLASSES {
            let facts = tls("1.3", &format!("0x{number:04x}"), None);
            Counted::default().count(&mut ledger, &facts, 1);
        }
        assert!(ledger.rows.len() <= CLASSES + 1);
        assert_eq!(ledger.views().iter().map(|row| row.bytes).sum::<u64>(), 2 * CLASSES as u64);
    }
}
