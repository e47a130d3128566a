//! Threads that look at what may keep who looks waiting for as long as somebody likes: a process can hold the lock that its
//! arguments are read under, and its executable may be on a file system that does not answer.
//!
//! In: a look, and who may make it hang. Out: what it saw, or that it stalls. Who asks waits for a moment, and no more than
//! a share of its time for each who may; after that the look is left to its thread, whose late answer nobody takes. While
//! one look of somebody is out, no other of theirs is begun. Threads that hang cannot be ended: they hold nothing that
//! others wait for, there is a bounded number of them, and those that return are used again. Where who asks ends and another
//! one goes on (the worker was started anew), those that hang still do, and count.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::clock::monotonic_ns;
use super::process;
use crate::watch::Budget;

/// Looks that may be out at a time.
const MOST_OUT: usize = 16;
/// Those of users that no list of this host's has, of whom somebody may have thousands.
const MOST_OUT_OF_NAMELESS: usize = 8;
/// How long one look is waited for while it hangs.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long while it gets no processor.
const LONGEST: Duration = Duration::from_secs(2);
/// How often is seen whether it hangs.
const SLICE: Duration = Duration::from_millis(2);
/// Microseconds a second that looks are waited for that hang, for each who may make them hang: four times as many at once.
const PER_S: u32 = 50_000;
/// Those that are remembered. There are more only where somebody makes them.
const MOST_PATIENCES: usize = 1024;

/// Who may make a look hang: whoever can run a program as what is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    User {
        uid: u32,
        /// This host has a name for it.
        is_named: bool,
    },
    /// By its id; of the host's runtimes, not of a user's.
    Container(String),
    /// A user namespace that root made, by its inode.
    Namespace(u64),
}

impl Who {
    pub fn is_named(&self) -> bool {
        !matches!(self, Who::User { is_named: false, .. })
    }

    /// Those who have no name share one patience.
    pub fn payer(&self) -> Who {
        if self.is_named() { self.clone() } else { Who::User { uid: u32::MAX, is_named: false } }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::User { uid, .. } => write!(out, "user {uid}"),
            Who::Container(id) => write!(out, "container {}", id.escape_debug()),
            Who::Namespace(inode) => write!(out, "user namespace {inode}"),
        }
    }
}

/// Why something was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// The look has not returned.
    Now,
    /// It was not begun: another one of the same has not returned, or they have kept us waiting for long enough.
    Before,
    /// It was not begun: those of all who have no name here, and so one patience, have kept us waiting for long enough.
    Shared,
    /// It was not begun: too many have not returned.
    Many,
    /// It was not begun: there is no thread for it.
    NoThread,
}

impl Stalled {
    /// Why what `who` may make hang is not known.
    pub fn why(self, who: &Who) -> String {
        match self {
            Stalled::Now => format!("the look at it did not return: looks at processes of {who} stall"),
            Stalled::Before => format!("it was not looked at: looks at processes of {who} stall"),
            Stalled::Shared => {
                "it was not looked at: looks at processes of users without a name here have taken too long"
                    .to_owned()
            }
            Stalled::Many => "it was not looked at: looks at processes of too many users stall".to_owned(),
            Stalled::NoThread => "it was not looked at: there was no thread to do so".to_owned(),
        }
    }
}

type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// A thread, and its `stat` in `/proc`, which says whether it hangs.
struct Looker<T> {
    jobs: Sender<Job<T>>,
    done: Receiver<T>,
    stat: File,
    /// Nobody has it any more when the thread has ended.
    alive: Weak<()>,
}

/// Looks that were out when who asked for them ended, by who may have made them hang.
#[derive(Clone, Debug, Default)]
pub struct StillOut(Arc<Mutex<Vec<Out>>>);

/// Who, and whether its thread lives.
type Out = (Who, Weak<()>);

impl StillOut {
    /// Those that have not returned.
    fn now(&self) -> MutexGuard<'_, Vec<Out>> {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.retain(|(_, alive)| alive.strong_count() > 0);
        out
    }
}

/// All threads of one who asks.
pub struct Lookers<T> {
    idle: Vec<Looker<T>>,
    out: Vec<(Who, Looker<T>)>,
    /// Of those who asked before.
    before: StillOut,
    patiences: HashMap<Who, Budget>,
}

impl<T> Default for Lookers<T> {
    fn default() -> Self {
        Lookers::after(StillOut::default())
    }
}

impl<T> Drop for Lookers<T> {
    fn drop(&mut self) {
        let out = self.out.drain(..).map(|(who, looker)| (who, looker.alive));
        self.before.now().extend(out);
    }
}

impl<T> Lookers<T> {
    /// In place of those that left these.
    pub fn after(before: StillOut) -> Lookers<T> {
        Lookers { idle: Vec::new(), out: Vec::new(), before, patiences: HashMap::new() }
    }
}

