//! Whether a set of pins that was left can be taken over: each map made as ours are, each hook where it belongs, with
//! our program, and these programs at work on these maps. What is as it was noted need not be asked, which takes
//! CAP_SYS_ADMIN.
//!
//! In: a directory, and what was noted of it. Out: its links, or why not, and whether somebody changed it. Must never: change anything there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya::maps::{MapError, MapInfo};
use monitor_sys::bpf;

use super::load::{HOOKS, Hook, JOURNAL, MAPS, Shape};
use super::note::Note;
use super::pins::{hooks_in, link_pin, map_pin};
use crate::model::Tampered;

/// What was left by the daemon before.
#[derive(Debug)]
pub struct Left {
    pub what: What,
    /// What no version of ours, no configuration and no end of a start leaves: somebody changed it.
    pub tampered: Vec<Tampered>,
}

#[derive(Debug)]
pub enum What {
    Nothing,
    /// Whole, and of this layout: its links, in the order of the hooks.
    Same(Vec<OwnedFd>),
    /// It cannot be taken over, for this reason.
    Other(String),
}

impl Left {
    pub fn nothing() -> Left {
        Left { what: What::Nothing, tampered: Vec::new() }
    }

    pub fn same(links: Vec<OwnedFd>) -> Left {
        Left { what: What::Same(links), ..Left::nothing() }
    }

    pub fn other(why: String) -> Left {
        Left { what: What::Other(why), ..Left::nothing() }
    }

    pub fn with(mut self, tampered: Option<Box<Tampered>>) -> Left {
        self.tampered.extend(tampered.map(|tampered| *tampered));
        self
    }
}

/// Why a set cannot be taken over.
#[derive(Debug)]
pub struct Unfit {
    pub why: String,
    /// Somebody changed it.
    pub tampered: Option<Box<Tampered>>,
}

impl Unfit {
    pub fn other(why: impl Into<String>) -> Unfit {
        Unfit { why: why.into(), tampered: None }
    }

    /// All hooks at once, and neither their cgroup nor a start of ours has to do with it.
    pub fn hooks() -> Unfit {
        Unfit::changed("set of hooks".to_owned(), "", "was taken away")
    }

    fn map(name: &str, what: &str) -> Unfit {
        Unfit::changed(format!("map {name}"), "", what)
    }

    fn hook(hook: &Hook, what: &str) -> Unfit {
        Unfit::changed(format!("hook {}", hook.name), hook.attach, what)
    }

    /// Nothing is known of it: somebody may have changed it, or this process may open no more.
    fn unopened(pin: &Path, error: &dyn std::error::Error) -> Unfit {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Unfit::other(format!("{} could not be checked: {why}", pin.display()))
    }

    fn unasked(hook: &Hook, error: &io::Error) -> Unfit {
        let with = match error.kind() {
            io::ErrorKind::PermissionDenied => ", and it is not as it was noted (asking takes CAP_SYS_ADMIN)",
            _ => "",
        };
        Unfit::other(format!("it cannot be asked which program the hook {} ran: {error}{with}", hook.name))
    }

    fn changed(part: String, attach: &'static str, what: &str) -> Unfit {
        let tampered = Tampered {
            part: part.clone().into(),
            attach: attach.into(),
            what: format!("{what}, as this daemon found when it started").into(),
            works: false,
            restored: Some(Ok(())),
        };
        Unfit { why: format!("the {part} {what}"), tampered: Some(Box::new(tampered)) }
    }
}

