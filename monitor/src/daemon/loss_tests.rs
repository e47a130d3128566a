//! The whole way of an event, with the stages that the daemon has, each of them slow at random: what was
//! offered to a stage was delivered or is counted as lost, and what one delivered is what the next was
//! offered, on the other side of the socket between the two processes, too. The ring is a queue here, the
//! processes are threads, and nobody asks `/proc`; all else is what runs.

#![allow(clippy::unwrap_used)]

mod link;

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use monitor_common::{CaptureHead, Counters, FlowEvent, KINDS, Kind, Owner, Plain, capture_flag, flow_flag};
use proptest::prelude::*;
use tokio::sync::broadcast;

use super::core::{Command, Core, Found, Lookup, Rest};
use super::keep::{Keeper, Links};
use super::reader::{self, Batch, Patience, ReaderCounters, Reading, Source};
use super::session::ear::Ear;
use super::session::mouth::Reporter;
use super::stages::Loader;
use super::state::{self, Keeping};
use super::work::{self, Inlets, Outlets};
use super::worker::speak::Mouths;
use super::{About, Clock, CoreSettings, Stage, Stages, monotonic_ns};
use crate::alert::Change;
use crate::api::{self, tests::Place};
use crate::config::Config;
use crate::event::{Event, to_bytes};
use crate::hook::{Hooks, Notice, Ready};
use crate::identity::{Realm, SocketKey};
use crate::kernel::Left;
use crate::model::{Identity, LossRow};
use crate::policy::Policy;
use crate::record::{Format, samples};
use crate::sink::{self, Kind as RecordKind, Sink};
use crate::tally::Tally;

const SECOND: u64 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// How slow each stage is: of a hundred steps so many take a while.
#[derive(Clone, Copy, Debug)]
struct Slow {
    ring: u8,
    core: u8,
    resolver: u8,
    control: u8,
    writer: u8,
    keeper: u8,
    client: u8,
    link: u8,
}

/// Random pauses, the same for a seed.
#[derive(Clone)]
struct Pauses {
    state: u64,
    percent: u8,
}

impl Pauses {
    fn new(seed: u64, percent: u8) -> Self {
        Pauses { state: seed | 1, percent }
    }

    fn next(&mut self) -> u64 {
        // xorshift64 (Marsaglia 2003).
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }

    fn take(&mut self) -> bool {
        let slow = self.next() % 100 < u64::from(self.percent);
        if slow {
            thread::sleep(Duration::from_micros(100 + self.next() % 2000));
        }
        slow
    }
}

/// What the kernel does with the ring: a record that finds it full is lost and counted.
#[derive(Default)]
struct Kernel {
    queue: Mutex<VecDeque<Vec<u8>>>,
}

struct Queue {
    kernel: Arc<Kernel>,
    pauses: Mutex<Pauses>,
    read: u64,
}

impl Source for Queue {
    fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        self.pauses.lock().unwrap().take();
        let records: Vec<Vec<u8>> = {
            let mut queue = self.kernel.queue.lock().unwrap();
            let count = limit.min(queue.len());
            queue.drain(..count).collect()
        };
        records.iter().for_each(|record| each(record));
        self.read += records.len() as u64;
        records.len()
    }

    fn produced(&self) -> u64 {
        self.read + self.kernel.queue.lock().unwrap().len() as u64
    }

    fn position(&self) -> u64 {
        self.read
    }

    fn held(&self) -> u64 {
        0
    }

    fn held_share(&self) -> u64 {
        0
    }

    fn filled_share(&self) -> u64 {
        0
    }

    fn give_back(&mut self, _: u64) {}

    fn give_back_untold(&mut self) {}

    fn left(&mut self) -> Left {
        Left::default()
    }

    fn late_told(&mut self, _: u64) {}

    fn wait(&mut self, _: Duration) {
        thread::sleep(Duration::from_millis(1));
    }
}

const ROOM: usize = 48;

