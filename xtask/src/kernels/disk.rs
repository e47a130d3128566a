//! A disk that loses what it was not told to keep. In: what a machine wrote, and when it flushed, as QEMU logged it
//! (`blklogwrites`, in the form of Documentation/admin-guide/device-mapper/log-writes.rst). Out: the disk as it may
//! be when the power comes back. Everything up to the last flush is there, and what bypassed the disk's memory; of
//! the rest each block is, or is not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;

use super::directory;

const BYTES: u64 = 64 << 20;
/// What is written as one or not at all.
const BLOCK: usize = 4096;
const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;

const FLUSH: u64 = 1;
/// Forced unit access: past the disk's memory.
const PAST_MEMORY: u64 = 2;
const DISCARD: u64 = 4;

pub struct Disk {
    /// As it was when the power came.
    kept: PathBuf,
    /// As the machine has it.
    used: PathBuf,
    log: PathBuf,
}

/// What a loss of power did. Nothing is lost where the log does not tell what would be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub flushes: usize,
    /// What was written or flushed behind the moment at which the power went.
    pub never: usize,
    /// Blocks behind the last flush: all, and those that were lost.
    pub waiting: usize,
    pub lost: usize,
}

impl Disk {
    /// An empty one.
    pub fn new(line: &str) -> Result<Disk> {
        let at = |name: &str| directory().join(format!("{line}.{name}"));
        let disk = Disk { kept: at("disk.kept"), used: at("disk"), log: at("disk.log") };
        File::create(&disk.kept)
            .and_then(|file| file.set_len(BYTES))
            .with_context(|| format!("{} cannot be made", disk.kept.display()))?;
        Ok(disk)
    }

    /// Ready for a machine: QEMU's options.
    pub fn options(&self) -> Result<Vec<String>> {
        fs::copy(&self.kept, &self.used)?;
        File::create(&self.log)?;
        let file =
            |path: &Path, name: &str| format!("driver=file,filename={},node-name={name}", path.display());
        Ok([
            "-blockdev",
            &file(&self.used, "used"),
            "-blockdev",
            &file(&self.log, "log"),
            "-blockdev",
            "driver=blklogwrites,node-name=disk,file=used,log=log",
            "-device",
            "virtio-blk-pci,drive=disk",
        ]
        .map(str::to_owned)
        .into())
    }

    /// How much was logged so far, bytes.
    pub fn logged(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// The machine is gone, and with it what it wrote from some moment on, at which `since` was logged or more, and of
    /// what was not flushed then anything.
    ///
    /// # Errors
    /// The log cannot be read, or is none.
    pub fn lose_power(&self, since: u64, chance: &mut Rng) -> Result<Lost> {
        let log = fs::read(&self.log).with_context(|| format!("{} cannot be read", self.log.display()))?;
        let Some(entries) = entries(&log)? else {
            fs::copy(&self.used, &self.kept)?;
            return Ok(Lost::default());
        };
        let first = entries.partition_point(|entry| entry.end as u64 <= since);
        let until = chance.usize(first..=entries.len());
        let disk = File::options().write(true).open(&self.kept)?;
        let mut lost =
            replay(&entries[..until], || chance.bool(), |bytes, at| Ok(disk.write_all_at(bytes, at)?))?;
        lost.never = entries.len() - until;
        Ok(lost)
    }

    /// The machine has ended in order.
    pub fn remove(&self) {
        for path in [&self.kept, &self.used, &self.log] {
            let _ = fs::remove_file(path);
        }
    }
}

/// One that was logged.
struct Entry<'a> {
    flags: u64,
    at: u64,
    data: &'a [u8],
    /// Where it ends in the log.
    end: usize,
}

