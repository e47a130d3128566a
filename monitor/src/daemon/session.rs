//! One worker, and what the loader does for it: looks up, reads maps, keeps the state, tells hooks.
//!
//! In: requests of the worker, which may be in the hands of whoever wrote what it reads. Out: answers, and
//! whether it ended by itself. Must never: act on more than the types of [`super::link`] say; wait for a
//! worker that does not read.

pub(super) mod ear;
pub(super) mod mouth;
mod process;

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::clock::monotonic_ns;
use super::control::{self, Late};
use super::core::{Command, Found, Lookup};
use super::keep::{Keeper, Links};
use super::link::{LATE, Life, Start, ToWorker};
use super::loader::Loader;
use super::reader::{Batch, LateEnds};
use super::resolve::Resolving;
use super::signals::{Signal, Signals, Waited};
use super::stages::Stage;
use super::start::{RunError, spawn};
use super::state::{self, Keeping};
use super::work::{Done, Order};
use super::{newcomers, self_check};
use crate::alert::Change;
use crate::config::Config;
use crate::hook::Hooks;
use crate::identity::Executions;
use crate::kernel::Control;
use crate::status::WorkerView;
use crate::store::Opened;
use crate::wire::{Frames, WireError};
use ear::{Ear, Ready, Step};
use mouth::{Mouth, Reporter};
use process::{Worker, in_words};

/// How long a worker may take until it serves.
const READY: Duration = Duration::from_secs(30);

/// How long it may still take when the daemon is to end: one that serves by then tells what was seen.
const READY_TO_END: Duration = Duration::from_secs(5);

/// How often a look is taken whether the worker still does something, and how many in a row may see nothing.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
const CAUGHT: u32 = 6;

/// How long each step of its end may take.
const STEP: Duration = Duration::from_secs(8);

/// How long it may take from there to its end: what it tells may be read slowly.
const LAST_STEP: Duration = Duration::from_secs(25);

/// How long the last look at all sockets may take.
const REFRESH: Duration = Duration::from_secs(3);

/// How long hooks may take at the end.
const FINISH: Duration = Duration::from_secs(5);

/// How long the disk may take at the end: the keeper asks it twice, and each time no longer than a part of this.
const DISK: Duration = Duration::from_secs(25);

/// How long the disk may take between two workers, each time that it is waited for: nobody watches meanwhile.
const BETWEEN: Duration = Duration::from_secs(3);

/// Batches of changes that wait for the disk, and of events that wait for the worker.
const BATCHES: usize = 256;

/// What the loader itself says.
const DIRECT: usize = 16;

/// What is still to be answered, each kind in turn.
#[derive(Default)]
pub(super) struct Asked {
    expecting: Vec<Done<()>>,
    refreshed: Vec<Done<()>>,
    restored: Vec<Done<usize>>,
}

/// Why a worker did not come to serve. One line.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the worker cannot be started: {0}")]
    Spawn(#[from] io::Error),
    #[error("the worker ended before it served: {0}")]
    Ended(String),
    #[error("the worker did not serve within {} s", READY.as_secs())]
    Late,
    /// While the state was waited for, or a worker that does not come up.
    #[error("the daemon is to end")]
    Signal(Signal),
}

/// A worker, and the threads that serve it.
pub(super) struct Session {
    child: Worker,
    /// Ours of the socket between both.
    socket: UnixStream,
    direct: Sender<ToWorker>,
    steps: Receiver<Step>,
    /// Dropped to end the control thread.
    hold: Sender<()>,
    control: JoinHandle<(Control, Option<control::Read>)>,
    keeper: JoinHandle<()>,
    mouth: JoinHandle<()>,
    ear: JoinHandle<()>,
    hooks: Arc<Hooks>,
    keeping: Arc<Keeping>,
    /// Has the key of the state looked at.
    check_key: Sender<()>,
    /// See [`Late::left`].
    late_left: Arc<AtomicBool>,
    asked: Arc<Mutex<Asked>>,
    /// When the worker's core went round last, CLOCK_MONOTONIC ns.
    alive: Arc<AtomicU64>,
    /// The same at the last look, and for how many looks it has been that.
    looked: (u64, u32),
}

