//! User names: `/etc/passwd`, read again when it changes. No directory service is asked: that
//! could block for as long as a network does.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::regular;

/// Longest file that is read.
const LARGEST: u64 = 4 << 20;
/// Nanoseconds between two looks at the file.
const LOOK_EVERY_NS: u64 = 2_000_000_000;

pub struct Users {
    path: PathBuf,
    names: HashMap<u32, String>,
    /// Modification time and length of what was read.
    version: Option<(SystemTime, u64)>,
    looked_ns: Option<u64>,
}

impl Users {
    pub fn new(path: PathBuf) -> Users {
        Users { path, names: HashMap::new(), version: None, looked_ns: None }
    }

    /// `now_ns`: CLOCK_MONOTONIC.
    pub fn name(&mut self, uid: u32, now_ns: u64) -> Option<String> {
        if self.looked_ns.is_none_or(|then| now_ns.saturating_sub(then) >= LOOK_EVERY_NS) {
            self.looked_ns = Some(now_ns);
            self.look();
        }
        self.names.get(&uid).cloned()
    }

    /// A file that is away for a moment, as while it is being replaced, takes no name away.
    fn look(&mut self) {
        let Ok(file) = regular::open_to_read(&self.path) else { return };
        let Ok(meta) = file.metadata() else { return };
        let version = meta.modified().ok().map(|modified| (modified, meta.len()));
        if version.is_some() && version == self.version {
            return;
        }
        let mut bytes = Vec::new();
        if file.take(LARGEST).read_to_end(&mut bytes).is_ok() {
            self.names = names(&bytes);
            self.version = version;
        }
    }
}

/// passwd(5): `name:password:uid:…`; the first line of a uid counts.
pub(super) fn names(bytes: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else { continue };
        let uid = std::str::from_utf8(uid).ok().and_then(|uid| uid.parse().ok());
        if let Some(uid) = uid
            && (1..=256).contains(&name.len())
            && !name.starts_with(b"#")
        {
            names.entry(uid).or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_entries_are_skipped() {
        let names =
            names(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n#a:x:5:5\n+\n:x:7:\nb:x:-1:\nc:x:9\n\xff:x:10:\n");
        let mut all: Vec<_> = names.into_iter().collect();
        all.sort();
        assert_eq!(all, [(0, "root".to_owned()), (9, "c".to_owned()), (10, "\u{fffd}".to_owned())]);
    }

    #[test]
    fn this_host_has_root() {
        let mut users = Users::new("/etc/passwd".into());
        assert_eq!(users.name(0, 0).as_deref(), Some("root"));
        assert_eq!(users.name(4_000_000_000, 0), None);
    }
}
