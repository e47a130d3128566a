//! Whether the hooks, and the names that keep them and their maps, are still what this daemon left: looked at now and
//! then, and put right where that is wanted. Where their cgroup was removed, which takes them along, and made again,
//! that is the new one.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aya::Ebpf;
use monitor_sys::bpf;
use rustix::io::Errno;

use super::load::{HOOKS, LoadError, MAPS, program};
use super::note::Note;
use super::pins::{Pins, make_set, remove};
use crate::model::Tampered;

/// One hook, held.
struct Held {
    link: OwnedFd,
    program: OwnedFd,
    /// Its number in the kernel, of the program that was attached.
    runs: u32,
    pin: Option<PathBuf>,
}

/// One map, held for its name.
struct Named {
    name: &'static str,
    map: OwnedFd,
    id: u32,
    pin: PathBuf,
}

/// All of them.
pub struct Hooks {
    held: Vec<Held>,
    maps: Vec<Named>,
    /// Where they have names: nobody else's business.
    directories: Vec<PathBuf>,
    /// The file that says what is left there.
    note: Option<PathBuf>,
    cgroup: Watched,
    /// What was found at the start, to be told with the first look.
    found: Vec<Tampered>,
}

/// They, as long as somebody is to look at them; `None`: not yet, or no more.
pub type SharedHooks = Arc<Mutex<Option<Hooks>>>;

/// What is wrong with a hook.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Detached,
    WithItsCgroup,
    Moved,
    OtherProgram,
    NoPin,
    OtherPin,
    Silent,
}

impl Wrong {
    fn text(self) -> &'static str {
        match self {
            Wrong::Detached => "was detached",
            Wrong::WithItsCgroup => "was detached: its cgroup was removed",
            Wrong::Moved => "was moved to another cgroup",
            Wrong::OtherProgram => "runs another program",
            Wrong::NoPin => "lost its pin",
            Wrong::OtherPin => "lost its pin to something else",
            Wrong::Silent => "cannot be asked any more",
        }
    }

    /// What it does is done all the same.
    fn works(self) -> bool {
        matches!(self, Wrong::NoPin | Wrong::OtherPin)
    }
}

/// The cgroup that is watched.
pub(super) struct Watched {
    path: PathBuf,
    directory: File,
    /// The number of its directory (kernfs).
    pub id: u64,
}

impl Watched {
    pub fn open(path: &Path) -> io::Result<Watched> {
        let directory = File::open(path)?;
        let id = directory.metadata()?.ino();
        Ok(Watched { path: path.to_owned(), directory, id })
    }

    pub fn directory(&self) -> &File {
        &self.directory
    }

    /// Another one has its name by now, or none has.
    fn is_gone(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |there| there.ino() != self.id)
    }
}

impl Hooks {
    pub(super) fn new(
        links: Vec<OwnedFd>,
        cgroup: Watched,
        ebpf: &Ebpf,
        pins: Option<&Pins>,
        found: Vec<Tampered>,
    ) -> Result<Hooks, LoadError> {
        let mut held = Vec::new();
        for (hook, link) in HOOKS.iter().zip(links) {
            let failed = |error| LoadError::Attach { name: hook.name, error };
            let runs = bpf::link_info(link.as_fd()).map_err(failed)?.program;
            let program = program(ebpf, hook.name)?.try_clone_to_owned().map_err(failed)?;
            held.push(Held { link, program, runs, pin: pins.map(|pins| pins.link(hook)) });
        }
        let (mut maps, mut directories) = (Vec::new(), Vec::new());
        if let Some(pins) = pins {
            for name in MAPS {
                let pin = pins.map(name);
                let failed = |error| LoadError::Map(format!("{name}: {error}"));
                let map = bpf::open(&pin).map_err(failed)?;
                let id = bpf::id(map.as_fd()).map_err(failed)?;
                maps.push(Named { name, map, id, pin });
            }
            directories.extend([pins.root().to_owned(), pins.ours()]);
        }
        let note = pins.and_then(Pins::note).map(Path::to_owned);
        let hooks = Hooks { held, maps, directories, note, cgroup, found };
        hooks.write_note();
        Ok(hooks)
    }

    /// For the next daemon.
    fn write_note(&self) {
        let (Some(path), Some(place)) = (&self.note, self.directories.first()) else { return };
        let written = Note::new(place, self.cgroup.id).and_then(|mut note| {
            for (hook, held) in HOOKS.iter().zip(&self.held) {
                note.hook(hook.name, bpf::link_info(held.link.as_fd())?.id, held.runs);
            }
            self.maps.iter().for_each(|map| note.map(map.name, map.id));
            note.write(path)
        });
        if let Err(error) = written {
            say!(
                "streamwatch: {}: {error}: the next start cannot tell whether all hooks were taken away until then",
                path.display()
            );
        }
    }

    /// Looks at every hook, and at the names; what is not as it was left is told, and with `restore` put right.
    pub fn look(&mut self, restore: bool) -> Vec<Tampered> {
        let mut all: Vec<Tampered> = std::mem::take(&mut self.found);
        if let Some(set) = self.directories.last()
            && restore
        {
            make_set(set);
        }
        all.extend(self.directories.iter().filter_map(|directory| close(directory)));
        let before = all.len();
        self.look_at_hooks(restore, &mut all);
        if all.iter().skip(before).any(|hook| hook.restored == Some(Ok(()))) {
            self.write_note();
        }
        for map in &self.maps {
            let Some(wrong) = wrong_pin(&map.pin, map.id) else { continue };
            all.push(Tampered {
                part: format!("map {}", map.name).into(),
                attach: "".into(),
                what: wrong.text().into(),
                works: true,
                restored: restore.then(|| pin(map.map.as_fd(), &map.pin).map_err(|error| error.to_string())),
            });
        }
        all
    }

