//! Hooks: a command, a webhook or the log is told of alerts.
//!
//! In: alerts as they are told. Out: one delivery each, on a thread a hook, with a timeout and a bounded
//! queue; what could not be delivered is counted. Silenced alerts, and acknowledgements, go to no hook.
//! Must never: make whoever offers wait; follow a redirect; accept a certificate that cannot be
//! verified.

mod command;
mod posted;
#[cfg(test)]
mod tests;
mod webhook;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::alert::SavedAlert;
use crate::config;
use crate::model::{AlertState, AlertView, LossRow, Rule, Severity};
use crate::priority;
use crate::record::{Context, ecs, printable};
use crate::status::StageView;
use crate::tally::Tally;
pub use posted::Posted;
use webhook::Webhook;

/// Deliveries of a webhook that are tried, and the pause before each further one.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Why a hook cannot be used. One line.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// What is wrong with the setting of this name; the empty one: with the hook as a whole.
    #[error("alerts.hooks: {what}")]
    Settings { key: &'static str, what: String },
    #[error("alerts.hooks: cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What hooks are told of an alert. It comes from the process that reads traffic: whoever runs the hooks takes
/// its record as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its place among all that is told.
    pub cursor: u64,
    pub severity: Severity,
    pub rule: Rule,
    pub state: AlertState,
    pub reason: String,
    /// One line of JSON.
    pub record: Vec<u8>,
}

impl Notice {
    /// `None`: silenced or acknowledged, which goes to no hook.
    pub fn of(context: &Context, alert: &AlertView) -> Option<Notice> {
        let known = alert.acknowledged.is_some() && alert.state != AlertState::Resolved;
        if alert.silenced.is_some() || known {
            return None;
        }
        let mut record = Vec::new();
        ecs::encode_alert(context, alert, &mut record);
        let AlertView { cursor, severity, rule, state, .. } = *alert;
        Some(Notice { cursor, severity, rule, state, reason: alert.reason.clone(), record })
    }
}

/// All hooks, running.
#[derive(Debug, Default)]
pub struct Hooks {
    hooks: Vec<Running>,
    posted: Arc<Posted>,
    /// Cursors of what was told before this worker, which may tell it again.
    before: HashSet<u64>,
}

#[derive(Debug)]
struct Running {
    severity: Severity,
    /// `None`: it is to end.
    queue: Mutex<Option<Sender<Arc<Notice>>>>,
    /// What was told before this worker is settled.
    settled: bool,
    counters: Arc<Counters>,
    ended: Receiver<()>,
}

/// How many deliveries one hook had.
#[derive(Debug)]
struct Counters {
    name: String,
    capacity: u64,
    /// Lost: found the queue full, failed, or took too long.
    tally: Tally,
}

enum Target {
    Command(Vec<String>),
    Webhook(Box<Webhook>),
    Log,
}

/// A hook that can be used, for each worker in turn.
pub struct Ready {
    name: String,
    target: Target,
    severity: Severity,
    capacity: u32,
    timeout: Duration,
}

impl Ready {
    /// # Errors
    /// It is not one thing, or its certificates cannot be read.
    pub fn new(hook: &config::Hook) -> Result<Ready, HookError> {
        let (name, target) = target(hook)?;
        let timeout = Duration::from_secs(u64::from(hook.timeout_s));
        Ok(Ready { name, target, severity: hook.severity, capacity: hook.queue, timeout })
    }
}

/// What is told, and its name.
fn target(hook: &config::Hook) -> Result<(String, Target), HookError> {
    if hook.ca.is_some() && hook.webhook.is_none() {
        let what = "ca: nothing is verified by it: only a webhook has certificates".to_owned();
        return Err(HookError::Settings { key: "ca", what });
    }
    match (&hook.command, &hook.webhook, hook.log) {
        (Some(command), None, false) if !command.is_empty() => {
            Ok((command[0].clone(), Target::Command(command.clone())))
        }
        (None, Some(url), false) => {
            let timeout = Duration::from_secs(u64::from(hook.timeout_s));
            let webhook = Webhook::new(url, hook.ca.as_deref(), timeout)
                .map_err(|(key, what)| HookError::Settings { key, what: format!("{key}: {what}") })?;
            Ok((webhook.host().to_owned(), Target::Webhook(Box::new(webhook))))
        }
        (None, None, true) => Ok(("log".to_owned(), Target::Log)),
        _ => {
            let wrong =
                "a hook has exactly one of command = [\"program\", …], webhook = \"https://…\", log = true";
            Err(HookError::Settings { key: "", what: wrong.to_owned() })
        }
    }
}