/// Records of connections in the clear to many services, and some that nobody can read.
fn offer(kernel: &Kernel, seed: u64, connections: u64) -> Counters {
    let mut counters = Counters::default();
    let mut pauses = Pauses::new(seed, 30);
    let mut open = VecDeque::new();
    let mut push = |kind: u8, record: Vec<u8>| {
        let kind = Kind::from_byte(kind).map_or(0, |kind| kind as usize);
        counters.offered[kind] += 1;
        let mut queue = kernel.queue.lock().unwrap();
        if queue.len() >= ROOM {
            counters.lost[kind] += 1;
        } else {
            queue.push_back(record);
        }
    };
    for cookie in 1..=connections {
        let event = FlowEvent {
            transport: 6,
            flags: flow_flag::ACTIVE,
            cookie,
            netns: 1,
            at_ns: monotonic_ns(),
            opened_ns: monotonic_ns(),
            local: to_bytes("10.0.0.1".parse().unwrap()),
            remote: to_bytes("10.0.0.2".parse().unwrap()),
            local_port: 10_000 + cookie as u16,
            remote_port: 1_000 + (cookie % 400) as u16,
            owner: Owner { tgid: 40 + cookie as u32, seen_ns: 1, ..Owner::default() },
            ..FlowEvent::default()
        };
        push(Kind::Open as u8, FlowEvent { kind: Kind::Open as u8, ..event }.as_bytes().to_vec());
        for sent in [true, false] {
            let data: &[u8] =
                if sent { b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" } else { b"HTTP/1.1 200 OK\r\n\r\n" };
            let head = CaptureHead {
                kind: Kind::Capture as u8,
                transport: 6,
                flags: capture_flag::ACTIVE | if sent { capture_flag::SENT } else { 0 },
                len: data.len() as u32,
                cookie,
                netns: 1,
                at_ns: event.at_ns,
                local: event.local,
                remote: event.remote,
                local_port: event.local_port,
                remote_port: event.remote_port,
                ..CaptureHead::default()
            };
            push(Kind::Capture as u8, [head.as_bytes(), data].concat());
        }
        match cookie % 16 {
            3 => push(200, vec![200; 40]),
            5 => push(Kind::Close as u8, vec![Kind::Close as u8; 3]),
            _ => {}
        }
        // Some are open for a while: for these the kernel is told to stop capturing.
        let close = FlowEvent { kind: Kind::Close as u8, sent_bytes: 30, received_bytes: 20, ..event };
        open.push_back(close);
        if open.len() > 20
            && let Some(close) = open.pop_front()
        {
            push(Kind::Close as u8, close.as_bytes().to_vec());
        }
        pauses.take();
    }
    counters
}

/// Counts lines by kind of record, slowly.
struct Lines {
    pauses: Pauses,
    counts: Arc<Mutex<HashMap<String, u64>>>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pauses.take();
        let mut counts = self.counts.lock().unwrap();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: serde_json::Value = serde_json::from_slice(line).unwrap();
            let dataset = record["event"]["dataset"].as_str().unwrap().to_owned();
            *counts.entry(dataset).or_default() += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client that waits for alerts: what it got, and what it was told that it missed.
#[derive(Default)]
struct Heard {
    alerts: AtomicU64,
    missed: AtomicU64,
}

/// Reads until the end, or leaves after `at_most` alerts. Gives its end of the connection, and what is read.
fn follow(socket: &Path, mut pauses: Pauses, at_most: u64) -> (Arc<Heard>, thread::JoinHandle<()>) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET /v1/alerts?follow=true HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let heard = Arc::<Heard>::default();
    let counted = heard.clone();
    let mut lines = BufReader::new(stream);
    // Served from here on.
    lines.read_line(&mut String::new()).unwrap();
    let thread = thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok).filter(|line| line.starts_with('{')) {
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            match record["error"]["missed"].as_u64() {
                Some(missed) => counted.missed.fetch_add(missed, Ordering::SeqCst),
                None => counted.alerts.fetch_add(1, Ordering::SeqCst),
            };
            if counted.alerts.load(Ordering::SeqCst) >= at_most {
                return;
            }
            pauses.take();
        }
    });
    (heard, thread)
}

fn settings() -> CoreSettings {
    CoreSettings {
        counts_only: false,
        own_netns: None,
        // Smaller than what is open at a time: flows are pushed out.
        capacity: 32,
        closed_keep: 8,
        udp_idle_ns: 60 * SECOND,
        tcp_budget: 8192,
        handshake_budget: 65_536,
        interval_ns: 0,
        loopback_alerts: false,
        repeat_every_s: 300,
        resolve_after_s: 300,
        failures: (5, 60),
        detect: crate::config::Detect::default(),
        sampling: crate::config::Sampling::default(),
        streams: 300,
        measured_streams: 8,
        reset_histograms_ns: 0,
    }
}

fn balanced(what: &str, tally: &Tally) -> Result<(), TestCaseError> {
    let (offered, delivered, lost) = (tally.offered(), tally.delivered(), tally.lost());
    prop_assert_eq!(offered, delivered + lost, "{}: {} = {} + {}", what, offered, delivered, lost);
    Ok(())
}

