//! SHA-256 of both files after an orderly end: a byte that has changed since is found, be it in no record.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::copy::sync_directory;
use super::record::Sealer;
use super::{beside, paths};
use crate::regular;

/// Two sums and a tag.
const LENGTH: u64 = 3 * 32;

/// No copy is longer: full tables are a tenth of it. What was stretched would be read for minutes.
const LONGEST: u64 = 2 << 30;

pub fn path(state: &Path) -> PathBuf {
    beside(state, ".sum")
}

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub enum Sums {
    /// There is none: the daemon before did not end in order, or there was none.
    None,
    /// It is not ours, or damaged.
    Damaged,
    /// Whether each copy is as it was.
    Same([bool; 2]),
}

/// Writes them, whole or not at all.
pub fn write(state: &Path, sealer: &Sealer) -> io::Result<()> {
    let mut bytes = Vec::new();
    for copy in paths(state) {
        bytes.extend(digest(&copy)?);
    }
    bytes.extend(sealer.tag(&[b"sums", &bytes]));
    let new = beside(&path(state), ".new");
    // What an attempt before has left; or anybody.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path(state))?;
    sync_directory(state)
}

pub fn check(state: &Path, sealer: &Sealer) -> Sums {
    let bytes = match regular::read(&path(state), LENGTH) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Sums::None,
        Err(_) => return Sums::Damaged,
    };
    let Some((sums, tag)) = bytes.split_last_chunk::<32>() else { return Sums::Damaged };
    if sums.len() != 64 || *tag != sealer.tag(&[b"sums", sums]) {
        return Sums::Damaged;
    }
    let is = |copy: &Path, sum: &[u8]| digest(copy).is_ok_and(|digest| digest[..] == *sum);
    let [first, second] = paths(state);
    Sums::Same([is(&first, &sums[..32]), is(&second, &sums[32..])])
}

/// From here on the files change.
pub fn remove(state: &Path) -> io::Result<()> {
    match std::fs::remove_file(path(state)) {
        Ok(()) => sync_directory(state),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = regular::open_to_read(path)?;
    if file.metadata()?.len() > LONGEST {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&buffer[..length]),
        }
    }
}
