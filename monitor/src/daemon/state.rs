//! Keeping what must outlive the daemon: who opens the files, and what `status` says of it.
//!
//! The files are opened, and keys are asked for, on a thread of their own, which may wait for a network; the
//! keeper never does, and the core waits at the start alone, for so long as `state.wait_s` says.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::signals::{Signal, Signals, Waited};
use super::stages::Stage;
use super::start::{RunError, spawn};
use crate::alert::Change;
use crate::api;
use crate::config::Config;
use crate::keys::{Key, KeyError, Keys, Wrapped};
use crate::status::StateView;
use crate::store::{Held, Opened, Store, StoreError, size_of};

/// Lines of damage that `status` shows.
const SHOWN: usize = 32;

/// Bytes of changes on their way to the keeper: with more than that, whoever says them waits.
const ON_THE_WAY: usize = 32 << 20;

/// How long, at most, and how often a look is taken. A keeper takes them once a disk has answered.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// How long the start waits for a disk.
pub const DISK: Duration = Duration::from_secs(10);

/// What the opener is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Open the files.
    Open,
    /// The same after a write has failed, with what is held of them.
    Again(Arc<Held>),
    /// A file key under what wraps keys now.
    Key,
    /// The same, and the default key file is made where there is none.
    FirstKey,
}

/// What it answers.
pub enum Answer {
    Opened(Box<Result<Opened, StoreError>>),
    Key(Result<(Key, Wrapped), KeyError>),
}

/// The thread that opens, and how it is spoken to.
pub struct Opener {
    pub ask: Sender<Ask>,
    pub answers: Receiver<Answer>,
    /// How long an answer may take.
    pub patience: Duration,
    /// Who is to answer, in words.
    pub who: String,
    thread: JoinHandle<()>,
}

/// The files, or why there are none; `None`: nobody has said yet.
pub type Found = Option<Result<Opened, StoreError>>;

/// What `status` says, and the memory of the keeper as a stage.
#[derive(Debug)]
pub struct Keeping {
    view: Mutex<StateView>,
    pub memory: Stage,
    /// Changes that are on the disk.
    written: AtomicU64,
    /// Bytes of those that the keeper has not taken yet.
    on_the_way: AtomicUsize,
    /// Whoever brings changes waits for the keeper, or has just begun to.
    waited_for: AtomicBool,
    /// Something of this is new.
    news: (Sender<()>, Receiver<()>),
}

impl Keeping {
    pub fn new(config: &Config) -> Keeping {
        let view = StateView {
            file: path(config).display().to_string(),
            key: config.state.key.to_string(),
            ..StateView::default()
        };
        Keeping {
            view: Mutex::new(view),
            memory: Stage::memory(config.state.memory_bytes as usize),
            written: AtomicU64::new(0),
            on_the_way: AtomicUsize::new(0),
            waited_for: AtomicBool::new(false),
            news: bounded(1),
        }
    }

    pub fn view(&self) -> StateView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// So many changes, of all that came, are on the disk.
    pub fn wrote(&self, changes: u64) {
        self.written.store(changes, Ordering::Release);
        self.tell();
    }

    /// Brings changes to the keeper, and waits for it where it takes no more.
    pub fn bring(&self, changes: Vec<Change>, to: &Sender<Vec<Change>>) {
        self.waited_for.store(true, Ordering::Release);
        self.will_bring(&changes);
        // Whoever is gone is not missed.
        let _ = to.send(changes);
        self.waited_for.store(false, Ordering::Release);
    }

    /// Whether somebody waits for the keeper.
    pub fn is_waited_for(&self) -> bool {
        self.waited_for.load(Ordering::Acquire)
    }

    /// Changes go to the keeper; waits where there are too many on their way: a few of them may be as long as a
    /// message.
    fn will_bring(&self, changes: &[Change]) {
        let (bytes, until) = (size_of(changes), Instant::now() + PATIENCE);
        let crowded = || {
            let others = self.on_the_way.load(Ordering::Acquire);
            others > 0 && others + bytes > ON_THE_WAY
        };
        while crowded() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.on_the_way.fetch_add(bytes, Ordering::AcqRel);
    }

    /// The keeper has them.
    pub fn has_come(&self, changes: &[Change]) {
        self.on_the_way.fetch_sub(size_of(changes), Ordering::AcqRel);
    }

    pub fn change(&self, change: impl FnOnce(&mut StateView)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
        self.tell();
    }

    /// Hears when something is new here; for one who listens.
    pub fn news(&self) -> Receiver<()> {
        self.news.1.clone()
    }

    fn tell(&self) {
        // Who has not heard of the last will see both.
        let _ = self.news.0.try_send(());
    }

    /// Damage, on standard error and for `status`.
    pub fn damage(&self, lines: &[String]) {
        for line in lines {
            say!("streamwatch: state: {line}");
        }
        self.change(|view| {
            view.damage.extend_from_slice(lines);
            let more = view.damage.len().saturating_sub(SHOWN);
            view.damage.drain(..more);
        });
    }
}

