//! Certificates that were seen before, so that their rotation can be seen.
//!
//! Kept as the daemon keeps its state: sealed, in two copies (`docs/state.md`), in files of their own, so that an
//! audit needs no daemon. An earlier version left
//! a JSON file in the clear, which is read once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use dissect::Certificate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{State, read_capped};
use crate::keys::{KeyError, Keys};
use crate::regular;
use crate::store::{self, Opened, Store, StoreError};

/// Where it is, unless somebody says otherwise; and where it was.
pub const DEFAULT: &str = "/var/lib/streamwatch/audit.redb";
const DEFAULT_BEFORE: &str = "/var/lib/streamwatch/audit.json";

/// Largest file in the clear that is read.
const LARGEST: u64 = 16 << 20;

/// What the files begin with otherwise.
const MAGIC: &[u8] = b"redb";

/// Services and certificates of each that are remembered; the oldest go.
const SERVICES: usize = 4096;
const CERTIFICATES: usize = 16;

const FORMAT: u32 = 1;

/// Everything remembered.
#[derive(Debug)]
pub struct Memory {
    file: PathBuf,
    store: Store,
    keys: Keys,
    seen: Seen,
    /// What could not be read of what was remembered, a line each.
    pub damage: Vec<String>,
}

/// Certificates by service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    services: BTreeMap<String, Vec<Remembered>>,
    /// Services that are to be written.
    changed: BTreeSet<String>,
}

/// The file of before, in the clear.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clear {
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
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no key for {}: {source}", .file.display())]
    Key { file: PathBuf, source: KeyError },
}

impl MemoryError {
    /// It may be otherwise later, and nothing is wrong with what was asked for: there is no key now, or another
    /// audit is at work.
    pub fn passes(&self) -> bool {
        let store = matches!(self, MemoryError::Store(StoreError::Key { .. } | StoreError::InUse { .. }));
        store || matches!(self, MemoryError::Key { .. })
    }
}

/// All files that audits make by default beside this state of a daemon's, but for the key.
pub fn files(state: &Path) -> Vec<PathBuf> {
    let name = |path: &str| Path::new(path).file_name().map(|name| state.with_file_name(name));
    let (Some(path), Some(before)) = (name(DEFAULT), name(DEFAULT_BEFORE)) else { return Vec::new() };
    let mut files = store::files(&path);
    files.retain(|file| *file != crate::keys::default_file(&path));
    files.extend([aside(&path), before]);
    files
}

/// Where a file in the clear waits while a sealed one takes its name.
fn aside(file: &Path) -> PathBuf {
    store::beside(file, ".clear")
}

impl Memory {
    /// What is there; nothing where there are no files. What is in the clear is sealed, and then removed.
    ///
    /// # Errors
    /// See [`MemoryError`]. A file that can be read and holds something else is never written over.
    pub fn open(file: &Path, settings: &State) -> Result<Memory, MemoryError> {
        let file = file.to_owned();
        let failed = |source| MemoryError::File { file: file.clone(), source };
        let keys =
            Keys::new(settings, &file).map_err(|source| MemoryError::Key { file: file.clone(), source })?;
        let (aside, before) = (aside(&file), PathBuf::from(DEFAULT_BEFORE));
        let clear = is_clear(&file).map_err(failed)?;
        if clear {
            read_clear(&file)?;
            fs::rename(&file, &aside).map_err(failed)?;
        }
        let Opened { store, saved, mut damage, .. } = match Store::open(&file, &keys) {
            Ok(opened) => opened,
            Err(error) => {
                if clear {
                    fs::rename(&aside, &file).map_err(failed)?;
                }
                return Err(error.into());
            }
        };
        let mut seen = Seen::default();
        for (service, certificates) in saved.certificates {
            match serde_json::from_slice(&certificates) {
                Ok(list) => drop(seen.services.insert(service, list)),
                Err(_) => damage.push("what is remembered of a service is not understood".to_owned()),
            }
        }
        let mut memory = Memory { store, keys, seen, damage, file };
        memory.take_over(&aside)?;
        if memory.file == Path::new(DEFAULT) {
            memory.take_over(&before)?;
        }
        Ok(memory)
    }