impl Session {
    /// Starts a worker and waits until it serves.
    ///
    /// # Errors
    /// It does not; the loader has back what it lent.
    pub fn start(loader: &mut Loader, life: Life, signals: &Signals) -> Result<Session, SessionError> {
        // Who has the files open lets go of them, or keeps them from this one until it does.
        let _ = join_all(&mut loader.keepers, BETWEEN);
        let config = &loader.config;
        let keeping = Arc::new(Keeping::new(config));
        let (opener, mut opened) =
            state::begin_and_wait(config, &keeping, signals)?.map_err(SessionError::Signal)?;
        let mut hooks = Hooks::start(&loader.hooks_ready, &loader.posted).map_err(RunError::from)?;
        let saved = match &mut opened {
            Some(Ok(Opened { saved, damage, .. })) => {
                keeping.damage(damage);
                Some(std::mem::take(saved))
            }
            _ => None,
        };
        if let Some(saved) = &saved {
            hooks.post_again(&loader.context, &saved.told);
        }
        let hooks = Arc::new(hooks);
        if let Some(control) = &loader.control {
            control.begin();
        }
        let (socket, theirs) = UnixStream::pair()?;
        let child = Worker::start(theirs)?;
        let view = Arc::new(Mutex::new(WorkerView {
            pid: child.id(),
            restarts: life.ended,
            last_end: life.last.clone(),
            counts_only: life.counts_only,
            ..WorkerView::default()
        }));
        let channel = config.pipeline.channel as usize;
        let (direct, direct_out) = bounded::<ToWorker>(DIRECT);
        let (orders, orders_out) = bounded::<Order>(4);
        let (changes, changes_out) = bounded::<Vec<Change>>(BATCHES);
        let (commands, commands_out) = bounded::<Command>(channel);
        let (lookups, lookups_out) = bounded::<Lookup>(channel);
        let (found_in, found) = bounded::<Found>(channel);
        let (events_in, events) = bounded::<Batch>(BATCHES);
        let (late_in, late_out) = bounded::<LateEnds>(LATE);
        let (steps_in, steps) = bounded::<Step>(8);
        let (ready_in, ready) = bounded::<Ready>(1);
        let (check_key, check) = bounded::<()>(1);
        let (hold, held) = bounded::<()>(0);
        let asked = Arc::new(Mutex::new(Asked::default()));
        let alive = Arc::new(AtomicU64::new(monotonic_ns()));

        let looks = Stage::looks(channel);
        let reporter = Reporter {
            keeping: keeping.clone(),
            hooks: hooks.clone(),
            view: view.clone(),
            looks: looks.clone(),
        };
        let links =
            Links { changes: changes_out, orders: orders.clone(), check, keeping: keeping.clone(), opener };
        let check_every = Duration::from_secs(u64::from(config.state.check_every_s));
        let memory = config.state.memory_bytes as usize;
        let keeper = match opened {
            Some(Ok(Opened { store, .. })) => Keeper::new(links, Some(store), memory, check_every),
            Some(Err(error)) => Keeper::new(links, None, memory, check_every).waiting(Some(&error)),
            None => Keeper::new(links, None, memory, check_every).waiting(None),
        };
        let (newcomers, theirs) = newcomers::pipe()?;
        // The keeper says first whether anything is kept.
        let start =
            loader.start(life.clone(), saved, Reporter::with_memory(reporter.now()), !hooks.is_empty())?;
        let keeper = spawn("keeper", move || keeper.run())?;
        let ours = socket.try_clone()?;
        let mouth = {
            let asked = asked.clone();
            let late = late_out.clone();
            let mouth =
                Mouth { found, events, late, orders: orders_out, direct: direct_out, asked, reporter };
            let socket = socket.try_clone()?;
            loader.hand_over(&socket, theirs.as_fd())?;
            drop(theirs);
            spawn("to-worker", move || tell(socket, start, mouth))?
        };
        let ear = {
            let (hooks, asked, alive) = (hooks.clone(), asked.clone(), alive.clone());
            let (ready, steps) = (ready_in, steps_in);
            let keeping = keeping.clone();
            let ear = Ear { commands, lookups, changes, keeping, hooks, asked, alive, ready, steps };
            spawn("from-worker", move || ear.run(socket))?
        };
        let (wanted, cgroup) = (loader.wanted.clone(), loader.cgroup.clone());
        let hanging = loader.hanging.clone();
        let executions = loader.kernel.executed();
        let executions = executions
            .map_or_else(Executions::default, |last| Executions::asked_of(move |tgid| last.of(tgid)));
        let resolving = Resolving::new(lookups_out, found_in, wanted, cgroup, looks, hanging, executions);
        for (name, run) in resolving.threads(newcomers) {
            spawn(name, run)?;
        }
        if loader.is_watched {
            let held = held.clone();
            spawn("self-check", move || self_check::run(&orders, &held))?;
        }
        let mut maps = loader.take_control()?;
        let taken_over = loader.is_taken_over(&life);
        let late_left = Arc::<AtomicBool>::default();
        let late = Late { sender: late_in, receiver: late_out, left: late_left.clone() };
        let watched = loader.watched.clone();
        let control = spawn("control", move || {
            if taken_over {
                // Before what the ring says of them: the end of a socket is that of all its peers.
                let _ = control::sweep_udp(&maps, &events_in);
            }
            let read = control::run(&mut maps, &watched, &commands_out, &events_in, &late, &held);
            (maps, read)
        })?;
        let session = Session {
            child,
            socket: ours,
            direct,
            steps,
            hold,
            control,
            keeper,
            mouth,
            ear,
            hooks,
            keeping: keeping.clone(),
            check_key,
            late_left,
            asked,
            alive,
            looked: (0, 0),
        };
        let mut came = signals.wait(&ready, READY);
        if let Waited::Ended(signal) = came {
            signals.put_off(signal);
            came = signals.wait(&ready, READY_TO_END);
        }
        let Waited::For(Ready { damaged, confined }) = came else {
            let how = session.ended(loader);
            return Err(match (signals.end_waits(), came) {
                (_, Waited::Ended(signal)) | (Some(signal), _) => SessionError::Signal(signal),
                (None, Waited::Late) => SessionError::Late,
                (None, _) => SessionError::Ended(how),
            });
        };
        if damaged > 0 {
            keeping.damage(&[format!("{damaged} baselines could not be read, and begin anew")]);
        }
        let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
        (view.landlock, view.seccomp) = (confined.landlock, confined.seccomp);
        drop(view);
        Ok(session)
    }

