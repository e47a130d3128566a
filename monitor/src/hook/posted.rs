//! How far each hook has come, for whoever comes after this daemon: what was told, and not posted when it was killed,
//! is posted by the next one.
//!
//! In: alerts that were delivered, or counted as lost; those that were told by the daemon before. Out: which of those
//! are to be posted again. A file of a few numbers (which hook, up to which cursor), written after each delivery: it
//! outlives a process that is killed, not a host that loses its power. Must never: hold a name, an address or a
//! secret; believe what it finds.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::alert::SavedAlert;
use crate::config;
use crate::regular;
use crate::store::{LAST_CURSOR, posted_path};

/// A hook and its cursor, each a word.
const EACH: usize = 16;
const HOOKS: usize = 1024;

/// How long another daemon's hold of the file is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// Of all hooks, in their order.
#[derive(Debug, Default)]
pub struct Posted {
    marks: Vec<Mark>,
    /// `None`: it is known in this process alone.
    file: Option<File>,
}

#[derive(Debug, Default)]
struct Mark {
    hook: u64,
    /// Everything up to here was posted, or is lost and was counted; 0: nothing is known of this hook.
    posted: AtomicU64,
    /// Everything up to here was taken by this process.
    taken: AtomicU64,
}

fn now() -> u64 {
    u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0)
}

/// Which hook it is, over restarts; says nothing of it to whoever cannot guess it.
fn name_of(hook: &config::Hook) -> u64 {
    let told = serde_json::to_vec(&(&hook.command, &hook.webhook, hook.log)).unwrap_or_default();
    Sha256::digest(told).first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Posted {
    /// Reads what the daemon before left for these hooks.
    pub fn open(state: &Path, hooks: &[config::Hook]) -> Posted {
        if hooks.is_empty() {
            return Posted::default();
        }
        let path = posted_path(state);
        Posted::read(&path, hooks).unwrap_or_else(|error| Posted::without(state, hooks, &error))
    }

    /// Where it cannot be written down, which is said.
    pub fn without(state: &Path, hooks: &[config::Hook], why: &dyn std::fmt::Display) -> Posted {
        say!(
            "streamwatch: {}: {why}: what is not posted when the daemon is killed is not posted again",
            posted_path(state).display()
        );
        Posted { marks: hooks.iter().map(|hook| Mark::new(name_of(hook), 0)).collect(), file: None }
    }

    fn read(path: &Path, hooks: &[config::Hook]) -> io::Result<Posted> {
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = regular::open_own(path, &mut options)?;
        if !crate::lock::take(&file, PATIENCE)? {
            return Err(io::Error::other("another daemon has it open"));
        }
        let mut bytes = [0; EACH * HOOKS];
        let length = file.read_at(&mut bytes, 0)?;
        let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let before: Vec<(u64, u64)> =
            bytes[..length].chunks_exact(EACH).map(|each| (word(each), word(&each[8..]))).collect();
        let marks: Vec<Mark> = hooks
            .iter()
            .take(HOOKS)
            .map(|hook| {
                let name = name_of(hook);
                let known = before.iter().find(|(hook, cursor)| *hook == name && is_cursor(*cursor));
                Mark::new(name, known.map_or(0, |(_, cursor)| *cursor))
            })
            .collect();
        let words = marks.iter().flat_map(|mark| [mark.hook, mark.posted.load(Relaxed)]);
        file.write_all_at(&words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>(), 0)?;
        file.set_len((EACH * marks.len()) as u64)?;
        Ok(Posted { marks, file: Some(file) })
    }

    /// Those that were told (in the order of cursors) and that a hook has not had. What came before there was a file
    /// that knows it is not among them.
    pub fn again<'a>(&self, hook: usize, told: &'a [SavedAlert]) -> &'a [SavedAlert] {
        let Some(mark) = self.marks.get(hook) else { return &[] };
        let told = &told[..told.partition_point(|alert| is_cursor(alert.cursor))];
        // Nothing was posted that was not told: a mark beyond would keep what is told from now on from being posted
        // again. By what was told, and not by the wall clock, which may have been set back since.
        let latest = told.last().map_or_else(now, |alert| alert.cursor);
        mark.taken.fetch_min(latest, Relaxed);
        if mark.posted.fetch_min(latest, Relaxed) > latest {
            self.write(hook, latest);
        }
        let from = mark.taken.load(Relaxed);
        if from == 0 {
            self.note(hook, latest);
            return &[];
        }
        &told[told.partition_point(|alert| alert.cursor <= from)..]
    }

    /// Whether something is known of a hook, so that what was told before is settled.
    pub fn knows(&self, hook: usize) -> bool {
        self.marks.get(hook).is_some_and(|mark| mark.taken.load(Relaxed) != 0)
    }

    /// This process has it: it delivers it, or counts it as lost.
    pub fn take(&self, hook: usize, cursor: u64) {
        if let Some(mark) = self.marks.get(hook).filter(|_| is_cursor(cursor)) {
            mark.taken.fetch_max(cursor, Relaxed);
        }
    }

    /// It was delivered, or counted as lost, and all that was told before.
    pub fn note(&self, hook: usize, cursor: u64) {
        self.take(hook, cursor);
        let Some(mark) = self.marks.get(hook).filter(|_| is_cursor(cursor)) else { return };
        if mark.posted.fetch_max(cursor, Relaxed) < cursor {
            self.write(hook, cursor);
        }
    }

    fn write(&self, hook: usize, cursor: u64) {
        if let Some(file) = &self.file {
            // Where it cannot be written, the next daemon posts a few that were posted.
            let _ = file.write_all_at(&cursor.to_le_bytes(), (EACH * hook + 8) as u64);
        }
    }
}

impl Mark {
    fn new(hook: u64, posted: u64) -> Mark {
        Mark { hook, posted: posted.into(), taken: posted.into() }
    }
}

fn is_cursor(cursor: u64) -> bool {
    cursor <= LAST_CURSOR
}