impl Hooks {
    /// Starts a thread for each, which notes in `posted` how far it has come.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(ready: &[Arc<Ready>], posted: &Arc<Posted>) -> Result<Hooks, HookError> {
        let mut hooks = Vec::new();
        for (at, hook) in ready.iter().enumerate() {
            let name = format!("hook {} ({})", at + 1, hook.name);
            let (queue, waiting) = bounded(hook.capacity as usize);
            let (end, ended) = bounded::<()>(0);
            let counters =
                Arc::new(Counters { name, capacity: u64::from(hook.capacity), tally: Tally::default() });
            let (counted, posted, hook) = (counters.clone(), posted.clone(), hook.clone());
            let severity = hook.severity;
            thread::Builder::new()
                .name("hook".into())
                .spawn(move || {
                    // Dropped at the end: whoever waits for it sees that.
                    let _end = end;
                    deliver_all(&hook, &waiting, &counted, |cursor| posted.note(at, cursor));
                })
                .map_err(HookError::Thread)?;
            let queue = Mutex::new(Some(queue));
            hooks.push(Running { severity, queue, settled: false, counters, ended });
        }
        Ok(Hooks { hooks, posted: posted.clone(), before: HashSet::new() })
    }

    /// Posts what was told (in the order of cursors) and not posted, since who told it was killed; as much as a hook
    /// holds, the last of it, and the rest is lost.
    pub fn post_again(&mut self, context: &Context, told: &[SavedAlert]) {
        for (at, hook) in self.hooks.iter_mut().enumerate() {
            hook.settled = self.posted.knows(at);
            let again = self.posted.again(at, told).iter().filter(|alert| alert.severity >= hook.severity);
            let again: Vec<Notice> =
                again.filter_map(|alert| Notice::of(context, &alert.clone().view())).collect();
            let (count, most) = (again.len(), hook.counters.capacity as usize);
            let beyond = count.saturating_sub(most);
            hook.counters.tally.offer(beyond as u64);
            hook.counters.tally.lose(beyond as u64);
            again.into_iter().skip(beyond).for_each(|notice| hook.offer(at, &Arc::new(notice), &self.posted));
            if count > 0 {
                say!(
                    "streamwatch: {}: {count} alerts were told and not posted before: {} of them are posted now",
                    hook.counters.name,
                    count - beyond
                );
            }
        }
        self.before = told.iter().map(|alert| alert.cursor).collect();
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Offers an alert to every hook that wants it, and has not had it.
    pub fn offer(&self, alert: &Arc<Notice>) {
        let again = self.before.contains(&alert.cursor);
        for (at, hook) in self.hooks.iter().enumerate().filter(|(_, hook)| !(again && hook.settled)) {
            hook.offer(at, alert, &self.posted);
        }
    }

    /// What each has done, as `status` shows it.
    pub fn views(&self) -> Vec<StageView> {
        let view = |hook: &Running| {
            let tally = &hook.counters.tally;
            StageView {
                name: hook.counters.name.clone(),
                capacity: hook.counters.capacity,
                depth: hook.queue().as_ref().map_or(0, Sender::len) as u64,
                peak: 0,
                offered: tally.offered(),
                dropped: tally.lost(),
            }
        };
        self.hooks.iter().map(view).collect()
    }

    /// What each was offered, delivered and lost.
    pub fn rows(&self) -> Vec<LossRow> {
        self.hooks.iter().map(|hook| hook.counters.tally.row(&hook.counters.name, "alert")).collect()
    }

    /// Waits until everything is delivered, for this long at most. What is offered from now on, by whoever holds
    /// on to them, is lost.
    pub fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        for hook in &self.hooks {
            hook.queue().take();
        }
        for hook in &self.hooks {
            // Disconnected: it has ended. Late: it is left behind.
            let _ = hook.ended.recv_deadline(deadline);
        }
    }
}

impl Running {
    /// Offers an alert where it is bad enough.
    fn offer(&self, at: usize, alert: &Arc<Notice>, posted: &Posted) {
        if alert.severity < self.severity {
            return;
        }
        self.counters.tally.offer(1);
        posted.take(at, alert.cursor);
        if self.queue().as_ref().is_none_or(|queue| queue.try_send(alert.clone()).is_err()) {
            self.counters.tally.lose(1);
        }
    }

    /// Held for as long as it takes to put something there, which waits for nobody.
    fn queue(&self) -> MutexGuard<'_, Option<Sender<Arc<Notice>>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn deliver_all(hook: &Ready, waiting: &Receiver<Arc<Notice>>, counters: &Counters, done: impl Fn(u64)) {
    // What it runs, too.
    priority::as_others();
    let mut told = false;
    while let Ok(alert) = waiting.recv() {
        let record = &alert.record;
        let delivered = match &hook.target {
            Target::Command(command) => command::run(command, record, hook.timeout),
            Target::Webhook(webhook) => {
                let mut attempt = 1;
                loop {
                    match webhook.post(record) {
                        Err(_) if attempt < ATTEMPTS => thread::sleep(PAUSE * attempt),
                        last => break last,
                    }
                    attempt += 1;
                }
            }
            Target::Log => {
                let (severity, rule) = (alert.severity.as_str(), alert.rule.as_str());
                let state = match alert.state {
                    AlertState::Opened => "",
                    AlertState::Repeated => " again",
                    AlertState::Resolved => " resolved",
                };
                say!("streamwatch: {severity} {rule}{state}: {}", printable(&alert.reason));
                Ok(())
            }
        };
        done(alert.cursor);
        match delivered {
            Ok(()) => {
                told = false;
                counters.tally.deliver(1);
            }
            Err(why) => {
                counters.tally.lose(1);
                // Once until it works again: `status` has the count.
                if !std::mem::replace(&mut told, true) {
                    say!("streamwatch: {}: not delivered: {}", counters.name, printable(&why));
                }
            }
        }
    }
}