    /// Something has happened to it: it is gone.
    pub fn gone(&self) -> &Receiver<Step> {
        &self.steps
    }

    /// Kills a worker whose core has not gone round at so many looks of the loader: it is caught in what it
    /// reads, and would tell nothing any more. Says so; [`Session::gone`] hears of it, as it does of one that is
    /// gone without that its end of the socket is closed. Looks are counted, and not time: a loader that was
    /// stopped itself has heard of nothing.
    pub fn kill_if_caught(&mut self) {
        if !self.child.runs() {
            hang_up(&self.socket);
            return;
        }
        let alive = self.alive.load(Ordering::Relaxed);
        let (last, looks) = &mut self.looked;
        if std::mem::replace(last, alive) != alive {
            *looks = 0;
            return;
        }
        *looks += 1;
        if *looks == CAUGHT && self.child.kill() {
            hang_up(&self.socket);
            let seconds = CAUGHT * LOOK_EVERY.as_secs() as u32;
            say!("streamwatch: the worker did nothing for {seconds} s and is killed");
        }
    }

    /// Says something to the worker. One that does not read gets no more.
    pub fn say(&self, message: ToWorker) {
        let _ = self.direct.send_timeout(message, STEP);
    }

    /// Has the key of the state looked at.
    pub fn check_key(&self) {
        // One that waits already does as well.
        let _ = self.check_key.try_send(());
    }

