//! Start, run, reload, stop: the loader's main thread.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, never, select, tick};

use super::clock::monotonic_ns;
use super::confine::{UserError, keep_needed};
use super::control::Watched;
use super::link::ToWorker;
use super::lives::Lives;
use super::loader::Loader;
use super::policy::{Loaded, Outcome, Readings};
use super::resolve::LeftHanging;
use super::session::{LOOK_EVERY, Session, SessionError};
use super::signals::{Early, Signal, Signals, Waited};
use super::{pinned, self_check, session, state};
use crate::api::{self, Door};
use crate::config::{Config, ConfigError, Overrides};
use crate::hook::{HookError, Posted};
use crate::identity::{Asked, Realm};
use crate::kernel::{self, CgroupError, Hooks, Kernel, LoadError, Sizes, Stays, cgroup_at, cgroup_root};
use crate::policy::PolicyError;
use crate::priority;
use crate::record::Context;
use crate::regular;

/// How long the start waits for the file that says how far hooks have come.
const POSTED: Duration = Duration::from_secs(3);

/// How long a start that failed waits for word of a signal, which may be why it did.
const SIGNALLED: Duration = Duration::from_millis(200);

const NOT_RELOADED: &str = "not reloaded, the old policy stays in force";

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub config: Option<PathBuf>,
    pub overrides: Overrides,
}

/// Why the daemon does not run. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("{0}")]
    Host(String),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("{0}")]
    Api(String),
    #[error("{0}")]
    State(String),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl RunError {
    /// 2: a bad file. 4: this host cannot run it.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Config(_)
            | RunError::Policy(_)
            | RunError::Hook(_)
            | RunError::State(_)
            | RunError::User(_) => 2,
            _ => 4,
        }
    }
}

impl From<SessionError> for RunError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Run(error) => error,
            error => RunError::Host(error.to_string()),
        }
    }
}

/// Runs until a signal ends it.
///
/// # Errors
/// Before anything is attached, or when attaching is refused.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    let early = Early::install().map_err(|error| RunError::Host(format!("signals: {error}")))?;
    super::private::keep_private()
        .map_err(|error| RunError::Host(format!("core dumps cannot be disabled: {error}")))?;
    let (config, origin) = Config::read(options.config.as_deref(), options.overrides.clone())?;
    let (user, hooks_ready) = super::settings::check(&config, &origin)?;
    let policy = Loaded::read(&config, &origin)?;
    if let Some(name) = policy.name.as_ref().filter(|_| policy.count == 0) {
        say!("streamwatch: the policy {name} holds no service and no client, so nothing breaks it");
    }
    crate::doctor::can_run().map_err(RunError::Host)?;
    super::descriptors::allow_enough().map_err(RunError::Host)?;
    // What the shell left open is for nobody here.
    monitor_sys::keep_from_programs(3).map_err(|error| RunError::Host(format!("descriptors: {error}")))?;
    // Before there is another thread: what this one has, or gives up, goes for those that it starts.
    if let Err(error) = priority::boost(config.worker.priority_boost) {
        say!("streamwatch: it waits its turn where processors are short (worker.priority_boost): {error}");
    }
    keep_needed().map_err(|error| RunError::Host(format!("capabilities cannot be given up: {error}")))?;
    // Before there is anything to put away.
    let signals = Signals::install(&early).map_err(RunError::Thread)?;
    let lock =
        api::InstanceLock::acquire(&config.api.socket).map_err(|error| RunError::Api(error.to_string()))?;
    // Before anything of the host's is changed.
    let Some(posted) = posted(&config, &signals)? else { return Ok(()) };
    let cgroup = match &config.kernel.cgroup {
        Some(path) => cgroup_at(path)?,
        None => cgroup_root()?,
    };
    let mut kernel = Kernel::load(&sizes(&config), &cgroup, pinned::open(&config)?)?;
    pinned::tell(&kernel);
    let door = Door::open(&config.api.socket, config.api.viewers.as_deref(), config.api.operators.as_deref())
        .map_err(|error| RunError::Api(error.to_string()))?;
    let socket = api::SocketFile::at(&config.api.socket);
    let told = pinned::told(&config, &kernel)?;
    let watched = Watched { hooks: kernel.shared_hooks(), restore: config.kernel.restore };
    let control = Some(kernel.take_control()?);
    let is_watched = self_check::is_watched(&cgroup, &cgroup_root()?);
    let wanted = Asked::default();
    policy.ask(&wanted);
    let mut loader = Loader {
        resolvers: policy.resolvers,
        context: context(),
        boot_id: boot_id(),
        own_netns: monitor_sys::netns_cookie().ok().map(|cookie| (cookie, Realm::own().ok())),
        started_ns: monotonic_ns(),
        hooks_ready,
        posted: Arc::new(posted),
        config,
        policy: policy.texts,
        cgroup,
        kernel,
        watched,
        door,
        socket,
        lock,
        told,
        user,
        wanted,
        hanging: LeftHanging::default(),
        is_watched,
        control,
        keepers: Vec::new(),
    };
    let ended = supervise(&mut loader, &options, &signals);
    session::end_keepers(&mut loader);
    let Loader { kernel, config, lock, door, socket, .. } = loader;
    // Nobody is served any more, however it ended.
    socket.remove();
    drop(door);
    let stays = ended?;
    let place = kernel.pinned_at().map(Path::to_owned);
    drop(kernel);
    if let (Some(place), Some(stays)) = (place, stays) {
        pinned::tell_end(&place, &stays);
    } else {
        // Of hooks that are no more.
        let _ = std::fs::remove_file(pinned::told_file(&config.api.socket));
    }
    drop(lock);
    Ok(())
}

