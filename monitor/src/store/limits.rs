//! How much each table may hold. Who asks for what is kept reads traffic, and may be in the hands of whoever wrote
//! what it reads: its own tables are bounded, and so is this, at about twice what they hold when they are full.

use crate::alert::{HELD, KEPT};
use crate::detect::traffic::WATCHED;
use crate::model::Silence;

use super::record::{Table, json, named, sealed_length};

/// The longest record, sealed: an alert with the longest silence has a tenth of that.
pub const LONGEST: u64 = 256 << 10;

/// The greatest number of a silence: the next one has one more.
const LAST_ID: u64 = i64::MAX as u64;

/// The greatest cursor: they are microseconds since 1970, and this is the year 9999.
pub const LAST_CURSOR: u64 = 253_402_207_200_000_000;

/// Records of a table, and their bytes, sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub records: u64,
    pub bytes: u64,
}

/// Of each table, in the order of [`Table::ALL`].
pub type Rooms = [Room; Table::ALL.len()];

/// What they may hold at most.
pub const MOST: Rooms = [
    // Open alerts: up to 2 KiB each, as a rule.
    Room { records: 2 * HELD as u64, bytes: 64 << 20 },
    // What was told: what does not fit pushes out the oldest.
    Room { records: KEPT as u64, bytes: 16 << 20 },
    // Silences.
    Room { records: 512, bytes: 8 << 20 },
    // Baselines: 3.3 KiB each with the longest name, and 4.6 KiB more for half of them.
    Room { records: 2 * WATCHED as u64, bytes: 96 << 20 },
    // Services' certificates: an audit's own, bounded by itself.
    Room { records: u64::MAX, bytes: u64::MAX },
];

impl Room {
    /// With something `new` in the place of `old`, of so many bytes.
    #[must_use]
    pub fn with(self, old: Option<u64>, new: Option<u64>) -> Room {
        let records = self.records.saturating_sub(u64::from(old.is_some())) + u64::from(new.is_some());
        Room { records, bytes: self.bytes.saturating_sub(old.unwrap_or(0)) + new.unwrap_or(0) }
    }

    /// Whether it may become `then`. What is there stays, also where that is more than there may be.
    pub fn allows(self, then: Room, most: Room) -> bool {
        then.records <= most.records.max(self.records) && then.bytes <= most.bytes.max(self.bytes)
    }
}

/// Whether these may be all silences.
pub fn are_few(silences: &[Silence], most: &Rooms) -> bool {
    let most = most[Table::Silences as usize];
    let mut bytes = 0;
    silences.len() as u64 <= most.records
        && silences.iter().all(|silence| {
            let length = sealed_length(&named(&silence.id.to_be_bytes(), &json(silence)));
            bytes += length;
            silence.id <= LAST_ID && length <= LONGEST && bytes <= most.bytes
        })
}

/// What the loader says where a table is full.
pub fn in_words(table: Table, most: &Rooms) -> String {
    let most = most[table as usize];
    format!(
        "more {} are to be kept than there may be ({} records, {} KiB, {} KiB each): what is there stays, and what \
         is new is not kept",
        table.what(),
        most.records,
        most.bytes >> 10,
        LONGEST >> 10
    )
}