    /// Brings the totals of open flows up to date.
    pub fn refresh(&self) {
        let (done, wait) = bounded(1);
        let done: Done<()> = Box::new(move |()| {
            let _ = done.send(());
        });
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).refreshed.push(done);
        self.say(ToWorker::Refresh);
        // Late or never: then the totals are those of the last event.
        let _ = wait.recv_timeout(REFRESH);
    }

    /// Ends every stage in the order in which data goes, so that nothing that was read is lost.
    pub fn stop(self, loader: &mut Loader, hooks_stay: bool) {
        self.say(ToWorker::Stop { hooks_stay });
        let Ok(Step::RingRead { all }) = self.steps.recv_timeout(STEP) else {
            let held_up = self.keeping.is_waited_for();
            let how = self.ended(loader);
            say!("streamwatch: {}", not_in_order(&how, held_up, &loader.config));
            return;
        };
        self.late_left.store(!all, Ordering::Release);
        let Session {
            mut child,
            socket,
            direct,
            steps,
            hold,
            control,
            keeper,
            mouth,
            ear,
            hooks,
            keeping,
            ..
        } = self;
        drop(hold);
        if !ends_until(&control, Instant::now() + STEP) {
            // What the maps say waits for a worker that does not read.
            hang_up(&socket);
        }
        let maps = control.join();
        let until = Instant::now() + LAST_STEP;
        let mut all_told = false;
        while let Ok(step) = steps.recv_deadline(until)
            && step != Step::Gone
        {
            if let Step::Ended { all_told: said } = step {
                all_told = said;
                break;
            }
        }
        if let Ok((mut maps, read)) = maps {
            match read {
                Some(read) if all_told => read.forget_all(&mut maps),
                // What was not is read again by the next one.
                Some(mut read) => read.forget(&mut maps),
                None => {}
            }
            loader.give_back(maps);
        }
        let how = child.wait(STEP);
        if !how.success() {
            say!("streamwatch: {}", not_in_order(&in_words(how), keeping.is_waited_for(), &loader.config));
        }
        hang_up(&socket);
        drop(direct);
        let _ = mouth.join();
        // It may wait for the disk, as the keeper may.
        join_within(ear, STEP);
        hooks.finish(FINISH);
        // The core has hung up: what is left is written.
        loader.keepers.push(keeper);
    }

    /// It has ended by itself, or is to: takes back what it was lent. Returns how it ended.
    pub fn ended(self, loader: &mut Loader) -> String {
        let Session { mut child, socket, direct, hold, control, keeper, mouth, ear, hooks, .. } = self;
        // It may only have closed the socket.
        let how = child.wait(Duration::from_millis(100));
        hang_up(&socket);
        drop(direct);
        let _ = mouth.join();
        join_within(ear, BETWEEN);
        // After the thread that spoke: what the maps hold stays there, for the next one.
        drop(hold);
        if let Ok((maps, _)) = control.join() {
            loader.give_back(maps);
        }
        loader.keepers.push(keeper);
        thread::spawn(move || hooks.finish(FINISH));
        in_words(how)
    }
}

/// Tells a worker what to do, and then all else. One that is gone is heard of by the other thread.
fn tell(socket: UnixStream, start: Start, mouth: Mouth) {
    let Ok(ours) = socket.try_clone() else { return hang_up(&socket) };
    let mut frames = Frames::new(socket);
    let told = frames.put(&start).and_then(|()| frames.flush());
    drop(start);
    match told {
        Ok(()) => drop(mouth.run(frames)),
        Err(WireError::Io(_)) => {}
        Err(error) => {
            say!("streamwatch: the worker cannot be told what to do: {error}");
            hang_up(&ours);
        }
    }
}

