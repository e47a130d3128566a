//! One process, as `/proc/PID` shows it.
//!
//! Everything is read through one descriptor of `/proc/PID`: it stands for that very process, and
//! fails once the process is gone, even when another has got its pid. All of it is text that
//! somebody else chose: capped, and lossy where it is not UTF-8.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat, openat2, readlinkat_raw, statx,
};
use rustix::io::Errno;

use super::cgroup::{Maker, Place, place_of_proc_cgroup};
use super::command_line::command_line as command_line_of;

/// An executable's path that is longer is not told, or a part of it would pass for the path of another.
const LONGEST_PATH: usize = 512;
/// What the kernel puts behind the path of a file that has none any more.
const DELETED: &str = " (deleted)";
const LONGEST_STAT: usize = 4096;
const LONGEST_STATUS: usize = 16 << 10;
const LONGEST_COMMAND_LINE: usize = 4096;
const LONGEST_CGROUPS: usize = 64 << 10;
/// Threads of one whose first has ended that are asked what they run.
const MOST_ASKED: usize = 16;
/// The root directory of the host: what this process sees of it, its unit may have hidden in part.
pub(crate) const HOST: &str = "/proc/1/root";
/// Where that is kept from us (by AppArmor, say): our own.
const OURS: &str = "/proc/self/root";

/// `/proc/PID` of one process.
pub struct ProcessDirectory(OwnedFd);

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub name: String,
    /// `Z`: it has ended, and its parent has not asked yet.
    pub state: char,
    /// Start, in clock ticks since boot.
    pub start_ticks: u64,
    /// A thread of the kernel's own (`PF_KTHREAD`).
    pub is_kernel: bool,
}

/// `include/linux/sched.h`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Who runs it, and where. The kernel says so without waiting for the process, or for any file system: it takes no lock
/// that a process can hold (`fs/proc/array.c`, `proc_cgroup_show`), but, where it has forgotten the name of a cgroup, that of
/// a directory of root's that this is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub users: Option<UserIds>,
    pub place: Place,
    /// Some kernels do not tell a path of more than a page: who may make cgroups may so keep it from us.
    pub place_hidden: bool,
}

/// What it runs. To look at that may take as long as the process likes: its arguments are read under the lock of its memory
/// (`access_remote_vm`), and its executable may be on a file system that does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub executable: Option<String>,
    pub executable_elsewhere: bool,
    pub command_line: Option<String>,
    /// The system did not let us look.
    pub refused: bool,
}

/// The file that a process runs, as far as the kernel says so without waiting for the process or for any file system: it
/// keeps it at hand (`get_mm_exe_file`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutableAtOnce {
    path: String,
    file: FileId,
    /// The host has that very file at its path; `None`: the kernel did not have the path in mind.
    is_of_the_host: Option<bool>,
    /// It is in a mount namespace of root's: see [`is_of_the_host`].
    in_one_of_root: [bool; 2],
}

/// Its device and its inode.
type FileId = (u32, u32, u64);

impl ExecutableAtOnce {
    pub fn is_at(&self, path: &str) -> bool {
        self.path == path
    }

    /// Its path, and whether that is another's: as [`Details`] has it. `None`: that cannot be told.
    pub fn told(&self, standing: &Standing) -> Option<(String, bool)> {
        let is_contained = standing.place_hidden || standing.place.container.is_some();
        let is_root = standing.users.is_some_and(UserIds::is_root);
        let [same_mounts, same_users] = self.in_one_of_root;
        let by_root = is_root && (same_mounts || !is_contained && same_users);
        // One that was removed is looked for in its place, which may take long.
        let is_known = by_root || self.is_of_the_host.is_some() && !self.path.ends_with(DELETED);
        let is_of_the_host = by_root || self.is_of_the_host == Some(true);
        (is_known && self.path.len() <= LONGEST_PATH).then(|| (self.path.clone(), !is_of_the_host))
    }
}

/// Of `Uid:` in proc_pid_status(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserIds {
    pub real: u32,
    pub effective: u32,
}

impl UserIds {
    fn is_root(self) -> bool {
        self.real == 0 && self.effective == 0
    }
}

impl ProcessDirectory {
    pub fn open(pid: u32) -> io::Result<ProcessDirectory> {
        open_directory(CWD, format!("/proc/{pid}")).map(ProcessDirectory)
    }

