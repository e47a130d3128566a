//! Records out: encoded, through a pipe that keeps up, and into one that is stuck.

use std::io::{Read, pipe};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use monitor::model::Record;
use monitor::policy::Policy;
use monitor::record::text::Style;
use monitor::record::{Encoder, Format};
use monitor::sink::{Patience, Sink, SinkHandle};

use super::connections::{Maker, Spread};
use super::host::{Host, context, settings};
use super::report::{rate, sample, timed};

/// Different records that are written over and over.
const DIFFERENT: usize = 10_000;

/// Records that may wait for the output, as in the daemon.
const QUEUE: usize = 65_536;

pub fn run(count: usize, samples: usize) -> Result<()> {
    let records = records();
    for format in [Format::Ecs, Format::Ocsf, Format::Zeek] {
        for _ in 0..samples {
            let mut encoder = Encoder::new(format, context(), Style::default());
            let mut text = Vec::with_capacity(1 << 20);
            let ((), time) = timed(|| {
                for record in records.iter().cycle().take(count) {
                    if text.len() > 1 << 16 {
                        text.clear();
                    }
                    encoder.encode(record, &mut text);
                }
            });
            let variant = format!("{format:?}, encoding alone").to_lowercase();
            sample("output", &variant, rate(count, time), "records/s");
        }
    }
    for _ in 0..samples {
        keeps_up(&records, count)?;
    }
    for _ in 0..samples {
        stuck(&records, count)?;
    }
    Ok(())
}

/// Records of the mix: opened, settled and closed flows, and the alerts among them.
fn records() -> Vec<Record> {
    let mut host = Host::new(settings(DIFFERENT, 65_536), Policy::builtin());
    let mut maker = Maker::new(Spread::default());
    let mut records = Vec::new();
    while records.len() < DIFFERENT {
        let connection = maker.next(host.now_ns);
        connection.begin(&mut |record| {
            // What cannot be decoded tells nothing, and the loop would not end: it is made by us.
            let _ = host.record(record);
        });
        records.append(&mut host.take_records());
        let close = connection.close(1, host.now_ns);
        host.event(monitor::event::Event::Flow(monitor_common::Kind::Close, close));
        records.append(&mut host.take_records());
    }
    records
}

/// A reader that does nothing but read, and a sender that waits for room.
fn keeps_up(records: &[Record], count: usize) -> Result<()> {
    let (mut reader, writer) = pipe()?;
    let lines = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        let mut lines = 0;
        while let Ok(read @ 1..) = reader.read(&mut buffer) {
            lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count();
        }
        lines
    });
    let sink = Sink::start(Format::Ecs, context(), writer, QUEUE)?;
    let began = Instant::now();
    for record in records.iter().cycle().take(count) {
        while sink.depth() > QUEUE / 2 {
            thread::sleep(Duration::from_micros(200));
        }
        sink.send(record.clone());
    }
    while sink.counters().delivered() + sink.counters().lost() < count as u64 {
        thread::sleep(Duration::from_micros(200));
    }
    let wall = began.elapsed();
    let worked = time_of_sink()?;
    let patience = Duration::from_secs(10);
    let counters = sink.finish(Patience { stuck: patience, in_all: patience });
    ensure!(counters.lost() == 0, "{} records were lost", counters.lost());
    let lines = lines.join().unwrap_or_default();
    ensure!(lines == count, "{lines} of {count} lines arrived");
    sample("output", "to a pipe that keeps up", rate(count, worked), "records/s");
    sample("output", "to a pipe that keeps up, wall clock", rate(count, wall), "records/s");
    Ok(())
}

/// Nobody reads: sending goes on as fast as ever, and what is lost is counted.
fn stuck(records: &[Record], count: usize) -> Result<()> {
    let (_reader, writer) = pipe()?;
    let sink: SinkHandle = Sink::start(Format::Ecs, context(), writer, QUEUE)?;
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let ((), time) = timed(|| {
        for record in records.iter().cycle().take(count) {
            let sending = Instant::now();
            sink.send(record.clone());
            longest = longest.max(sending.elapsed());
        }
    });
    let wall = began.elapsed();
    let patience = Duration::from_millis(50);
    let counters = sink.finish(Patience { stuck: patience, in_all: patience });
    let (offered, delivered, lost) = (counters.offered(), counters.delivered(), counters.lost());
    ensure!(offered == count as u64 && offered == delivered + lost, "{offered} = {delivered} + {lost}");
    sample("output", "to a stuck pipe, sender", time.as_nanos() as f64 / count as f64, "ns/record");
    sample(
        "output",
        "to a stuck pipe, sender, wall clock",
        wall.as_nanos() as f64 / count as f64,
        "ns/record",
    );
    sample("output", "to a stuck pipe, longest send", longest.as_micros() as f64, "us");
    sample("output", "to a stuck pipe, lost and counted", lost as f64, "records");
    Ok(())
}

/// Processor time of the thread that writes.
fn time_of_sink() -> Result<Duration> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        if std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "sink") {
            let times = std::fs::read_to_string(path.join("schedstat"))?;
            let nanoseconds = times.split(' ').next().unwrap_or_default().parse()?;
            return Ok(Duration::from_nanos(nanoseconds));
        }
    }
    anyhow::bail!("the thread that writes is not there")
}
