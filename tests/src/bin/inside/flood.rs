//! More than anybody should send: what the tables hold stays bounded, the totals stay exact, what finds no
//! room is counted, and a quiet neighbour keeps what it has.
//!
//! Nothing here asserts a time. What is asserted: sums, who is still there, and the memory of the whole
//! process against [`MOST`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crossbeam_channel::{Sender, TrySendError, bounded};
use monitor::config::Config;
use monitor::daemon::CoreSettings;
use monitor::event::Event;
use monitor::model::{FlowAction, Record};
use monitor::policy::Policy;
use monitor_common::{Counters, FlowEvent, KINDS, Kind};

use super::connections::{Connection, Maker, Spread};
use super::host::{Host, settings};
use super::memory::resident;
use super::report::{rate, sample, timed};

/// Memory of the whole process, bytes: the daemon's bound.
const MOST: u64 = 256 << 20;

/// Flows that the table holds.
const TABLE: usize = 100_000;

/// Events a second that are offered.
const OFFERED: u64 = 2_000_000;

/// Flows of the quiet neighbour.
const QUIET: usize = 100;

pub fn run(count: usize, seconds: u64) -> Result<()> {
    flows(count)?;
    names(count / 10)?;
    events(seconds)
}

/// The daemon's settings, with a table of [`TABLE`] flows.
fn small() -> CoreSettings {
    settings(TABLE, 65_536)
}

fn of_cgroup(event: FlowEvent, cgroup: u64) -> FlowEvent {
    let mut event = event;
    event.owner.cgroup = cgroup;
    event
}

fn check_memory(what: &str) -> Result<()> {
    let bytes = resident()?;
    sample("flood", &format!("{what}, resident"), bytes as f64 / f64::from(1 << 20), "MiB");
    ensure!(bytes <= MOST, "{what}: {} MiB are more than {}", bytes >> 20, MOST >> 20);
    Ok(())
}

/// So many flows that never end, against a table that holds a hundredth of them.
fn flows(count: usize) -> Result<()> {
    let mut host = Host::new(small(), Policy::builtin());
    let mut maker = Maker::new(Spread::default());
    let quiet: Vec<Connection> = (0..QUIET).map(|_| maker.next(host.now_ns)).collect();
    let mut bytes = (0, 0);
    let mut progress = |host: &mut Host, connection: &Connection, cgroup: u64| {
        let open =
            of_cgroup(FlowEvent { kind: Kind::Open as u8, ..connection.progress(0, host.now_ns) }, cgroup);
        let open = FlowEvent { sent_bytes: 0, received_bytes: 0, ..open };
        host.event(Event::Flow(Kind::Open, open));
        let event = of_cgroup(connection.progress(1, host.now_ns), cgroup);
        bytes.0 += event.sent_bytes;
        bytes.1 += event.received_bytes;
        host.event(Event::Flow(Kind::Progress, event));
    };
    quiet.iter().for_each(|connection| progress(&mut host, connection, 7));
    let ((), time) = timed(|| {
        for _ in 0..count {
            let connection = maker.next(host.now_ns);
            progress(&mut host, &connection, 666);
        }
    });
    host.pass_on();
    host.pass(2_000_000_000);
    sample("flood", "distinct flows", rate(count, time), "flows/s");
    check_memory("distinct flows")?;
    ensure!(host.core.open_flows() <= TABLE, "{} flows are held", host.core.open_flows());
    // A server's share of bytes is the client's where this host is the server: so the sums are compared.
    let counted = host.core.total_bytes();
    ensure!(counted.0 + counted.1 == bytes.0 + bytes.1, "{counted:?} of {bytes:?} bytes are counted");
    for connection in &quiet {
        let key = connection.progress(1, host.now_ns).cookie;
        ensure!(host.core.holds(key), "a flow of the quiet neighbour was pushed out");
    }
    Ok(())
}

/// What the last records of flows say of names.
#[derive(Default)]
struct Told {
    /// By number, those that were told.
    names: Vec<bool>,
    ends: usize,
    /// Ends that tell no name of ours, or one that was told before.
    without: usize,
}

impl Told {
    fn note(&mut self, record: &Record) {
        let Record::Flow { flow, action: FlowAction::FlowClosed, .. } = record else { return };
        self.ends += 1;
        let name = flow.facts.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        let number =
            name.and_then(|name| name.strip_prefix('n')?.strip_suffix(".org")?.parse::<usize>().ok());
        match number.and_then(|number| self.names.get_mut(number)) {
            Some(told) if !*told => *told = true,
            _ => self.without += 1,
        }
    }
}

