#![allow(clippy::unwrap_used)]

use std::io::{PipeReader, Read, pipe};
use std::time::Instant;

use super::*;
use crate::record::samples;

const SECONDS: Duration = Duration::from_secs(5);

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
    let counters = sink.finish(SECONDS);
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
    sink.finish(SECONDS);
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
    let counters = sink.finish(Duration::from_millis(20));
    assert!(began.elapsed() < SECONDS);
    assert_eq!(counters.offered(), 5001);
    assert_eq!(counters.offered(), counters.delivered() + counters.lost());
}

#[test]
fn nobody_reading_ends_the_output_only() {
    let (sink, reader) = to_pipe(64);
    drop(reader);
    for _ in 0..3 {
        sink.send(samples::records().remove(0));
    }
    let counters = sink.finish(SECONDS);
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
    assert!(!output.write(b"{\"first\":1}\n"));
    assert!(output.write(b"{\"second\":2}\n"));
    assert_eq!(&*taken.lock().unwrap(), b"{\"fir\n{\"second\":2}\n");
}