/// How far hooks have come, where the disk answers in time; `None`: the daemon is to end.
fn posted(config: &Config, signals: &Signals) -> Result<Option<Posted>, RunError> {
    let (path, hooks) = (state::path(config), config.alerts.hooks.clone());
    let (answer, answers) = bounded(1);
    spawn("posted", move || drop(answer.send(Posted::open(&path, &hooks))))?;
    Ok(match signals.wait(&answers, POSTED) {
        Waited::For(posted) => Some(posted),
        Waited::Late | Waited::Gone => {
            let why = "no answer yet from the disk";
            Some(Posted::without(&state::path(config), &config.alerts.hooks, &why))
        }
        Waited::Ended(_) => None,
    })
}

/// Keeps a worker running until a signal ends the daemon; what stays of the hooks, where they are to stay.
fn supervise(
    loader: &mut Loader,
    options: &RunOptions,
    signals: &Signals,
) -> Result<Option<Stays>, RunError> {
    let mut lives = Lives::default();
    let mut session = match Session::start(loader, lives.next(), signals) {
        Ok(session) => Some(session),
        Err(SessionError::Signal(signal)) => return end_by(signal, loader, None),
        Err(error) => {
            // Who ends all of its processes at once may have ended one that had no ears for signals yet.
            return match signals.wait::<()>(&never(), SIGNALLED) {
                Waited::Ended(signal) => end_by(signal, loader, None),
                _ => Err(error.into()),
            };
        }
    };
    if std::io::stdout().is_terminal() {
        greet(&loader.config, &loader.cgroup);
    }
    tell_ready(&loader.kernel);
    let looks = tick(LOOK_EVERY);
    let mut served = true;
    let options = options.clone();
    let mut readings = Readings::new(move || Loaded::read_anew(&options));
    loop {
        if let Some(signal) = signals.end_waits() {
            return end_by(signal, loader, session);
        }
        if signals.reload_waits() {
            reload(&mut readings, session.as_ref());
        }
        let gone = session.as_ref().map_or_else(never, |session| session.gone().clone());
        let due = lives.due().map_or_else(never, crossbeam_channel::at);
        let coming = loader.kernel.coming();
        select! {
            recv(coming) -> came => {
                let Err(error) = loader.kernel.came(came) else {
                    tell_ready(&loader.kernel);
                    continue;
                };
                if let Some(session) = session.take() {
                    session.stop(loader, true);
                }
                loader.move_over(error.to_string())?;
                match Session::start(loader, lives.next(), signals) {
                    Ok(new) => session = Some(new),
                    Err(SessionError::Signal(signal)) => return end_by(signal, loader, None),
                    Err(error) => return Err(error.into()),
                }
                tell_ready(&loader.kernel);
            }
            recv(signals.received()) -> signal => match signal {
                Ok(Signal::Reload) => reload(&mut readings, session.as_ref()),
                Ok(signal) => return end_by(signal, loader, session),
                Err(_) => return end_by(Signal::Interrupt, loader, session),
            },
            recv(readings.running()) -> came => {
                let (came, again) = readings.came(came);
                put_in_force(came, loader, session.as_ref());
                if again {
                    reload(&mut readings, None);
                }
            }
            recv(looks) -> _ => {
                if let Some(session) = &mut session {
                    session.kill_if_caught();
                }
                if served && !loader.socket.is_there() {
                    served = false;
                    say!(
                        "streamwatch: {} was removed or replaced: it watches on, and nobody can ask it; restart it \
                         where that is wanted",
                        loader.config.api.socket.display()
                    );
                }
            }
            recv(gone) -> _ => {
                if let Some(session) = session.take() {
                    let how = session.ended(loader);
                    lives.ended(&how, Instant::now());
                    say!("streamwatch: the worker ended by itself ({how}): {}", lives.consequence());
                }
            }
            recv(due) -> _ => {
                if let Some(session) = session.take() {
                    say!("streamwatch: a new worker looks at what is captured again");
                    session.stop(loader, true);
                }
                match Session::start(loader, lives.next(), signals) {
                    Ok(new) => session = Some(new),
                    Err(SessionError::Signal(signal)) => return end_by(signal, loader, None),
                    Err(error) => {
                        lives.ended(&error.to_string(), Instant::now());
                        say!("streamwatch: {error}: {}", lives.consequence());
                    }
                }
            }
        }
    }
}

