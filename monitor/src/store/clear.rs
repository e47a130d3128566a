//! The file of versions before 0.2, in the clear: read once.

use std::path::Path;

use redb::{Builder, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::copy::contained;
use super::record::parse;
use crate::alert::{Change, SavedAlert};
use crate::detect::Baseline;
use crate::model::Silence;

const OPEN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("open-alerts");
const TOLD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("told-alerts");
const SILENCES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("silences");
const BASELINES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("baselines");

/// By which such a file is known.
pub const TABLES: [&str; 4] = ["open-alerts", "told-alerts", "silences", "baselines"];

/// What it holds, as changes of a new one.
///
/// # Errors
/// It cannot be read to its end: what could be is the second.
pub fn read(path: &Path) -> (Result<(), String>, Vec<Change>) {
    let mut changes = Vec::new();
    let result = contained(|| read_into(path, &mut changes).map_err(|error| error.to_string()));
    (result, changes)
}

fn read_into(path: &Path, changes: &mut Vec<Change>) -> Result<(), redb::Error> {
    let database = Builder::new().set_check_integrity_on_open(true).open(path)?;
    let read = database.begin_read()?;
    macro_rules! each {
        ($table:expr, $take:expr) => {
            match read.open_table($table) {
                Ok(table) => {
                    for entry in table.iter()? {
                        let (key, value) = entry?;
                        changes.extend($take(key.value(), value.value()));
                    }
                }
                Err(TableError::TableDoesNotExist(_)) => {}
                Err(error) => return Err(error.into()),
            }
        };
    }
    each!(OPEN, |_, value| parse::<SavedAlert>(value).map(Change::Open));
    each!(TOLD, |_, value| parse::<SavedAlert>(value).map(Change::Told));
    let mut silences = Vec::new();
    each!(SILENCES, |_, value| -> Option<Change> {
        silences.extend(parse::<Silence>(value));
        None
    });
    changes.push(Change::Silences(silences));
    each!(BASELINES, |stream: &str, past: &[u8]| {
        Some(Change::Baseline(Baseline::Kept(stream.to_owned(), past.to_owned())))
    });
    Ok(())
}
