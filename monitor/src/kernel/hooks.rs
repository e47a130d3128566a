//! Whether the hooks are still what this daemon attached: looked at now and then, and attached again where
//! that is wanted. Where their cgroup was removed, which takes them along, and made again, that is the new one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use monitor_sys::bpf;

use super::load::{HOOKS, LoadError, program};
use super::pins::Pins;
use crate::model::Tampered;

/// One hook, held.
struct Held {
    link: OwnedFd,
    program: OwnedFd,
    /// Its number in the kernel, of the program that was attached.
    runs: u32,
    pin: Option<PathBuf>,
}

/// All of them.
pub struct Hooks {
    held: Vec<Held>,
    cgroup: Watched,
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
    ) -> Result<Hooks, LoadError> {
        let mut held = Vec::new();
        for (hook, link) in HOOKS.iter().zip(links) {
            let failed = |error| LoadError::Attach { name: hook.name, error };
            let runs = bpf::link_info(link.as_fd()).map_err(failed)?.program;
            let program = program(ebpf, hook.name)?.try_clone_to_owned().map_err(failed)?;
            held.push(Held { link, program, runs, pin: pins.map(|pins| pins.link(hook)) });
        }
        Ok(Hooks { held, cgroup })
    }

    /// Looks at every hook; what is not as it was left is told, and with `restore` put right.
    pub fn look(&mut self, restore: bool) -> Vec<Tampered> {
        let mut all = Vec::new();
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
            let what = match info {
                Ok(info) if info.cgroup == 0 && gone => "was detached: its cgroup was removed",
                Ok(info) if info.cgroup == 0 => "was detached",
                Ok(info) if info.cgroup != before => "was moved to another cgroup",
                Ok(info) if info.program != held.runs => "runs another program",
                Ok(_) if held.pin.as_ref().is_some_and(|pin| !pin.exists()) => "lost its pin",
                Ok(_) => continue,
                Err(_) => "cannot be asked any more",
            };
            let restored = restore.then(|| match &refused {
                Some(why) => Err(why.clone()),
                None => {
                    let cgroup = &self.cgroup.directory;
                    held.restore(what, cgroup, hook.number).map_err(|error| error.to_string())
                }
            });
            all.push(Tampered {
                hook: hook.name.into(),
                attach: hook.attach.into(),
                what: what.into(),
                restored,
            });
        }
        all
    }
}

impl Held {
    fn restore(&mut self, what: &str, cgroup: &File, attach: u32) -> io::Result<()> {
        match what {
            "runs another program" => bpf::link_update(self.link.as_fd(), self.program.as_fd())?,
            "lost its pin" => {}
            _ => self.link = bpf::link_create(self.program.as_fd(), cgroup.as_fd(), attach)?,
        }
        if let Some(pin) = &self.pin {
            match std::fs::remove_file(pin) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => bpf::pin(self.link.as_fd(), pin)?,
            }
        }
        Ok(())
    }
}