/// Where the state is.
pub fn path(config: &Config) -> PathBuf {
    let usual = Path::new(api::DEFAULT_SOCKET);
    match (&config.alerts.state, &config.api.socket) {
        (Some(path), _) => path.clone(),
        (None, socket) if socket != usual => socket.with_file_name("state.redb"),
        _ => PathBuf::from("/var/lib/streamwatch/state.redb"),
    }
}

/// Begins to open the files; how long the start may wait for them.
///
/// # Errors
/// What Vault or AWS want is not configured, or there is no thread.
pub fn begin(config: &Config, keeping: &Keeping) -> Result<(Opener, Duration), RunError> {
    let path = path(config);
    let keys = Keys::new(&config.state, &path).map_err(|error| RunError::State(error.to_string()))?;
    keeping.change(|view| view.key.clone_from(&keys.name));
    let (who, wait) = match keys.remote {
        true => (keys.name.clone(), Duration::from_secs(u64::from(config.state.wait_s))),
        false => (format!("the disk of {}", path.display()), DISK),
    };
    let (ask, asked) = bounded(1);
    let (answer, answers) = bounded(1);
    let thread = spawn("state", move || run(&path, &keys, &asked, &answer))?;
    // The thread has just begun: there is room.
    let _ = ask.send(Ask::Open);
    // Questions to one service may be several: two copies, an identity, a key.
    let patience = Duration::from_secs(4 * u64::from(config.state.timeout_s)).min(Duration::from_secs(10));
    Ok((Opener { ask, answers, patience, who, thread }, wait))
}

/// [`begin`], and waits for the files; a signal to end the daemon that came meanwhile.
///
/// # Errors
/// As [`begin`].
pub fn begin_and_wait(
    config: &Config,
    keeping: &Keeping,
    signals: &Signals,
) -> Result<Result<(Opener, Found), Signal>, RunError> {
    let (opener, patience) = begin(config, keeping)?;
    Ok(match signals.wait(&opener.answers, patience) {
        Waited::Ended(signal) => Err(signal),
        Waited::For(Answer::Opened(opened)) => Ok((opener, Some(*opened))),
        Waited::For(Answer::Key(_)) | Waited::Late | Waited::Gone => Ok((opener, None)),
    })
}

fn run(path: &Path, keys: &Keys, asked: &Receiver<Ask>, answer: &Sender<Answer>) {
    for ask in asked {
        let told = match ask {
            Ask::Open => Answer::Opened(Box::new(Store::open(path, keys))),
            Ask::Again(held) => Answer::Opened(Box::new(Store::open_again(path, keys, &held))),
            Ask::Key => Answer::Key(keys.new_key()),
            Ask::FirstKey => Answer::Key(keys.first_key()),
        };
        if answer.send(told).is_err() {
            return;
        }
    }
}

impl Opener {
    /// Ends the thread where it is not in the middle of a question.
    pub fn finish(self) {
        let Opener { ask, answers, thread, .. } = self;
        drop((ask, answers));
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Baseline;

    #[test]
    fn changes_that_wait_for_the_keeper_take_no_more_memory_than_they_may() {
        let keeping = Arc::new(Keeping::new(&Config::default()));
        let long = || vec![Change::Baseline(Baseline::Kept("a".into(), vec![0; ON_THE_WAY / 2 - 1000]))];
        keeping.will_bring(&long());
        keeping.will_bring(&long());
        let (said, heard) = bounded(1);
        let other = keeping.clone();
        let speaker = std::thread::spawn(move || {
            other.will_bring(&long());
            let _ = said.send(());
        });
        assert!(heard.recv_timeout(Duration::from_millis(100)).is_err(), "it does not wait");
        keeping.has_come(&long());
        assert!(heard.recv_timeout(Duration::from_secs(20)).is_ok(), "it waits for ever");
        assert!(speaker.join().is_ok());
        keeping.has_come(&long());
        keeping.has_come(&long());
        // One that is longer than all of it has its turn.
        keeping.will_bring(&[Change::Closed("x".repeat(2 * ON_THE_WAY))]);
        keeping.has_come(&[Change::Closed("x".repeat(2 * ON_THE_WAY))]);
        assert_eq!(keeping.on_the_way.load(Ordering::Acquire), 0);
    }

    #[test]
    fn whoever_waits_for_the_keeper_is_known_to() {
        let keeping = Arc::new(Keeping::new(&Config::default()));
        let (changes, keeper) = bounded(1);
        keeping.bring(Vec::new(), &changes);
        assert!(!keeping.is_waited_for());
        let other = keeping.clone();
        let speaker = std::thread::spawn(move || other.bring(Vec::new(), &changes));
        let until = Instant::now() + Duration::from_secs(20);
        while !keeping.is_waited_for() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        assert!(keeping.is_waited_for());
        assert!(keeper.recv().is_ok() && speaker.join().is_ok());
        assert!(!keeping.is_waited_for());
    }
}
