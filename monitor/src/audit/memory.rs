//! Certificates that were seen before, so that their rotation can be seen.
//!
//! A JSON file that is replaced as a whole: a reader, or the next audit, sees the old one or the new one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dissect::Certificate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::read_capped;

/// Where it is, unless somebody says otherwise.
pub const DEFAULT: &str = "/var/lib/streamwatch/audit.json";

/// Largest file that is read.
const LARGEST: u64 = 16 << 20;

/// Services and certificates of each that are remembered; the oldest go.
const SERVICES: usize = 4096;
const CERTIFICATES: usize = 16;

const FORMAT: u32 = 1;

/// Everything remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    format: u32,
    services: BTreeMap<String, Vec<Remembered>>,
}

/// One certificate of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    pub sha256: String,
    pub key_sha256: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// How the certificate of a service came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// When this certificate was first seen here.
    pub first_seen: Timestamp,
    /// Days since then.
    pub age_days: i64,
    /// When it took another one's place; absent: none was seen before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_change: Option<Timestamp>,
    /// SHA-256 of that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_sha256: Option<String>,
    /// It has the key of one before it.
    pub key_reused: bool,
    /// Certificates of this service that are remembered, this one included.
    pub seen: usize,
}

/// Why it cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("{}: {what}: move it away, or name another one with --state", .file.display())]
    Wrong { file: PathBuf, what: String },
    #[error("{}: cannot be written: {source}", .file.display())]
    Write { file: PathBuf, source: io::Error },
}

impl Memory {
    /// What is there; nothing where there is no file.
    pub fn load(file: &Path) -> Result<Memory, MemoryError> {
        let wrong = |what: String| MemoryError::Wrong { file: file.to_owned(), what };
        match fs::metadata(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Memory { format: FORMAT, ..Memory::default() });
            }
            Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
            Ok(_) => {}
        }
        let text = read_capped(file, LARGEST).map_err(|_| wrong("cannot be read".to_owned()))?;
        let memory: Memory = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("is not what an audit left there ({error})")))?;
        if memory.format != FORMAT {
            return Err(wrong(format!("has format {}, expected {FORMAT}", memory.format)));
        }
        Ok(memory)
    }

    /// Notes the certificate that a service shows now.
    pub fn see(&mut self, service: &str, certificate: &Certificate, now: Timestamp) -> Rotation {
        if !self.services.contains_key(service) && self.services.len() >= SERVICES {
            let oldest = self
                .services
                .iter()
                .min_by_key(|(_, list)| list.iter().map(|it| it.last_seen).max())
                .map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                self.services.remove(&oldest);
            }
        }
        let list = self.services.entry(service.to_owned()).or_default();
        // The last one is the present one; an old one that comes back is seen anew.
        let same = list.last_mut().filter(|last| last.sha256 == certificate.sha256);
        match same {
            Some(last) => last.last_seen = last.last_seen.max(now),
            None => {
                list.push(Remembered {
                    sha256: certificate.sha256.clone(),
                    key_sha256: certificate.key_sha256.clone(),
                    first_seen: now,
                    last_seen: now,
                    not_after: certificate.not_after,
                });
                if list.len() > CERTIFICATES {
                    list.remove(0);
                }
            }
        }
        let (before, first_seen) = match list.split_last() {
            Some((last, before)) => (before, last.first_seen),
            None => (&[][..], now),
        };
        let same_key =
            |old: &Remembered| !old.key_sha256.is_empty() && old.key_sha256 == certificate.key_sha256;
        Rotation {
            first_seen,
            age_days: (now.as_second() - first_seen.as_second()).max(0) / 86_400,
            last_change: (!before.is_empty()).then_some(first_seen),
            previous_sha256: before.last().map(|old| old.sha256.clone()),
            key_reused: before.iter().any(|old| old.sha256 != certificate.sha256 && same_key(old)),
            seen: before.len() + 1,
        }
    }

    /// Replaces the file.
    pub fn save(&self, file: &Path) -> Result<(), MemoryError> {
        self.write(file).map_err(|source| MemoryError::Write { file: file.to_owned(), source })
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        let directory = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let name = file.file_name().ok_or(ErrorKind::InvalidInput)?;
        let mut fresh = name.to_owned();
        fresh.push(format!(".{}", std::process::id()));
        let fresh = directory.join(fresh);
        let written = (|| {
            let mut out =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            serde_json::to_writer(&mut out, self)?;
            out.write_all(b"\n")?;
            out.sync_all()?;
            fs::rename(&fresh, file)?;
            File::open(directory)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: i64 = 86_400;

    fn certificate(sha256: &str, key: &str) -> Certificate {
        Certificate { sha256: sha256.into(), key_sha256: key.into(), ..Certificate::default() }
    }

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * DAY).unwrap()
    }

    #[test]
    fn age_change_and_a_key_that_stays() {
        let mut memory = Memory::default();
        let first = memory.see("443", &certificate("a", "k"), at(10));
        assert_eq!((first.age_days, first.last_change, first.key_reused), (0, None, false));
        assert_eq!(memory.see("443", &certificate("a", "k"), at(15)).age_days, 5);
        let renewed = memory.see("443", &certificate("b", "k"), at(20));
        assert_eq!(renewed.last_change, Some(at(20)));
        assert_eq!(renewed.previous_sha256.as_deref(), Some("a"));
        assert!(renewed.key_reused);
        let fresh = memory.see("443", &certificate("c", "l"), at(30));
        assert!(!fresh.key_reused);
        assert_eq!(memory.see("443", &certificate("c", "l"), at(31)).seen, 3);
        assert_eq!(memory.see("444", &certificate("c", "l"), at(31)).seen, 1);
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let directory = std::env::temp_dir().join(format!("streamwatch-audit-{}", std::process::id()));
        let file = directory.join("deep/audit.json");
        let mut memory = Memory::load(&file).unwrap();
        memory.see("443", &certificate("a", "k"), at(10));
        memory.save(&file).unwrap();
        memory.save(&file).unwrap();
        assert_eq!(Memory::load(&file).unwrap(), memory);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        fs::write(&file, "{\"format\":9,\"services\":{}}").unwrap();
        assert!(Memory::load(&file).unwrap_err().to_string().contains("format 9"));
        fs::write(&file, "garbage").unwrap();
        assert!(matches!(Memory::load(&file), Err(MemoryError::Wrong { .. })));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        for day in 0..100 {
            memory.see("443", &certificate(&day.to_string(), ""), at(day));
        }
        assert_eq!(memory.services["443"].len(), CERTIFICATES);
        for service in 0..SERVICES as i64 + 10 {
            memory.see(&service.to_string(), &certificate("a", ""), at(200 + service));
        }
        assert_eq!(memory.services.len(), SERVICES);
    }
}
