//! One of the two files: looked at without being changed, written anew, written to.
//!
//! redb verifies its checksums when it is asked to, and may panic on a file that somebody else changed. So
//! what is looked at is verified, in memory ([`Overlay`]), and panics end here.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    TableHandle,
};

use super::overlay::Overlay;
use super::record::{Address, Edit, Table};
use super::{beside, clear, envelope, ledger};
use crate::keys::Tag;
use crate::regular::{self, Instead};

type Definition<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// Memory that redb may use for pages of a file; its own default is a gigabyte.
const CACHE: usize = 4 << 20;

/// Where it panics.
const GAVE_UP: &str = "redb gave up on it";

const NOT_OPEN: &str = "is not open";

/// Sealed records by address.
pub type Records = BTreeMap<Address, Vec<u8>>;

/// A file, open.
#[derive(Debug)]
pub struct Copy {
    /// `None`: a write has failed, and redb takes nothing more.
    database: Option<Database>,
    /// The same file, which can be read whatever becomes of the database, and of its name.
    pub file: File,
    /// Device and inode, which nobody else gets while it is open.
    is: (u64, u64),
}

/// What stands in a file that is written anew, sealed.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    pub envelope: &'a [u8],
    pub ledger: &'a [u8],
    pub records: &'a Records,
}

/// What stands in a file.
#[derive(Debug, Default)]
pub struct Look {
    /// There is one, be it empty.
    pub exists: bool,
    pub envelope: Option<Vec<u8>>,
    /// Sealed.
    pub ledger: Option<Vec<u8>>,
    pub records: Records,
    /// It holds the tables of an earlier version, in the clear.
    pub clear: bool,
    /// What could not be read, in words.
    pub damage: Option<String>,
    /// The disk gave an error: what is missing may be there another time.
    pub refused: Option<std::io::Error>,
}

impl Look {
    /// All that was sealed by the key of the file.
    pub fn sealed(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.ledger.iter().chain(self.records.values())
    }
}

/// Names for files that were put aside: so many are kept.
pub fn asides(path: &Path) -> [PathBuf; 4] {
    ["", ".1", ".2", ".3"].map(|number| beside(path, &format!(".broken{number}")))
}

/// That of the next one: the first ones stay, which may be the best there is, and the last gives way. What has such
/// a name already, from an attempt that came to no end, needs no other.
pub fn aside(path: &Path) -> PathBuf {
    let [.., last] = asides(path);
    let free = |aside: &PathBuf| aside.symlink_metadata().is_err();
    asides(path)
        .into_iter()
        .find(|aside| is_same(aside, path))
        .or_else(|| asides(path).into_iter().find(free))
        .unwrap_or(last)
}

/// Two names of one file.
fn is_same(a: &Path, b: &Path) -> bool {
    let is = |path: &Path| path.symlink_metadata().ok().map(|about| identity(&about));
    is(a).is_some_and(|a| is(b) == Some(a))
}

/// Gives what stands there a second name: at no time is there no file.
pub fn put_aside(path: &Path) -> Result<(), String> {
    let broken = aside(path);
    if is_same(&broken, path) {
        return Ok(());
    }
    remove(&broken)?;
    std::fs::hard_link(path, &broken).map_err(told)
}

/// Under the names of devices and directories other programs look for something.
fn is_ours_to_move(there: &Metadata) -> Result<(), String> {
    match Instead::of(there.file_type()) {
        Some(instead) if !instead.can_be_put_aside() => Err(format!("{} is there", instead.in_words())),
        _ => Ok(()),
    }
}

fn definition(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    Definition::new(name)
}

/// Everything that can be read of a file, which stays as it is.
pub fn look(path: &Path) -> std::io::Result<Look> {
    let error = match regular::open_to_read(path) {
        Ok(file) => return look_at(&file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::default()),
        Err(error) => error,
    };
    let Some(instead) = regular::instead(&error) else { return Err(error) };
    let damage = Some(format!("is {}", instead.in_words()));
    // What is not ours to put aside is as a disk that refuses the file.
    let refused = (!instead.can_be_put_aside()).then_some(error);
    Ok(Look { exists: true, damage, refused, ..Look::default() })
}

