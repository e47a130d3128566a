//! What outlives the daemon, in one file (redb: every commit is whole, or was not): open alerts, what
//! was told, silences, the past traffic of streams.
//!
//! In: [`Change`]s of the core, on a thread of its own. Out: what was kept, once, at the start. A file
//! that cannot be read is put aside, never taken for an empty one silently. Must never: make the core
//! wait; keep a captured byte.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use crate::alert::{Change, KEPT, Saved, SavedAlert};
use crate::detect::Baseline;
use crate::model::Silence;

/// Open alerts by key, as JSON.
const OPEN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("open-alerts");
/// What was told by cursor, as JSON.
const TOLD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("told-alerts");
/// Silences by id, as JSON.
const SILENCES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("silences");

/// The past traffic of streams by their names, as `detect::traffic` encodes it.
const BASELINES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("baselines");

/// The file, open.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

/// Why nothing is kept. One line.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {source}", .path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
}

impl Store {
    /// Opens the file, makes it where there is none, and reads what was kept. A file that is no
    /// database is renamed to `….broken`, which `set_aside` is told.
    ///
    /// # Errors
    /// It cannot be made, is in use by another process, or cannot be read.
    pub fn open(path: &Path, mut set_aside: impl FnMut(&Path)) -> Result<(Store, Saved), StoreError> {
        match Store::open_as_it_is(path) {
            Err(StoreError::Database { source, .. })
                if !matches!(*source, redb::Error::DatabaseAlreadyOpen) && path.exists() =>
            {
                let broken = path.with_extension("broken");
                std::fs::rename(path, &broken)
                    .map_err(|source| StoreError::File { path: path.to_owned(), source })?;
                set_aside(&broken);
                Store::open_as_it_is(path)
            }
            other => other,
        }
    }

    fn open_as_it_is(path: &Path) -> Result<(Store, Saved), StoreError> {
        let file = |source| StoreError::File { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(file)?;
        }
        // For nobody but the daemon: who talks to whom stands in it.
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(file)?;
        let failed =
            |source: redb::Error| StoreError::Database { path: path.to_owned(), source: Box::new(source) };
        let database = Database::create(path).map_err(|error| failed(error.into()))?;
        let store = Store { database };
        let saved = store.read().map_err(failed)?;
        Ok((store, saved))
    }

    fn read(&self) -> Result<Saved, redb::Error> {
        // Makes the tables where there are none.
        let write = self.database.begin_write()?;
        write.open_table(OPEN)?;
        write.open_table(TOLD)?;
        write.open_table(SILENCES)?;
        write.open_table(BASELINES)?;
        write.commit()?;
        let read = self.database.begin_read()?;
        let mut saved = Saved::default();
        for entry in read.open_table(OPEN)?.iter()? {
            saved.open.extend(parse::<SavedAlert>(entry?.1.value()));
        }
        for entry in read.open_table(TOLD)?.iter()? {
            saved.told.extend(parse::<SavedAlert>(entry?.1.value()));
        }
        for entry in read.open_table(SILENCES)?.iter()? {
            saved.silences.extend(parse::<Silence>(entry?.1.value()));
        }
        for entry in read.open_table(BASELINES)?.iter()? {
            let (stream, past) = entry?;
            saved.baselines.push((stream.value().to_owned(), past.value().to_owned()));
        }
        Ok(saved)
    }

    /// Keeps changes, all or none.
    ///
    /// # Errors
    /// The file could not be written; what was kept before is still there.
    pub fn keep(&self, changes: &[Change]) -> Result<(), Box<redb::Error>> {
        self.write(changes).map_err(Box::new)
    }

    fn write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut open = write.open_table(OPEN)?;
            let mut told = write.open_table(TOLD)?;
            let mut silences = write.open_table(SILENCES)?;
            let mut baselines = write.open_table(BASELINES)?;
            for change in changes {
                match change {
                    Change::Open(alert) => {
                        open.insert(alert.key.as_str(), json(alert).as_slice())?;
                    }
                    Change::Closed(key) => {
                        open.remove(key.as_str())?;
                    }
                    Change::Told(alert) => {
                        told.insert(alert.cursor, json(alert).as_slice())?;
                    }
                    Change::Silences(all) => {
                        silences.retain(|_, _| false)?;
                        for silence in all {
                            silences.insert(silence.id, json(silence).as_slice())?;
                        }
                    }
                    Change::Baseline(Baseline::Kept(stream, past)) => {
                        baselines.insert(stream.as_str(), past.as_slice())?;
                    }
                    Change::Baseline(Baseline::Gone(stream)) => {
                        baselines.remove(stream.as_str())?;
                    }
                }
            }
            while redb::ReadableTableMetadata::len(&told)? > KEPT as u64 {
                told.pop_first()?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Plain values with text keys: this cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Another version may have written it: what is not understood is left out.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::AlertView;
    use crate::record::samples;

    fn place(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("streamwatch-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        place.join("state.redb")
    }

    fn told(cursor: u64) -> SavedAlert {
        SavedAlert::of(&AlertView { cursor, ..samples::alert() })
    }

    #[test]
    fn what_is_kept_is_there_after_opening_again() {
        let path = place("again");
        let (store, saved) = Store::open(&path, |_| panic!("broken")).unwrap();
        assert_eq!(saved, Saved::default());
        store.keep(&[Change::Open(told(1)), Change::Told(told(1)), Change::Told(told(2))]).unwrap();
        // A second daemon is refused; the file stays as it is.
        assert!(Store::open(&path, |_| panic!("broken")).is_err());
        drop(store);
        let (store, saved) = Store::open(&path, |_| panic!("broken")).unwrap();
        assert_eq!((saved.open.as_slice(), saved.told.len()), (&[told(1)][..], 2));
        store.keep(&[Change::Closed(told(1).key)]).unwrap();
        drop(store);
        assert_eq!(Store::open(&path, |_| panic!("broken")).unwrap().1.open, []);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_broken_file_is_put_aside() {
        let path = place("broken");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"this is no database").unwrap();
        let mut aside = None;
        let (_, saved) = Store::open(&path, |broken| aside = Some(broken.to_owned())).unwrap();
        assert_eq!(saved, Saved::default());
        assert_eq!(std::fs::read(aside.unwrap()).unwrap(), b"this is no database");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