/// The end: what is left is written, unless the disk does not answer.
pub(super) fn end_keepers(loader: &mut Loader) {
    if !join_all(&mut loader.keepers, DISK) {
        say!(
            "streamwatch: the state is not kept: the disk of {} has not answered for {} s",
            state::path(&loader.config).display(),
            DISK.as_secs()
        );
    }
}

/// Whether all have ended in time. Those that have not stay.
fn join_all(threads: &mut Vec<JoinHandle<()>>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while let Some(thread) = threads.pop() {
        if let Err(late) = join_until(thread, until) {
            threads.push(late);
            return false;
        }
    }
    true
}

/// Waits for a thread, and leaves it to itself where that takes longer.
fn join_within(thread: JoinHandle<()>, patience: Duration) {
    drop(join_until(thread, Instant::now() + patience));
}

fn join_until(thread: JoinHandle<()>, until: Instant) -> Result<(), JoinHandle<()>> {
    if !ends_until(&thread, until) {
        return Err(thread);
    }
    let _ = thread.join();
    Ok(())
}

/// Waits for a thread to end; whether it has.
fn ends_until<T>(thread: &JoinHandle<T>, until: Instant) -> bool {
    while !thread.is_finished() && Instant::now() < until {
        thread::sleep(Duration::from_millis(2));
    }
    thread.is_finished()
}

/// Says how a worker ended that was told to. One that was not heard, since whoever hears it waits for the disk, may be
/// as it should be.
fn not_in_order(how: &str, held_up: bool, config: &Config) -> String {
    if held_up {
        let path = state::path(config);
        return format!(
            "the worker was not heard to its end ({how}): the disk of {} does not answer",
            path.display()
        );
    }
    format!("the worker did not end in good order: {how}")
}

/// Nobody is at the other end any more. Where a worker sent its own end along with what it said, and that was not
/// read, the kernel would hold it open for ever.
fn hang_up(socket: &UnixStream) {
    // It may be so already.
    let _ = socket.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{IoSlice, Read, Write};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[test]
    fn a_worker_that_left_its_end_in_what_it_said_is_hung_up_on() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let rights = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        assert!(with.push(SendAncillaryMessage::ScmRights(&rights)));
        sendmsg(&theirs, &[IoSlice::new(b"x")], &mut with, SendFlags::empty()).unwrap();
        drop(theirs);
        ours.set_nonblocking(true).unwrap();
        let chunk = [0; 1 << 16];
        let full = loop {
            if let Err(error) = ours.write(&chunk) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "the kernel knows that it is gone");
        hang_up(&ours);
        assert_eq!(ours.write(&chunk).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        // What was said is still heard, and then that it is gone: as an end, or as a reset.
        let mut heard = Vec::new();
        let end = ours.read_to_end(&mut heard).map_err(|error| error.kind());
        assert_eq!(heard, b"x");
        assert_ne!(end, Err(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn a_keeper_that_waits_for_the_disk_is_left_for_so_long_and_waited_for_again_at_the_end() {
        let (disk, answer) = bounded::<()>(0);
        let mut keepers = vec![thread::spawn(move || assert!(answer.recv().is_err())), thread::spawn(|| ())];
        assert!(!join_all(&mut keepers, Duration::from_millis(50)));
        assert!(!keepers.is_empty());
        drop(disk);
        assert!(join_all(&mut keepers, Duration::from_secs(20)));
        assert!(keepers.is_empty());
    }

    #[test]
    fn a_worker_is_not_said_to_be_in_bad_order_where_it_was_the_disk() {
        let config = Config::default();
        assert_eq!(not_in_order("x", false, &config), "the worker did not end in good order: x");
        let line = not_in_order("signal 9, SIGKILL", true, &config);
        assert!(line.contains("the disk of") && !line.contains("good order"), "{line}");
    }
}