/// Counts what comes by kind, slowly, until the other side has gone.
fn take<T: Send + 'static>(
    from: Receiver<T>,
    mut pauses: Pauses,
    kind: fn(&T) -> usize,
    mut then: impl FnMut(T) + Send + 'static,
) -> thread::JoinHandle<Vec<u64>> {
    thread::spawn(move || {
        let mut counts = vec![0; 8];
        for message in from {
            pauses.take();
            counts[kind(&message)] += 1;
            then(message);
        }
        counts
    })
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn nobody(pid: u32) -> Arc<Identity> {
    Arc::new(Identity { pid: Some(pid), name: Some(format!("p{pid}")), ..Identity::default() })
}

fn run(seed: u64, slow: Slow) -> Result<(), TestCaseError> {
    let pauses =
        |number: u64, percent| Pauses::new(seed.wrapping_mul(31).wrapping_add(number << 32), percent);
    let place = Place::new();
    let kernel = Arc::<Kernel>::default();
    let (stop, read) = (Arc::new(AtomicBool::new(false)), Arc::<ReaderCounters>::default());
    let (events_in, relayed) = bounded::<Batch>(2);
    let (relay, events) = bounded::<Batch>(2);
    let (lookups_in, lookups_out) = bounded::<Lookup>(3);
    let (commands_in, commands_out) = bounded::<Command>(3);
    let (changes_in, changes_out) = bounded::<Vec<Change>>(3);
    let (found_out, found) = bounded::<Found>(1024);
    // At the loader's end.
    let (lookups_heard, lookups) = bounded::<Lookup>(1);
    let (commands_heard, commands) = bounded::<Command>(1);
    let (changes_heard, changes) = bounded::<Vec<Change>>(1);
    let (found_in, found_said) = bounded::<Found>(1);
    let (map_events_in, map_events) = bounded::<Batch>(1);
    let (requests_in, requests) = bounded(2);
    let (orders_in, orders) = bounded(1);
    let (alerts, _) = broadcast::channel(8);
    let counters = Arc::<api::Counters>::default();

    let written = Arc::<Mutex<HashMap<String, u64>>>::default();
    let lines = Lines { pauses: pauses(1, slow.writer), counts: written.clone() };
    let sink = Sink::start(Format::Ecs, samples::context(), lines, 24).unwrap();
    let records = sink.counters().clone();
    let hook = crate::config::Hook {
        command: Some(vec!["/bin/true".into()]),
        queue: 2,
        timeout_s: 20,
        ..crate::config::Hook::default()
    };
    let mut config = Config::default();
    config.alerts.state = Some(place.socket().with_file_name("state.redb"));
    config.state.memory_bytes = 4096;
    let keeping = Arc::new(Keeping::new(&config));
    let loader = Arc::new(Loader::default());
    let hooks = Arc::new(Hooks::start(&[Arc::new(Ready::new(&hook).unwrap())], &Arc::default()).unwrap());
    let stages = Stages {
        reader: read.clone(),
        events: Stage::events(2),
        lookups: Stage::lookups(3),
        commands: Stage::commands(3),
        changes: Stage::changes(3),
        alerts: Stage::alerts(2),
        loader: loader.clone(),
        api: counters.clone(),
        requests_capacity: 2,
        sink: records.clone(),
        sink_capacity: 24,
    };
    let seen = [&stages.events, &stages.lookups, &stages.commands, &stages.changes, &stages.alerts];
    let [events_stage, lookups_stage, commands_stage, changes_stage, alerts_stage] = seen.map(Arc::clone);
    let (notices_in, notices) = bounded::<Notice>(2);
    let (replies_in, replies) = bounded(4);
    let link = link::start(
        Mouths {
            commands: commands_out,
            lookups: lookups_out,
            changes: changes_out,
            alerts: notices,
            replies,
        },
        replies_in,
        Ear {
            commands: commands_heard,
            lookups: lookups_heard,
            changes: changes_heard,
            keeping: keeping.clone(),
            hooks: hooks.clone(),
            asked: Arc::default(),
            alive: Arc::default(),
            ready: bounded(1).0,
            steps: bounded(8).0,
        },
        link::ToTheWorker {
            found: found_said,
            events: map_events,
            found_out,
            events_out: events_in.clone(),
            reporter: Reporter {
                keeping: keeping.clone(),
                hooks: hooks.clone(),
                view: Arc::default(),
                looks: Stage::looks(3),
            },
            loader,
        },
        &pauses(10, slow.link),
    );

    let reader = {
        let queue = Queue { kernel: kernel.clone(), pauses: Mutex::new(pauses(2, slow.ring)), read: 0 };
        let events_in = events_in.clone();
        let reading = Reading {
            counters: read.clone(),
            stop: stop.clone(),
            hooks_stay: Arc::default(),
            told: Arc::default(),
            late: crossbeam_channel::never(),
            patience: Patience::NONE,
            newcomers: None,
        };
        thread::spawn(move || drop(reader::run(queue, &events_in, &reading)))
    };
    // A slow core: what it takes comes late.
    let relaying = take(relayed, pauses(3, slow.core), |_| 0, move |batch| drop(relay.send(batch)));
    let resolving = take(lookups, pauses(4, slow.resolver), Lookup::kind, move |lookup| {
        let answer = match lookup {
            Lookup::Owner { key, seen } => Found::Owner { key, seen, identity: nobody(seen.tgid) },
            Lookup::User { key, .. } => Found::User { key, identity: None },
            Lookup::Listener { cookie, seen } => Found::Listener { cookie, identity: nobody(seen.tgid) },
            Lookup::Tunnel { key, .. } => Found::Tunnel { key, way: crate::identity::Way::Direct },
            Lookup::Namespace { socket: SocketKey { netns, cookie, local, .. }, checks_address } => {
                let address = checks_address.then_some(local.ip());
                Found::Namespace { netns, cookie, address, realm: Some(Realm::ROOT) }
            }
            Lookup::Sockets => {
                Found::Sockets { seen: Vec::new(), rest: Rest::Unseen, began_ns: monotonic_ns() }
            }
        };
        let _ = found_in.send(answer);
    });
    let controlling = take(commands, pauses(5, slow.control), Command::kind, drop);
    // A slow keeper: what it takes comes late. Its files are opened after a while, and until then it has
    // little room.
    let (relay_changes, kept) = bounded::<Vec<Change>>(1);
    let relaying_changes =
        take(changes, pauses(6, slow.keeper), |_| 0, move |batch| drop(relay_changes.send(batch)));
    let (_check_in, check) = bounded::<()>(1);
    let links = Links {
        changes: kept,
        orders: orders_in.clone(),
        check,
        keeping: keeping.clone(),
        opener: state::begin(&config, &keeping).unwrap().0,
    };
    let keeper = thread::spawn(move || Keeper::new(links, None, 4096, Duration::from_secs(3600)).run());
    let core = Core::new(settings(), "boot".into(), Arc::new(Policy::builtin()), Clock::now());
    let api = api::start(
        api::Options {
            socket: place.socket(),
            counters: counters.clone(),
            connections: 16,
            context: samples::context(),
            ..api::Options::default()
        },
        requests_in,
        alerts.clone(),
    )
    .unwrap();
    let outlets = Outlets {
        losses: None,
        hooks_stay: Arc::default(),
        sink,
        alerts: alerts.clone(),
        commands: commands_in,
        lookups: lookups_in,
        found: found.clone(),
        stages,
        changes: changes_in,
        alive: Arc::default(),
        hooks: Some((notices_in, samples::context())),
    };
    let about = About { started_ns: 0, hooks: Vec::new(), ring_bytes: 0 };
    let core =
        thread::spawn(move || work::run(core, Inlets { events, found, requests, orders }, outlets, &about));

    let (quick, reading) = follow(&place.socket(), pauses(7, 0), u64::MAX);
    let (late, dawdling) = follow(&place.socket(), pauses(8, slow.client), u64::MAX);
    let (_left, leaving) = follow(&place.socket(), pauses(9, 0), 3);
    let enough = Arc::new(AtomicBool::new(false));
    let asking = ask(&place.socket(), enough.clone());

    let offered = offer(&kernel, seed, 600);
    // As the control thread does: the kernel's counters come from the loader.
    map_events_in
        .send(Batch { events: vec![Event::Counters(Box::new(offered))], ..Batch::default() })
        .unwrap();
    wait_until("the ring is read", || kernel.queue.lock().unwrap().is_empty());
    enough.store(true, Ordering::Release);
    asking.join().unwrap();
    stop.store(true, Ordering::Release);
    reader.join().unwrap();
    drop((events_in, map_events_in));
    relaying.join().unwrap();
    let sink = core.join().unwrap();
    link.end();
    let hook_counts = {
        wait_until("the hook is done", || {
            hooks.rows().iter().all(|row| {
                let view = &hooks.views()[0];
                row.offered == view.offered
            })
        });
        hooks.rows()[0].clone()
    };
    sink.finish(sink::Patience { stuck: PATIENCE, in_all: PATIENCE });
    drop(orders_in);
    let (resolved, decided) = (resolving.join().unwrap(), controlling.join().unwrap());
    relaying_changes.join().unwrap();
    keeper.join().unwrap();
    leaving.join().unwrap();
    // Whoever reads has read all that was delivered.
    let told = |heard: &Heard| heard.alerts.load(Ordering::SeqCst) + heard.missed.load(Ordering::SeqCst);
    let of_alerts = records.of(RecordKind::Alert).offered();
    wait_until("the followers have read", || told(&quick) == of_alerts && told(&late) == of_alerts);
    let clients = counters.followers.views();
    api.stop();
    reading.join().unwrap();
    dawdling.join().unwrap();

    // Kernel to reader.
    for kind in 0..KINDS {
        let tally = read.tallies.of(kind);
        balanced(&format!("reader, kind {kind}"), tally)?;
        prop_assert_eq!(offered.offered[kind] - offered.lost[kind], tally.offered(), "kind {}", kind);
        prop_assert_eq!(events_stage.of(kind).offered(), tally.delivered(), "kind {}", kind);
    }
    prop_assert!(read.tallies.of(0).lost() == read.tallies.of(0).offered());
    // Reader to core: nothing is lost there.
    let counted = (read.tallies.delivered() + 1, rows(&events_stage).1);
    prop_assert_eq!(rows(&events_stage).0, counted.0);
    prop_assert_eq!(counted.1, 0);
    // Core to those who look up and decide.
    for (stage, taken, kinds) in [
        (&lookups_stage, &resolved, Lookup::KINDS.as_slice()),
        (&commands_stage, &decided, Command::KINDS.as_slice()),
    ] {
        for (number, kind) in kinds.iter().enumerate() {
            balanced(kind, stage.of(number))?;
            prop_assert_eq!(stage.of(number).delivered(), taken[number], "{}", kind);
        }
    }
    // Core to output.
    for kind in RecordKind::ALL {
        let tally = records.of(kind);
        balanced(kind.as_str(), tally)?;
        let lines = written.lock().unwrap();
        let lines = lines.get(&format!("streamwatch.{}", kind.as_str())).copied().unwrap_or(0);
        prop_assert_eq!(tally.delivered(), lines, "{}", kind.as_str());
    }
    // Core to the state file.
    balanced("state", changes_stage.of(0))?;
    balanced("state, in memory", keeping.memory.of(0))?;
    prop_assert_eq!(changes_stage.of(0).delivered(), keeping.memory.of(0).offered());
    // Alerts to hooks and to each client.
    balanced("alerts for hooks", alerts_stage.of(0))?;
    prop_assert_eq!(alerts_stage.of(0).delivered(), hook_counts.offered);
    prop_assert_eq!(hook_counts.offered, hook_counts.delivered + hook_counts.lost);
    balanced("requests", &counters.requests)?;
    prop_assert!(clients.len() >= 2);
    for (client, heard) in clients.iter().zip([&quick, &late]) {
        prop_assert_eq!(client.offered, of_alerts);
        prop_assert_eq!(client.offered, client.delivered + client.lost);
        prop_assert_eq!(client.delivered, heard.alerts.load(Ordering::SeqCst));
        prop_assert_eq!(client.lost, heard.missed.load(Ordering::SeqCst));
    }
    wait_until("all clients have left", || counters.followers.views().is_empty());
    let LossRow { offered: all, delivered, lost, .. } = counters.followers.total();
    prop_assert_eq!(all, delivered + lost);
    prop_assert!(all >= 2 * of_alerts);
    Ok(())
}

/// Sums over the kinds: offered, lost.
fn rows(stage: &Stage) -> (u64, u64) {
    let rows = stage.rows();
    (rows.iter().map(|row| row.offered).sum(), rows.iter().map(|row| row.lost).sum())
}

/// Asks for the status, over and over.
fn ask(socket: &Path, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let socket = PathBuf::from(socket);
    thread::spawn(move || {
        while !stop.load(Ordering::Acquire) {
            let mut stream = UnixStream::connect(&socket).unwrap();
            write!(stream, "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 503"), "{answer}");
        }
    })
}

fn slow() -> impl Strategy<Value = Slow> {
    let percent = || prop_oneof![Just(0_u8), 1..100_u8];
    (percent(), percent(), percent(), percent(), percent(), percent(), percent(), percent()).prop_map(
        |(ring, core, resolver, control, writer, keeper, client, link)| Slow {
            ring,
            core,
            resolver,
            control,
            writer,
            keeper,
            client,
            link,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn what_is_offered_is_delivered_or_counted_as_lost_however_slow_the_stages_are(
        seed in any::<u64>(),
        slow in slow(),
    ) {
        run(seed, slow)?;
    }
}