    /// # Errors
    /// [`is_gone`] says whether it has ended.
    pub fn stat(&self) -> io::Result<Stat> {
        read_stat(self.0.as_fd())
    }

    /// `maker`: who may have made cgroups below a directory.
    pub fn standing(&self, maker: &dyn Fn(&str) -> Maker) -> Standing {
        let place = read_capped(self.0.as_fd(), "cgroup", LONGEST_CGROUPS)
            .map(|bytes| place_of_proc_cgroup(&String::from_utf8_lossy(&bytes), maker));
        let users = self.users();
        Standing { users, place_hidden: place.is_err(), place: place.unwrap_or_default() }
    }

    pub fn users(&self) -> Option<UserIds> {
        read_status(self.0.as_fd()).ok().and_then(|bytes| user_ids(&bytes))
    }

    /// `host`: see [`root_of_the_host`]. `None`: it has ended, or we may not look.
    pub fn executable_at_once(&self, host: Option<&OwnedFd>) -> Option<ExecutableAtOnce> {
        let (of_thread, path) = self.running();
        let directory = of_thread.as_ref().unwrap_or(&self.0).as_fd();
        let path = path.ok()?;
        let file = file_id(directory, "exe")?;
        let in_one = |its: &str, ours: &str| is_one_file(directory, its, ours);
        let in_one_of_root = [in_one("ns/mnt", "/proc/self/ns/mnt"), in_one("ns/user", "/proc/self/ns/user")];
        let ours = if host.is_none() && in_one_of_root[0] { root(OURS) } else { None };
        // A host that we may not look at has it nowhere.
        let is_of_the_host =
            host.or(ours.as_ref()).map_or(Some(false), |host| is_file_in_mind(host.as_fd(), &path, file));
        Some(ExecutableAtOnce { path, file, is_of_the_host, in_one_of_root })
    }

    /// Whether this is still the file that it runs. `None`: it has ended, or we may not look.
    pub fn runs(&self, executable: &ExecutableAtOnce) -> Option<bool> {
        let file = file_id(self.0.as_fd(), "exe");
        let file = file.or_else(|| file_id(living_thread(self.0.as_fd())?.as_fd(), "exe"));
        file.map(|file| file == executable.file)
    }

    /// The link to what it runs; and where that was read, if not here: see [`living_thread`].
    fn running(&self) -> (Option<OwnedFd>, io::Result<String>) {
        match read_link(self.0.as_fd(), "exe") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match living_thread(self.0.as_fd()) {
                Some(thread) => {
                    let link = read_link(thread.as_fd(), "exe");
                    (Some(thread), link)
                }
                None => (None, Err(error)),
            },
            link => (None, link),
        }
    }

    /// May never return.
    pub fn details(&self, standing: &Standing) -> Details {
        let (of_thread, executable) = self.running();
        let directory = of_thread.as_ref().unwrap_or(&self.0).as_fd();
        let refused = matches!(&executable, Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
        let executable = executable.ok().map(path);
        let is_contained = standing.place_hidden || standing.place.container.is_some();
        let is_root = standing.users.is_some_and(UserIds::is_root);
        let command_line = read_capped(directory, "cmdline", LONGEST_COMMAND_LINE).ok();
        Details {
            executable_elsewhere: executable
                .as_deref()
                .is_some_and(|path| !is_of_the_host(directory, HOST, path, is_contained, is_root)),
            executable,
            command_line: command_line.and_then(|bytes| command_line_of(&bytes)),
            refused,
        }
    }

    /// Whether any of its threads is so, of so many at most: the oldest ones. `pid`: the first of them, which is not
    /// asked.
    pub fn any_other_thread(&self, pid: u32, most: usize, mut is: impl FnMut(&Stat) -> bool) -> bool {
        let Ok(threads) = open_directory(self.0.as_fd(), "task") else { return false };
        let Ok(entries) = Dir::read_from(&threads) else { return false };
        let ids =
            entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok());
        ids.filter(|id: &u32| *id != pid).take(most).any(|id| {
            let bytes = read_capped(threads.as_fd(), format!("{id}/stat"), LONGEST_STAT);
            bytes.ok().and_then(|bytes| stat(&bytes)).is_some_and(|stat| is(&stat))
        })
    }
}

