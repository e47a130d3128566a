//! Listings of many open flows, asked over the API's own socket, and what that costs those who bring
//! events at the same time.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crossbeam_channel::{Receiver, bounded};
use monitor::api::{self, Request};
use monitor::daemon::{About, Stage, Stages};
use monitor::event::Event;
use monitor::policy::Policy;
use monitor_common::Kind;
use tokio::sync::broadcast;

use super::connections::{Connection, Maker, Spread};
use super::host::{Host, context, settings};
use super::memory::fill;
use super::report::{median, sample};

/// The queries: name, and what is asked.
const QUERIES: [(&str, &str); 4] = [
    (
        "top 50 of those in the clear by bytes",
        "filter=encrypted%3D%3Dno+%26%26+bytes%3E1kB&sort=bytes:desc&limit=50",
    ),
    ("top 50 by bytes", "sort=bytes:desc&limit=50"),
    (
        "top 50 of one process and server by start",
        "filter=client.process%3D%3Dapp105+%26%26+server.ip%3D%3D10.0.0.0/8&sort=start:desc&limit=50",
    ),
    ("50 of a name that nobody has", "filter=sni%3D~nobody&limit=50"),
];

/// How long ingestion is measured at a time.
const SPELL: Duration = Duration::from_millis(500);

/// Connections whose progress is told meanwhile.
const BUSY: usize = 100_000;

pub fn run(count: usize, samples: usize) -> Result<()> {
    let place = tempfile::tempdir()?;
    let socket = place.path().join("api.sock");
    let mut host = Host::new(settings(count, 65_536), Policy::builtin());
    let mut maker = Maker::new(Spread::default());
    fill(&mut host, &mut maker, count)?;
    let (requests_in, requests) = bounded::<Request>(64);
    let (alerts, _) = broadcast::channel(1024);
    let options = api::Options {
        socket: socket.clone(),
        connections: 32,
        context: context(),
        ..api::Options::default()
    };
    let api = api::start(options, requests_in, alerts)?;
    let done = AtomicU64::new(0);
    let (stop, bring) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let core = scope.spawn(|| work(&mut host, count, &requests, &done, &stop, &bring));
        let result = measure(&socket, samples, &done, &bring);
        stop.store(true, Ordering::Release);
        // A panic there has been told on stderr.
        let _ = core.join();
        result
    })?;
    api.stop();
    Ok(())
}

fn measure(socket: &Path, samples: usize, done: &AtomicU64, bring: &AtomicBool) -> Result<()> {
    for (variant, query) in QUERIES {
        let lines = ask(socket, query)?.1;
        ensure!(lines == if variant.ends_with("nobody has") { 0 } else { 50 }, "{variant}: {lines} lines");
        for _ in 0..samples.max(3) {
            sample("queries", variant, ask(socket, query)?.0.as_secs_f64() * 1e3, "ms, wall clock");
        }
    }
    bring.store(true, Ordering::Release);
    thread::sleep(SPELL);
    for (variant, every) in
        [("one a second", Duration::from_secs(1)), ("one after the other", Duration::ZERO)]
    {
        let mut slowed = Vec::new();
        for _ in 0..samples.max(7) {
            let alone = spell(done, SPELL.max(every), || Ok(()))?;
            let asked = spell(done, SPELL.max(every), || {
                let began = Instant::now();
                ask(socket, QUERIES[0].1)?;
                thread::sleep(every.saturating_sub(began.elapsed()));
                Ok(())
            })?;
            slowed.push((1.0 - asked / alone) * 100.0);
        }
        sample("queries", &format!("ingestion slowed, {variant}"), median(slowed), "%");
    }
    bring.store(false, Ordering::Release);
    Ok(())
}

/// Events a second while `meanwhile` is done over and over.
fn spell(done: &AtomicU64, time: Duration, mut meanwhile: impl FnMut() -> Result<()>) -> Result<f64> {
    let (began, before) = (Instant::now(), done.load(Ordering::Relaxed));
    while began.elapsed() < time {
        let turn = Instant::now();
        meanwhile()?;
        if turn.elapsed() < Duration::from_millis(1) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let events = done.load(Ordering::Relaxed) - before;
    Ok(events as f64 / began.elapsed().as_secs_f64())
}

/// How long the answer took to its last byte, and the lines in it.
fn ask(socket: &Path, query: &str) -> Result<(Duration, usize)> {
    let began = Instant::now();
    let mut stream = UnixStream::connect(socket).context("the API does not answer")?;
    write!(stream, "GET /v1/flows?{query} HTTP/1.1\r\nhost: streamwatch\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    ensure!(text.starts_with("HTTP/1.1 200"), "{}", text.lines().next().unwrap_or("no answer"));
    let lines = text.lines().filter(|line| line.starts_with('{')).count();
    Ok((began.elapsed(), lines))
}

/// The core thread: answers, ticks and, while it is told to, takes progress of open flows.
fn work(
    host: &mut Host,
    count: usize,
    requests: &Receiver<Request>,
    done: &AtomicU64,
    stop: &AtomicBool,
    bring: &AtomicBool,
) {
    let about = About { started_ns: 0, hooks: Vec::new(), ring_bytes: 0 };
    let stages = stages();
    let mut maker = Maker::new(Spread::default());
    // Every so-many-th of them, so that all parts of the table are touched.
    let connections: Vec<Connection> =
        (0..count).map(|_| maker.next(1_000_000_000)).step_by((count / BUSY).max(1)).collect();
    let mut nth = 0;
    while !stop.load(Ordering::Acquire) {
        if !bring.load(Ordering::Acquire) {
            if let Ok(request) = requests.recv_timeout(Duration::from_millis(5)) {
                host.core.answer(request, &about, &stages, host.now_ns);
            }
            continue;
        }
        for _ in 0..256 {
            let connection = &connections[nth % connections.len()];
            let event = connection.progress(1000 + (nth / connections.len()) as u64, host.now_ns);
            host.event(Event::Flow(Kind::Progress, event));
            nth += 1;
        }
        done.fetch_add(256, Ordering::Relaxed);
        if let Ok(request) = requests.try_recv() {
            host.core.answer(request, &about, &stages, host.now_ns);
        }
    }
}

fn stages() -> Stages {
    Stages {
        reader: Arc::default(),
        events: Stage::events(64),
        lookups: Stage::lookups(64),
        commands: Stage::commands(64),
        changes: Stage::changes(64),
        api: Arc::default(),
        requests_capacity: 64,
        alerts: Stage::alerts(64),
        loader: Arc::default(),
        sink: Arc::default(),
        sink_capacity: 64,
    }
}
