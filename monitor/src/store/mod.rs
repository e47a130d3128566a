//! What outlives the daemon: open alerts, what was told, silences, the past traffic of streams. Sealed, and
//! in two copies: see `docs/state.md`.
//!
//! In: [`Change`]s of the core, on a thread of its own, and a key. Out: what was kept, once, at the start,
//! and what was damaged. What is damaged is told, never taken for nothing. Must never: make the core
//! wait; keep a captured byte; write anything that can be read without the key.

mod clear;
mod copy;
mod envelope;
mod held;
mod ledger;
mod limits;
mod merge;
mod overlay;
mod pending;
mod places;
mod record;
mod sums;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::alert::{Change, KEPT, Saved};
use crate::detect::Baseline;
use crate::keys::{Key, KeyError, Keys, Wrapped};
use crate::regular;
use copy::{Contents, Copy, Records};
use envelope::Envelope;
use ledger::Ledger;
use limits::{MOST, Rooms};
use record::{Book, Edit, Mark, Marks, Sealer, Table, split_named};

pub use copy::sync_directory;
pub use held::Held;
pub use limits::LAST_CURSOR;
pub use pending::{Pending, size_of};

/// Records that one key may seal; NIST SP 800-38D allows 2^32.
const SEALS: u64 = 1 << 30;

/// Days that one file key is in use.
const DAYS: i64 = 90;

/// The files, open.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    sealer: Sealer,
    envelope: Wrapped,
    made: Timestamp,
    ledger: Ledger,
    /// Of all records: tags for the ledger, lengths for the limits.
    marks: Marks,
    /// What the tables hold, and what they may hold.
    used: Rooms,
    most: Rooms,
    /// Tables of which it was told that they are full.
    full: [bool; Table::ALL.len()],
    /// Cursors of what was told, oldest first.
    told: VecDeque<u64>,
    copies: [Option<Copy>; 2],
    /// Why one of them is not kept now; the other one is.
    lacks: [Option<String>; 2],
    /// What opens the files: the file key, and another one while they are written anew.
    known: Vec<(Wrapped, Sealer)>,
    /// What is to be told of files that were written anew at their places.
    put_back: Option<String>,
    /// Keeps other daemons out.
    lock: File,
}

/// What opening gave.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    pub saved: Saved,
    /// A line for each thing that was not as it should be.
    pub damage: Vec<String>,
    /// A file had been removed or replaced while it could not be written: see [`Store::open_again`].
    pub put_back: bool,
}

/// What of some changes was not kept, because there is more than there may be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub changes: u64,
    /// A line for each table of which that was not told before.
    pub told: Vec<String>,
    /// A line where files had to be put back: see [`Store::put_back`].
    pub put_back: Option<String>,
}

/// Why nothing can be kept now. One line; all of them may be otherwise later.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {what}", .path.display())]
    Database { path: PathBuf, what: String },
    /// It is open, and written, and nobody will find it.
    #[error("{}: was removed or replaced, and cannot be written there anew: {what}", .path.display())]
    Misplaced { path: PathBuf, what: String },
    #[error("{}: another daemon has it open", .path.display())]
    InUse { path: PathBuf },
    #[error("no key for {}: {source}", .path.display())]
    Key { path: PathBuf, source: KeyError },
}

/// All files of the state whose first is `path`, the default key file last.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for copy in paths(path) {
        files.extend([copy.clone(), beside(&copy, ".new")]);
        files.extend(copy::asides(&copy));
    }
    let (sums, key) = (sums::path(path), crate::keys::default_file(path));
    files.extend([
        beside(&sums, ".new"),
        sums,
        lock_path(path),
        posted_path(path),
        beside(&key, ".new"),
        key,
    ]);
    files
}

/// The two copies.
pub fn paths(path: &Path) -> [PathBuf; 2] {
    [path.to_owned(), beside(path, ".copy")]
}

fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// How far each hook has come: see `hook/posted.rs`.
pub fn posted_path(path: &Path) -> PathBuf {
    beside(path, ".posted")
}

