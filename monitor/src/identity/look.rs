//! One look at a process. What of it may hang is done by [`Lookers`](super::lookers::Lookers), so that it costs nobody but
//! the user who made it hang.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use monitor_sys::{owner_of_user_namespace, parent_of_user_namespace};
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, statat};

use super::ProcessSeen;
use super::clock::{BootClock, monotonic_ns};
use super::executable::{Executable, Hashes, Unhashed, Version};
use super::lookers::{Stalled, Who};
use super::process::{Details, ProcessDirectory, Standing, Stat, is_gone};
use super::resolver::{Named, Resolver, open_process};
use crate::model::{Container, Identity};

pub(super) const ANOTHER_PROGRAM: &str =
    "the process has become another program since, or goes by another name";
pub(super) const OTHER_RIGHTS: &str =
    "the process has another user's rights now: it may have become another program";

/// Looks at a process that is executing another program.
const MOST_LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Threads of one process that are looked at.
const MOST_THREADS: usize = 256;

/// User namespaces may be made within each other so often, and once more (`create_user_ns`).
const DEEPEST: usize = 33;

/// What a looker sees.
pub struct Sight {
    details: Details,
    /// Read after all that, and whose rights it has then.
    after: io::Result<Stat>,
    rights: Option<u32>,
    /// The file that it ran all the time.
    executable: Option<Executable>,
}

impl Sight {
    /// May never return. `hashes`: where one is asked for.
    pub(super) fn of(
        directory: &ProcessDirectory,
        pid: u32,
        standing: &Standing,
        hashes: Option<&Hashes>,
    ) -> Sight {
        let before = hashes.and_then(|_| Version::run_by(directory.as_fd()));
        let details = directory.details(standing);
        let after = directory.stat();
        let rights = directory.users().map(|ids| ids.effective);
        // Held last: what a looker that hangs holds, others lack.
        let executable = hashes.and_then(|hashes| hashes.executable(directory.as_fd(), pid));
        let executable = executable.filter(|it| Some(it.version()) == before);
        Sight { details, after, rights, executable }
    }
}

/// What was seen of a process before it was its turn.
pub struct Ahead {
    before: Stat,
    standing: Standing,
    who: Who,
    sight: Sight,
}

/// A process whose turn will come. It is not kept open: while the look at another one hangs, it would be.
struct Waits {
    pid: u32,
    before: Stat,
    standing: Standing,
}

impl Waits {
    /// `None`: another process has its pid by now, or it could not be looked at, which is said when it is its turn.
    fn sight(&self, hashes: Option<&Hashes>) -> Option<Sight> {
        let directory = ProcessDirectory::open(self.pid).ok()?;
        let sight = Sight::of(&directory, self.pid, &self.standing, hashes);
        let is_it = sight.after.as_ref().is_ok_and(|after| after.start_ticks == self.before.start_ticks);
        is_it.then_some(sight)
    }
}

impl Resolver {
    /// Looks at those that will be asked for next, all of one user in one go: a look by itself costs the way to a looker and
    /// back.
    pub fn look_ahead(&mut self, next: &[ProcessSeen]) {
        let now = monotonic_ns();
        let mut pids = HashSet::new();
        let unknown: Vec<&ProcessSeen> = next
            .iter()
            .filter(|seen| seen.tgid != 0 && !self.remembers(seen, now) && pids.insert(seen.tgid))
            .collect();
        let count = u32::try_from(unknown.len()).unwrap_or(u32::MAX);
        if count < 2 || !self.may_look(count, now) {
            return;
        }
        for (who, all) in self.by_user(&unknown, now) {
            self.look_at_all(who, all);
        }
    }

    fn by_user(&mut self, unknown: &[&ProcessSeen], now: u64) -> HashMap<Who, Vec<Waits>> {
        let mut by_user: HashMap<Who, Vec<Waits>> = HashMap::new();
        for seen in unknown {
            let Ok((directory, before)) = open_process(seen.tgid) else { continue };
            let standing = directory.standing(&|path| self.cgroups.maker(path));
            let who = self.who_may_have_made(&directory, &standing, Some(seen), now);
            by_user.entry(who).or_default().push(Waits { pid: seen.tgid, before, standing });
        }
        by_user
    }