/// The links of a set, in the order of the hooks; or why it cannot be taken over. `complete`: no start of ours leaves
/// some of its hooks without the others.
pub(super) fn whole(
    set: &Path,
    wants: &[Shape; MAPS.len()],
    cgroup: u64,
    complete: bool,
    note: Option<&Note>,
) -> Result<Vec<OwnedFd>, Unfit> {
    // Hooks are pinned last, and at once: with one of them there, all the rest was there.
    let was_whole = complete && hooks_in(set) > 0;
    let missing = |unfit: Unfit| if was_whole { unfit } else { Unfit::other(unfit.why) };
    let mut maps = Vec::new();
    for name in MAPS {
        let pin = set.join(map_pin(name));
        let map = MapInfo::from_pin(&pin).map_err(|error| match error {
            MapError::SyscallError(call) if is_no_pin(&pin, &call.io_error) => {
                missing(Unfit::map(name, "is missing"))
            }
            error => Unfit::unopened(&pin, &error),
        });
        maps.push(map?);
    }
    let mut links = Vec::new();
    let mut infos = Vec::new();
    for hook in &HOOKS {
        let pin = set.join(link_pin(hook));
        let link = bpf::open(&pin).map_err(|error| match is_no_pin(&pin, &error) {
            true => missing(Unfit::hook(hook, "is missing")),
            false => Unfit::unopened(&pin, &error),
        })?;
        match bpf::link_info(link.as_fd()) {
            Ok(info) if info.attach == hook.number => infos.push(info),
            _ => return Err(Unfit::hook(hook, "is no such hook")),
        }
        links.push(link);
    }
    // With its cgroup all of them go, and with another one to be watched all of them are elsewhere.
    let together = infos.iter().all(|info| info.cgroup == infos[0].cgroup);
    let mut used = Vec::new();
    let mut noted = None;
    for (hook, info) in HOOKS.iter().zip(&infos) {
        let by = |unfit: Unfit| if together || !complete { Unfit::other(unfit.why) } else { unfit };
        match info.cgroup {
            0 if together && complete && note.is_some_and(|note| note.is_at(cgroup)) => {
                return Err(Unfit::hooks());
            }
            0 => return Err(by(Unfit::hook(hook, "was taken away"))),
            other if other != cgroup && together => return Err(Unfit::other("another cgroup was watched")),
            other if other != cgroup => return Err(Unfit::hook(hook, "is at another cgroup")),
            _ => {}
        }
        if let Some(note) = note.filter(|note| note.has_hook(hook.name, info.id, info.program)) {
            noted = Some(note);
            continue;
        }
        let program = bpf::program(info.program)
            .and_then(|program| bpf::program_info(program.as_fd()))
            .map_err(|error| Unfit::unasked(hook, &error))?;
        if program.name != hook.name.as_bytes() || !maps.iter().any(|map| program.maps.contains(&map.id())) {
            return Err(Unfit::hook(hook, "ran another program"));
        }
        used.extend(program.maps);
    }
    for ((name, map), wants) in MAPS.into_iter().zip(&maps).zip(wants) {
        match noted {
            // Programs that are as they were noted work on the maps that were.
            Some(note) if note.has_map(name, map.id()) => {}
            None if name == JOURNAL => {}
            _ if name == JOURNAL => return Err(Unfit::map(name, "was exchanged")),
            _ if used.contains(&map.id()) => {}
            _ => return Err(Unfit::map(name, "was exchanged: no hook works on it")),
        }
        if map.max_entries() != wants.entries {
            let (has, wants) = (map.max_entries(), wants.entries);
            return Err(Unfit::other(format!("the map {name} has {has} places, and {wants} are wanted now")));
        }
        if shape(map) != *wants {
            return Err(Unfit::other(format!("the map {name} is of another kind")));
        }
    }
    Ok(links)
}

/// Whether a pin is gone, or something is in its place that is none (`bpf_mkobj_ops` of kernel/bpf/inode.c makes
/// regular files); not, where it cannot be opened now.
fn is_no_pin(pin: &Path, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || std::fs::symlink_metadata(pin).is_ok_and(|found| !found.is_file())
}

fn shape(map: &MapInfo) -> Shape {
    Shape {
        kind: map.map_type().map_or(0, |kind| kind as u32),
        key: map.key_size(),
        value: map.value_size(),
        entries: map.max_entries(),
        flags: map.map_flags(),
    }
}