    /// Seals what an earlier version left in the clear, and removes it.
    fn take_over(&mut self, clear: &Path) -> Result<(), MemoryError> {
        if !clear.try_exists().unwrap_or(false) {
            return Ok(());
        }
        for (service, list) in read_clear(clear)?.services {
            // What was sealed already is as new, or newer.
            if !self.seen.services.contains_key(&service) {
                self.seen.changed.insert(service.clone());
                self.seen.services.insert(service, list);
            }
        }
        self.save()?;
        let removed = fs::remove_file(clear).and_then(|()| store::sync_directory(clear));
        removed.map_err(|source| MemoryError::File { file: clear.to_owned(), source })
    }

    /// Notes the certificate that a service shows now.
    pub fn see(&mut self, service: &str, certificate: &Certificate, now: Timestamp) -> Rotation {
        self.seen.see(service, certificate, now)
    }

    /// Writes what has changed; under another key, where that has changed.
    ///
    /// # Errors
    /// See [`MemoryError`].
    pub fn save(&mut self) -> Result<(), MemoryError> {
        let encoded = |service: &String| {
            let list = self.seen.services.get(service)?;
            serde_json::to_vec(list).ok()
        };
        let changes: Vec<(&str, Option<Vec<u8>>)> =
            self.seen.changed.iter().map(|service| (service.as_str(), encoded(service))).collect();
        if !changes.is_empty() {
            self.store.keep_certificates(changes)?;
        }
        self.seen.changed.clear();
        let no_key = |source| MemoryError::Key { file: self.file.clone(), source };
        let (key, wrapped) = self.keys.new_key().map_err(no_key)?;
        let now = Timestamp::now();
        if self.store.wants_another_key(&wrapped, now) {
            self.store.rewrite(&key, wrapped, now)?;
        }
        Ok(())
    }

    /// An orderly end.
    pub fn close(self) {
        self.store.close();
    }
}

/// Whether a file is there and none of ours, in its present form. Where there is a copy, it was.
fn is_clear(file: &Path) -> io::Result<bool> {
    let [_, copy] = store::paths(file);
    let mut head = Vec::new();
    match regular::open_to_read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(open) => open.take(MAGIC.len() as u64).read_to_end(&mut head)?,
    };
    Ok(head != MAGIC && !copy.try_exists()?)
}

fn read_clear(file: &Path) -> Result<Clear, MemoryError> {
    let wrong = |what: String| MemoryError::Wrong { file: file.to_owned(), what };
    let text = read_capped(file, LARGEST).map_err(|_| wrong("cannot be read".to_owned()))?;
    let clear: Clear = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("is not what an audit left there ({error})")))?;
    match clear.format {
        FORMAT => Ok(clear),
        other => Err(wrong(format!("has format {other}, expected {FORMAT}"))),
    }
}

impl Seen {
    fn see(&mut self, service: &str, certificate: &Certificate, now: Timestamp) -> Rotation {
        if !self.services.contains_key(service) && self.services.len() >= SERVICES {
            let oldest = self
                .services
                .iter()
                .min_by_key(|(_, list)| list.iter().map(|it| it.last_seen).max())
                .map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                self.services.remove(&oldest);
                self.changed.insert(oldest);
            }
        }
        self.changed.insert(service.to_owned());
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
        let mut memory = Seen::default();
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

    /// Files of a test.
    struct Site(tempfile::TempDir);

    impl Site {
        fn new() -> Site {
            Site(crate::temporary::directory())
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("audit.redb")
        }

        fn open(&self) -> Result<Memory, MemoryError> {
            Memory::open(&self.file(), &State::default())
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).unwrap().map(|it| it.unwrap().file_name());
            let mut names: Vec<String> = entries.map(|it| it.into_string().unwrap()).collect();
            names.sort();
            names
        }