fn replay(
    entries: &[Entry],
    mut is_kept: impl FnMut() -> bool,
    mut write: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<Lost> {
    let flushed = entries.iter().rposition(|entry| entry.flags & FLUSH != 0);
    let mut lost =
        Lost { flushes: entries.iter().filter(|entry| entry.flags & FLUSH != 0).count(), ..Lost::default() };
    for (place, entry) in entries.iter().enumerate() {
        if flushed.is_some_and(|last| place <= last) || entry.flags & PAST_MEMORY != 0 {
            write(entry.data, entry.at)?;
            continue;
        }
        for (number, block) in entry.data.chunks(BLOCK).enumerate() {
            lost.waiting += 1;
            if is_kept() {
                write(block, entry.at + (number * BLOCK) as u64)?;
            } else {
                lost.lost += 1;
            }
        }
    }
    Ok(lost)
}

/// All of them; `None` where one was begun, and not logged when the machine ended, and later ones were.
fn entries(log: &[u8]) -> Result<Option<Vec<Entry<'_>>>> {
    let number = |at: usize| {
        let bytes = log.get(at..at + 8)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    };
    let mut at = SECTOR as usize;
    let mut entries = Vec::new();
    // Not as many as it says in front: that is brought up to date behind them.
    while let (Some(first), Some(sectors), Some(flags)) = (number(at), number(at + 8), number(at + 16)) {
        if (first, sectors, flags) == (0, 0, 0) {
            return Ok(None);
        }
        at += SECTOR as usize;
        let bytes = if flags & DISCARD == 0 { (sectors * SECTOR) as usize } else { 0 };
        // The last one, of which the machine was not told yet that it is done.
        let Some(data) = log.get(at..at + bytes) else { break };
        at += bytes;
        entries.push(Entry { flags, at: first * SECTOR, data, end: at });
    }
    let is_one = number(0) == Some(MAGIC) && number(24).is_some_and(|size| size & 0xffff_ffff == SECTOR);
    // The first flush writes what stands in front.
    ensure!(is_one || !entries.iter().any(|entry| entry.flags & FLUSH != 0), "the log of the disk is none");
    Ok(Some(entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log: sector, how many, flags, and what each of their bytes is.
    fn log(entries: &[(u64, u64, u64, u8)]) -> Vec<u8> {
        let sector = |numbers: &[u64]| {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            bytes.resize(SECTOR as usize, 0);
            bytes
        };
        let mut log = sector(&[MAGIC, 1, 0, SECTOR]);
        for &(first, sectors, flags, byte) in entries {
            log.extend(sector(&[first, sectors, flags, 0]));
            log.extend(vec![byte; (sectors * SECTOR) as usize]);
        }
        log
    }

    /// The first sectors of the disk, as what their bytes are.
    fn after(log: &[u8], is_kept: bool) -> (Lost, [u8; 4]) {
        let mut disk = vec![0; 4 * SECTOR as usize];
        let entries = entries(log).expect("a log").expect("all of them");
        let lost = replay(
            &entries,
            || is_kept,
            |bytes, at| {
                disk[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
                Ok(())
            },
        );
        (lost.expect("a disk"), [0, 1, 2, 3].map(|sector| disk[sector * SECTOR as usize]))
    }

    #[test]
    fn what_was_flushed_stays_and_what_came_behind_it_may_be_lost() {
        let log = log(&[
            (0, 1, 0, 1),
            (1, 1, 0, 1),
            (0, 0, FLUSH, 0),
            (1, 1, 0, 2),
            (2, 1, PAST_MEMORY, 3),
            (3, 1, 0, 4),
        ]);
        assert_eq!(after(&log, false), (Lost { flushes: 1, never: 0, waiting: 2, lost: 2 }, [1, 1, 3, 0]));
        assert_eq!(after(&log, true), (Lost { flushes: 1, never: 0, waiting: 2, lost: 0 }, [1, 2, 3, 4]));
    }

    #[test]
    fn a_log_that_ends_in_the_middle_is_read_up_to_there() {
        let mut cut = log(&[(0, 1, 0, 1), (0, 0, FLUSH, 0), (1, 2, 0, 2)]);
        cut.truncate(cut.len() - 1);
        assert_eq!(after(&cut, true), (Lost { flushes: 1, never: 0, waiting: 0, lost: 0 }, [1, 0, 0, 0]));
    }

    #[test]
    fn a_log_with_a_gap_says_nothing_of_what_is_behind_it() {
        assert!(entries(&log(&[(0, 1, 0, 1), (0, 0, 0, 0), (0, 0, FLUSH, 0)])).expect("a log").is_none());
        let mut other = log(&[(0, 0, FLUSH, 0)]);
        other[0] ^= 1;
        assert!(entries(&other).is_err());
        assert!(entries(&[]).expect("nothing was written").is_some_and(|all| all.is_empty()));
    }
}
