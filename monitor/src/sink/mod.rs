//! Records out of the process, on a thread of their own.
//!
//! In: [`Record`]s from the core. Out: lines on a writer (stdout, as a rule). Must never: make the
//! sender wait, whatever the reader of the pipe does; write half a line and go on as if it had not;
//! lose a record without counting it, or a count with the loss record that said it.

mod counters;
mod told;

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

pub use counters::{Kind, SinkCounters};
pub use told::{LossesTold, Past, Said, ToldLog};

use crate::model::{LossRow, Record};
use crate::record::text::Style;
use crate::record::{Context, Encoder, Format};

/// The most that is encoded before it is written.
const BATCH_BYTES: usize = 64 * 1024;

/// What waits for the writing thread.
enum Item {
    Record(Record),
    /// Everything that came of the ring before this position stands before it in the queue.
    Mark(u64),
}

/// What outlives the process of what was written.
pub struct Memory {
    /// The output is that of the process before, which may have been killed within a line.
    pub same_output: bool,
    pub log: ToldLog,
    /// The ring's position up to which everything was told.
    pub told: Arc<AtomicU64>,
}

/// Starts a sink; see [`SinkHandle`].
pub struct Sink;

impl Sink {
    /// Writes to `writer`, without colours. `capacity` is the most records that wait.
    pub fn start(
        format: Format,
        context: Context,
        writer: impl Write + Send + 'static,
        capacity: usize,
    ) -> io::Result<SinkHandle> {
        Self::start_with(Encoder::new(format, context, Style::default()), writer, capacity, None)
    }

    /// Writes to stdout; colours only on a terminal.
    pub fn start_stdout(
        format: Format,
        context: Context,
        capacity: usize,
        memory: Option<Memory>,
    ) -> io::Result<SinkHandle> {
        let stdout = io::stdout();
        let style = Style::detect(&stdout);
        // Past std's line buffer: this thread is the only writer and flushes whole batches.
        let writer = File::from(stdout.as_fd().try_clone_to_owned()?);
        Self::start_with(Encoder::new(format, context, style), writer, capacity, memory)
    }

    /// Writes what `encoder` makes of the records.
    pub fn start_with(
        encoder: Encoder,
        writer: impl Write + Send + 'static,
        capacity: usize,
        memory: Option<Memory>,
    ) -> io::Result<SinkHandle> {
        let capacity = capacity.max(8);
        let (records, queue) = bounded(capacity);
        let (ended, end) = bounded(1);
        let counters = Arc::new(SinkCounters::default());
        let mut output = Output::new(writer);
        output.mid_line = memory.as_ref().is_some_and(|memory| memory.same_output && memory.log.was_cut());
        let worker = Worker { encoder, output, counters: counters.clone(), queue, memory };
        let thread = thread::Builder::new().name("sink".into()).spawn(move || {
            worker.run();
            // The handle may be gone: then nobody waits for this.
            let _ = ended.send(());
        })?;
        Ok(SinkHandle { records, reserve: capacity / 8, counters, end, thread })
    }
}

/// How long the writer is waited for at the end.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// While nothing is written.
    pub stuck: Duration,
    /// However slowly it goes on.
    pub in_all: Duration,
}

/// The sending side.
pub struct SinkHandle {
    records: Sender<Item>,
    /// Places that only alerts and losses may take.
    reserve: usize,
    counters: Arc<SinkCounters>,
    end: Receiver<()>,
    thread: JoinHandle<()>,
}

impl SinkHandle {
    /// Hands a record over. Never waits: a record that finds the queue full is lost and counted.
    /// The last eighth of the queue is kept for alerts and losses.
    pub fn send(&self, mut record: Record) {
        let kind = Kind::of(&record);
        let tally = self.counters.of(kind);
        tally.offer(1);
        let room = self.capacity().saturating_sub(self.records.len());
        if kind == Kind::Flow && room <= self.reserve {
            tally.lose(1);
            return;
        }
        if let Record::Loss(loss) = &mut record {
            self.counters.untold().say(&mut loss.rows);
        }
        if let Err(TrySendError::Full(item) | TrySendError::Disconnected(item)) =
            self.records.try_send(Item::Record(record))
        {
            if let Item::Record(Record::Loss(loss)) = item {
                self.counters.untold().keep(loss.rows);
            }
            tally.lose(1);
        }
    }

    /// Whether all that loss records said so far is in some that were delivered.
    pub fn losses_are_told(&self) -> bool {
        self.counters.losses_are_told()
    }

    /// Everything that came of the ring before a position was handed over.
    pub fn mark(&self, position: u64) {
        // One that finds the queue full is made up for by the next.
        let _ = self.records.try_send(Item::Mark(position));
    }

    pub fn counters(&self) -> &Arc<SinkCounters> {
        &self.counters
    }

    /// Records that wait.
    pub fn depth(&self) -> usize {
        self.records.len()
    }

    /// The most records that can wait.
    pub fn capacity(&self) -> usize {
        self.records.capacity().unwrap_or(0)
    }

