//! How many records there are and their sum, as of one commit: so that a missing one is missed.

use super::record::Table;

pub const TABLE: &str = "sealed-ledger";
pub const KEY: &[u8] = b"ledger";

/// Tables there were before there was one of certificates.
const OLD_TABLES: usize = 4;

/// Of one commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Commits so far.
    pub sequence: u64,
    /// Records that were sealed by this file key.
    pub seals: u64,
    /// Records and the sum of their tags, by table in the order of [`Table::ALL`].
    pub(super) tables: [(u64, u128); Table::ALL.len()],
}

impl Ledger {
    /// A record was put in the place of another, or of none; or taken away.
    pub fn count(&mut self, table: Table, old: Option<u128>, new: Option<u128>) {
        let (count, sum) = &mut self.tables[table as usize];
        if let Some(old) = old {
            (*count, *sum) = (count.saturating_sub(1), sum.wrapping_sub(old));
        }
        if let Some(new) = new {
            (*count, *sum) = (*count + 1, sum.wrapping_add(new));
        }
    }

    pub fn records(&self, table: Table) -> u64 {
        self.tables[table as usize].0
    }

    /// The same records, whatever the commit.
    pub fn same_records(&self, other: &Ledger) -> bool {
        self.tables == other.tables
    }

    pub fn same_table(&self, other: &Ledger, table: Table) -> bool {
        self.tables[table as usize] == other.tables[table as usize]
    }

    /// Without the last table where it is empty: earlier versions know of four.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.seals.to_le_bytes());
        let known = if self.records(Table::Certificates) == 0 { OLD_TABLES } else { self.tables.len() };
        for (count, sum) in &self.tables[..known] {
            bytes.extend(count.to_le_bytes());
            bytes.extend(sum.to_le_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Ledger> {
        let mut rest = bytes;
        let mut ledger =
            Ledger { sequence: number(&mut rest)?, seals: number(&mut rest)?, ..Ledger::default() };
        for (at, table) in ledger.tables.iter_mut().enumerate() {
            if at == OLD_TABLES && rest.is_empty() {
                break;
            }
            let count = number(&mut rest)?;
            let (sum, after) = rest.split_first_chunk()?;
            rest = after;
            *table = (count, u128::from_le_bytes(*sum));
        }
        rest.is_empty().then_some(ledger)
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_as_they_come_and_go() {
        let mut ledger = Ledger { sequence: 3, seals: 7, ..Ledger::default() };
        ledger.count(Table::Told, None, Some(u128::MAX));
        ledger.count(Table::Told, None, Some(5));
        assert_eq!(ledger.records(Table::Told), 2);
        assert_eq!(Ledger::decode(&ledger.encode()), Some(ledger));
        assert_eq!(Ledger::decode(&ledger.encode()[1..]), None);
        let old = ledger.encode();
        ledger.count(Table::Certificates, None, Some(9));
        assert!(ledger.encode().len() > old.len());
        assert_eq!(Ledger::decode(&ledger.encode()), Some(ledger));
        ledger.count(Table::Certificates, Some(9), None);
        assert_eq!(ledger.encode(), old);
        ledger.count(Table::Told, Some(5), Some(6));
        ledger.count(Table::Told, Some(u128::MAX), None);
        ledger.count(Table::Told, Some(6), None);
        assert!(ledger.same_records(&Ledger::default()));
    }
}