/// Of a process whose first thread has ended before others, one of these: it has let go of what they all run and have open.
pub fn living_thread(process: BorrowedFd<'_>) -> Option<OwnedFd> {
    let threads = open_directory(process, "task").ok()?;
    let entries = Dir::read_from(&threads).ok()?.filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    let names = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let mut opened = names.take(MOST_ASKED).filter_map(|name| open_directory(threads.as_fd(), name).ok());
    opened.find(|thread| read_link(thread.as_fd(), "exe").is_ok())
}

/// Whether a process's executable is what the host has at that path. A mount namespace alone does not tell: who makes
/// one can have a file opened there, under another's path, and executed outside. Of root it is taken to be,
/// in a mount namespace of root's (a unit with a private /tmp). `host`: the root directory of the host; where we may not
/// look at that, what we see ourselves counts for who sees the same.
fn is_of_the_host(
    directory: BorrowedFd<'_>,
    host: &str,
    path: &str,
    is_contained: bool,
    is_root: bool,
) -> bool {
    let in_one = |its: &str, ours: &str| is_one_file(directory, its, ours);
    let made_by_root =
        || in_one("ns/mnt", "/proc/self/ns/mnt") || !is_contained && in_one("ns/user", "/proc/self/ns/user");
    let is_there = |root: &str| in_one("exe", &format!("{root}{path}"));
    let is_ours = || root(host).is_none() && in_one("ns/mnt", "/proc/self/ns/mnt") && is_there(OURS);
    is_there(host) || is_ours() || made_by_root() && (is_root || was_in_its_place(directory, path))
}

fn is_one_file(directory: BorrowedFd<'_>, its: &str, ours: &str) -> bool {
    let its = file_id(directory, its);
    its.is_some() && its == file_id(CWD, ours)
}