/// The same name with something after it.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Store {
    /// Opens the files, makes them where there are none, and reads what was kept. Asks `keys`, which may
    /// take as long as their timeouts.
    ///
    /// # Errors
    /// There is no key now; another process has the files; the file system refuses. Nothing was
    /// changed then.
    pub fn open(path: &Path, keys: &Keys) -> Result<Opened, StoreError> {
        let lock = lock(path)?;
        merge::open(path, keys, lock, None)
    }

    /// The same after a write has failed: with what was held of it, neither the names of the files nor the key that
    /// wraps theirs are needed.
    ///
    /// # Errors
    /// As [`Store::open`]: what is held is to be held on to.
    pub fn open_again(path: &Path, keys: &Keys, held: &Held) -> Result<Opened, StoreError> {
        let lock = held.lock(path)?;
        merge::open(path, keys, lock, Some(held))
    }

    /// Nothing can be written to it any more: what is needed to open it again, and what is to be told of files that
    /// were put back.
    pub fn let_go(self) -> (Held, Option<String>) {
        (Held::new(self.known, self.copies, self.lock), self.put_back)
    }

    /// Keeps changes in both copies, all or none, but for those that there is no room for.
    ///
    /// # Errors
    /// [`StoreError::Misplaced`]: see [`Store::put_back`]. Otherwise it could not be written: the store is to be let
    /// go of ([`Store::let_go`]) and opened again, and the changes to be kept again, which does no harm where they are
    /// already.
    pub fn keep(&mut self, changes: &[Change]) -> Result<Refused, StoreError> {
        let mut told = self.told.clone();
        let mut book = Book::new(&self.sealer, &self.marks, self.used, self.most);
        let full = booked(changes, &mut told, &mut book);
        let edits = book.edits().map_err(|source| self.no_key(source))?;
        self.commit(edits)?;
        self.told = told;
        let new = full.iter().filter(|table| !std::mem::replace(&mut self.full[**table as usize], true));
        let lines = new.map(|table| limits::in_words(*table, &self.most)).collect();
        Ok(Refused { changes: full.len() as u64, told: lines, put_back: self.put_back.take() })
    }

    /// Keeps the certificates of services (`None`: of one that is no longer remembered), all or none, in both
    /// copies.
    ///
    /// # Errors
    /// As [`Store::keep`].
    pub fn keep_certificates<'a>(
        &mut self,
        services: impl IntoIterator<Item = (&'a str, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let mut book = Book::new(&self.sealer, &self.marks, self.used, self.most);
        for (service, certificates) in services {
            match certificates {
                // There is room for all.
                Some(certificates) => {
                    book.put(Table::Certificates, service.as_bytes(), &certificates);
                }
                None => book.remove(Table::Certificates, service.as_bytes()),
            }
        }
        let edits = book.edits().map_err(|source| self.no_key(source))?;
        self.commit(edits)
    }

    fn no_key(&self, source: KeyError) -> StoreError {
        StoreError::Key { path: self.path.clone(), source }
    }

    /// Edits, and what the tables hold with them: kept once the files that have them are found at their places.
    fn commit(&mut self, edits: (Vec<Edit>, Rooms)) -> Result<(), StoreError> {
        self.find_or_put_back()?;
        self.write(edits)?;
        self.find_or_put_back()
    }

    fn write(&mut self, (edits, used): (Vec<Edit>, Rooms)) -> Result<(), StoreError> {
        let mut ledger = self.ledger;
        ledger.sequence += 1;
        ledger.seals += edits.len() as u64 + 1;
        for edit in &edits {
            let old = self.marks.get(&edit.address).map(|mark| mark.tag);
            ledger.count(edit.address.table, old, edit.value.as_deref().map(record::tag));
        }
        let sealed = self.sealer.seal_ledger(&ledger).map_err(|source| self.no_key(source))?;
        let mut lacks = self.lacks.clone();
        for (copy, lacks) in self.copies.iter_mut().zip(&mut lacks) {
            if let Some(open) = copy
                && let Err(what) = open.write(&edits, &sealed)
            {
                *lacks = Some(what);
            }
        }
        if let [Some(what), Some(_)] = lacks {
            return Err(StoreError::Database { path: self.path.clone(), what });
        }
        self.go_without(lacks);
        (self.ledger, self.used) = (ledger, used);
        for edit in edits {
            match edit.value {
                Some(value) => self.marks.insert(edit.address, Mark::of(&value)),
                None => self.marks.remove(&edit.address),
            };
        }
        Ok(())
    }

    /// Writes both files anew under another file key. At no time is there none that can be read.
    ///
    /// # Errors
    /// It could not be written: as [`Store::keep`].
    pub fn rewrite(&mut self, key: &Key, wrapped: Wrapped, wall: Timestamp) -> Result<(), StoreError> {
        let [first, second] = paths(&self.path);
        let failed = |what| StoreError::Database { path: first.clone(), what };
        let Some(open) = self.copies.iter().flatten().find(|copy| copy.is_open()) else {
            return Err(failed("is not open".to_owned()));
        };
        let unsealed = |source| StoreError::Key { path: first.clone(), source };
        let sealer = Sealer::new(key);
        let mut records = Records::new();
        for (address, sealed) in open.records().map_err(failed)? {
            let plain = self.sealer.open(&address, &sealed);
            let plain = plain.ok_or_else(|| failed("a record was damaged meanwhile".to_owned()))?;
            let (name, _) = split_named(&plain).ok_or_else(|| failed("a record has no name".to_owned()))?;
            let address = sealer.address(address.table, name);
            records.insert(address, sealer.seal(&address, &plain).map_err(unsealed)?);
        }
        let mut ledger = Ledger { sequence: self.ledger.sequence + 1, seals: 1, ..Ledger::default() };
        for (address, sealed) in &records {
            ledger.count(address.table, None, Some(record::tag(sealed)));
            ledger.seals += 1;
        }
        let envelope = Envelope { wrapped, made: wall };
        let sealed = sealer.seal_ledger(&ledger).map_err(unsealed)?;
        // Until one of them is there, the files may be under either key.
        self.known.push((envelope.wrapped.clone(), sealer.clone()));
        let encoded = envelope.encode();
        let contents = Contents { envelope: &encoded, ledger: &sealed, records: &records };
        let mut lacks = [None, None];
        for (at, path) in [first.clone(), second].into_iter().enumerate() {
            match Copy::create(&path, false, contents) {
                Ok(copy) => self.copies[at] = Some(copy),
                Err(what) => lacks[at] = Some(what),
            }
        }
        if let [Some(what), Some(_)] = lacks {
            return Err(failed(what));
        }
        self.go_without(lacks);
        self.known = vec![(envelope.wrapped.clone(), sealer.clone())];
        self.marks = records.iter().map(|(address, sealed)| (*address, Mark::of(sealed))).collect();
        (self.sealer, self.ledger) = (sealer, ledger);
        (self.envelope, self.made) = (envelope.wrapped, envelope.made);
        Ok(())
    }

    /// Whether the key that wraps keys is another than `now`, or the file key is to be replaced.
    pub fn wants_another_key(&self, now: &Wrapped, wall: Timestamp) -> bool {
        let age = wall.as_second().saturating_sub(self.made.as_second());
        (&self.envelope.kind, &self.envelope.key_id) != (&now.kind, &now.key_id)
            || self.ledger.seals >= SEALS
            || age >= DAYS * 86_400
    }

    /// How the key that wraps the file key is called; no secret.
    pub fn key_id(&self) -> &str {
        &self.envelope.key_id
    }

    /// Both copies are whole and open.
    pub fn is_whole(&self) -> bool {
        self.copies.iter().flatten().filter(|copy| copy.is_open()).count() == self.copies.len()
    }

    /// An orderly end: what stands in the files from now on is changed by nobody.
    pub fn close(self) {
        let whole = self.is_whole();
        let Store { path, sealer, copies, lock: _lock, .. } = self;
        drop(copies);
        if whole {
            // Without it the next start finds damage in records alone.
            let _ = sums::write(&path, &sealer);
        }
    }
}