    /// One that was seen before it was its turn, and has ended since. `None`: it was not, or may have become another program
    /// before: its threads can be asked no more.
    pub(super) fn seen_ahead(&mut self, seen: &ProcessSeen, now: u64) -> Option<Named> {
        let Ahead { before, standing, who, sight } = self.ahead.remove(&seen.tgid)?;
        if self.executions.since(seen) {
            return None;
        }
        let Sight { details, after, rights, executable } = sight;
        let (name, after) = (seen.name(), after.ok()?);
        let rights = rights.or(standing.users.map(|ids| ids.effective)).unwrap_or(seen.uid);
        let is_it = name == before.name && name == after.name && (seen.uid == 0 || seen.uid == rights);
        let is_whole = details.executable.is_some() && details.command_line.is_some();
        if !is_it || !is_whole || self.clock.began_after(before.start_ticks, seen.seen_ns) {
            return None;
        }
        let identity = self.identity(seen.tgid, after, standing, details, Some(seen), now);
        Some(self.hashed(identity, executable.map(|executable| Unhashed { executable, who })))
    }

    /// What nobody asked for holds files that others may want to hold.
    pub fn forget_ahead(&mut self) {
        self.ahead.clear();
    }

    fn look_at_all(&mut self, who: Who, all: Vec<Waits>) {
        let hashes = self.asked.hashes().then(|| self.hashes.clone());
        let known: Vec<(u32, Stat, Standing)> =
            all.iter().map(|it| (it.pid, it.before.clone(), it.standing.clone())).collect();
        let job = move || all.into_iter().map(|it| it.sight(hashes.as_ref())).collect();
        match self.lookers.look(&who, job) {
            Ok(sights) => {
                for ((pid, before, standing), sight) in known.into_iter().zip(sights) {
                    let ahead = sight.map(|sight| Ahead { before, standing, who: who.clone(), sight });
                    self.ahead.extend(ahead.map(|ahead| (pid, ahead)));
                }
            }
            Err(Stalled::Now) => self.stalls.push(who.to_string()),
            // It is said of each when it is its turn.
            Err(_) => {}
        }
    }

    /// Reads everything; `None` when it ended meanwhile. `seen`: what the kernel programs saw of it, if they did.
    pub(super) fn look(
        &mut self,
        pid: u32,
        directory: ProcessDirectory,
        mut before: Stat,
        seen: Option<&ProcessSeen>,
        now: u64,
    ) -> Option<Named> {
        let directory = Arc::new(directory);
        let mut stands = Standing::default();
        let mut ahead = self.ahead.remove(&pid).filter(|it| it.before.start_ticks == before.start_ticks);
        // Between two reads it may have executed another program: then the parts would not belong
        // together. In the midst of that it has a name and a binary and no arguments yet.
        for look in 1..=MOST_LOOKS {
            let (standing, who, sight) = match ahead.take() {
                Some(ahead) => {
                    before = ahead.before;
                    (ahead.standing, ahead.who, Ok(ahead.sight))
                }
                None => {
                    let standing = directory.standing(&|path| self.cgroups.maker(path));
                    let who = self.who_may_have_made(&directory, &standing, seen, now);
                    let hashes = self.asked.hashes().then(|| self.hashes.clone());
                    let (its, stood) = (Arc::clone(&directory), standing.clone());
                    let job = move || vec![Some(Sight::of(&its, pid, &stood, hashes.as_ref()))];
                    let sight = self.lookers.look(&who, job);
                    (standing, who, sight.and_then(|mut sights| sights.pop().flatten().ok_or(Stalled::Now)))
                }
            };
            let Sight { details, after, rights, executable } = match sight {
                Ok(sight) => sight,
                Err(stalled) => {
                    return self.not_looked_at(pid, &directory, standing, seen, &who, stalled, now);
                }
            };
            let after = match after {
                Ok(after) => after,
                Err(error) => return self.unseen(seen, &error, now),
            };
            let whole = details.executable.is_none() || details.command_line.is_some();
            if after.name == before.name && (whole || look == MOST_LOOKS) {
                let became =
                    seen.and_then(|seen| self.is_another_by_now(seen, &directory, &after, &details, rights));
                let identity = self.identity(pid, after, standing, details, seen, now);
                if let (Some(became), Some(seen)) = (became, seen) {
                    // Whose it is now, and where, is of what it has become.
                    let was = self.ended(seen, now);
                    let start_ticks = identity.start_ticks;
                    return Some(as_seen(Identity { start_ticks, ..was }, seen, became).into());
                }
                // The name and the hash are of one file.
                let executable = executable.filter(|_| identity.executable.is_some());
                let unhashed = executable.map(|executable| Unhashed { executable, who });
                return Some(self.hashed(identity, unhashed));
            }
            (before, stands) = (after, standing);
            if look > 1 {
                thread::sleep(BETWEEN_LOOKS);
            }
        }
        // Whose it is, it is whatever it calls itself.
        let identity = self.identity(pid, before, stands, Details::default(), seen, now);
        let missing = Some("the process keeps executing other programs".to_owned());
        Some(Identity { missing, ..identity }.into())
    }

