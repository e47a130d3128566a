//! Start, run, reload, stop.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use tokio::sync::broadcast;

use super::clock::{Clock, monotonic_ns};
use super::control::{Late, Watched};
use super::core::{Command, Core, CoreSettings, Found, Lookup};
use super::keep::{Keeper, Links};
use super::reader::{BATCH, Batch, ReaderCounters, Reading};
use super::serve::About;
use super::signals::{Signal, Signals};
use super::stages::{Stage, Stages};
use super::state::{self, Begun, Keeping};
use super::work::{self, Inlets, Order, Outlets};
use super::{control, pinned, reader, resolve, self_check};
use crate::alert::Change;
use crate::api::{self, Request};
use crate::config::{Config, ConfigError, Format as Wanted, Overrides};
use crate::event::Event;
use crate::hook::{HookError, Hooks};
use crate::identity::Asked;
use crate::kernel::{Beginning, CgroupError, Kernel, LoadError, Ring, Sizes, cgroup_at, cgroup_root};
use crate::model::AlertView;
use crate::names::host_resolvers;
use crate::policy::{Policy, PolicyError};
use crate::record::{Context, Format};
use crate::sink::{Sink, SinkHandle};
use crate::status::HookView;
use crate::store::{Opened, StoreError};

/// Streams held at a time; the flows of more go under one name, and are counted.
const STREAMS: usize = 65_536;

/// Requests of the API that wait for the core.
const REQUESTS: usize = 64;

/// Alerts that a follower of the API may be behind.
const FOLLOW: usize = 1024;

/// How long the output may take at the end.
const FINISH: Duration = Duration::from_secs(5);

/// Batches of changes that wait for the disk.
const CHANGES: usize = 256;

/// Rounds of ends that wait for the reader.
const LATE: usize = 4;

/// How long the last look at all sockets may take.
const REFRESH: Duration = Duration::from_secs(3);

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
            RunError::Config(_) | RunError::Policy(_) | RunError::Hook(_) | RunError::State(_) => 2,
            _ => 4,
        }
    }
}

