//! Whether the hooks are still what this daemon attached: looked at now and then, and attached again where
//! that is wanted.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

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
    cgroup: File,
    cgroup_id: u64,
}

impl Hooks {
    pub(super) fn new(
        links: Vec<OwnedFd>,
        cgroup: File,
        cgroup_id: u64,
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
        Ok(Hooks { held, cgroup, cgroup_id })
    }

    /// Looks at every hook; what is not as it was left is told, and with `restore` put right.
    pub fn look(&mut self, restore: bool) -> Vec<Tampered> {
        let mut all = Vec::new();
        for (hook, held) in HOOKS.iter().zip(&mut self.held) {
            let what = match bpf::link_info(held.link.as_fd()) {
                Ok(info) if info.cgroup == 0 => "was detached",
                Ok(info) if info.cgroup != self.cgroup_id => "was moved to another cgroup",
                Ok(info) if info.program != held.runs => "runs another program",
                Ok(_) if held.pin.as_ref().is_some_and(|pin| !pin.exists()) => "lost its pin",
                Ok(_) => continue,
                Err(_) => "cannot be asked any more",
            };
            let restored = restore
                .then(|| held.restore(what, &self.cgroup, hook.number).map_err(|error| error.to_string()));
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
