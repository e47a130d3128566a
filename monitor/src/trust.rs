//! Who else than root and the daemon's user can change a file, or put another one in its place.
//!
//! In: an open file, and the path that led to it. Out: nothing, or what stands against it and what to do. Must never:
//! judge another file than the one that is read.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::identity::HOST;

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
    nobody_else_leads_elsewhere(path).map(drop)
}

/// Whether nobody but root and the daemon's user can put another file in the place of one that is in a directory.
///
/// # Errors
/// Who can, in words that go behind the name of the file.
pub fn nobody_else_replaces(directory: &Path) -> Result<(), String> {
    let real = nobody_else_leads_elsewhere(directory)?;
    judge(&real, "is in").map(drop)
}

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Goes the way of the kernel to what a path names, and judges each directory in which a name is looked up, those of
/// links too: as OpenSSH's StrictModes does of a home without links, and systemd of tmpfiles with them. Where that
/// leads, without links.
fn nobody_else_leads_elsewhere(path: &Path) -> Result<PathBuf, String> {
    let failed = |at: &Path, error: io::Error| format!("{}: {error}", at.display());
    let whole = std::path::absolute(path).map_err(|error| failed(path, error))?;
    let mut at = PathBuf::from("/");
    // What is still to be looked up, the next one last.
    let mut names = names_backwards(&whole);
    let mut links = 0;
    while let Some(name) = names.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let how = if whole.starts_with(&at) { "is in" } else { "is reached through" };
        let entries = judge(&at, how)?;
        let next = at.join(&name);
        let about = next.symlink_metadata().map_err(|error| failed(&next, error))?;
        // What belongs to us is judged by what it is; a directory that is only left again is not.
        if entries == Entries::OfWhoHasThem && !is_ours(&about) {
            let how = if about.is_dir() { how } else { "is reached through" };
            return Err(belongs(&next, &about, how));
        }
        if !about.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(failed(path, Errno::LOOP.into()));
        }
        let target = next.read_link().map_err(|error| failed(&next, error))?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        names.extend(names_backwards(&target));
    }
    Ok(at)
}

fn names_backwards(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.rev().map(|part| part.as_os_str().to_owned()).collect()
}

/// Who can replace what is in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entries {
    /// Root and the daemon's user.
    Ours,
    /// These, and of each entry who has it: others write there, and the sticky bit is set.
    OfWhoHasThem,
}

fn belongs(path: &Path, about: &Metadata, how: &str) -> String {
    let (name, uid) = (path.display(), about.uid());
    format!("{how} {name}, which belongs to user {uid}, who can replace it: expected root")
}

/// Whether a directory cannot be written to, whatever its mode says: it is mounted read-only (a volume of Kubernetes), and
/// it is not the host's own of that path, which only our unit sees so (ProtectSystem of systemd). Where we may not look at the
/// host's it is not said of any.
fn is_read_only(directory: &Path, about: &Metadata) -> io::Result<bool> {
    if !statvfs(directory)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(false);
    }
    let host = Path::new(HOST);
    let there = host.join(directory.strip_prefix("/").unwrap_or(directory));
    Ok(match there.metadata() {
        Ok(its) if (its.dev(), its.ino()) == (about.dev(), about.ino()) => {
            statvfs(&there)?.f_flag.contains(StatVfsMountFlags::RDONLY)
        }
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound && host.metadata().is_ok(),
    })
}

/// Whether a directory is root's or the daemon's user's, and nobody else writes there, or replaces no more than their
/// own.
fn judge(directory: &Path, how: &str) -> Result<Entries, String> {
    let failed = |error: io::Error| format!("{}: {error}", directory.display());
    let about = directory.metadata().map_err(failed)?;
    if !is_ours(&about) {
        return Err(belongs(directory, &about, how));
    }
    let (mode, name) = (about.mode() & 0o7777, directory.display());
    if mode & 0o022 == 0 {
        return Ok(Entries::Ours);
    }
    if is_read_only(directory, &about).map_err(failed)? {
        return Ok(Entries::Ours);
    }
    if mode & 0o1000 != 0 {
        return Ok(Entries::OfWhoHasThem);
    }
    Err(format!("{how} {name}, of mode {mode:04o}: others can replace it; chmod go-w {name}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

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

    /// Whoever can change one link of several has what is read.
    #[test]
    fn each_directory_and_each_link_on_the_way_counts() {
        let place = Place::new();
        let directory = directory(&place);
        let [here, between, under, there] = ["here", "between", "between/under", "there"].map(|name| {
            let path = directory.join(name);
            std::fs::create_dir(&path).unwrap();
            mode(&path, 0o755);
            path
        });
        std::fs::write(there.join("file"), "").unwrap();
        mode(&there.join("file"), 0o644);
        // here/link → between/under/../link → (a directory) between/way/file → there/file.
        let link = here.join("link");
        symlink(under.join("../link"), &link).unwrap();
        symlink("way/file", between.join("link")).unwrap();
        symlink(&there, between.join("way")).unwrap();
        assert_eq!(told(&link), Ok(()));
        for (place, how) in
            [(&here, "is in"), (&between, "is reached through"), (&there, "is reached through")]
        {
            mode(place, 0o777);
            let name = place.canonicalize().unwrap();
            let expected =
                format!("{how} {0}, of mode 0777: others can replace it; chmod go-w {0}", name.display());
            assert_eq!(told(&link), Err(expected));
            mode(place, 0o755);
        }
        // Nothing is looked up in it but what is above.
        mode(&under, 0o777);
        assert_eq!(told(&link), Ok(()));
        // As where a directory is named.
        mode(&between, 0o777);
        assert!(nobody_else_replaces(&between.join("way")).unwrap_err().starts_with("is in "));
        mode(&between, 0o755);
        assert_eq!(nobody_else_replaces(&between.join("way")), Ok(()));
        // A circle is none.
        symlink(here.join("circle"), here.join("circle")).unwrap();
        let error = nobody_else_replaces(&here.join("circle")).unwrap_err();
        assert!(error.contains("symbolic links"), "{error}");
    }

    #[test]
    fn in_a_directory_of_all_a_link_is_replaced_by_who_has_it() {
        // Only root can give a link away.
        if !geteuid().is_root() {
            return;
        }
        let place = Place::new();
        let directory = directory(&place);
        let (all, there) = (directory.join("all"), directory.join("there"));
        for path in [&all, &there] {
            std::fs::create_dir(path).unwrap();
        }
        mode(&there, 0o755);
        let (file, link) = (there.join("file"), all.join("link"));
        std::fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        symlink(&file, &link).unwrap();
        lchown(&link, Some(1), None).unwrap();
        mode(&all, 0o1777);
        assert!(told(&link).unwrap_err().contains("which belongs to user 1, who can replace it"));
        // Nor is it otherwise with a directory, be it only left again.
        let aside = all.join("aside");
        std::fs::create_dir(&aside).unwrap();
        mode(&aside, 0o755);
        let around = aside.join("../../there/file");
        assert_eq!(told(&around), Ok(()));
        chown(&aside, Some(1), None).unwrap();
        assert!(told(&around).unwrap_err().contains("aside, which belongs to user 1, who can replace it"));
        // Elsewhere nobody replaces it, whoever has it.
        mode(&all, 0o755);
        assert_eq!(told(&link), Ok(()));
        lchown(&link, Some(0), None).unwrap();
        mode(&all, 0o1777);
        assert_eq!(told(&link), Ok(()));
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
