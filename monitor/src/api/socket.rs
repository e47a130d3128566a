//! The socket's place in the file system: one daemon a place, for root and the configured groups only.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{lock, regular};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon holds the lock.
    #[error("another streamwatch{} already runs here; it holds {}", pid_text(.pid), lock.display())]
    Running { pid: Option<u32>, lock: PathBuf },
    /// The number in the lock's file is not that of who holds the lock.
    #[error(
        "{} is held by a process that it does not name{}: nothing was ended; see which one has that file open \
         (fuser -v {}), and end it, or do this where its processes can be seen",
        lock.display(), named_text(.pid), lock.display()
    )]
    NotTheHolder { pid: Option<u32>, lock: PathBuf },
    /// Somebody else listens there.
    #[error("{}: another program listens on this socket; choose another with --socket", .0.display())]
    Listening(PathBuf),
    /// The path is taken by something that is not a socket.
    #[error("{}: is there and is not a socket; choose another path with --socket", .0.display())]
    NotASocket(PathBuf),
    #[error("{key}: there is no group {group:?} in /etc/group; give one that is there, or its number")]
    NoGroup { key: &'static str, group: String },
    /// A file has one group only, and no access list.
    #[error(
        "{}: two groups may not be let in here ({source}); give api.viewers and api.operators the same \
         group, or put the socket on a file system with access control lists",
        path.display()
    )]
    NoAccessList { path: PathBuf, source: io::Error },
    #[error("cannot {what} {}: {source}{}", path.display(), remedy(.source))]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

fn pid_text(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn remedy(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { "; do it as root" } else { "" }
}

fn named_text(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (it names {pid})")).unwrap_or_default()
}

pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    move |source| SocketError::Io { what, path: path.to_owned(), source }
}

/// Held while the daemon runs: the kernel gives it back however the daemon ends.
#[derive(Debug)]
pub struct InstanceLock {
    file: File,
}

/// How long another's lock is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is begun anew where its file goes meanwhile.
const ATTEMPTS: u32 = 100;

impl InstanceLock {
    /// The file beside `socket` that is locked.
    pub fn path(socket: &Path) -> PathBuf {
        crate::store::beside(socket, ".lock")
    }

    /// Takes the lock beside `socket`; makes the directory (0750) where it is missing.
    pub fn acquire(socket: &Path) -> Result<Self, SocketError> {
        InstanceLock::take(socket, true)
    }

    /// The same for one who is no daemon, and takes away what daemons left: none starts here meanwhile. Says nobody's
    /// number, so that nobody is ended for it.
    pub fn keep_out(socket: &Path) -> Result<Self, SocketError> {
        InstanceLock::take(socket, false)
    }

    fn take(socket: &Path, is_daemon: bool) -> Result<Self, SocketError> {
        let path = InstanceLock::path(socket);
        let mut gone = 0;
        loop {
            let lock = match InstanceLock::take_once(socket, is_daemon) {
                // Who takes a lock away does so between any two steps of this, with the directory; not for ever.
                Err(SocketError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && gone < ATTEMPTS =>
                {
                    gone += 1;
                    continue;
                }
                lock => lock?,
            };
            // Who ended another one may have removed the file since it was opened: then it guards nothing.
            let held = lock.file.metadata().map_err(io_error("look at", &path))?;
            match fs::symlink_metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => return Ok(lock),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("look at", &path)(error)),
            }
        }
    }

    fn take_once(socket: &Path, is_daemon: bool) -> Result<Self, SocketError> {
        make_directory(socket)?;
        let path = InstanceLock::path(socket);
        let open = |options: &mut fs::OpenOptions| {
            regular::open_own(&path, options.mode(0o600)).map_err(io_error("open", &path))
        };
        let mut writer = open(fs::OpenOptions::new().write(true).create(true).truncate(false))?;
        // The one that is kept, and shared: who has it alone can write nothing into it.
        let file = open(fs::OpenOptions::new().read(true))?;
        // The worker of a daemon that was killed holds it for a moment longer.
        if !lock::take(&file, PATIENCE).map_err(io_error("lock", &path))? {
            // The pid is a courtesy: the refusal stands without it.
            return Err(SocketError::Running { pid: pid_in(&file).ok().flatten(), lock: path });
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            if is_daemon { writeln!(file, "{}", std::process::id()) } else { Ok(()) }
        };
        write_pid(&mut writer).map_err(io_error("write", &path))?;
        Ok(InstanceLock { file })
    }

    /// For a process that holds it as well: it is free once both have ended.
    pub fn share(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The socket's file as this daemon made it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: Option<(u64, u64)>,
}

impl SocketFile {
    /// The one that is there now.
    pub fn at(path: &Path) -> Self {
        SocketFile { path: path.to_owned(), id: id_of(path) }
    }

    /// It is there still: who asks comes to this daemon.
    pub fn is_there(&self) -> bool {
        self.id.is_some() && id_of(&self.path) == self.id
    }

