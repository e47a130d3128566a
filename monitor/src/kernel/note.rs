//! What this daemon leaves pinned, noted in a file: so that the next one knows when it is gone, or is other.
//!
//! In: numbers of hooks, programs and maps, which the kernel gives to nothing else until it is started anew. Out: the
//! same, to a daemon of the same boot that pins in the same place. Must never: be believed where others may write; keep
//! a daemon from its start.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::regular;

/// Which boot this is, as the kernel says it (random(4)).
///
/// # Errors
/// It does not.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// Where the daemon left its pins whose note is in that file, in this boot.
pub fn noted_place(path: &Path) -> Option<PathBuf> {
    Note::of_this_boot(path).map(|note| note.place)
}

/// More than one has.
const MOST: u64 = 1 << 16;

/// All of it, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    boot: String,
    /// The directory of the pins.
    place: PathBuf,
    /// The number of the one that is watched.
    cgroup: u64,
    /// Of each hook, the number of its link and that of its program.
    hooks: BTreeMap<String, (u32, u32)>,
    maps: BTreeMap<String, u32>,
}

impl Note {
    /// Of this boot, with nothing in it.
    ///
    /// # Errors
    /// The kernel does not say which boot this is.
    pub fn new(place: &Path, cgroup: u64) -> io::Result<Note> {
        Ok(Note { boot: boot_id()?, place: place.to_owned(), cgroup, ..Note::default() })
    }

    /// The one in a file, if it is of this boot, of this place, and was written by nobody else.
    pub fn read(path: &Path, place: &Path) -> Option<Note> {
        Note::of_this_boot(path).filter(|note| note.place == place)
    }

    /// The same, wherever its pins are.
    fn of_this_boot(path: &Path) -> Option<Note> {
        let file = regular::open_own(path, OpenOptions::new().read(true)).ok()?;
        let about = file.metadata().ok()?;
        let own = rustix::process::geteuid().as_raw();
        if about.uid() != own || about.mode() & 0o022 != 0 {
            return None;
        }
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        (note.boot == boot_id().ok()?).then_some(note)
    }

    pub fn hook(&mut self, name: &str, link: u32, program: u32) {
        self.hooks.insert(name.to_owned(), (link, program));
    }

    pub fn map(&mut self, name: &str, id: u32) {
        self.maps.insert(name.to_owned(), id);
    }

    /// Hooks were left at this cgroup.
    pub fn is_at(&self, cgroup: u64) -> bool {
        self.cgroup == cgroup
    }

    /// The hook was left like this.
    pub fn has_hook(&self, name: &str, link: u32, program: u32) -> bool {
        self.hooks.get(name) == Some(&(link, program))
    }

    /// The map was left like this.
    pub fn has_map(&self, name: &str, id: u32) -> bool {
        self.maps.get(name) == Some(&id)
    }

    /// Writes it: at any moment there is the one before, or this one.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let new = crate::store::beside(path, ".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written =
            serde_json::to_vec(self).map_err(io::Error::from).and_then(|text| file.write_all(&text));
        let done = written.and_then(|()| fs::rename(&new, path));
        if done.is_err() {
            let _ = fs::remove_file(&new);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::api::tests::Place;

    #[test]
    fn what_was_left_is_believed_in_the_same_boot_and_place_and_of_nobody_else() {
        let place = Place::new();
        let (path, pins) = (place.socket(), Path::new("/sys/fs/bpf/streamwatch"));
        assert_eq!(Note::read(&path, pins), None);
        let mut note = Note::new(pins, 5).unwrap();
        note.hook("sent", 7, 8);
        note.map("EVENTS", 9);
        note.write(&path).unwrap();
        note.write(&path).unwrap();
        let read = Note::read(&path, pins).unwrap();
        assert_eq!(read, note);
        assert!(
            read.has_hook("sent", 7, 8) && !read.has_hook("sent", 7, 9) && !read.has_hook("received", 7, 8)
        );
        assert!(read.is_at(5) && !read.is_at(0));
        assert!(read.has_map("EVENTS", 9) && !read.has_map("EVENTS", 7) && !read.has_map("JOURNAL", 9));
        assert_eq!(Note::read(&path, Path::new("/elsewhere")), None);
        assert_eq!(noted_place(&path).as_deref(), Some(pins));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(Note::read(&path, pins), None);
        assert_eq!(noted_place(&path), None);
        Note { boot: "another".into(), ..note.clone() }.write(&path).unwrap();
        assert_eq!((Note::read(&path, pins), noted_place(&path)), (None, None));
        note.write(&path).unwrap();
        let other = path.with_extension("other");
        symlink(&path, &other).unwrap();
        assert_eq!(Note::read(&other, pins), None);
        for text in ["", "{}", "[]", "{\"boot\":1}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(Note::read(&path, pins), None);
        }
        assert!(note.write(&path.join("within")).is_err());
    }
}