    /// A look that stalls: what the kernel says without one.
    #[expect(clippy::too_many_arguments, reason = "all that is known of it")]
    fn not_looked_at(
        &mut self,
        pid: u32,
        directory: &ProcessDirectory,
        standing: Standing,
        seen: Option<&ProcessSeen>,
        who: &Who,
        stalled: Stalled,
        now: u64,
    ) -> Option<Named> {
        let stat = match directory.stat() {
            Ok(stat) => stat,
            Err(error) => return self.unseen(seen, &error, now),
        };
        let why = stalled.why(who);
        if stalled == Stalled::Now {
            self.stalls.push(who.to_string());
        }
        let identity = self.identity(pid, stat, standing, Details::default(), seen, now);
        let identity = match seen {
            Some(seen) => as_seen(identity, seen, &why),
            None => Identity { missing: Some(why), ..identity },
        };
        Some(Named { is_stalled: true, ..identity.into() })
    }

    /// Of one that could not be looked at, what the kernel says without that. `None`: it has ended.
    pub(super) fn unseen(
        &mut self,
        seen: Option<&ProcessSeen>,
        error: &io::Error,
        now: u64,
    ) -> Option<Named> {
        if is_gone(error) {
            return None;
        }
        let missing = Some(format!("it could not be looked at: {error}"));
        let known = seen.map(|seen| self.ended(seen, now)).unwrap_or_default();
        Some(Identity { missing, ..known }.into())
    }

    /// Whose looks stall that did not before: since it was asked last.
    pub fn take_stalls(&mut self) -> Vec<String> {
        std::mem::take(&mut self.stalls)
    }

    /// Who could have begun it. All of this is asked of the kernel alone.
    fn who_may_have_made(
        &mut self,
        directory: &ProcessDirectory,
        standing: &Standing,
        seen: Option<&ProcessSeen>,
        now: u64,
    ) -> Who {
        let of_host = |container: &&Container| !container.is_of_user();
        if let Some(container) = standing.place.container.as_ref().filter(of_host) {
            // The outermost one: within it, somebody may make more without number.
            let outermost = container.id.split('/').next().unwrap_or_default();
            return Who::Container(outermost.to_owned());
        }
        let made = match user_namespace(directory.as_fd(), self.user_namespace) {
            None => standing.users.map(|ids| ids.real).or(seen.map(|seen| seen.uid)),
            Some((_, owner)) if owner != 0 => Some(owner),
            Some((inode, _)) => return Who::Namespace(inode),
        };
        let uid = made.unwrap_or(u32::MAX);
        Who::User { uid, is_named: uid == 0 || self.users.name(uid, now).is_some() }
    }

