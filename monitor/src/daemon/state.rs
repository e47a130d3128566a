//! Keeping what must outlive the daemon: who opens the files, and what `status` says of it.
//!
//! The files are opened, and keys are asked for, on a thread of their own, which may wait for a network; the
//! keeper never does, and the core waits at the start alone, for so long as `state.wait_s` says.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::stages::Stage;
use super::start::{RunError, spawn};
use crate::api;
use crate::config::Config;
use crate::keys::{Key, KeyError, Keys, Wrapped};
use crate::status::StateView;
use crate::store::{Opened, Store, StoreError};

/// Lines of damage that `status` shows.
const SHOWN: usize = 32;

/// What the opener is asked.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// Open the files.
    Open,
    /// A file key under what wraps keys now.
    Key,
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
    thread: JoinHandle<()>,
}

/// What the start found.
pub struct Begun {
    pub opener: Opener,
    /// The files; `None`: not yet.
    pub opened: Option<Result<Opened, StoreError>>,
}

/// What `status` says, and the memory of the keeper as a stage.
#[derive(Debug)]
pub struct Keeping {
    view: Mutex<StateView>,
    pub memory: Stage,
    /// Changes that are on the disk.
    written: AtomicU64,
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

/// Begins to open the files, and waits for as long as the start may.
///
/// # Errors
/// What Vault or AWS want is not configured, or there is no thread.
pub fn begin(config: &Config, keeping: &Keeping) -> Result<Begun, RunError> {
    let path = path(config);
    let keys = Keys::new(&config.state, &path).map_err(|error| RunError::State(error.to_string()))?;
    keeping.change(|view| view.key.clone_from(&keys.name));
    let remote = keys.remote;
    let (ask, asked) = bounded(1);
    let (answer, answers) = bounded(1);
    let thread = spawn("state", move || run(&path, &keys, &asked, &answer))?;
    // The thread has just begun: there is room.
    let _ = ask.send(Ask::Open);
    let answer = if remote {
        answers.recv_timeout(Duration::from_secs(u64::from(config.state.wait_s))).ok()
    } else {
        answers.recv().ok()
    };
    let opened = match answer {
        Some(Answer::Opened(opened)) => Some(*opened),
        _ => None,
    };
    // Questions to one service may be several: two copies, an identity, a key.
    let patience = Duration::from_secs(4 * u64::from(config.state.timeout_s)).min(Duration::from_secs(10));
    Ok(Begun { opener: Opener { ask, answers, patience, thread }, opened })
}

fn run(path: &Path, keys: &Keys, asked: &Receiver<Ask>, answer: &Sender<Answer>) {
    for ask in asked {
        let told = match ask {
            Ask::Open => Answer::Opened(Box::new(Store::open(path, keys))),
            Ask::Key => Answer::Key(keys.new_key()),
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
