//! Records as they stand in the files: sealed by themselves, bound to their place, under names that say
//! nothing.
//!
//! `version (1) | key id (8) | nonce (12) | ciphertext | tag (16)`.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::ledger::{self, Ledger};
use super::limits::{LONGEST, Room, Rooms};
use crate::keys::{Key, KeyError, Tag, open, seal};

const VERSION: u8 = 1;
const HEAD: usize = 9;

/// What sealing adds: that head, a nonce, and the cipher's tag.
const SEALING: usize = HEAD + 12 + 16;

/// The kinds of records, each in a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Open alerts by key, as JSON.
    Open,
    /// What was told by cursor, as JSON.
    Told,
    /// Silences by id, as JSON.
    Silences,
    /// The past traffic of streams by name, as `detect::traffic` encodes it.
    Baselines,
    /// Certificates that an audit saw by service, as JSON: in a file of its own.
    Certificates,
}

impl Table {
    pub const ALL: [Table; 5] =
        [Table::Open, Table::Told, Table::Silences, Table::Baselines, Table::Certificates];

    /// In the database.
    pub fn name(self) -> &'static str {
        match self {
            Table::Open => "sealed-open",
            Table::Told => "sealed-told",
            Table::Silences => "sealed-silences",
            Table::Baselines => "sealed-baselines",
            Table::Certificates => "sealed-certificates",
        }
    }

    /// What its records are, for people.
    pub fn what(self) -> &'static str {
        match self {
            Table::Open => "open alerts",
            Table::Told => "alerts told",
            Table::Silences => "silences",
            Table::Baselines => "baselines",
            Table::Certificates => "services' certificates",
        }
    }
}

/// Where a record is: its table, and its name as a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub table: Table,
    pub key: Tag,
}

/// Seals and opens records of one file key.
#[derive(Clone, Debug)]
pub struct Sealer {
    id: [u8; 8],
    records: Key,
    names: Key,
}

impl Sealer {
    pub fn new(file_key: &Key) -> Sealer {
        let names = file_key.derive("names");
        let mut id = [0; 8];
        id.copy_from_slice(&names.tag(&[b"id"])[..8]);
        Sealer { id, records: file_key.derive("records"), names }
    }

    pub fn address(&self, table: Table, name: &[u8]) -> Address {
        Address { table, key: self.names.tag(&[table.name().as_bytes(), name]) }
    }

    /// HMAC of something that is no record.
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        self.names.tag(parts)
    }

    /// `plain` is [`named`].
    pub fn seal(&self, address: &Address, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.seal_in(address.table.name(), &address.key, plain)
    }

    /// `None`: not of this key, not of this place, or damaged.
    pub fn open(&self, address: &Address, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open_in(address.table.name(), &address.key, sealed)
    }

    pub fn seal_ledger(&self, ledger: &Ledger) -> Result<Vec<u8>, KeyError> {
        self.seal_in(ledger::TABLE, ledger::KEY, &ledger.encode())
    }

    /// Whether something was sealed by this key, as it says itself; it may be damaged.
    pub fn made(&self, sealed: &[u8]) -> bool {
        sealed.get(1..HEAD) == Some(&self.id[..])
    }

    pub fn open_ledger(&self, sealed: &[u8]) -> Option<Ledger> {
        Ledger::decode(&self.open_in(ledger::TABLE, ledger::KEY, sealed)?)
    }

    fn seal_in(&self, table: &str, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let sealed = seal(&self.records, &self.context(table, key), plain)?;
        Ok([&[VERSION], &self.id[..], &sealed].concat())
    }

    fn open_in(&self, table: &str, key: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (head, sealed) = sealed.split_at_checked(HEAD)?;
        if head[0] != VERSION || head[1..] != self.id {
            return None;
        }
        open(&self.records, &self.context(table, key), sealed)
    }

    fn context(&self, table: &str, key: &[u8]) -> Vec<u8> {
        [b"streamwatch state", &[VERSION][..], &self.id, table.as_bytes(), &[0], key].concat()
    }
}

/// The last 128 bits of a sealed record: differ with every sealing.
pub fn tag(sealed: &[u8]) -> u128 {
    sealed.last_chunk::<16>().map_or(0, |tag| u128::from_le_bytes(*tag))
}

/// What is known of a record without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub tag: u128,
    /// How long it is, sealed.
    pub bytes: u64,
}

