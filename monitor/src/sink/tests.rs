#![allow(clippy::unwrap_used)]

use std::io::{PipeReader, Read, pipe};

use super::*;
use crate::record::samples;

const SECONDS: Duration = Duration::from_secs(5);
const PATIENT: Patience = Patience { stuck: SECONDS, in_all: SECONDS };

/// Waits until `done` or the time is over.
fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

fn to_pipe(capacity: usize) -> (SinkHandle, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    (Sink::start(Format::Ecs, samples::context(), writer, capacity).unwrap(), reader)
}

#[test]
fn every_record_becomes_a_line() {
    let (sink, mut reader) = to_pipe(64);
    samples::records().into_iter().for_each(|record| sink.send(record));
    let counters = sink.finish(PATIENT);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 5);
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    assert_eq!((counters.offered(), counters.delivered(), counters.lost()), (5, 5, 0));
}

#[test]
fn a_line_is_there_before_the_next_record() {
    let (sink, mut reader) = to_pipe(64);
    sink.send(samples::records().remove(2));
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"{");
    sink.finish(PATIENT);
}

#[test]
fn a_stuck_pipe_stalls_nobody_and_alerts_have_room() {
    let (sink, _reader) = to_pipe(64);
    let began = Instant::now();
    for _ in 0..5000 {
        sink.send(samples::records().remove(0));
    }
    assert!(wait_until(SECONDS, || sink.depth() >= 56));
    sink.send(samples::records().remove(2));
    assert_eq!(sink.counters().of(Kind::Alert).lost(), 0);
    assert!(sink.counters().of(Kind::Flow).lost() > 0);
    let counters = sink.finish(Patience { stuck: Duration::from_millis(20), in_all: SECONDS });
    assert!(began.elapsed() < SECONDS);
    assert_eq!(counters.offered(), 5001);
    assert_eq!(counters.offered(), counters.delivered() + counters.lost());
}

/// Takes its time for every write.
struct Slow(Arc<AtomicU64>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        thread::sleep(Duration::from_millis(100));
        self.0.fetch_add(bytes.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_reader_is_waited_for_as_long_as_it_reads() {
    const RECORDS: u64 = 2000;
    let finished = |patience| {
        let lines = Arc::new(AtomicU64::new(0));
        let sink =
            Sink::start(Format::Ecs, samples::context(), Slow(lines.clone()), 4 * RECORDS as usize).unwrap();
        (0..RECORDS).for_each(|_| sink.send(samples::records().remove(0)));
        let counters = sink.finish(patience);
        assert_eq!(counters.offered(), RECORDS);
        assert_eq!(counters.offered(), counters.delivered() + counters.lost());
        (lines.load(Ordering::Relaxed), counters)
    };
    // More writes than the patience with one that is stuck would cover.
    let stuck = Duration::from_secs(1);
    let (lines, counters) = finished(Patience { stuck, in_all: 60 * stuck });
    assert_eq!((lines, counters.delivered()), (RECORDS, RECORDS));
    // But not for ever.
    let (lines, counters) = finished(Patience { stuck, in_all: stuck });
    assert!(lines < RECORDS && counters.lost() > 0, "{lines} lines, {} lost", counters.lost());
}

#[test]
fn nobody_reading_ends_the_output_only() {
    let (sink, reader) = to_pipe(64);
    drop(reader);
    for _ in 0..3 {
        sink.send(samples::records().remove(0));
    }
    let counters = sink.finish(PATIENT);
    assert_eq!((counters.delivered(), counters.lost()), (0, 3));
}

/// Takes a few bytes, fails once, then takes everything.
struct Faltering {
    calls: u32,
    taken: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Write for Faltering {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        let length = match self.calls {
            1 => 5,
            2 => return Err(ErrorKind::StorageFull.into()),
            _ => bytes.len(),
        };
        self.taken.lock().unwrap().extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_broken_line_ends_before_the_next_begins() {
    let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut output = Output::new(Faltering { calls: 0, taken: taken.clone() });
    output.told = true;
    assert_eq!(output.write(b"{\"first\":1}\n"), 5);
    assert_eq!(output.write(b"{\"second\":2}\n"), 13);
    assert_eq!(&*taken.lock().unwrap(), b"{\"fir\n{\"second\":2}\n");
}