fn file_id(at: BorrowedFd<'_>, name: &str) -> Option<FileId> {
    let found = stat_as_known(at, name, StatxFlags::INO)?;
    Some((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

/// The root directory of the host, to look from: on the way there is a link that the kernel follows only where it may wait.
pub fn root_of_the_host() -> Option<OwnedFd> {
    root(HOST)
}

/// Whether the files that processes of the host run can be asked for there.
pub fn sees_the_host() -> bool {
    root_of_the_host().is_some()
}

fn root(of: &str) -> Option<OwnedFd> {
    openat(CWD, of, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Whether the host has this file at that path. `None`: the kernel would have to ask a file system (RESOLVE_CACHED of
/// openat2(2), since Linux 5.12), which may not answer.
fn is_file_in_mind(host: BorrowedFd<'_>, path: &str, file: FileId) -> Option<bool> {
    let (flags, how) = (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::CACHED | ResolveFlags::NO_SYMLINKS);
    match openat2(host, path.trim_start_matches('/'), flags, Mode::empty(), how) {
        Ok(found) => Some(file_id(found.as_fd(), "")? == file),
        Err(Errno::NOENT | Errno::NOTDIR) => Some(false),
        Err(_) => None,
    }
}

/// What is known of a file without asking whoever serves its file system: a user's own process may, and not answer. An
/// overlay asks as who mounted it, so that it is asked also where others may not look. `name`: none is what is
/// opened itself.
pub fn stat_as_known(at: BorrowedFd<'_>, name: &str, what: StatxFlags) -> Option<Statx> {
    statx(at, name, AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH, what).ok()
}

/// Whether the file was removed or replaced there, by an upgrade as a rule: then it is on the mount that the directory is
/// on, in the mount namespace of the process. A file that was mounted over another one is on a mount of its own.
fn was_in_its_place(directory: BorrowedFd<'_>, path: &str) -> bool {
    let folder = path.strip_suffix(DELETED).and_then(|path| path.rsplit_once('/'));
    let Some((folder, _)) = folder else { return false };
    let mount = |name: &str| {
        let found = stat_as_known(directory, name, StatxFlags::MNT_ID)?;
        (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
    };
    let executable = mount("exe");
    executable.is_some() && executable == mount(&format!("root{folder}/"))
}

impl AsFd for ProcessDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a process is no more. Nothing else that fails says that: there may be no descriptor left to look at it with.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// Calls `each` with every process there is that can be looked at, and its directory.
pub fn each_process(mut each: impl FnMut(u32, BorrowedFd<'_>)) {
    let _ = each_entry(|pid, _, proc| {
        if let Ok(directory) = open_directory(proc, pid.to_string()) {
            each(pid, directory.as_fd());
        }
    });
}

/// Calls `each` with every process there is, the inode of its directory, and the directory that this is in. No other
/// process has that inode: it is a number of the kernel's that comes round after 2³² of them.
///
/// # Errors
/// There may be more.
pub fn each_entry(mut each: impl FnMut(u32, u64, BorrowedFd<'_>)) -> io::Result<()> {
    let proc = open_directory(CWD, "/proc")?;
    for entry in Dir::read_from(&proc)? {
        let entry = entry?;
        if let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
            each(pid, entry.ino(), proc.as_fd());
        }
    }
    Ok(())
}

pub fn open_directory(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What `/proc/PID/stat` says.
pub fn read_stat(process: BorrowedFd<'_>) -> io::Result<Stat> {
    stat(&read_capped(process, "stat", LONGEST_STAT)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `/proc/PID/status`, as text.
pub fn read_status(process: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    read_capped(process, "status", LONGEST_STATUS)
}

/// The first `most` bytes of a file.
pub fn read_capped(at: BorrowedFd<'_>, name: impl rustix::path::Arg, most: usize) -> io::Result<Vec<u8>> {
    let file = openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(file), most as u64), &mut bytes)?;
    Ok(bytes)
}

/// Target of a symbolic link, of at most a page.
pub fn read_link(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<String> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let (target, _) = readlinkat_raw(at, name, &mut buffer)?;
    Ok(String::from_utf8_lossy(target).into_owned())
}

/// The path as it is told: whole, or what no policy's path is.
fn path(mut path: String) -> String {
    if path.len() > LONGEST_PATH {
        return format!("… (a path of {} bytes)", path.len());
    }
    path.shrink_to_fit();
    path
}

/// The name stands in brackets and may itself hold brackets and spaces: it ends at the last one.
pub fn stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let name = bytes.get(open + 1..close)?;
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Fields 9 and 22 of the file; the state is field 3.
    let flags: u64 = fields.nth(9 - 4)?.parse().ok()?;
    let start_ticks = fields.nth(22 - 10)?.parse().ok()?;
    let name = String::from_utf8_lossy(name).into_owned();
    Some(Stat { name, state, start_ticks, is_kernel: flags & PF_KTHREAD != 0 })
}

/// `Uid:` of proc_pid_status(5): real, effective, saved, file system.
pub fn user_ids(bytes: &[u8]) -> Option<UserIds> {
    let text = String::from_utf8_lossy(bytes);
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut ids = ids.split_ascii_whitespace().map(str::parse);
    Some(UserIds { real: ids.next()?.ok()?, effective: ids.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_may_hold_brackets() {
        let line = b"42 (a) S (b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        let expected = Stat { name: "a) S (b".into(), state: 'R', start_ticks: 777, is_kernel: false };
        assert_eq!(stat(line), Some(expected));
    }

    #[test]
    fn a_thread_of_the_kernel_is_told_from_a_process() {
        let line = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 4 0 0 20 0 1 0 6 0 0";
        let expected = Stat { name: "kthreadd".into(), state: 'S', start_ticks: 6, is_kernel: true };
        assert_eq!(stat(line), Some(expected));
        let own = ProcessDirectory::open(std::process::id()).unwrap().stat().unwrap();
        assert!(!own.is_kernel);
    }

    #[test]
    fn a_path_that_is_cut_is_no_path() {
        let long = format!("/opt/{}/serve", "a".repeat(LONGEST_PATH));
        assert_eq!(path(long), "… (a path of 523 bytes)");
        let whole = format!("/{}", "a".repeat(LONGEST_PATH - 1));
        assert_eq!(path(whole.clone()), whole);
        // Lossy, it was three times as long.
        assert!(path("\u{fffd}".repeat(4096)).len() < 64);
        for pattern in ["/opt/*", "/*", "/opt/*serve?", "*serve", "*/serve*", "/????"] {
            let long = path(format!("/opt/{}/serve", "a".repeat(600)));
            assert!(!wildmatch::WildMatch::new(pattern).matches(&long), "{pattern}");
        }
    }

    #[test]
    fn the_real_user_is_the_first_and_the_effective_the_second() {
        let expected = Some(UserIds { real: 1000, effective: 33 });
        assert_eq!(user_ids(b"Name:\tUid:\nUid:\t1000\t33\t0\t0\n"), expected);
    }

    #[test]
    fn this_process_is_seen() {
        let directory = ProcessDirectory::open(std::process::id()).unwrap();
        assert!(directory.stat().unwrap().start_ticks > 0);
        let standing = directory.standing(&|_| Maker::Host);
        let details = directory.details(&standing);
        let own = std::env::current_exe().unwrap();
        assert_eq!(details.executable.as_deref(), own.to_str());
        assert_eq!(standing.users.map(|ids| ids.effective), Some(rustix::process::geteuid().as_raw()));
        assert!(details.command_line.unwrap().starts_with(&std::env::args().next().unwrap()));
    }

    /// Of another user than root, which is taken at its word.
    #[test]
    fn a_program_is_the_hosts_where_it_was_begun_also_once_it_is_removed() {
        let directory = crate::temporary::directory();
        let program = directory.path().join("waits");
        // By another process: an open copy here would be handed to what other tests begin.
        let copied = std::process::Command::new("cp").arg("/bin/sleep").arg(&program).status().unwrap();
        assert!(copied.success());
        let mut child = std::process::Command::new(&program).arg("30").spawn().unwrap();
        let process = ProcessDirectory::open(child.id()).unwrap();
        let is_of_the_host = |path: &str| is_of_the_host(process.as_fd(), "", path, false, false);
        let path = program.to_str().unwrap();
        let there = is_of_the_host(path);
        let elsewhere = is_of_the_host("/bin/ls");
        std::fs::remove_file(&program).unwrap();
        let removed = is_of_the_host(&format!("{path}{DELETED}"));
        // On another mount.
        let other = is_of_the_host(&format!("/proc/waits{DELETED}"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((there, elsewhere, removed, other), (true, false, true, false));
    }

    /// A security module may keep the first process from us, whoever we are.
    #[test]
    fn where_the_host_is_kept_from_us_what_we_see_counts_for_who_sees_the_same() {
        let child = |command: &mut std::process::Command| {
            let child = command.stdin(std::process::Stdio::null()).spawn().unwrap();
            (ProcessDirectory::open(child.id()).unwrap(), child)
        };
        let (process, mut same) = child(std::process::Command::new("/bin/sleep").arg("30"));
        let (elsewhere, mut other) = child(std::process::Command::new("unshare").args(["-m", "sleep", "30"]));
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let is_in_another = || is_one_file(elsewhere.as_fd(), "ns/mnt", "/proc/self/ns/mnt");
        while is_in_another() && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let kept = "/proc/self/nowhere";
        let path = |process: &ProcessDirectory| read_link(process.as_fd(), "exe").unwrap();
        let is = |process: &ProcessDirectory, path: &str| {
            is_of_the_host(process.as_fd(), kept, path, false, false)
        };
        let at_once = |process: &ProcessDirectory| process.executable_at_once(None).unwrap().is_of_the_host;
        let found = (is(&process, &path(&process)), is(&process, "/bin/ls"), at_once(&process));
        let not = (is(&elsewhere, &path(&elsewhere)), at_once(&elsewhere));
        for child in [&mut same, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(found, (true, false, Some(true)));
        if rustix::process::geteuid().is_root() {
            assert_eq!(not, (false, Some(false)));
        }
    }

    #[test]
    fn a_directory_stands_for_one_process() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let directory = ProcessDirectory::open(child.id()).unwrap();
        child.wait().unwrap();
        assert!(is_gone(&directory.stat().unwrap_err()));
        let standing = directory.standing(&|_| Maker::Host);
        assert_eq!(standing, Standing { place_hidden: true, ..Standing::default() });
        assert_eq!(directory.details(&standing), Details::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (stat(&bytes), command_line_of(&bytes), user_ids(&bytes));
        }

        #[test]
        fn any_likely_stat_is_read_or_refused(text in "[0-9]{1,3} \\(.{0,20}[)] [A-Z]?( -?[0-9]{1,30}){0,30}") {
            let _ = stat(text.as_bytes());
        }
    }
}