    fn look_at_hooks(&mut self, restore: bool, all: &mut Vec<Tampered>) {
        let infos: Vec<_> = self.held.iter().map(|held| bpf::link_info(held.link.as_fd())).collect();
        let detached = |info: &io::Result<bpf::LinkInfo>| info.as_ref().is_ok_and(|info| info.cgroup == 0);
        let gone = infos.iter().any(detached) && self.cgroup.is_gone();
        let mut refused = None;
        let before = self.cgroup.id;
        if gone && restore {
            match Watched::open(&self.cgroup.path) {
                Ok(again) => {
                    let path = again.path.display();
                    say!("streamwatch: the cgroup {path} was removed and made again: it is watched again");
                    self.cgroup = again;
                }
                Err(error) => refused = Some(format!("{}: {error}", self.cgroup.path.display())),
            }
        }
        for ((hook, held), info) in HOOKS.iter().zip(&mut self.held).zip(infos) {
            let wrong = match info {
                Ok(info) if info.cgroup == 0 && gone => Wrong::WithItsCgroup,
                Ok(info) if info.cgroup == 0 => Wrong::Detached,
                Ok(info) if info.cgroup != before => Wrong::Moved,
                Ok(info) if info.program != held.runs => Wrong::OtherProgram,
                Ok(info) => match held.wrong_pin(info.id) {
                    Some(wrong) => wrong,
                    None => continue,
                },
                Err(_) => Wrong::Silent,
            };
            let restored = restore.then(|| match &refused {
                Some(why) => Err(why.clone()),
                None => {
                    let cgroup = &self.cgroup.directory;
                    held.restore(wrong, cgroup, hook.number).map_err(|error| error.to_string())
                }
            });
            all.push(Tampered {
                part: format!("hook {}", hook.name).into(),
                attach: hook.attach.into(),
                what: wrong.text().into(),
                works: wrong.works(),
                restored,
            });
        }
    }

    /// The end: what stays without them.
    pub fn leave(self) -> Stays {
        let lost_hooks = HOOKS.iter().zip(&self.held).filter(|(_, held)| {
            bpf::link_info(held.link.as_fd()).map_or(true, |info| {
                info.cgroup != self.cgroup.id
                    || info.program != held.runs
                    || held.wrong_pin(info.id).is_some()
            })
        });
        let lost: Vec<&str> = lost_hooks.map(|(hook, _)| hook.name).collect();
        let all = lost.len() == HOOKS.len();
        let lost_maps = self.maps.iter().filter(|map| wrong_pin(&map.pin, map.id).is_some());
        let lost: Vec<&str> = lost.into_iter().chain(lost_maps.map(|map| map.name)).collect();
        match lost.as_slice() {
            _ if all => Stays::Nothing,
            [] => Stays::All,
            _ => Stays::Without(lost.join(", ")),
        }
    }
}

/// What stays of pinned hooks and maps when their daemon ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stays {
    All,
    /// These were taken away, run other programs, or lost their pins.
    Without(String),
    /// Every hook was.
    Nothing,
}

/// What is wrong with a name that is to be that of the object with this number.
fn wrong_pin(pin: &Path, id: u32) -> Option<Wrong> {
    match bpf::open(pin).and_then(|object| bpf::id(object.as_fd())) {
        Ok(there) if there == id => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Wrong::NoPin),
        // This process has no descriptor to ask with.
        Err(error)
            if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)) =>
        {
            None
        }
        _ => Some(Wrong::OtherPin),
    }
}

/// Gives an object its name, whatever has that.
fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => remove(path).map_err(io::Error::other)?,
        // Not ended, if it is a hook: it may be another one of ours.
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    bpf::pin(object, path)
}

/// Closes a directory that others can write to or look into.
fn close(directory: &Path) -> Option<Tampered> {
    let mode = std::fs::metadata(directory).ok()?.mode() & 0o7777;
    if mode == 0o700 {
        return None;
    }
    let path = directory.display();
    let restored = std::fs::set_permissions(directory, Permissions::from_mode(0o700));
    if restored.is_ok() {
        say!("streamwatch: {path} was open to others (mode {mode:04o}): it is 0700 again");
    }
    Some(Tampered {
        part: format!("directory {path}").into(),
        attach: "".into(),
        what: format!("was open to others (mode {mode:04o})").into(),
        works: true,
        restored: Some(restored.map_err(|error| error.to_string())),
    })
}

impl Held {
    fn wrong_pin(&self, id: u32) -> Option<Wrong> {
        wrong_pin(self.pin.as_deref()?, id)
    }

    fn restore(&mut self, wrong: Wrong, cgroup: &File, attach: u32) -> io::Result<()> {
        match wrong {
            Wrong::OtherProgram => bpf::link_update(self.link.as_fd(), self.program.as_fd())?,
            Wrong::NoPin | Wrong::OtherPin => {}
            _ => self.link = bpf::link_create(self.program.as_fd(), cgroup.as_fd(), attach)?,
        }
        match &self.pin {
            Some(path) => pin(self.link.as_fd(), path),
            None => Ok(()),
        }
    }
}