    /// Takes it away, unless somebody put something else in its place.
    pub fn remove(&self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// The process number that stands in a lock's file.
pub(super) fn pid_in(file: &File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text)?;
    Ok(text.trim().parse().ok())
}

/// Listens on `path`, for root and these groups only from the first moment on: the socket gets its mode
/// and owner under another name and is then moved into place. A socket that nobody listens on is
/// replaced.
pub(super) fn bind(path: &Path, groups: &[u32]) -> Result<UnixListener, SocketError> {
    make_directory(path)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Listening(path.to_owned())),
        _ => {}
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &new)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&new).map_err(io_error("listen on", &new))?;
    // Owner before mode: with the mode first, the old group could connect in between.
    let group = groups.first().copied();
    if group.is_some() {
        chown(&new, None, group).map_err(io_error("change the group of", &new))?;
    }
    fs::set_permissions(&new, fs::Permissions::from_mode(0o660))
        .map_err(io_error("change the mode of", &new))?;
    let mine = own_directory(path);
    if let (Some(group), Some(directory)) = (group, mine) {
        chown(directory, None, Some(group)).map_err(io_error("change the group of", directory))?;
    }
    if let Some(directory) = mine {
        // Of a group that was let in once. Where there is no list, or can be none, nobody was.
        let _ = rustix::fs::removexattr(directory, ACCESS_LIST);
    }
    for group in groups.iter().skip(1) {
        let read_write = 6;
        admit(&new, *group, read_write)?;
        if let Some(directory) = mine {
            let enter = 5;
            admit(directory, *group, enter)?;
        }
    }
    fs::rename(&new, path).map_err(io_error("create", path))?;
    listener.set_nonblocking(true).map_err(io_error("listen on", path))?;
    Ok(listener)
}

fn make_directory(socket: &Path) -> Result<(), SocketError> {
    let Some(directory) = socket.parent().filter(|it| !it.as_os_str().is_empty()) else { return Ok(()) };
    match fs::DirBuilder::new().mode(0o750).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("make the directory", directory)(error))
        }
        _ => Ok(()),
    }
}

const ACCESS_LIST: &str = "system.posix_acl_access";

/// Lets another group in, next to the one that a file has: `rights` as in a mode. Format: `acl(5)`, and
/// `include/uapi/linux/posix_acl_xattr.h`.
fn admit(path: &Path, group: u32, rights: u16) -> Result<(), SocketError> {
    const VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    let mode = fs::metadata(path).map_err(io_error("look at", path))?.permissions().mode() as u16;
    // The owner, the file's group, the other group, the most that groups get, everybody else.
    let entries = [
        (0x01, mode >> 6 & 7, NOBODY),
        (0x04, mode >> 3 & 7, NOBODY),
        (0x08, rights, group),
        (0x10, rights | mode >> 3 & 7, NOBODY),
        (0x20, 0, NOBODY),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend_from_slice(&u16::to_le_bytes(tag));
        list.extend_from_slice(&rights.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    rustix::fs::setxattr(path, ACCESS_LIST, &list, rustix::fs::XattrFlags::empty())
        .map_err(|error| SocketError::NoAccessList { path: path.to_owned(), source: error.into() })
}

/// The socket's directory, if it is one of ours and not a shared place such as `/tmp`.
fn own_directory(socket: &Path) -> Option<&Path> {
    let directory = socket.parent()?;
    let mode = fs::metadata(directory).ok()?.permissions().mode();
    (directory.ends_with("streamwatch") && mode & 0o007 == 0).then_some(directory)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::tests::Place;

    #[test]
    fn a_second_instance_is_refused_by_pid() {
        let place = Place::new();
        let held = InstanceLock::acquire(&place.socket()).unwrap();
        let refused = InstanceLock::acquire(&place.socket()).unwrap_err().to_string();
        assert!(refused.contains(&format!("(pid {})", std::process::id())), "{refused}");
        // Whoever it is shared with cannot name another process.
        let mut shared = File::from(held.share().try_clone_to_owned().unwrap());
        assert!(shared.write_all(b"1").is_err() && shared.set_len(0).is_err());
        assert_eq!(InstanceLock::holder(&place.socket()).unwrap().unwrap().pid, std::process::id());
        drop((held, shared));
        InstanceLock::acquire(&place.socket()).unwrap();
    }

    #[test]
    fn who_takes_the_lock_away_keeps_nobody_from_it() {
        let place = Place::new();
        let socket = place.socket().with_file_name("streamwatch").join("api.sock");
        let alone = std::sync::Mutex::new(());
        let both = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                for _ in 0..200 {
                    let held = InstanceLock::keep_out(&socket).unwrap();
                    drop(alone.try_lock().unwrap());
                    // With its file the lock is gone: another one may have it from here on.
                    fs::remove_file(InstanceLock::path(&socket)).unwrap();
                    let _ = fs::remove_dir(socket.parent().unwrap());
                    drop(held);
                }
            });
            both.wait();
            for _ in 0..200 {
                let held = InstanceLock::acquire(&socket).unwrap();
                let turn = alone.try_lock().unwrap();
                drop((turn, held));
            }
        });
    }

    #[test]
    fn a_socket_that_was_removed_or_replaced_is_not_there() {
        let place = Place::new();
        let _live = bind(&place.socket(), &[]).unwrap();
        let file = SocketFile::at(&place.socket());
        assert!(file.is_there());
        let other = place.socket().with_extension("other");
        fs::write(&other, "another's").unwrap();
        fs::rename(&other, place.socket()).unwrap();
        assert!(!file.is_there());
        file.remove();
        assert_eq!(fs::read(place.socket()).unwrap(), b"another's");
        fs::remove_file(place.socket()).unwrap();
        assert!(!file.is_there());
    }

    #[test]
    fn stale_is_replaced_and_live_is_not() {
        let place = Place::new();
        drop(UnixListener::bind(place.socket()).unwrap());
        let live = bind(&place.socket(), &[]).unwrap();
        let mode = fs::metadata(place.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(bind(&place.socket(), &[]), Err(SocketError::Listening(_))));
        drop(live);
        fs::remove_file(place.socket()).unwrap();
        fs::write(place.socket(), "precious").unwrap();
        assert!(matches!(bind(&place.socket(), &[]), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read(place.socket()).unwrap(), b"precious");
    }
}
