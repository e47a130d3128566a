//! `stop` and `uninstall`: ends the daemon, and takes away what outlives it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::args::WhereArguments;
use super::{Failure, write_out};
use crate::api::{Holder, InstanceLock};
use crate::config::{Config, Overrides, Pin};
use crate::daemon;
use crate::kernel::{PinError, Pins, noted_place};
use crate::regular::Instead;
use crate::sink::ToldLog;

/// How long a daemon may take to write what it holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the daemon; its hooks go on counting for the next one, unless they are to go too.
pub(super) fn stop(
    place: WhereArguments,
    socket: Option<PathBuf>,
    detach: bool,
) -> Result<ExitCode, Failure> {
    let config = config(place, socket)?;
    let mut said = String::new();
    end_daemon(&config, &mut said)?;
    if detach {
        take_away(&config, &beside_the_socket(&config.api.socket), &mut said)?;
        remove_empty(config.api.socket.parent(), &mut said)?;
    }
    if said.is_empty() {
        said = "nothing to do: no daemon runs here".to_owned()
            + if detach { ", and no hook is left" } else { "" };
        said.push('\n');
    }
    write_out(said.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The same, and removes every file that a daemon made: its state, sockets and locks.
pub(super) fn uninstall(
    place: WhereArguments,
    socket: Option<PathBuf>,
    keep_state: bool,
) -> Result<ExitCode, Failure> {
    let config = config(place, socket)?;
    let mut said = String::new();
    end_daemon(&config, &mut said)?;
    let socket = &config.api.socket;
    let mut files = beside_the_socket(socket);
    let state = daemon::state_path(&config);
    if !keep_state {
        files.extend(crate::audit::state_files(&state));
        files.extend(crate::store::files(&state));
    }
    files.extend(older_told_file(socket));
    take_away(&config, &files, &mut said)?;
    remove_empty(socket.parent(), &mut said)?;
    if !keep_state {
        remove_empty(state.parent(), &mut said)?;
    }
    if said.is_empty() {
        said = "nothing to do: nothing of streamwatch is left here but the program\n".to_owned();
    }
    write_out(said.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What a daemon keeps beside its socket while it runs, and for the next one; but for its lock.
fn beside_the_socket(socket: &Path) -> Vec<PathBuf> {
    vec![socket.to_owned(), daemon::note_file(socket), daemon::told_file(socket)]
}

/// The file beside the socket in which versions before noted what was told, where it is there and ours.
fn older_told_file(socket: &Path) -> Option<PathBuf> {
    let path = socket.with_file_name("told");
    ToldLog::is_one(&path).then_some(path)
}

fn config(place: WhereArguments, socket: Option<PathBuf>) -> Result<Config, Failure> {
    let overrides = Overrides { socket, pin: place.pin.map(Pin::from), ..Overrides::default() };
    daemon::load_config(&daemon::RunOptions { config: place.config, overrides })
        .map_err(|error| Failure::Usage(error.to_string()))
}

fn end_daemon(config: &Config, said: &mut String) -> Result<(), Failure> {
    let socket = &config.api.socket;
    let holder = InstanceLock::holder(socket).map_err(|error| Failure::Host(error.to_string()))?;
    let Some(Holder { pid, process }) = holder else { return Ok(()) };
    let failed = |what: &str, error: io::Error| {
        Failure::Host(format!("cannot {what} the daemon (pid {pid}): {error}"))
    };
    pidfd_send_signal(&process, Signal::TERM).map_err(|error| failed("end", error.into()))?;
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Err(failed(
            "end",
            io::Error::new(ErrorKind::TimedOut, "it is still there after 30 seconds; look at what it says"),
        )),
        Ok(_) => {
            said.push_str(&format!("ended the daemon (pid {pid})\n"));
            Ok(())
        }
        Err(error) => Err(failed("wait for", error.into())),
    }
}

/// Takes away hooks, maps and these files, and the lock last: a daemon that is started meanwhile waits, and has all of
/// its own.
fn take_away(config: &Config, files: &[PathBuf], said: &mut String) -> Result<(), Failure> {
    let socket = &config.api.socket;
    let lock = InstanceLock::path(socket);
    let is_there = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    let places = pin_places(config);
    let had_lock = is_there(&lock);
    if places.is_empty() && !had_lock && !files.iter().any(|file| is_there(file)) {
        return Ok(());
    }
    let made = socket.parent().filter(|directory| !directory.exists());
    let _held = InstanceLock::keep_out(socket).map_err(|error| Failure::Host(error.to_string()))?;
    places.iter().try_for_each(|place| remove_pins(config, place, said))?;
    remove_all(files, said)?;
    // What was made here to hold is nothing to tell.
    let mut silence = String::new();
    remove(&lock, |path| std::fs::remove_file(path), if had_lock { said } else { &mut silence })?;
    if let Some(made) = made {
        let _ = std::fs::remove_dir(made);
    }
    Ok(())
}

/// Where hooks may be left: as this configuration has it, and as the last daemon beside this socket noted it, which may have
/// had another one.
fn pin_places(config: &Config) -> Vec<PathBuf> {
    let noted = noted_place(&daemon::note_file(&config.api.socket));
    let mut places: Vec<PathBuf> = daemon::pin_place(config).into_iter().chain(noted).collect();
    places.dedup();
    places.retain(|place| place.exists());
    places
}

fn remove_pins(config: &Config, place: &Path, said: &mut String) -> Result<(), Failure> {
    let pins = match Pins::open(place) {
        Ok(pins) => pins,
        // Noted, and another daemon's by now: it has taken them over.
        Err(PinError::InUse(_)) if daemon::pin_place(config).as_deref() != Some(place) => return Ok(()),
        Err(error) => return Err(Failure::Host(error.to_string())),
    };
    let pins = pins.noted_in(daemon::note_file(&config.api.socket));
    pins.remove().map_err(|error| Failure::Host(error.to_string()))?;
    said.push_str(&format!("removed the hooks and maps in {}\n", place.display()));
    // What it says is about hooks that are no more.
    let _ = std::fs::remove_file(daemon::told_file(&config.api.socket));
    Ok(())
}

/// Less what no daemon can have made: a device that a configuration names is another's.
fn remove_all(files: &[PathBuf], said: &mut String) -> Result<(), Failure> {
    let is_device = |path: &PathBuf| {
        let kind = path.symlink_metadata().ok().map(|about| about.file_type());
        kind.and_then(Instead::of) == Some(Instead::Device)
    };
    files
        .iter()
        .filter(|path| !is_device(path))
        .try_for_each(|file| remove(file, |path| std::fs::remove_file(path), said))
}

/// A directory of ours, unless somebody keeps something else there.
fn remove_empty(directory: Option<&Path>, said: &mut String) -> Result<(), Failure> {
    let Some(directory) = directory.filter(|path| path.ends_with("streamwatch")) else { return Ok(()) };
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        other => remove(directory, |_| other, said),
    }
}

fn remove(path: &Path, how: impl FnOnce(&Path) -> io::Result<()>, said: &mut String) -> Result<(), Failure> {
    match how(path) {
        Ok(()) => said.push_str(&format!("removed {}\n", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::Host(format!("cannot remove {}: {error}", path.display()))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::tests::Place;

    #[test]
    fn what_is_a_running_daemons_is_not_taken_away() {
        let place = Place::new();
        let socket = place.socket();
        let config =
            config(WhereArguments { config: None, pin: Some("off".into()) }, Some(socket.clone())).unwrap();
        let files = beside_the_socket(&socket);
        let take_away = || {
            let mut said = String::new();
            take_away(&config, &files, &mut said).map(|()| said)
        };
        // Started since another one was ended.
        let daemon = InstanceLock::acquire(&socket).unwrap();
        files.iter().for_each(|file| std::fs::write(file, "").unwrap());
        let refused = take_away().unwrap_err();
        assert_eq!(refused.code(), 4);
        assert!(refused.to_string().contains("already runs here"), "{refused}");
        assert!(files.iter().all(|file| file.exists()) && InstanceLock::path(&socket).exists());
        drop(daemon);
        assert_eq!(take_away().unwrap().lines().count(), 4);
        assert_eq!(std::fs::read_dir(socket.parent().unwrap()).unwrap().count(), 0);
        assert_eq!(take_away().unwrap(), "");
        // A lock that nobody left is nothing to tell.
        std::fs::write(&socket, "").unwrap();
        assert_eq!(take_away().unwrap(), format!("removed {}\n", socket.display()));
        assert_eq!(std::fs::read_dir(socket.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn what_an_older_version_noted_is_removed_and_what_others_call_so_is_not() {
        let place = Place::new();
        let (socket, older) = (place.socket(), place.socket().with_file_name("told"));
        let uninstall = || {
            let place = WhereArguments { config: None, pin: Some("off".into()) };
            super::uninstall(place, Some(socket.clone()), false).unwrap()
        };
        let file = ToldLog::file(&older).unwrap();
        drop(ToldLog::new(&file, 1).unwrap());
        uninstall();
        assert!(!older.exists());
        std::fs::write(&older, "mine").unwrap();
        uninstall();
        assert_eq!(std::fs::read(&older).unwrap(), b"mine");
    }
}
