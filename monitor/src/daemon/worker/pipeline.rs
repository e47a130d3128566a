//! The worker's threads: reader, core, sink, API, and the two that speak with the loader.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use monitor_common::Executed;
use tokio::sync::broadcast;

use super::super::clock::{Clock, monotonic_ns};
use super::super::confine::Confined;
use super::super::core::{Command, Core, CoreSettings, Found, Lookup};
use super::super::link::{Descriptors, LATE, Start, ToLoader};
use super::super::reader::{self, BATCH, Batch, LateEnds, Patience, ReaderCounters, Reading};
use super::super::serve::About;
use super::super::stages::{Loader, Stage, Stages};
use super::super::start::spawn;
use super::super::work::{self, Inlets, Order, Outlets};
use super::WorkerError;
use super::hear::{self, Ears, FromMaps, Policies, make_policies};
use super::speak::{self, Mouths};
use crate::alert::Change;
use crate::api::{self, Door, Limits, Request};
use crate::config::{Config, Format as Wanted};
use crate::hook::Notice;
use crate::identity::Executions;
use crate::kernel::{ExecutedAt, Ring};
use crate::model::AlertView;
use crate::policy::Policy;
use crate::record::Format;
use crate::sink::{self, Memory, Sink, ToldLog};

/// Requests of the API that wait for the core.
const REQUESTS: usize = 64;

/// Alerts that a follower of the API may be behind, and that wait for hooks.
const FOLLOW: usize = 1024;

/// How long the output may take at the end. The loader waits longer.
const FINISH: sink::Patience =
    sink::Patience { stuck: Duration::from_secs(5), in_all: Duration::from_secs(15) };

/// Batches of changes that wait for the disk.
const CHANGES: usize = 256;

/// Answers to the loader.
const REPLIES: usize = 64;