/// The same of one that is open, whatever its name.
pub fn look_at(file: &File) -> std::io::Result<Look> {
    let overlay = || file.try_clone().and_then(Overlay::new);
    if file.metadata()?.len() == 0 {
        return Ok(Look { exists: true, damage: Some("is empty".to_owned()), ..Look::default() });
    }
    // First with all checksums; where they do not hold, whatever can be read without.
    let verified = overlay()?;
    let refused = verified.refused();
    let mut look = Look { exists: true, ..Look::default() };
    match contained(|| read(verified, true, &mut look)) {
        Ok(()) => return Ok(look),
        Err(what) => look = Look { exists: true, damage: Some(what), ..Look::default() },
    }
    look.refused = refused.take();
    let unverified = overlay()?;
    // What is wrong was said already.
    let _ = contained(|| read(unverified, false, &mut look));
    Ok(look)
}

fn read(overlay: Overlay, verify: bool, look: &mut Look) -> Result<(), String> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(verify);
    let database = builder.create_with_backend(overlay).map_err(told)?;
    let read = database.begin_read().map_err(told)?;
    let names: Vec<String> = read.list_tables().map_err(told)?.map(|table| table.name().to_owned()).collect();
    look.clear = names.iter().any(|name| clear::TABLES.contains(&name.as_str()));
    let mut first = Ok(());
    let mut note = |result: Result<(), String>| {
        if first.is_ok() {
            first = result;
        }
    };
    note(contained(|| one(&read, envelope::TABLE, envelope::KEY).map(|value| look.envelope = value)));
    note(contained(|| one(&read, ledger::TABLE, ledger::KEY).map(|value| look.ledger = value)));
    for table in Table::ALL {
        // From the end as well: what lies behind a damaged page is read from there.
        for from_the_end in [false, true] {
            let result = contained(|| all(&read, table, from_the_end, &mut look.records));
            if result.is_ok() {
                break;
            }
            note(result);
        }
    }
    drop(read);
    note(contained(|| {
        drop(database);
        Ok(())
    }));
    first
}