impl Mark {
    pub fn of(sealed: &[u8]) -> Mark {
        Mark { tag: tag(sealed), bytes: sealed.len() as u64 }
    }
}

/// All records that there are.
pub type Marks = HashMap<Address, Mark>;

/// How long something is once it is sealed.
pub fn sealed_length(plain: &[u8]) -> u64 {
    (plain.len() + SEALING) as u64
}

/// What the tables hold.
pub fn used(marks: &Marks) -> Rooms {
    let mut used = Rooms::default();
    for (address, mark) in marks {
        let room = &mut used[address.table as usize];
        *room = room.with(None, Some(mark.bytes));
    }
    used
}

/// A record that is put (sealed) or taken away.
#[derive(Debug)]
pub struct Edit {
    pub address: Address,
    pub value: Option<Vec<u8>>,
}

/// Edits of one commit; of each record the last one counts.
#[derive(Debug)]
pub struct Book<'a> {
    sealer: &'a Sealer,
    there: &'a Marks,
    /// What the tables hold with these edits, and what they may hold.
    used: Rooms,
    most: Rooms,
    /// [`named`].
    puts: HashMap<Address, Option<Vec<u8>>>,
}

impl<'a> Book<'a> {
    /// On top of what is there, which takes so much room.
    pub fn new(sealer: &'a Sealer, there: &'a Marks, used: Rooms, most: Rooms) -> Book<'a> {
        Book { sealer, there, used, most, puts: HashMap::new() }
    }

    /// Puts a record where there is room for it; false: there is none.
    pub fn put(&mut self, table: Table, name: &[u8], plain: &[u8]) -> bool {
        let (address, plain) = (self.sealer.address(table, name), named(name, plain));
        let used = self.used(table);
        let then = used.with(self.length(&address), Some(sealed_length(&plain)));
        let most = self.most[table as usize];
        // What pushes out others has room as long as it is not too long for that.
        let fits = table == Table::Told || used.allows(then, most);
        let short = sealed_length(&plain) <= LONGEST.max(self.length(&address).unwrap_or(0));
        if !fits || !(short || most.bytes == u64::MAX) {
            return false;
        }
        self.set(address, Some(plain));
        true
    }

    pub fn remove(&mut self, table: Table, name: &[u8]) {
        self.set(self.sealer.address(table, name), None);
    }

    /// Takes away all of a table: what was there before, and what was put in this book.
    pub fn clear(&mut self, table: Table) {
        self.puts.retain(|address, _| address.table != table);
        let there = self.there.keys().filter(|address| address.table == table);
        self.puts.extend(there.map(|address| (*address, None)));
        self.used[table as usize] = Room::default();
    }

    /// What a table holds with these edits.
    fn used(&self, table: Table) -> Room {
        self.used[table as usize]
    }

    /// With these edits a table holds more bytes than it may.
    pub fn is_over(&self, table: Table) -> bool {
        self.used(table).bytes > self.most[table as usize].bytes
    }

    /// What all tables may hold.
    pub fn most(&self) -> &Rooms {
        &self.most
    }

    fn length(&self, address: &Address) -> Option<u64> {
        match self.puts.get(address) {
            Some(put) => put.as_deref().map(sealed_length),
            None => self.there.get(address).map(|mark| mark.bytes),
        }
    }

    fn set(&mut self, address: Address, plain: Option<Vec<u8>>) {
        let used = self.used(address.table);
        let (old, new) = (self.length(&address), plain.as_deref().map(sealed_length));
        self.used[address.table as usize] = used.with(old, new);
        self.puts.insert(address, plain);
    }

    /// Sealed; and what the tables hold then.
    pub fn edits(self) -> Result<(Vec<Edit>, Rooms), KeyError> {
        let Book { sealer, used, puts, .. } = self;
        let edit = |(address, plain): (Address, Option<Vec<u8>>)| {
            let value = plain.map(|plain| sealer.seal(&address, &plain)).transpose()?;
            Ok(Edit { address, value })
        };
        Ok((puts.into_iter().map(edit).collect::<Result<_, KeyError>>()?, used))
    }
}

pub fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Plain values with text keys: this cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Another version may have written it: what is not understood is left out.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// A name, with its length before it, and what belongs to it.
pub fn named(name: &[u8], rest: &[u8]) -> Vec<u8> {
    [&(name.len() as u32).to_le_bytes()[..], name, rest].concat()
}

pub fn split_named(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}
