//! Who else than root and the daemon's user can change a file, or put another one in its place.
//!
//! In: an open file, and the path that led to it. Out: nothing, or what stands against it and what to do. Must never:
//! judge another file than the one that is read.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::process::geteuid;

/// Whether it is root's, or the daemon's user's.
pub fn is_ours(about: &Metadata) -> bool {
    [0, geteuid().as_raw()].contains(&about.uid())
}

/// Whether nobody else can change what is read of this file, which was opened by this path; a link is as good as what
/// it leads to, where nobody else can change the link.
///
/// # Errors
/// Who can, and what to do, in one line.
pub fn nobody_else_changes(file: &File, path: &Path) -> Result<(), String> {
    let name = path.display();
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !is_ours(&about) {
        let uid = about.uid();
        return Err(format!("belongs to user {uid}, who can change it: expected root; chown root {name}"));
    }
    // What is written to a device is not what is read of it.
    if about.mode() & 0o022 != 0 && !about.file_type().is_char_device() {
        let mode = about.mode() & 0o7777;
        return Err(format!("has mode {mode:04o}: others can change it; chmod go-w {name}"));
    }
    if !about.is_file() {
        return Ok(());
    }
    nobody_else_replaces(directory_of(path))?;
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    nobody_else_replaces(directory_of(&real))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether nobody but root and the daemon's user can put another file in the place of one that is in a directory: as
/// OpenSSH's StrictModes asks of a home, of the directory and of all that lead to it. Here the sticky bit will do, with
/// which a file is renamed and removed by who has it, or has the directory.
///
/// # Errors
/// Who can, in words that go behind the name of the file.
pub fn nobody_else_replaces(directory: &Path) -> Result<(), String> {
    let real = directory.canonicalize().map_err(|error| format!("{}: {error}", directory.display()))?;
    for directory in real.ancestors() {
        let about = directory.metadata().map_err(|error| format!("{}: {error}", directory.display()))?;
        let (mode, name) = (about.mode() & 0o7777, directory.display());
        if !is_ours(&about) {
            return Err(format!(
                "is in {name}, which belongs to user {}, who can replace it: expected root",
                about.uid()
            ));
        }
        if mode & 0o022 != 0 && mode & 0o1000 == 0 {
            return Err(format!(
                "is in {name}, of mode {mode:04o}: others can replace it; chmod go-w {name}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use super::*;
    use crate::api::tests::Place;

    fn told(path: &Path) -> Result<(), String> {
        nobody_else_changes(&File::open(path).unwrap(), path)
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn directory(place: &Place) -> PathBuf {
        let directory = place.socket().parent().unwrap().to_owned();
        std::fs::create_dir_all(&directory).unwrap();
        mode(&directory, 0o755);
        directory
    }

    #[test]
    fn a_file_is_ours_where_nobody_else_can_write_to_it_or_replace_it() {
        let place = Place::new();
        let directory = directory(&place);
        let path = directory.join("file");
        std::fs::write(&path, "").unwrap();
        for bad in [0o664, 0o646, 0o622, 0o660] {
            mode(&path, bad);
            let expected = format!("has mode {bad:04o}: others can change it; chmod go-w {}", path.display());
            assert_eq!(told(&path), Err(expected));
        }
        for good in [0o644, 0o600, 0o444, 0o755] {
            mode(&path, good);
            assert_eq!(told(&path), Ok(()), "{good:o}");
        }
        for bad in [0o777, 0o775, 0o757] {
            mode(&directory, bad);
            let told = told(&path).unwrap_err();
            assert!(
                told.ends_with(&format!(
                    "of mode {bad:04o}: others can replace it; chmod go-w {}",
                    directory.canonicalize().unwrap().display()
                )),
                "{told}"
            );
        }
        mode(&directory, 0o1777);
        assert_eq!(told(&path), Ok(()));
        // Nothing is changed by what is written there.
        assert_eq!(told(Path::new("/dev/null")), Ok(()));
    }

    /// A link says nothing of its own: what counts is what is read, and who can have the link lead elsewhere.
    #[test]
    fn of_a_link_what_is_read_counts_and_who_can_change_the_link() {
        let place = Place::new();
        let directory = directory(&place);
        let (here, there) = (directory.join("here"), directory.join("there"));
        for path in [&here, &there] {
            std::fs::create_dir(path).unwrap();
            mode(path, 0o755);
        }
        let (file, link) = (there.join("file"), here.join("link"));
        std::fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        symlink(&file, &link).unwrap();
        assert_eq!(told(&link), Ok(()));
        for place in [&here, &there] {
            mode(place, 0o777);
            assert!(told(&link).unwrap_err().contains("of mode 0777"), "{}", place.display());
            mode(place, 0o755);
        }
        mode(&file, 0o666);
        assert!(told(&link).unwrap_err().starts_with("has mode 0666"));
        mode(&file, 0o644);
        // What was opened counts, not what is there by now.
        let opened = File::open(&link).unwrap();
        mode(&file, 0o666);
        std::fs::rename(&file, there.join("before")).unwrap();
        std::fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        assert_eq!(told(&link), Ok(()));
        assert!(nobody_else_changes(&opened, &link).unwrap_err().starts_with("has mode 0666"));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_ours() {
        // Only root can give a file away.
        if !geteuid().is_root() {
            return;
        }
        let place = Place::new();
        let directory = directory(&place);
        let path = directory.join("file");
        std::fs::write(&path, "").unwrap();
        mode(&path, 0o644);
        chown(&path, Some(1), None).unwrap();
        let expected = "belongs to user 1, who can change it: expected root; chown root ";
        assert!(told(&path).unwrap_err().starts_with(expected), "{:?}", told(&path));
        chown(&path, Some(0), None).unwrap();
        chown(&directory, Some(1), None).unwrap();
        assert!(told(&path).unwrap_err().contains("which belongs to user 1, who can replace it"));
    }
}