fn one(read: &ReadTransaction, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
    match read.open_table(definition(table)) {
        Ok(table) => Ok(table.get(key).map_err(told)?.map(|value| value.value().to_owned())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(told(error)),
    }
}

fn all(read: &ReadTransaction, table: Table, from_the_end: bool, into: &mut Records) -> Result<(), String> {
    let open = match read.open_table(definition(table.name())) {
        Ok(open) => open,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(told(error)),
    };
    let mut range = open.iter().map_err(told)?;
    while let Some(entry) = if from_the_end { range.next_back() } else { range.next() } {
        let (key, value) = entry.map_err(told)?;
        match Tag::try_from(key.value()) {
            Ok(key) => {
                into.insert(Address { table, key }, value.value().to_owned());
            }
            Err(_) => return Err(format!("a name of {} bytes", key.value().len())),
        }
    }
    Ok(())
}

thread_local! {
    /// A panic of this thread is an error that is told: no trace of it belongs on standard error.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// A panic of redb is an error.
pub fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                before(panic);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(GAVE_UP.to_owned()));
    CONTAINED.set(outer);
    result
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Copy {
    /// A file that was looked at and is whole.
    pub fn open(path: &Path) -> Result<Copy, String> {
        contained(|| {
            let file = regular::open(path, OpenOptions::new().read(true).write(true)).map_err(told)?;
            let is = identity(&file.metadata().map_err(told)?);
            // Not for an empty one, which this would make a database of.
            if file.metadata().map_err(told)?.len() == 0 {
                return Err("is empty".to_owned());
            }
            // On its own, since redb locks the other one.
            let own = regular::open_to_read(path).map_err(told)?;
            if identity(&own.metadata().map_err(told)?) != is {
                return Err("was replaced while it was opened".to_owned());
            }
            let backend = FileBackend::new(file).map_err(told)?;
            let database = Builder::new().set_cache_size(CACHE).create_with_backend(backend).map_err(told)?;
            Ok(Copy { database: Some(database), file: own, is })
        })
    }

    /// Whether it can be written to, as far as is known.
    pub fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Whether its name leads to it: what is written to a file that was removed, or replaced, is gone with it.
    pub fn is_at(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|there| identity(&there) == self.is)
    }

    /// Writes a file anew. It is there as a whole, in the place of the one before, or not at all; with
    /// `set_aside`, that one is then [`aside`].
    pub fn create(
        path: &Path,
        set_aside: bool,
        Contents { envelope, ledger: sealed_ledger, records }: Contents<'_>,
    ) -> Result<Copy, String> {
        let new = beside(path, ".new");
        remove(&new)?;
        // For nobody but the daemon, whatever is sealed.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(told)?;
        contained(|| {
            let database = Builder::new().set_cache_size(CACHE).create(&new).map_err(told)?;
            let write = database.begin_write().map_err(told)?;
            for (table, key, value) in
                [(envelope::TABLE, envelope::KEY, envelope), (ledger::TABLE, ledger::KEY, sealed_ledger)]
            {
                write.open_table(definition(table)).map_err(told)?.insert(key, value).map_err(told)?;
            }
            for table in Table::ALL {
                let mut open = write.open_table(definition(table.name())).map_err(told)?;
                for (address, value) in records.iter().filter(|(address, _)| address.table == table) {
                    open.insert(&address.key[..], value.as_slice()).map_err(told)?;
                }
            }
            write.commit().map_err(told)
        })?;
        File::open(&new).and_then(|file| file.sync_all()).map_err(told)?;
        // Whatever may fail comes before: what has taken its place is not to be put aside by the next attempt.
        let copy = Copy::open(&new)?;
        sync_directory(path).map_err(told)?;
        // A link that leads nowhere is something, too.
        if let Ok(there) = path.symlink_metadata() {
            is_ours_to_move(&there)?;
            if set_aside {
                put_aside(path)?;
            }
        }
        std::fs::rename(&new, path).map_err(told)?;
        sync_directory(path).map_err(told)?;
        Ok(copy)
    }

    /// All edits and the ledger, or nothing. Where that fails, nothing more can be written.
    pub fn write(&mut self, edits: &[Edit], sealed_ledger: &[u8]) -> Result<(), String> {
        let Some(database) = &self.database else { return Err(NOT_OPEN.to_owned()) };
        let written = contained(|| {
            let write = database.begin_write().map_err(told)?;
            for table in Table::ALL {
                let mut open = write.open_table(definition(table.name())).map_err(told)?;
                for edit in edits.iter().filter(|edit| edit.address.table == table) {
                    match &edit.value {
                        Some(value) => {
                            drop(open.insert(&edit.address.key[..], value.as_slice()).map_err(told)?)
                        }
                        None => drop(open.remove(&edit.address.key[..]).map_err(told)?),
                    }
                }
            }
            write
                .open_table(definition(ledger::TABLE))
                .map_err(told)?
                .insert(ledger::KEY, sealed_ledger)
                .map_err(told)?;
            write.commit().map_err(told)
        });
        if written.is_err() {
            self.close();
        }
        written
    }

    /// It is read from now on, and not written to.
    pub fn close(&mut self) {
        // redb may write once more.
        let database = self.database.take();
        let _ = contained(|| {
            drop(database);
            Ok(())
        });
    }

    /// Envelope, ledger and records, sealed.
    pub fn contents(&self) -> Result<(Vec<u8>, Vec<u8>, Records), String> {
        let Some(database) = &self.database else {
            let look = look_at(&self.file).map_err(told)?;
            return match (look.damage, look.envelope, look.ledger) {
                (None, Some(envelope), Some(ledger)) => Ok((envelope, ledger, look.records)),
                (damage, ..) => Err(damage.unwrap_or_else(|| "holds no key".to_owned())),
            };
        };
        let one = |table, key| {
            contained(|| one(&database.begin_read().map_err(told)?, table, key))?
                .ok_or_else(|| format!("has no {table}"))
        };
        Ok((one(envelope::TABLE, envelope::KEY)?, one(ledger::TABLE, ledger::KEY)?, self.records()?))
    }

    /// All records, sealed.
    pub fn records(&self) -> Result<Records, String> {
        let Some(database) = &self.database else { return Err(NOT_OPEN.to_owned()) };
        contained(|| {
            let read = database.begin_read().map_err(told)?;
            let mut records = Records::new();
            for table in Table::ALL {
                all(&read, table, false, &mut records)?;
            }
            Ok(records)
        })
    }
}

/// Which file it is, whatever its name.
pub fn identity(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(told(error)),
        _ => Ok(()),
    }
}

/// A name that was given or taken is on the disk.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    // That of a bare name is the one that we are in.
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