/// Runs all of it until the loader says that it is to end.
pub(super) fn run(
    start: Start,
    descriptors: Descriptors<std::os::fd::OwnedFd>,
    from: BufReader<UnixStream>,
    socket: UnixStream,
    confined: Confined,
) -> Result<(), WorkerError> {
    let (config, life) = (&start.config.clone(), &start.life.clone());
    let channel = config.pipeline.channel as usize;
    let batches = channel.div_ceil(BATCH).max(2);
    let Descriptors { ring, journal, told, listener, lock: _lock, newcomers, executed } = descriptors;
    let ring = Ring::new(ring, start.ring_bytes, journal)?;
    let executed_at = ExecutedAt::new(executed)?;
    let (log, past) = ToldLog::new(&File::from(told), start.ring_id)?;
    let told = Arc::new(AtomicU64::new(0));
    let memory = Memory { same_output: life.number > 0, log, told: told.clone() };
    let losses = memory.log.losses();

    let stop = Arc::new(AtomicBool::new(false));
    let hooks_stay = Arc::new(AtomicBool::new(false));
    let ring_read = Arc::new(AtomicBool::new(false));
    let (events_in, events) = bounded::<Batch>(batches);
    let (commands, commands_out) = bounded::<Command>(channel);
    let (lookups, lookups_out) = bounded::<Lookup>(channel);
    let (found_in, found) = bounded::<Found>(channel);
    let (requests_in, requests) = bounded::<Request>(REQUESTS);
    let (orders, orders_out) = bounded::<Order>(4);
    let (changes, changes_out) = bounded::<Vec<Change>>(CHANGES);
    let (hooks, hooks_out) = bounded::<Notice>(FOLLOW);
    let (replies, replies_out) = bounded::<ToLoader>(REPLIES);
    let (late_in, late) = bounded::<LateEnds>(LATE);
    let (stop_in, stop_out) = bounded::<bool>(1);
    let (alerts, _) = broadcast::channel::<Arc<AlertView>>(FOLLOW);

    let format = format(config);
    let sink =
        Sink::start_stdout(format, start.context.clone(), config.pipeline.sink_queue as usize, Some(memory))?;
    let loader = Arc::new(Loader::default());
    loader.set(start.report);
    let read = Arc::new(ReaderCounters::default());
    let asked_of_api = Arc::<api::Counters>::default();
    let stages = Stages {
        reader: read.clone(),
        events: Stage::events(batches),
        lookups: Stage::lookups(channel),
        commands: Stage::commands(channel),
        api: asked_of_api.clone(),
        requests_capacity: REQUESTS,
        changes: Stage::changes(CHANGES),
        alerts: Stage::alerts(FOLLOW),
        loader: loader.clone(),
        sink: sink.counters().clone(),
        sink_capacity: sink.capacity(),
    };
    let about =
        About { started_ns: start.started_ns, hooks: start.hooks, ring_bytes: u64::from(start.ring_bytes) };
    let policy = Policy::compile(&start.policy)?.with_host_resolvers(start.resolvers);
    let mut core = Core::new(
        core_settings(config, life.counts_only, start.own_netns.map(|(netns, _)| netns)),
        start.boot_id,
        Arc::new(policy),
        Clock::now(),
    );
    if let Some((netns, Some(realm))) = start.own_netns {
        core.is_ours(netns, realm, monotonic_ns());
    }
    let at = |at_ns| Executed { at_ns, ..Executed::default() };
    core.follow(Executions::asked_of(move |tgid| Some(at(executed_at.of(tgid)))));
    let mut damaged = 0;
    let is_known = start.saved.is_some();
    if let Some(saved) = start.saved {
        damaged = core.restore(saved, monotonic_ns());
    }
    if start.taken_over {
        core.take_over(past, monotonic_ns());
    }
    if is_known {
        losses.begin_alerts(core.rest(None).latest);
    }
    core.keep_position();
    if let Some(how) = &life.last {
        core.worker_ended(how, life.ended, life.counts_only, monotonic_ns());
    }
    let alive = Arc::new(AtomicU64::new(monotonic_ns()));
    let outlets = Outlets {
        alive: alive.clone(),
        losses: Some(losses),
        hooks_stay: hooks_stay.clone(),
        sink,
        alerts: alerts.clone(),
        commands,
        lookups,
        found: found.clone(),
        stages,
        changes,
        hooks: start.alerts.then(|| (hooks, start.context.clone())),
    };
    let door = Door { listener: UnixListener::from(listener), access: start.access };
    let options = api::Options {
        socket: config.api.socket.clone(),
        counters: asked_of_api,
        context: start.context,
        ..api::Options::default()
    };
    let limits = Limits::of(config.api.connections as usize);

    let mouths = Mouths {
        commands: commands_out,
        lookups: lookups_out,
        changes: changes_out,
        alerts: hooks_out,
        replies: replies_out,
    };
    let speaker = spawn("to-loader", move || {
        if speak::run(mouths, socket).is_err() {
            exit(0);
        }
    })?;
    let inlets = Inlets { events, found, requests, orders: orders_out };
    let core = spawn("core", move || work::run(core, inlets, outlets, &about))?;
    let (until_here, heard) = bounded::<()>(0);
    let policies = Policies::new();
    {
        let (texts, orders) = (policies.come(), orders.clone());
        spawn("policy", move || make_policies(&texts, &orders))?;
    }
    let ears = Ears {
        found: found_in,
        maps: Some(FromMaps {
            events: events_in.clone(),
            late: late_in,
            ring_read: ring_read.clone(),
            _until_here: until_here,
        }),
        orders,
        policies,
        replies: replies.clone(),
        loader,
        alive,
        stop: stop_in,
    };
    // A loader that is gone ends the process: the next one takes over what was not told.
    spawn("from-loader", move || match hear::run(from, ears) {
        Ok(()) => exit(0),
        Err(error) => {
            say!("streamwatch: the worker cannot understand its loader: {error}");
            exit(1);
        }
    })?;
    let reading = Reading {
        counters: read,
        stop: stop.clone(),
        hooks_stay: hooks_stay.clone(),
        told: told.clone(),
        late: late.clone(),
        patience: if start.pinned { Patience::default() } else { Patience::NONE },
        newcomers: Some(File::from(newcomers)),
    };
    let reader = {
        let events = events_in.clone();
        spawn("reader", move || reader::run(ring, &events, &reading))?
    };
    let api = api::serve(door, options, limits, requests_in, alerts)?;
    let _ = replies.send(ToLoader::Ready { damaged: damaged as u64, confined });

    // A loader that is gone ends the process where it is heard: until then nothing is ended here, and no open flow
    // is told as closed.
    let Ok(stay) = stop_out.recv() else {
        loop {
            std::thread::park();
        }
    };
    hooks_stay.store(stay, Ordering::Release);
    stop.store(true, Ordering::Release);
    let read = reader.join();
    let all = read.as_ref().is_ok_and(|read| read.all);
    ring_read.store(true, Ordering::Release);
    let _ = replies.send(ToLoader::RingRead { all });
    until_maps_are_read(&heard, &late, all.then_some(&events_in));
    drop(events_in);
    if let Ok(core) = core.join() {
        core.finish(FINISH);
    }
    // What nobody took in time is told by the next one.
    let mut all_told = false;
    if let (Ok(mut read), true) = (read, stay) {
        all_told = read.give_back(told.load(Ordering::Acquire)) && all;
    }
    api.stop();
    let _ = replies.send(ToLoader::Ended { all_told });
    let _ = speaker.join();
    Ok(())
}

/// Late ends that the reader has not taken are told all the same, where nothing is left that stood before them.
fn until_maps_are_read(heard: &Receiver<()>, late: &Receiver<LateEnds>, events: Option<&Sender<Batch>>) {
    loop {
        let over = heard.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Disconnected);
        for LateEnds { ends, .. } in late.try_iter() {
            let _ = events.map(|events| events.send(Batch { events: ends, ..Batch::default() }));
        }
        if over {
            return;
        }
    }
}

fn core_settings(config: &Config, counts_only: bool, own_netns: Option<u64>) -> CoreSettings {
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
        streams: crate::flows::STREAMS,
        measured_streams: config.histograms.streams as usize,
        reset_histograms_ns: u64::from(config.histograms.reset_every_s) * 1_000_000_000,
        counts_only,
        own_netns,
    }
}

fn format(config: &Config) -> Format {
    use std::io::IsTerminal;
    match config.output.format {
        Wanted::Auto if std::io::stdout().is_terminal() => Format::Text,
        Wanted::Auto | Wanted::Ecs => Format::Ecs,
        Wanted::Ocsf => Format::Ocsf,
        Wanted::Zeek => Format::Zeek,
        Wanted::Text => Format::Text,
    }
}