/// Everything is seen, and by our own programs. Outside systemd there is nobody to tell.
fn tell_ready(kernel: &Kernel) {
    if kernel.is_coming() {
        return;
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    // Programs and types of the kernel were read for the start alone.
    monitor_sys::memory::give_back();
}

/// Hooks outlive who was told to end by a service manager.
fn end_by(signal: Signal, loader: &mut Loader, session: Option<Session>) -> Result<Option<Stays>, RunError> {
    let stay = signal == Signal::Terminate && loader.kernel.pinned_at().is_some();
    end(loader, session, stay)
}

/// The end: totals of what stays open, while they can be had; then the hooks, whose last words are still
/// told.
fn end(loader: &mut Loader, session: Option<Session>, stay: bool) -> Result<Option<Stays>, RunError> {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let settled = loader.kernel.settle();
    if let Err(error) = &settled {
        say!("streamwatch: {error}: the hooks of the daemon before end with this one");
    }
    let stay = stay && settled.is_ok();
    if let Some(session) = &session {
        session.refresh();
    }
    let stays = loader.watched.take().map(Hooks::leave).filter(|_| stay);
    let detached = if stay { Ok(()) } else { loader.kernel.detach() };
    if let Some(session) = session {
        session.stop(loader, stay);
    }
    detached.map_err(LoadError::from)?;
    Ok(stays)
}

/// The policy is to be read again.
fn reload(readings: &mut Readings<Loaded>, session: Option<&Session>) {
    if let Some(session) = session {
        session.check_key();
    }
    if let Err(error) = readings.ask() {
        say!("streamwatch: {NOT_RELOADED}: {error}");
    }
}

/// It was. A bad file changes nothing and says why.
fn put_in_force(came: Outcome<Loaded>, loader: &mut Loader, session: Option<&Session>) {
    match came {
        None => say!("streamwatch: {NOT_RELOADED}: a fault of streamwatch, which is told above"),
        Some(Err(error)) => say!("streamwatch: {NOT_RELOADED}: {error}"),
        // As a file is while it is written anew.
        Some(Ok(Loaded { count: 0, name: Some(name), .. })) => say!(
            "streamwatch: {NOT_RELOADED}: {name} holds no service and no client; to go without a policy, take \
             policy.file out of the settings"
        ),
        Some(Ok(policy)) => {
            policy.ask(&loader.wanted);
            let Loaded { texts, count, name, resolvers, .. } = policy;
            let what = name.map_or_else(
                || "the built-in policy is in force".to_owned(),
                |name| format!("the policy {name} is in force, services and clients in it: {count}"),
            );
            say!("streamwatch: reloaded: {what}");
            (loader.policy, loader.resolvers) = (texts, resolvers);
            if let Some(session) = session {
                session.say(ToWorker::Policy(loader.policy.clone(), loader.resolvers.clone()));
            }
        }
    }
}

/// Tells a person at a terminal that it works, and what to do next.
fn greet(config: &Config, cgroup: &Path) {
    let socket = match config.api.socket.as_path() {
        usual if usual == Path::new(api::DEFAULT_SOCKET) => String::new(),
        other => format!(" --socket {}", other.display()),
    };
    say!(
        "streamwatch {} watches every socket under {}. What is wrong appears here; for the rest ask, from",
        env!("CARGO_PKG_VERSION"),
        cgroup.display()
    );
    say!("another terminal, 'streamwatch{socket} streams' (or flows, alerts, hist, status). Ctrl-C ends it.");
}

/// The configuration: file, then environment and flags on top, checked.
pub fn load_config(options: &RunOptions) -> Result<Config, ConfigError> {
    Config::read(options.config.as_deref(), options.overrides.clone()).map(|(config, _)| config)
}

/// The sizes that the kernel side wants.
pub fn sizes(config: &Config) -> Sizes {
    let kernel = &config.kernel;
    Sizes {
        ring_bytes: kernel.ring_bytes,
        overflow: kernel.overflow,
        decisions: kernel.decisions,
        udp_flows: kernel.udp_flows,
        tcp_budget: kernel.tcp_budget,
        handshake_budget: kernel.handshake_budget,
        udp_budget: kernel.udp_budget,
        listener_captures: kernel.listener_captures,
        tick_ms: kernel.tick_ms,
    }
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(RunError::Thread)
}

/// This host, as records name it.
fn context() -> Context {
    let read = |path: &str| {
        regular::read(Path::new(path), 256)
            .map(|text| String::from_utf8_lossy(&text).trim().to_owned())
            .unwrap_or_default()
    };
    Context {
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        host_id: read("/etc/machine-id"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Short and stable until the next boot.
fn boot_id() -> String {
    kernel::boot_id().map_or_else(|_| "unknown".to_owned(), |id| id.chars().take(8).collect())
}
