//! Hooks that outlive the daemon: where they are, what the one before left, and what stays at the end.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::start::RunError;
use crate::api;
use crate::config::{Config, Pin};
use crate::kernel::{Beginning, Kernel, LoadError, PinError, Pins, Stays, usual_place};
use crate::sink::ToldLog;

/// Where hooks and maps are pinned with this configuration; `None`: nowhere.
pub fn place(config: &Config) -> Option<PathBuf> {
    match &config.kernel.pin {
        Pin::Off => None,
        Pin::At(path) => Some(path.clone()),
        Pin::Auto
            if config.api.socket == Path::new(api::DEFAULT_SOCKET) && config.kernel.cgroup.is_none() =>
        {
            Some(usual_place())
        }
        Pin::Auto => None,
    }
}

/// Opens the place. Where that was not asked for in so many words, a host that has none is told, and
/// watched all the same.
///
/// # Errors
/// The place that was asked for cannot be had, or another daemon has it.
pub fn open(config: &Config) -> Result<Option<Pins>, LoadError> {
    let Some(place) = place(config) else { return Ok(None) };
    match Pins::open(&place) {
        Ok(pins) => {
            let note = note_file(&config.api.socket);
            if !told_file(&config.api.socket).exists() {
                // Versions before took the hooks and that file away, and know of no note.
                let _ = std::fs::remove_file(&note);
            }
            Ok(Some(pins.noted_in(note)))
        }
        Err(error @ PinError::Io { .. }) if config.kernel.pin == Pin::Auto => {
            say!("streamwatch: the hooks go with the daemon: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Where it is noted what was told: in a file, for the next daemon, where the hooks outlive this one; else
/// in memory, for the next worker.
///
/// # Errors
/// The kernel gives no memory.
pub fn told(config: &Config, kernel: &Kernel) -> Result<File, RunError> {
    let in_memory =
        || ToldLog::memory().map_err(|error| RunError::Host(format!("no memory for what was told: {error}")));
    if kernel.pinned_at().is_none() {
        return in_memory();
    }
    let path = told_file(&config.api.socket);
    // As versions before called it, whatever the socket was called.
    let older = config.api.socket.with_file_name("told");
    if !path.exists() && ToldLog::is_one(&older) {
        let _ = std::fs::rename(older, &path);
    }
    ToldLog::file(&path).or_else(|error| {
        say!(
            "streamwatch: {}: {error}: what is told when the daemon is killed may be told again",
            path.display()
        );
        in_memory()
    })
}

/// The file that says what was told, beside the API's socket.
pub fn told_file(socket: &Path) -> PathBuf {
    crate::store::beside(socket, ".told")
}

/// The file that says what was left pinned, beside the API's socket.
pub fn note_file(socket: &Path) -> PathBuf {
    crate::store::beside(socket, ".pins")
}

/// Says what was found, where something was.
pub fn tell(kernel: &Kernel) {
    let Some(place) = kernel.pinned_at() else { return };
    match kernel.beginning() {
        Beginning::Fresh => {}
        Beginning::TakenOver => say!(
            "streamwatch: took over the hooks in {}: what passed while no daemon ran was counted",
            place.display()
        ),
        Beginning::MovedOver(why) => say!(
            "streamwatch: new hooks in {}, since {why}: connections that are open now count as from before the \
             start",
            place.display()
        ),
    }
}

/// Says what stays.
pub fn tell_end(place: &Path, stays: &Stays) {
    let place = place.display();
    match stays {
        Stays::All => say!(
            "streamwatch: ended; the hooks in {place} stay and go on counting for the next start ('streamwatch \
             stop --detach' removes them)"
        ),
        Stays::Without(lost) => say!(
            "streamwatch: ended; of the hooks and maps in {place} these are gone, changed, or lost their pins: {lost}; \
             the next start replaces the others, and what passes until then is not told ('streamwatch stop --detach' \
             removes them)"
        ),
        Stays::Nothing => say!(
            "streamwatch: ended; the hooks in {place} are gone, or lost their pins: what passes until the next \
             start is not counted"
        ),
    }
}
