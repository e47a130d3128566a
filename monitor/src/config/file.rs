//! TOML files that people write: read with a cap, and refused in one line that says where.
//!
//! Shared by the configuration and the policy. A file is somebody's text: nothing of it reaches a
//! message unescaped, and no text makes it panic.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result as IoResult};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use toml::de::DeValue;

use crate::record::is_active;
use crate::trust;

/// How long a pipe may take to say all that it says: who names one may be about to write to it, and a daemon that
/// waited for ever would hear no signal any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read at all.
    #[error("{}: can't be read: {source}", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    /// It is longer than anybody would write.
    #[error("{}: is larger than {most} bytes: expected TOML of at most as many", .file.display())]
    TooLarge { file: PathBuf, most: u64 },
    /// Somebody else can change it, and what it names is used with root's powers.
    #[error("{}: not taken: it {what}", .file.display())]
    Others { file: PathBuf, what: String },
    /// Something in it is wrong; line and column count from 1, the column in characters.
    #[error("{}:{line}:{column}: {what}", .file.display())]
    Wrong { file: PathBuf, line: usize, column: usize, what: String },
}

impl FileError {
    /// An error at a byte offset of `text`.
    pub fn at(file: &Path, text: &str, offset: usize, what: impl AsRef<str>) -> FileError {
        let (line, column) = place(text, offset);
        FileError::Wrong { file: file.to_owned(), line, column, what: one_line(what.as_ref()) }
    }
}

/// Reads a file of at most `most` bytes as UTF-8; of a pipe, what it says within [`PATIENCE`].
pub fn read_capped(path: &Path, most: u64) -> Result<String, FileError> {
    Ok(read_judged(path, most)?.text)
}

/// What a file says, and whether it is root's (or the daemon's user's) word alone.
pub struct Judged {
    pub text: String,
    /// Who else can change what was read, and what to do.
    pub others: Result<(), String>,
}

/// The same as [`read_capped`], and who else can change the file that was read.
pub fn read_judged(path: &Path, most: u64) -> Result<Judged, FileError> {
    let unreadable = |source| FileError::Unreadable { file: path.to_owned(), source };
    // A pipe is opened without waiting for who writes to it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let others = trust::nobody_else_changes(&file, path);
    let bytes = all_of(file, most + 1, PATIENCE).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(FileError::TooLarge { file: path.to_owned(), most });
    }
    Ok(Judged { text: text_of(path, bytes)?, others })
}

/// As UTF-8.
pub fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, FileError> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        FileError::at(path, &text, good, "a byte that is not UTF-8, expected a TOML file in UTF-8")
    })
}

/// Up to so many bytes.
fn all_of(mut file: File, most: u64, patience: Duration) -> IoResult<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.take(most).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let until = Instant::now() + patience;
    let mut buffer = [0; 4096];
    while (bytes.len() as u64) < most {
        let rest =
            Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(Error::other)?;
        let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&rest)) {
            Ok(0) => {
                let what = format!("nothing more came of it in {patience:?}");
                return Err(Error::new(ErrorKind::TimedOut, what));
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Parses; the error names the place and what was expected.
pub fn parse_toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, FileError> {
    toml::from_str(text).map_err(|error| {
        let Range { start, .. } = error.span().unwrap_or(0..0);
        FileError::at(path, text, start, with_suggestion(error.message()))
    })
}

/// Where the value of `section.key`, or of one below it, begins in a TOML text; a number names one of an array.
pub fn offset_of(text: &str, field: &str) -> Option<usize> {
    let root = toml::de::DeTable::parse(text).ok()?;
    let mut names = field.split('.');
    let mut found = root.get_ref().get(names.next()?)?;
    for name in names {
        found = match found.get_ref() {
            DeValue::Table(table) => table.get(name)?,
            DeValue::Array(array) => array.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(found.span().start)
}

/// Line and column, from 1, of a byte offset; the column counts characters.
pub fn place(text: &str, offset: usize) -> (usize, usize) {
    let offset = text.floor_char_boundary(offset.min(text.len()));
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// serde names an unknown key and every known one; people want the one that they meant.
fn with_suggestion(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_owned() };
    let Some((unknown, rest)) = rest.split_once('`') else { return message.to_owned() };
    let nearest = rest
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
        .min();
    match nearest {
        Some((distance, known)) if distance <= 1 + unknown.len() / 4 => {
            format!("{message}; did you mean `{known}`?")
        }
        _ => message.to_owned(),
    }
}

/// One line, without control characters, of bounded length.
fn one_line(message: &str) -> String {
    const LONGEST: usize = 400;
    let mut line = String::new();
    for character in message.trim().chars().take(LONGEST) {
        match character {
            '\n' => line.push_str("; "),
            active if is_active(active) => line.extend(active.escape_default()),
            plain => line.push(plain),
        }
    }
    line
}