        /// Whether any file holds this.
        fn holds(&self, text: &str) -> bool {
            self.names().iter().any(|name| {
                let bytes = fs::read(self.0.path().join(name)).unwrap();
                bytes.windows(text.len()).any(|window| window == text.as_bytes())
            })
        }
    }

    const FILES: [&str; 5] =
        ["audit.redb", "audit.redb.copy", "audit.redb.lock", "audit.redb.sum", "state.key"];

    #[test]
    fn what_was_seen_is_sealed_and_read_back() {
        let site = Site::new();
        let mut memory = site.open().unwrap();
        memory.see("0.0.0.0:443 nginx", &certificate("0123abcd0123abcd", "k"), at(10));
        memory.save().unwrap();
        let services = memory.seen.services.clone();
        // At any moment: it is not closed yet.
        assert!(!site.holds("nginx") && !site.holds("0123abcd"));
        memory.close();
        assert_eq!(site.names(), FILES);
        assert!(!site.holds("nginx") && !site.holds("0123abcd"));
        let memory = site.open().unwrap();
        assert_eq!((memory.seen.services.clone(), memory.damage.len()), (services, 0));
        assert!(matches!(site.open(), Err(error) if error.passes()), "one at a time");
    }

    #[test]
    fn damage_to_one_file_is_told_and_costs_nothing() {
        let site = Site::new();
        let mut memory = site.open().unwrap();
        memory.see("443", &certificate("a", "k"), at(10));
        memory.save().unwrap();
        let services = memory.seen.services.clone();
        memory.close();
        let whole = fs::read(site.file()).unwrap();
        let flipped: Vec<u8> = whole.iter().map(|byte| byte ^ 0x10).collect();
        for damaged in [&flipped[..], b"", &whole[..whole.len() / 2]] {
            fs::write(site.file(), damaged).unwrap();
            let memory = site.open().unwrap();
            assert_eq!(memory.seen.services, services);
            assert!(!memory.damage.is_empty());
            memory.close();
        }
    }

    #[test]
    fn what_an_earlier_version_left_in_the_clear_is_sealed_and_gone() {
        let site = Site::new();
        let old = r#"{"format":1,"services":{"0.0.0.0:443 nginx":[{"sha256":"0123abcd","key_sha256":"k",
            "first_seen":"2026-01-01T00:00:00Z","last_seen":"2026-01-02T00:00:00Z","not_after":5}]}}"#;
        fs::write(site.file(), old).unwrap();
        // A key that is not there: it stays as it is.
        let elsewhere =
            State { key: crate::keys::Place::File(site.0.path().join("no.key")), ..State::default() };
        assert!(matches!(Memory::open(&site.file(), &elsewhere), Err(error) if error.passes()));
        assert_eq!(fs::read_to_string(site.file()).unwrap(), old);
        let mut memory = site.open().unwrap();
        let rotation = memory.see("0.0.0.0:443 nginx", &certificate("0123abcd", "k"), at(20_600));
        assert_eq!((rotation.first_seen, rotation.seen), ("2026-01-01T00:00:00Z".parse().unwrap(), 1));
        memory.close();
        assert_eq!(site.names(), FILES);
        assert!(!site.holds("nginx") && !site.holds("0123abcd"));
        assert_eq!(site.open().unwrap().seen.services.len(), 1);
        // Interrupted between the two names.
        fs::write(aside(&site.file()), old.replace("443", "444")).unwrap();
        assert_eq!(site.open().unwrap().seen.services.len(), 2);
        assert!(!site.names().contains(&"audit.redb.clear".to_owned()));
    }

    #[test]
    fn what_is_no_audits_stays() {
        let site = Site::new();
        for text in ["{\"format\":9,\"services\":{}}", "garbage", ""] {
            fs::write(site.file(), text).unwrap();
            assert!(matches!(site.open(), Err(MemoryError::Wrong { .. })), "{text}");
            assert_eq!(fs::read_to_string(site.file()).unwrap(), text);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Seen::default();
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
