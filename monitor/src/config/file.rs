//! TOML files that people write: read with a cap, and refused in one line that says where.
//!
//! Shared by the configuration and the policy. A file is somebody's text: nothing of it reaches a
//! message unescaped, and no text makes it panic.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read at all.
    #[error("{}: can't be read: {source}", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    /// It is longer than anybody would write.
    #[error("{}: is larger than {most} bytes: expected a TOML file", .file.display())]
    TooLarge { file: PathBuf, most: u64 },
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

/// Reads a file of at most `most` bytes as UTF-8.
pub fn read_capped(path: &Path, most: u64) -> Result<String, FileError> {
    let unreadable = |source| FileError::Unreadable { file: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(FileError::TooLarge { file: path.to_owned(), most });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        FileError::at(path, &text, good, "a byte that is not UTF-8, expected a TOML file in UTF-8")
    })
}

/// Parses; the error names the place and what was expected.
pub fn parse_toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, FileError> {
    toml::from_str(text).map_err(|error| {
        let Range { start, .. } = error.span().unwrap_or(0..0);
        FileError::at(path, text, start, with_suggestion(error.message()))
    })
}

/// Where the value of `section.key`, or of one below it, begins in a TOML text.
pub fn offset_of(text: &str, field: &str) -> Option<usize> {
    let root = toml::de::DeTable::parse(text).ok()?.into_inner();
    let (path, key) = field.rsplit_once('.')?;
    let table = path.split('.').try_fold(&root, |table, name| table.get(name)?.get_ref().as_table())?;
    Some(table.get(key)?.span().start)
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
            control if control.is_control() => line.extend(control.escape_default()),
            plain => line.push(plain),
        }
    }
    line
}
