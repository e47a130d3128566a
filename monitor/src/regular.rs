//! Files that are meant to be regular ones, opened without waiting for anybody.
//!
//! In: a path. Out: the file there, open; or what stands in its place. Must never: wait for who is at the other end of
//! a pipe; take a device for a file.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Files of the host that are read as a whole are no longer than this: lists of users and groups, of certificates.
pub const LARGEST: u64 = 16 << 20;

/// What stands where a regular file is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    Directory,
    Pipe,
    Socket,
    Device,
    /// A symbolic link that leads in a circle, or where none is followed.
    Link,
}

#[derive(Debug, thiserror::Error)]
#[error("is {}, expected a regular file: take it away, or name another file", .0.in_words())]
struct NoFile(Instead);

impl Instead {
    /// `None`: a regular file.
    pub fn of(kind: FileType) -> Option<Instead> {
        match kind {
            kind if kind.is_file() => None,
            kind if kind.is_dir() => Some(Instead::Directory),
            kind if kind.is_fifo() => Some(Instead::Pipe),
            kind if kind.is_socket() => Some(Instead::Socket),
            kind if kind.is_symlink() => Some(Instead::Link),
            _ => Some(Instead::Device),
        }
    }

    /// With its article.
    pub fn in_words(self) -> &'static str {
        match self {
            Instead::Directory => "a directory",
            Instead::Pipe => "a named pipe (FIFO)",
            Instead::Socket => "a socket",
            Instead::Device => "a device",
            Instead::Link => "a symbolic link",
        }
    }

    /// It is nothing that anybody would miss under this name: what is in directories, and other programs' devices,
    /// is not ours to move.
    pub fn can_be_put_aside(self) -> bool {
        !matches!(self, Instead::Directory | Instead::Device)
    }
}

/// What an error of [`open`] says stands there.
pub fn instead(error: &io::Error) -> Option<Instead> {
    error.get_ref()?.downcast_ref::<NoFile>().map(|no_file| no_file.0)
}

/// Opens a file; links are followed.
///
/// # Errors
/// It cannot be opened, or is none: [`instead`].
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    opened(path, options, OFlags::empty(), |path| path.metadata())
}

/// The same of a file that we made ourselves, which is no link.
///
/// # Errors
/// As [`open`].
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    opened(path, options, OFlags::NOFOLLOW, |path| path.symlink_metadata())
}

/// Opens a file to be read; links are followed.
///
/// # Errors
/// As [`open`].
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// All of a file of at most `most` bytes; links are followed.
///
/// # Errors
/// As [`open`]; it cannot be read; or it is longer.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_to_read(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("is larger than {most} bytes")));
    }
    Ok(bytes)
}

fn opened(
    path: &Path,
    options: &mut OpenOptions,
    more: OFlags,
    look: fn(&Path) -> io::Result<Metadata>,
) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    let no_file = |about: io::Result<Metadata>| about.ok().and_then(|about| Instead::of(about.file_type()));
    let (result, instead) = match options.custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => {
            let instead = Instead::of(file.metadata()?.file_type());
            (Ok(file), instead)
        }
        // A circle of links, or one where none is wanted.
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            (Err(error), no_file(path.symlink_metadata()))
        }
        Err(error) => (Err(error), no_file(look(path))),
    };
    match instead {
        Some(instead) => Err(io::Error::other(NoFile(instead))),
        None => result,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;
    use crate::api::tests::Place;

    /// All that may stand where a file is meant to be.
    fn others(place: &Path) -> Vec<(PathBuf, Instead)> {
        let named = |name: &str| place.join(name);
        mkfifoat(CWD, named("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        std::fs::create_dir(named("directory")).unwrap();
        drop(UnixListener::bind(named("a-socket")).unwrap());
        symlink(named("circle"), named("circle")).unwrap();
        vec![
            (named("pipe"), Instead::Pipe),
            (named("directory"), Instead::Directory),
            (named("a-socket"), Instead::Socket),
            (named("circle"), Instead::Link),
            (PathBuf::from("/dev/null"), Instead::Device),
            (PathBuf::from("/dev/zero"), Instead::Device),
        ]
    }

    #[test]
    fn what_is_no_regular_file_is_said_at_once_however_it_is_opened() {
        let place = Place::new();
        let directory = place.socket().parent().unwrap().to_owned();
        std::fs::create_dir_all(&directory).unwrap();
        for (path, expected) in others(&directory) {
            let ways = [
                OpenOptions::new().read(true).clone(),
                OpenOptions::new().write(true).create(true).truncate(false).clone(),
                OpenOptions::new().append(true).create(true).clone(),
                OpenOptions::new().read(true).write(true).clone(),
            ];
            for mut way in ways {
                for open in [open, open_own] {
                    let error = open(&path, &mut way).unwrap_err();
                    assert_eq!(instead(&error), Some(expected), "{}: {error}", path.display());
                    assert!(error.to_string().contains(expected.in_words()), "{error}");
                }
            }
            assert_eq!(instead(&read(&path, 1).unwrap_err()), Some(expected), "{}", path.display());
        }
    }

    #[test]
    fn a_file_is_read_as_far_as_it_may_be_long_and_a_link_is_followed_where_it_may_be() {
        let place = Place::new();
        let directory = place.socket().parent().unwrap().to_owned();
        std::fs::create_dir_all(&directory).unwrap();
        let (path, link) = (directory.join("file"), directory.join("link"));
        std::fs::write(&path, "four").unwrap();
        symlink(&path, &link).unwrap();
        assert_eq!(read(&link, 4).unwrap(), b"four");
        assert_eq!(read(&path, 3).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let error = open_own(&link, OpenOptions::new().read(true)).unwrap_err();
        assert_eq!(instead(&error), Some(Instead::Link));
        // Nothing that says otherwise, where there is nothing.
        assert_eq!(read(&directory.join("none"), 1).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