    /// See [`became_another`]; what it is known by helps.
    fn is_another_by_now(
        &self,
        seen: &ProcessSeen,
        directory: &ProcessDirectory,
        stat: &Stat,
        details: &Details,
        rights: Option<u32>,
    ) -> Option<&'static str> {
        if self.executions.since(seen) {
            return Some(ANOTHER_PROGRAM);
        }
        let executable = details.executable.as_deref()?;
        // Its threads of then may have ended, and those that it has may have begun in the same tick.
        let glimpse = self.glimpses.of(seen).filter(|it| it.stat.start_ticks == stat.start_ticks);
        // A path says little: another file may be mounted over it, and two programs may have one name.
        let runs_it = glimpse.as_ref().and_then(|it| directory.runs(&it.executable));
        if runs_it == Some(false) {
            return Some(ANOTHER_PROGRAM);
        }
        let was_glimpsed_with_it =
            || runs_it == Some(true) && glimpse.is_some_and(|it| it.executable.is_at(executable));
        let was_seen_with_it = || {
            self.remembered.get(&seen.tgid).is_some_and(|known| {
                known.start_ticks == stat.start_ticks
                    && known.since_ns <= seen.seen_ns
                    && known.identity.executable == details.executable
                    && known.identity.executable_elsewhere == details.executable_elsewhere
            })
        };
        // The kernel says when it executed what it runs, whatever it calls itself since. In the midst of executing
        // something it has no arguments yet, and that is not told yet.
        let has_run_it_since = || details.command_line.is_some() && self.executions.before(seen);
        let had_it_before = || has_run_it_since() || was_seen_with_it() || was_glimpsed_with_it();
        became_another(&self.clock, seen, directory, stat, rights, MOST_THREADS, had_it_before)
    }
}

/// Why what it is now says nothing of what it was when it was seen. Where nobody followed what processes execute, that still
/// gives it the name of its file, and ends all its other threads. `threads`: so many of these are asked.
pub(super) fn became_another(
    clock: &BootClock,
    seen: &ProcessSeen,
    directory: &ProcessDirectory,
    stat: &Stat,
    rights: Option<u32>,
    threads: usize,
    had_it_before: impl FnOnce() -> bool,
) -> Option<&'static str> {
    let name = seen.name();
    let rights = rights.unwrap_or(seen.uid);
    // Who was root may have become anybody without another program.
    let others = seen.uid != 0 && rights != seen.uid;
    let mut named = name == stat.name;
    if named && !others {
        return None;
    }
    let is_the_same = had_it_before()
        || directory.any_other_thread(seen.tgid, threads, |thread| {
            named |= thread.name == name;
            // A tick later, since a start is rounded down.
            !clock.began_after(thread.start_ticks + 1, seen.seen_ns)
        });
    match (is_the_same, others, named) {
        (true, ..) | (_, false, true) => None,
        (_, true, _) => Some(OTHER_RIGHTS),
        (_, false, false) => Some(ANOTHER_PROGRAM),
    }
}

/// Inode of this process's own user namespace; 0: the kernel has none.
pub fn own_user_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/user").map_or(0, |stat| stat.st_ino)
}

/// Of a process in another user namespace than `own`, the outermost that it is in, by its inode, and who made that: within
/// it, there may be more, of users who have their numbers from that one.
fn user_namespace(process: BorrowedFd<'_>, own: u64) -> Option<(u64, u32)> {
    if own == 0 || statat(process, "ns/user", AtFlags::empty()).ok()?.st_ino == own {
        return None;
    }
    let mut outermost = openat(process, "ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    for _ in 0..DEEPEST {
        match parent_of_user_namespace(&outermost) {
            Ok(parent) if fstat(&parent).is_ok_and(|stat| stat.st_ino != own) => outermost = parent,
            _ => break,
        }
    }
    Some((fstat(&outermost).ok()?.st_ino, owner_of_user_namespace(&outermost).ok()?))
}

/// Of a process that has become another program, or was not looked at, only what the kernel programs saw.
fn as_seen(identity: Identity, seen: &ProcessSeen, why: &str) -> Identity {
    Identity {
        name: Some(seen.name()).filter(|name| !name.is_empty()),
        executable: None,
        executable_elsewhere: false,
        command_line: None,
        missing: Some(why.to_owned()),
        ..identity
    }
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