    /// Writes what waits and ends the thread. With a writer that is stuck, or slower than the patience with it,
    /// the thread is left behind, and what it holds is counted as lost. Returns the final counts.
    pub fn finish(self, patience: Patience) -> Arc<SinkCounters> {
        let SinkHandle { records, counters, end, thread, .. } = self;
        drop(records);
        let until = Instant::now() + patience.in_all;
        let mut written = counters.delivered();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match end.recv_timeout(patience.stuck.min(left)) {
                // A panic in the thread is a bug that has been told on stderr already.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                    let _ = thread.join();
                    break;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let before = std::mem::replace(&mut written, counters.delivered());
                    if written == before || left <= patience.stuck {
                        break;
                    }
                }
            }
        }
        counters.close();
        counters
    }
}

/// A record of a batch.
struct Held {
    kind: Kind,
    /// Where its lines end in the batch.
    end: usize,
    /// What it says, of a loss record.
    losses: Vec<LossRow>,
}

struct Worker<W> {
    encoder: Encoder,
    output: Output<W>,
    counters: Arc<SinkCounters>,
    queue: Receiver<Item>,
    memory: Option<Memory>,
}

impl<W: Write> Worker<W> {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        let mut held = Vec::new();
        while let Ok(first) = self.queue.recv() {
            let mut mark = None;
            let mut next = Some(first);
            while let Some(item) = next {
                match item {
                    Item::Record(record) => {
                        self.encoder.encode(&record, &mut batch);
                        match (&mut self.memory, &record) {
                            (Some(memory), Record::Flow { flow, action, .. }) => {
                                memory.log.mean(flow, *action);
                            }
                            (Some(memory), Record::Alert { alert, .. }) => {
                                memory.log.mean_alert(alert.cursor);
                            }
                            _ => {}
                        }
                        let kind = Kind::of(&record);
                        let losses = if let Record::Loss(loss) = record { loss.rows } else { Vec::new() };
                        held.push(Held { kind, end: batch.len(), losses });
                    }
                    Item::Mark(position) => mark = Some(position),
                }
                next = if batch.len() < BATCH_BYTES { self.queue.try_recv().ok() } else { None };
            }
            if let Some(memory) = &self.memory {
                memory.log.begin();
            }
            let written = self.output.write(&batch);
            let (mut delivered, mut lost) = ([0; Kind::ALL.len()], [0; Kind::ALL.len()]);
            for Held { kind, end, losses } in held.drain(..) {
                // A line that lacks no more than its end gets that before the next one.
                if end <= written + 1 {
                    delivered[kind as usize] += 1;
                } else {
                    self.counters.untold().keep(losses);
                    lost[kind as usize] += 1;
                }
            }
            // Counting where others look costs more than adding up; and what lost ones said is kept by now.
            for kind in Kind::ALL {
                self.counters.of(kind).deliver(delivered[kind as usize]);
                self.counters.of(kind).lose(lost[kind as usize]);
            }
            if let Some(memory) = &self.memory {
                memory.log.done();
                if let Some(position) = mark {
                    memory.told.fetch_max(position, Ordering::Release);
                }
            }
            batch.clear();
        }
        self.encoder.finish(&mut batch);
        self.output.write(&batch);
    }
}

/// The writer, and what became of it.
struct Output<W> {
    writer: W,
    /// Nobody reads any more (EPIPE).
    closed: bool,
    /// A failure has been told on stderr.
    told: bool,
    /// The last write stopped inside a line.
    mid_line: bool,
}

impl<W: Write> Output<W> {
    fn new(writer: W) -> Self {
        Output { writer, closed: false, told: false, mid_line: false }
    }

    /// Writes whole lines and flushes; gives how many bytes of them got out.
    fn write(&mut self, lines: &[u8]) -> usize {
        if self.closed || lines.is_empty() {
            return 0;
        }
        let mut written = 0;
        let result = self.end_broken_line().and_then(|()| self.write_all(lines, &mut written));
        if let Err(error) = result.and_then(|()| self.writer.flush()) {
            self.closed = error.kind() == ErrorKind::BrokenPipe;
            if !std::mem::replace(&mut self.told, true) {
                tell(&error);
            }
        }
        written
    }

    fn end_broken_line(&mut self) -> io::Result<()> {
        if self.mid_line { self.write_all(b"\n", &mut 0) } else { Ok(()) }
    }

    fn write_all(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        while let Some(left) = bytes.get(*written..).filter(|left| !left.is_empty()) {
            match self.writer.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.mid_line = left[count - 1] != b'\n';
                    *written += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Stdout can be non-blocking, where whoever shares it made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn tell(error: &io::Error) {
    let what = match error.kind() {
        ErrorKind::BrokenPipe => "nobody reads the output any more; watching goes on without it".to_owned(),
        _ => format!("cannot write the output: {error}; records are being lost and counted"),
    };
    // Stderr may be gone as well.
    let _ = writeln!(io::stderr(), "streamwatch: {what}");
}

#[cfg(test)]
mod tests;