/// Changes as edits. `told` are the cursors before, and after. Gives the table of each that found no room.
fn booked(changes: &[Change], told: &mut VecDeque<u64>, book: &mut Book<'_>) -> Vec<Table> {
    let mut full = Vec::new();
    let mut want = |table: Table, fits: bool| {
        if !fits {
            full.push(table);
        }
        fits
    };
    // What goes makes room for what comes with it.
    for change in changes {
        match change {
            Change::Closed(key) => book.remove(Table::Open, key.as_bytes()),
            Change::Baseline(Baseline::Gone(stream)) => book.remove(Table::Baselines, stream.as_bytes()),
            _ => {}
        }
    }
    for change in changes {
        match change {
            Change::Open(alert) => {
                want(Table::Open, book.put(Table::Open, alert.key.as_bytes(), &record::json(alert)));
            }
            Change::Closed(key) => book.remove(Table::Open, key.as_bytes()),
            Change::Told(alert) => {
                let name = alert.cursor.to_be_bytes();
                let fits = alert.cursor <= LAST_CURSOR && book.put(Table::Told, &name, &record::json(alert));
                // Cursors grow; what is written a second time has its place.
                if want(Table::Told, fits)
                    && let Err(at) = told.binary_search(&alert.cursor)
                {
                    told.insert(at, alert.cursor);
                }
            }
            Change::Silences(all) => {
                if want(Table::Silences, limits::are_few(all, book.most())) {
                    book.clear(Table::Silences);
                    for silence in all {
                        let id = silence.id.to_be_bytes();
                        want(Table::Silences, book.put(Table::Silences, &id, &record::json(silence)));
                    }
                }
            }
            Change::Baseline(Baseline::Kept(stream, past)) => {
                want(Table::Baselines, book.put(Table::Baselines, stream.as_bytes(), past));
            }
            Change::Baseline(Baseline::Gone(stream)) => book.remove(Table::Baselines, stream.as_bytes()),
        }
    }
    while told.len() > KEPT || book.is_over(Table::Told) {
        let Some(oldest) = told.pop_front() else { break };
        book.remove(Table::Told, &oldest.to_be_bytes());
    }
    full
}

/// Records of files that do not exist yet, and the cursors of what was told.
fn records_of(changes: &[Change], sealer: &Sealer) -> Result<(Records, VecDeque<u64>), KeyError> {
    let (mut told, there) = (VecDeque::new(), Marks::new());
    let mut book = Book::new(sealer, &there, Rooms::default(), MOST);
    booked(changes, &mut told, &mut book);
    let (edits, _) = book.edits()?;
    Ok((edits.into_iter().filter_map(|edit| Some((edit.address, edit.value?))).collect(), told))
}

/// How long another's lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// One daemon at a time.
fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let place = lock_path(path);
    let lock = regular::open_own(&place, OpenOptions::new().create(true).append(true).mode(0o600))
        .map_err(|source| StoreError::File { path: place, source })?;
    // A child that is being started (the command of a hook) has the descriptor of a lock that was let go of
    // until it is another program: that is no other daemon.
    match crate::lock::take(&lock, LOCK_PATIENCE).map_err(failed)? {
        true => Ok(lock),
        false => Err(StoreError::InUse { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