/// So many server names, each asked for once.
fn names(count: usize) -> Result<()> {
    let mut host = Host::new(small(), Policy::builtin());
    let told = Arc::new(Mutex::new(Told { names: vec![false; count], ..Told::default() }));
    let notes = told.clone();
    host.shown =
        Some(Box::new(move |record| notes.lock().unwrap_or_else(PoisonError::into_inner).note(record)));
    let mut maker = Maker::new(Spread::default());
    let mut bytes = 0;
    let mut result = Ok(());
    let ((), time) = timed(|| {
        for n in 0..count {
            let name = format!("n{n:010}.org");
            let connection = loop {
                let connection = maker.next(host.now_ns);
                if let Some(named) = connection.named("www.example.org", &name) {
                    break named;
                }
            };
            connection.begin(&mut |record| {
                if result.is_ok() {
                    result = host.record(record);
                }
            });
            let close = connection.close(1, host.now_ns);
            bytes += close.sent_bytes + close.received_bytes;
            host.event(Event::Flow(Kind::Close, close));
        }
    });
    result.context("a record that cannot be decoded")?;
    host.pass_on();
    host.pass(2_000_000_000);
    sample("flood", "distinct server names", rate(count, time), "flows/s");
    check_memory("distinct server names")?;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let names = told.names.iter().filter(|told| **told).count();
    sample("flood", "distinct server names, told", names as f64, "names");
    sample("flood", "distinct server names, not told", told.without as f64, "names");
    ensure!(told.ends == count, "{} ends of {count} flows", told.ends);
    ensure!(names + told.without == count, "{names} told and {} not, of {count}", told.without);
    // Each is read before the next one comes: there was room for all of them.
    ensure!(names == count, "{names} names of {count} were told");
    let counted = host.core.total_bytes();
    ensure!(counted.0 + counted.1 == bytes, "{counted:?} of {bytes} bytes are counted");
    Ok(())
}

/// What the kernel side does: what finds the ring full is lost and counted; an end that does goes to the
/// overflow map.
struct Kernel {
    ring: Sender<FlowEvent>,
    overflow: Arc<Mutex<VecDeque<FlowEvent>>>,
    /// Ends that go into it.
    room: usize,
    counters: Counters,
}

impl Kernel {
    fn offer(&mut self, event: FlowEvent) {
        let kind = event.kind as usize;
        self.counters.offered[kind] += 1;
        let Err(TrySendError::Full(event)) = self.ring.try_send(event) else { return };
        self.counters.lost[kind] += 1;
        if kind == Kind::Close as usize {
            let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
            if overflow.len() < self.room {
                overflow.push_back(event);
                self.counters.rescued += 1;
            } else {
                self.counters.overflow_full += 1;
            }
        }
    }
}

/// What a producer made, counted as it made it; not by the kernel that it offered it to.
#[derive(Default)]
struct Made {
    counters: Counters,
    by_kind: [u64; KINDS],
    /// Bytes of all ends, and of those that found ring and overflow map full.
    bytes: u64,
    unheard: u64,
    time: Duration,
}