impl<T: Send + 'static> Lookers<T> {
    /// What `job` sees. `who` may make it hang.
    pub fn look(&mut self, who: &Who, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Stalled> {
        self.take_back();
        if let Some(refused) = self.refused(who) {
            return Err(refused);
        }
        let Some(looker) = self.idle.pop().or_else(Looker::start) else { return Err(Stalled::NoThread) };
        if looker.jobs.send(Box::new(job)).is_err() {
            return Err(Stalled::NoThread);
        }
        match self.wait(who, &looker) {
            Ok(seen) => {
                self.idle.push(looker);
                Ok(seen)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.out.push((who.clone(), looker));
                Err(Stalled::Now)
            }
            // It is no more.
            Err(RecvTimeoutError::Disconnected) => Err(Stalled::Now),
        }
    }

    fn refused(&mut self, who: &Who) -> Option<Stalled> {
        // What all know is dear: mostly there is nobody of whom anything is out.
        let before = self.before.now();
        if !self.out.is_empty() || !before.is_empty() {
            let out = || self.out.iter().map(|(of, _)| of).chain(before.iter().map(|(of, _)| of));
            if out().any(|of| of == who) {
                return Some(Stalled::Before);
            }
            let nameless = out().filter(|of| !of.is_named()).count();
            if out().count() >= MOST_OUT || !who.is_named() && nameless >= MOST_OUT_OF_NAMELESS {
                return Some(Stalled::Many);
            }
        }
        drop(before);
        let patience = if self.patiences.is_empty() { None } else { self.patiences.get_mut(&who.payer()) };
        let is_spent = patience.is_some_and(|patience| !patience.allows(micros(SLICE), monotonic_ns()));
        is_spent.then_some(if who.is_named() { Stalled::Before } else { Stalled::Shared })
    }

    fn wait(&mut self, who: &Who, looker: &Looker<T>) -> Result<T, RecvTimeoutError> {
        let begun = Instant::now();
        let (mut hung, mut before) = (Duration::ZERO, Duration::ZERO);
        loop {
            match looker.done.recv_timeout(SLICE) {
                Err(RecvTimeoutError::Timeout) => {}
                answer => return answer,
            }
            let waited = begun.elapsed();
            let is_left = if looker.hangs() {
                hung += waited - before;
                self.spend(who, waited - before) && hung < PATIENCE
            } else {
                true
            };
            if !is_left || waited >= LONGEST {
                return Err(RecvTimeoutError::Timeout);
            }
            before = waited;
        }
    }

    /// Whether there is more.
    fn spend(&mut self, who: &Who, waited: Duration) -> bool {
        let now_ns = monotonic_ns();
        if self.patiences.len() >= MOST_PATIENCES {
            self.patiences.retain(|_, patience| !patience.allows(4 * PER_S, now_ns));
        }
        if self.patiences.len() >= MOST_PATIENCES {
            self.patiences.clear();
        }
        let patience = self.patiences.entry(who.payer()).or_insert_with(|| Budget::new(PER_S));
        patience.spend(micros(waited), now_ns);
        patience.allows(micros(SLICE), now_ns)
    }

    /// Those that have returned; what they saw is of a while ago.
    fn take_back(&mut self) {
        let mut place = 0;
        while let Some((_, looker)) = self.out.get(place) {
            let late = looker.done.try_recv();
            match late {
                Err(crossbeam_channel::TryRecvError::Empty) => place += 1,
                Ok(_) => self.idle.push(self.out.swap_remove(place).1),
                Err(crossbeam_channel::TryRecvError::Disconnected) => drop(self.out.swap_remove(place)),
            }
        }
        // One is enough for who asks for one thing at a time.
        self.idle.truncate(1);
    }
}

impl<T: Send + 'static> Looker<T> {
    /// `None`: there are as many threads as there may be, or files open.
    fn start() -> Option<Looker<T>> {
        let (jobs, jobs_out) = bounded::<Job<T>>(1);
        let (done_in, done) = bounded(1);
        let (stat_in, stat) = bounded(1);
        let lives = Arc::new(());
        let alive = Arc::downgrade(&lives);
        let run = move || {
            let _lives = lives;
            let _ = stat_in.send(File::open("/proc/thread-self/stat"));
            while let Ok(job) = jobs_out.recv() {
                if done_in.send(job()).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("looker".to_owned()).spawn(run).ok()?;
        Some(Looker { jobs, done, stat: stat.recv().ok()?.ok()?, alive })
    }

    /// Whether it waits for anything but a processor.
    fn hangs(&self) -> bool {
        let mut line = [0; 1024];
        let length = self.stat.read_at(&mut line, 0).unwrap_or(0);
        process::stat(&line[..length]).is_none_or(|stat| stat.state != 'R')
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "lookers_tests.rs"]
mod tests;
