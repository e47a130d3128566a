//! What the worker is told: what was looked up, what the maps say, what is ordered, how the loader is.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};

use super::super::core::Found;
use super::super::link::{Report, ToWorker};
use super::super::reader::{Batch, LateEnds};
use super::super::stages::Stage;
use super::super::state::Keeping;
use super::super::work::Order;
use super::Asked;
use crate::hook::Hooks;
use crate::status::WorkerView;
use crate::wire::{Frames, WireError};

/// How often the loader tells how it is, where nothing is new with what it keeps.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where it comes from.
pub struct Mouth {
    pub found: Receiver<Found>,
    pub events: Receiver<Batch>,
    pub late: Receiver<LateEnds>,
    pub orders: Receiver<Order>,
    /// What the loader itself says; with its other end gone, all is said.
    pub direct: Receiver<ToWorker>,
    pub asked: Arc<Mutex<Asked>>,
    pub reporter: Reporter,
}

/// How the loader is.
pub struct Reporter {
    pub keeping: Arc<Keeping>,
    pub hooks: Arc<Hooks>,
    pub view: Arc<Mutex<WorkerView>>,
    /// Look-ups.
    pub looks: Arc<Stage>,
}

impl Reporter {
    pub fn now(&self) -> Report {
        let worker = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut stages = vec![self.looks.view(), self.keeping.memory.view()];
        stages.extend(self.hooks.views());
        let mut rows = self.keeping.memory.rows();
        rows.extend(self.hooks.rows());
        rows.extend(self.looks.rows());
        // In this order: what is kept is so in the state that is told.
        let (state, kept) = (self.keeping.view(), self.keeping.written());
        Report { state, kept, stages, rows, worker, memory_bytes: 0 }
    }

    /// The same with the memory that both take, which is asked of `/proc`.
    pub fn with_memory(report: Report) -> Report {
        let memory_bytes = resident(&["self", &report.worker.pid.to_string()]);
        Report { memory_bytes, ..report }
    }
}

/// Resident memory of processes of one program, bytes: what each has for itself, and once what they share, the
/// program (proc_pid_statm(5)). What `/proc` does not tell counts nothing.
fn resident(processes: &[&str]) -> u64 {
    let (mut own, mut shared) = (0, 0);
    for process in processes {
        let text = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
        let mut pages = text.split(' ').skip(1).map(|pages| pages.parse().unwrap_or(0));
        let (resident, files): (u64, u64) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        own += resident.saturating_sub(files);
        shared = shared.max(files);
    }
    (own + shared) * rustix::param::page_size() as u64
}

impl Mouth {
    /// Speaks until all is said.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn run(mut self, mut frames: Frames<UnixStream>) -> Result<(), WireError> {
        let news = self.reporter.keeping.news();
        let mut look_at = Instant::now();
        loop {
            select! {
                recv(self.found) -> first => match first {
                    Ok(first) => frames.put_burst(first, &self.found, ToWorker::Found)?,
                    Err(_) => self.found = never(),
                },
                recv(self.events) -> batch => match batch {
                    Ok(batch) => frames.put(&ToWorker::Events(batch.events))?,
                    Err(_) => {
                        // Those that nobody else will take.
                        for ends in self.late.try_iter() {
                            frames.put(&ToWorker::Late(ends))?;
                        }
                        frames.put(&ToWorker::MapsRead)?;
                        self.events = never();
                    }
                },
                recv(self.late) -> ends => match ends {
                    Ok(ends) => frames.put(&ToWorker::Late(ends))?,
                    Err(_) => self.late = never(),
                },
                recv(self.orders) -> order => match order {
                    Ok(order) => {
                        if let Some(message) = self.ordered(order) {
                            frames.put(&message)?;
                        }
                    }
                    Err(_) => self.orders = never(),
                },
                recv(self.direct) -> message => match message {
                    Ok(message) => frames.put(&message)?,
                    Err(_) => return frames.flush(),
                },
                recv(news) -> _ => look_at = Instant::now(),
                default(look_at.saturating_duration_since(Instant::now())) => {}
            }
            let now = Instant::now();
            if now >= look_at {
                look_at = now + LOOK_EVERY;
                frames.put(&ToWorker::Report(Reporter::with_memory(self.reporter.now())))?;
            }
            if self.found.is_empty() && self.events.is_empty() {
                frames.flush()?;
            }
        }
    }

    /// An order as a message; who waits for its answer is remembered first.
    fn ordered(&self, order: Order) -> Option<ToWorker> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match order {
            Order::SelfCheck { port, pid, ready } => {
                asked.expecting.push(ready);
                ToWorker::SelfCheck { port, pid }
            }
            Order::SelfCheckFailed(why) => ToWorker::SelfCheckFailed(why),
            Order::Refresh(done) => {
                asked.refreshed.push(done);
                ToWorker::Refresh
            }
            Order::Restore(saved, done) => {
                asked.restored.push(done);
                ToWorker::Restore(*saved)
            }
            // As its texts, by the loader itself.
            Order::Policy(_) => return None,
        })
    }
}
