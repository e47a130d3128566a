//! The files of a policy: one, or all `*.toml` of a directory in the order of their names.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PolicyError;
use crate::config::{LARGEST_FILE, read_judged};

/// Files of one directory.
const MOST_FILES: usize = 1024;

/// One file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceText {
    pub path: PathBuf,
    pub text: String,
    /// Who else can change it.
    #[serde(skip)]
    pub others: Option<String>,
    /// Where its lines end, so that a place is found without counting them again.
    newlines: Vec<usize>,
}

impl SourceText {
    pub fn new(path: PathBuf, text: String) -> SourceText {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at);
        SourceText { newlines: newlines.collect(), path, text, others: None }
    }

    fn read(path: PathBuf) -> Result<SourceText, PolicyError> {
        let read = read_judged(&path, LARGEST_FILE)?;
        Ok(SourceText { others: read.others.err(), ..SourceText::new(path, read.text) })
    }

    /// The line of a byte offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < offset) + 1
    }
}

/// Reads them. A directory without a single `*.toml` is refused: it is a wrong path, as a rule.
pub fn read(path: &Path) -> Result<Vec<SourceText>, PolicyError> {
    if !path.is_dir() {
        return Ok(vec![SourceText::read(path.to_owned())?]);
    }
    let unreadable = |source| PolicyError::Unreadable { file: path.to_owned(), source };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    if files.is_empty() || files.len() > MOST_FILES {
        let what = format!("has {} *.toml files, expected 1 to {MOST_FILES}", files.len());
        return Err(unreadable(std::io::Error::other(what)));
    }
    files.sort();
    let (mut sources, mut bytes) = (Vec::with_capacity(files.len()), 0);
    for file in files {
        // One that is no file could keep whoever reads waiting, and so could each of a thousand.
        if !file.is_file() {
            let source = std::io::Error::other("is no regular file");
            return Err(PolicyError::Unreadable { file, source });
        }
        let source = SourceText::read(file)?;
        bytes += source.text.len() as u64;
        if bytes > LARGEST_FILE {
            return Err(PolicyError::TooLarge { file: path.to_owned(), most: LARGEST_FILE });
        }
        sources.push(source);
    }
    Ok(sources)
}