/// Runs until a signal ends it.
///
/// # Errors
/// Before anything is attached, or when attaching is refused.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    super::private::keep_private()
        .map_err(|error| RunError::Host(format!("core dumps cannot be disabled: {error}")))?;
    let config = load_config(&options)?;
    let policy = load_policy(&config)?;
    crate::doctor::can_run().map_err(RunError::Host)?;
    let lock =
        api::InstanceLock::acquire(&config.api.socket).map_err(|error| RunError::Api(error.to_string()))?;
    let signals = Signals::install().map_err(RunError::Thread)?;
    let cgroup = match &config.kernel.cgroup {
        Some(path) => cgroup_at(path)?,
        None => cgroup_root()?,
    };
    let mut kernel = Kernel::load(&sizes(&config), &cgroup, pinned::open(&config)?)?;
    pinned::tell(&kernel);
    let daemon = Daemon::start(&config, policy, &mut kernel, &cgroup)?;
    if std::io::stdout().is_terminal() {
        greet(&config, &cgroup);
    }
    // Ready: from here on everything is seen. Outside systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut stay = false;
    while let Some(signal) = signals.wait() {
        match signal {
            Signal::Reload => daemon.reload(&options),
            Signal::Terminate => {
                stay = kernel.pinned_at().is_some();
                break;
            }
            Signal::Interrupt => break,
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    // Totals of what stays open, while they can be had; then the hooks: what is in the ring by
    // then is still told.
    daemon.refresh();
    let place = kernel.pinned_at().filter(|_| stay).map(Path::to_owned);
    daemon.hooks_stay.store(stay, Ordering::Release);
    drop(daemon.watched.take());
    let ended = kernel.end(stay);
    daemon.stop(stay);
    ended.map_err(LoadError::from)?;
    if let Some(place) = place {
        pinned::tell_end(&place);
    } else {
        // Of hooks that are no more.
        let _ = std::fs::remove_file(pinned::told_file(&config.api.socket));
    }
    drop(lock);
    Ok(())
}

/// Tells a person at a terminal that it works, and what to do next.
fn greet(config: &Config, cgroup: &Path) {
    let socket = match config.api.socket.as_path() {
        usual if usual == Path::new(api::DEFAULT_SOCKET) => String::new(),
        other => format!(" --socket {}", other.display()),
    };
    eprintln!(
        "streamwatch {} watches every socket under {}. What is wrong appears here; for the rest ask, from\n\
         another terminal, 'streamwatch{socket} streams' (or flows, alerts, hist, status). Ctrl-C ends it.",
        env!("CARGO_PKG_VERSION"),
        cgroup.display()
    );
}

/// The configuration: file, then environment and flags on top, checked.
pub fn load_config(options: &RunOptions) -> Result<Config, ConfigError> {
    let mut config = Config::load(options.config.as_deref())?;
    config.apply(options.overrides.clone());
    config.check_from(options.config.as_deref())?;
    Ok(config)
}

fn load_policy(config: &Config) -> Result<Arc<Policy>, PolicyError> {
    let policy = match &config.policy.file {
        Some(path) => Policy::load(path)?,
        None => Policy::builtin(),
    };
    let wants_names = policy.wants().names && policy.resolvers().is_empty();
    Ok(Arc::new(if wants_names { policy.with_resolvers(host_resolvers()) } else { policy }))
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

fn core_settings(config: &Config) -> CoreSettings {
    CoreSettings {
        capacity: config.flows.capacity as usize,
        closed_keep: config.flows.closed_keep as usize,
        udp_idle_ns: u64::from(config.flows.udp_idle_s) * 1_000_000_000,
        tcp_budget: config.kernel.tcp_budget,
        handshake_budget: config.kernel.handshake_budget,
        interval_ns: u64::from(config.output.interval_s) * 1_000_000_000,
        loopback_alerts: config.alerts.loopback,
        repeat_every_s: config.alerts.repeat_every_s,
        resolve_after_s: config.alerts.resolve_after_s,
        failures: (config.detect.connect_failures.threshold, config.detect.connect_failures.window_s),
        detect: config.detect.clone(),
        sampling: config.sampling.clone(),
        streams: STREAMS,
        measured_streams: config.histograms.streams as usize,
        reset_histograms_ns: u64::from(config.histograms.reset_every_s) * 1_000_000_000,
    }
}

/// The running threads.
struct Daemon {
    stop: Arc<AtomicBool>,
    /// At the end, hooks and open flows go on without this daemon.
    hooks_stay: Arc<AtomicBool>,
    watched: Watched,
    /// The ring's position up to which everything was told.
    told: Option<Arc<AtomicU64>>,
    /// Dropped to stop the control thread.
    hold: Sender<()>,
    orders: Sender<Order>,
    reader: JoinHandle<Ring>,
    control: JoinHandle<()>,
    core: JoinHandle<(SinkHandle, Hooks)>,
    keeper: JoinHandle<()>,
    /// Has the key of the state looked at.
    check_key: Sender<()>,
    api: api::ApiHandle,
    /// What the policy in force asks of identities.
    asked: Asked,
}

impl Daemon {
    fn start(
        config: &Config,
        policy: Arc<Policy>,
        kernel: &mut Kernel,
        cgroup: &Path,
    ) -> Result<Self, RunError> {
        let channel = config.pipeline.channel as usize;
        let batches = channel.div_ceil(BATCH).max(2);
        let (memory, past) = pinned::memory(config, kernel)?.unzip();
        let told = memory.as_ref().map(|memory| memory.told.clone());
        let losses = memory.as_ref().map(|memory| memory.log.losses());
        let taken_over = *kernel.beginning() == Beginning::TakenOver;
        let watched =
            Watched { hooks: Arc::new(Mutex::new(kernel.take_hooks())), restore: config.kernel.restore };
        let hooks_stay = Arc::new(AtomicBool::new(false));
        let (ring, maps) = kernel.split()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (events_in, events) = bounded::<Batch>(batches);
        let (commands, commands_out) = bounded::<Command>(channel);
        let (lookups, lookups_out) = bounded::<Lookup>(channel);
        let (found_in, found) = bounded::<Found>(channel);
        let (requests_in, requests) = bounded::<Request>(REQUESTS);
        let (orders, orders_out) = bounded::<Order>(4);
        let (alerts, _) = broadcast::channel::<Arc<AlertView>>(FOLLOW);
        let context = context();
        let sink =
            Sink::start_stdout(format(config), context.clone(), config.pipeline.sink_queue as usize, memory)
                .map_err(RunError::Thread)?;

        let read = Arc::new(ReaderCounters::default());
        let kept = Stage::changes(CHANGES);
        let asked_of_api = Arc::<api::Counters>::default();
        let (changes, changes_out) = bounded::<Vec<Change>>(CHANGES);
        let keeping = Arc::new(Keeping::new(config));
        let Begun { opener, opened } = state::begin(config, &keeping)?;
        let (check_key, check) = bounded::<()>(1);
        let stages = Stages {
            reader: read.clone(),
            events: Stage::events(batches),
            lookups: Stage::lookups(channel),
            commands: Stage::commands(channel),
            api: asked_of_api.clone(),
            requests_capacity: REQUESTS,
            changes: kept.clone(),
            keeping: keeping.clone(),
            hooks: Hooks::start(&config.alerts.hooks, &context)?,
            sink: sink.counters().clone(),
            sink_capacity: sink.capacity(),
        };
        let about = About {
            started_ns: monotonic_ns(),
            hooks: kernel
                .hooks()
                .iter()
                .map(|hook| HookView {
                    name: hook.attach.to_owned(),
                    attached: true,
                    detail: Some(format!("{} at {}", hook.name, cgroup.display())),
                })
                .collect(),
            ring_bytes: u64::from(config.kernel.ring_bytes),
        };
        let mut core = Core::new(core_settings(config), boot_id(), policy.clone(), Clock::now());
        if taken_over {
            core.take_over(past.unwrap_or_default(), monotonic_ns());
        }
        if told.is_some() {
            core.keep_position();
        }
        let links =
            Links { changes: changes_out, stage: kept, orders: orders.clone(), check, keeping, opener };
        let keeper = keeper(config, &mut core, links, opened);
        let keeper = spawn("keeper", move || keeper.run())?;
        let outlets = Outlets {
            pinned: told.is_some(),
            losses,
            hooks_stay: hooks_stay.clone(),
            sink,
            alerts: alerts.clone(),
            commands,
            lookups,
            found: found.clone(),
            stages,
            changes,
        };

        let api = api::start(
            api::Options {
                socket: config.api.socket.clone(),
                viewers: config.api.viewers.clone(),
                operators: config.api.operators.clone(),
                connections: config.api.connections as usize,
                counters: asked_of_api,
                context,
            },
            requests_in,
            alerts,
        )
        .map_err(|error| RunError::Api(error.to_string()))?;
        let asked = Asked::default();
        let wants = policy.wants();
        asked.set(wants.hashes, wants.workloads);
        {
            let (asked, cgroup) = (asked.clone(), cgroup.to_owned());
            spawn("resolver", move || resolve::run(&lookups_out, &found_in, asked, &cgroup))?;
        }
        let (hold, held) = bounded::<()>(0);
        if self_check::is_watched(cgroup, &cgroup_root()?) {
            let (orders, held) = (orders.clone(), held.clone());
            spawn("self-check", move || self_check::run(&orders, &held))?;
        }
        let inlets = Inlets { events, found, requests, orders: orders_out };
        let core = spawn("core", move || work::run(core, inlets, outlets, &about))?;
        if taken_over {
            // Before what the ring says of them: the end of a socket is that of all its peers.
            let left = maps.all_udp().into_iter().map(|(key, totals)| Event::UdpLeft(key, totals));
            let _ = events_in.send(Batch { events: left.collect(), end: None });
        }
        let (sender, receiver) = bounded(LATE);
        let late = Late { sender, receiver };
        let reader = {
            let events = events_in.clone();
            let reading = Reading {
                counters: read,
                stop: stop.clone(),
                told: told.clone(),
                late: late.receiver.clone(),
            };
            spawn("reader", move || reader::run(ring, &events, &reading))?
        };
        let control = {
            let watched = watched.clone();
            spawn("control", move || control::run(maps, &watched, &commands_out, &events_in, &late, &held))?
        };
        Ok(Daemon {
            stop,
            hooks_stay,
            watched,
            told,
            hold,
            orders,
            reader,
            control,
            core,
            keeper,
            check_key,
            api,
            asked,
        })
    }

    /// Reads the policy again. A bad file changes nothing and says why.
    fn reload(&self, options: &RunOptions) {
        // One that waits already does as well.
        let _ = self.check_key.try_send(());
        let policy = load_config(options).map_err(RunError::from).and_then(|config| {
            let name = config.policy.file.as_ref().map(|path| path.display().to_string());
            Ok((load_policy(&config)?, name))
        });
        match policy {
            Ok((policy, name)) => {
                eprintln!(
                    "streamwatch: reloaded: {} in force",
                    name.map_or_else(
                        || "the built-in policy is".to_owned(),
                        |name| format!("the policy {name} is")
                    )
                );
                let wants = policy.wants();
                self.asked.set(wants.hashes, wants.workloads);
                // The core takes orders before events; a full queue means that it has a newer one.
                let _ = self.orders.send(Order::Policy(policy));
            }
            Err(error) => eprintln!("streamwatch: not reloaded, the old policy stays in force: {error}"),
        }
    }

    /// Brings the totals of open flows up to date.
    fn refresh(&self) {
        let (done, wait) = bounded(1);
        if self.orders.send(Order::Refresh(done)).is_ok() {
            // Late or never: then the totals are those of the last event.
            let _ = wait.recv_timeout(REFRESH);
        }
    }

    /// Ends every stage in the order in which data goes, so that nothing that was read is lost.
    fn stop(self, hooks_stay: bool) {
        self.stop.store(true, Ordering::Release);
        let ring = self.reader.join();
        drop(self.hold);
        let _ = self.control.join();
        drop(self.orders);
        if let Ok((sink, hooks)) = self.core.join() {
            sink.finish(FINISH);
            hooks.finish(FINISH);
        }
        // What nobody took in time is told by the next one.
        if let (Ok(mut ring), Some(told), true) = (ring, &self.told, hooks_stay) {
            ring.give_back(told.load(Ordering::Acquire));
        }
        // The core has hung up: what is left is written.
        let _ = self.keeper.join();
        self.api.stop();
    }
}

/// Takes over what was kept. Where that cannot be had now, the daemon runs all the same, and says so.
fn keeper(
    config: &Config,
    core: &mut Core,
    links: Links,
    opened: Option<Result<Opened, StoreError>>,
) -> Keeper {
    let mut store = None;
    let mut waits = None;
    match opened {
        Some(Ok(Opened { store: open, saved, mut damage })) => {
            let damaged = core.restore(saved, monotonic_ns());
            if damaged > 0 {
                damage.push(format!("{damaged} baselines could not be read, and begin anew"));
            }
            links.keeping.damage(&damage);
            store = Some(open);
        }
        Some(Err(error)) => waits = Some(Some(error)),
        None => waits = Some(None),
    }
    let check_every = Duration::from_secs(u64::from(config.state.check_every_s));
    let keeper = Keeper::new(links, store, config.state.memory_bytes as usize, check_every);
    match waits {
        Some(why) => keeper.waiting(why.as_ref()),
        None => keeper,
    }
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(RunError::Thread)
}

fn format(config: &Config) -> Format {
    match config.output.format {
        Wanted::Auto if std::io::stdout().is_terminal() => Format::Text,
        Wanted::Auto | Wanted::Ecs => Format::Ecs,
        Wanted::Ocsf => Format::Ocsf,
        Wanted::Zeek => Format::Zeek,
        Wanted::Text => Format::Text,
    }
}

/// This host, as records name it.
fn context() -> Context {
    let read =
        |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    Context {
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        host_id: read("/etc/machine-id"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Short and stable until the next boot.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |id| id.trim().chars().take(8).collect())
}