/// [`OFFERED`] events a second, as many as that makes in so many seconds: no fewer where that takes longer.
fn events(seconds: u64) -> Result<()> {
    // As large as the kernel's ring and its map of ends usually are.
    let usual = Config::default().kernel;
    let (ring, records) = bounded(usual.ring_bytes as usize / size_of::<FlowEvent>());
    let overflow = Arc::<Mutex<VecDeque<FlowEvent>>>::default();
    let over = Arc::new(AtomicBool::new(false));
    let producer = {
        let (overflow, over) = (overflow.clone(), over.clone());
        let room = usual.overflow as usize;
        let kernel = Kernel { ring, overflow, room, counters: Counters::default() };
        thread::spawn(move || {
            let told = produce(kernel, seconds);
            over.store(true, Ordering::Release);
            told
        })
    };
    let mut host = Host::new(small(), Policy::builtin());
    let mut delivered = [0_u64; KINDS];
    let mut take = |host: &mut Host, event: FlowEvent| {
        delivered[event.kind as usize] += 1;
        if let Some(kind) = Kind::from_byte(event.kind) {
            host.event(Event::Flow(kind, event));
        }
    };
    let mut drained = Instant::now();
    // Ends that found the ring full, and how many records stood in it before them.
    let mut rescued: Vec<FlowEvent> = Vec::new();
    let mut before = 0;
    loop {
        let ended = over.load(Ordering::Acquire);
        let mut some = 0;
        for event in records.try_iter().take(4096) {
            some += 1;
            take(&mut host, event);
        }
        before -= some.min(before);
        if before == 0 || some == 0 {
            rescued.drain(..).for_each(|event| take(&mut host, event));
            before = 0;
            if ended || drained.elapsed() > Duration::from_millis(100) {
                drained = Instant::now();
                rescued.extend(overflow.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
                before = records.len();
            }
        }
        if ended && some == 0 && rescued.is_empty() {
            break;
        }
    }
    host.pass_on();
    host.pass(2_000_000_000);
    let made = producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
    let Made { counters, bytes, unheard, .. } = made;
    let offered: u64 = counters.offered.iter().sum();
    sample("flood", "events, asked for", OFFERED as f64, "events/s");
    sample("flood", "events, offered", rate(offered as usize, made.time), "events/s");
    ensure!(counters.offered == made.by_kind, "{:?} were offered of {:?}", counters.offered, made.by_kind);
    let (opens, ends) = (made.by_kind[Kind::Open as usize], made.by_kind[Kind::Close as usize]);
    ensure!(opens == ends, "{opens} connections began, {ends} ended");
    // Those that were open at the end have ended on top of that.
    ensure!(offered >= OFFERED * seconds, "{offered} events are fewer than {}", OFFERED * seconds);
    sample("flood", "events, lost", counters.lost.iter().sum::<u64>() as f64 / offered as f64 * 100.0, "%");
    check_memory("events")?;
    for kind in Kind::ALL {
        let number = kind as usize;
        let rescued = if kind == Kind::Close { counters.rescued } else { 0 };
        let gone = counters.lost[number] - rescued;
        ensure!(
            counters.offered[number] == delivered[number] + gone,
            "{}: {} offered, {} delivered, {gone} lost",
            kind.as_str(),
            counters.offered[number],
            delivered[number]
        );
    }
    let counted = host.core.total_bytes();
    let counted = counted.0 + counted.1;
    ensure!(
        counted <= bytes && counted + unheard >= bytes,
        "{counted} of {bytes} bytes are counted; {unheard} of them were told by nobody"
    );
    Ok(())
}

/// Connections that begin, go on and end.
fn produce(mut kernel: Kernel, seconds: u64) -> Made {
    let mut maker = Maker::new(Spread::default());
    let mut open: VecDeque<(Connection, u64)> = VecDeque::new();
    let (mut bytes, mut unheard, mut ends) = (0, 0, 0_u64);
    let (mut opens, mut progresses) = (0_u64, 0_u64);
    let began = Instant::now();
    let mut end = |kernel: &mut Kernel, (connection, nth): (Connection, u64), at_ns: u64| {
        let close = connection.close(nth, at_ns);
        let full = kernel.counters.overflow_full;
        ends += 1;
        kernel.offer(close);
        bytes += close.sent_bytes + close.received_bytes;
        if kernel.counters.overflow_full > full {
            unheard += close.sent_bytes + close.received_bytes;
        }
    };
    let (all, mut sent) = (OFFERED * seconds, 0_u64);
    while sent < all {
        let due = all.min(began.elapsed().as_micros() as u64 * OFFERED / 1_000_000);
        if sent >= due {
            thread::sleep(Duration::from_micros(200));
        }
        let at_ns = 1_000_000_000 + began.elapsed().as_nanos() as u64;
        while sent < due {
            sent += 1;
            if sent % 64 == 1 {
                opens += 1;
                let connection = maker.next(at_ns);
                let event = connection.progress(0, at_ns);
                kernel.offer(FlowEvent { kind: Kind::Open as u8, sent_bytes: 0, received_bytes: 0, ..event });
                open.push_back((connection, 0));
                if open.len() > 10_000
                    && let Some(oldest) = open.pop_front()
                {
                    sent += 1;
                    end(&mut kernel, oldest, at_ns);
                }
            } else if let Some((connection, nth)) = open.pop_front() {
                progresses += 1;
                kernel.offer(connection.progress(nth + 1, at_ns));
                open.push_back((connection, nth + 1));
            }
        }
    }
    while let Some(last) = open.pop_front() {
        // Whoever ends last is not in a hurry.
        if kernel.ring.is_full() {
            thread::sleep(Duration::from_micros(200));
        }
        end(&mut kernel, last, 1_000_000_000 + began.elapsed().as_nanos() as u64);
    }
    let mut by_kind = [0; KINDS];
    by_kind[Kind::Open as usize] = opens;
    by_kind[Kind::Progress as usize] = progresses;
    by_kind[Kind::Close as usize] = ends;
    Made { counters: kernel.counters, by_kind, bytes, unheard, time: began.elapsed() }
}
