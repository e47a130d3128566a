//! Hooks: a command, a webhook or the log is told of alerts.
//!
//! In: alerts as they are told. Out: one delivery each, on a thread a hook, with a timeout and a bounded
//! queue; what could not be delivered is counted. Silenced alerts, and acknowledgements, go to no hook.
//! Must never: make whoever offers wait; follow a redirect; accept a certificate that cannot be
//! verified.

mod command;
mod webhook;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::model::{AlertState, AlertView, LossRow, Rule, Severity};
use crate::record::{Context, ecs, printable};
use crate::status::StageView;
use crate::tally::Tally;
use webhook::Webhook;

/// Deliveries of a webhook that are tried, and the pause before each further one.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Why a hook cannot be used. One line.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("alerts.hooks: {0}")]
    Settings(String),
    #[error("alerts.hooks: cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What hooks are told of an alert. It comes from the process that reads traffic: whoever runs the hooks takes
/// its record as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
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
        let (severity, rule, state) = (alert.severity, alert.rule, alert.state);
        Some(Notice { severity, rule, state, reason: alert.reason.clone(), record })
    }
}

/// All hooks, running.
#[derive(Debug, Default)]
pub struct Hooks {
    hooks: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    severity: Severity,
    queue: Sender<Arc<Notice>>,
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

/// Whether a hook could be used.
///
/// # Errors
/// It is not one thing, or its certificates cannot be read.
pub fn check(hook: &config::Hook) -> Result<(), HookError> {
    target(hook).map(|_| ())
}

/// What is told, and its name.
fn target(hook: &config::Hook) -> Result<(String, Target), HookError> {
    match (&hook.command, &hook.webhook, hook.log) {
        (Some(command), None, false) if !command.is_empty() => {
            Ok((command[0].clone(), Target::Command(command.clone())))
        }
        (None, Some(url), false) => {
            let timeout = Duration::from_secs(u64::from(hook.timeout_s));
            let webhook = Webhook::new(url, hook.ca.as_deref(), timeout).map_err(HookError::Settings)?;
            Ok((webhook.host().to_owned(), Target::Webhook(Box::new(webhook))))
        }
        (None, None, true) => Ok(("log".to_owned(), Target::Log)),
        _ => {
            let wrong =
                "a hook has exactly one of command = [\"program\", …], webhook = \"https://…\", log = true";
            Err(HookError::Settings(wrong.to_owned()))
        }
    }
}

impl Hooks {
    /// Starts a thread for each.
    ///
    /// # Errors
    /// A hook is not one thing, or its certificates cannot be read.
    pub fn start(settings: &[config::Hook]) -> Result<Hooks, HookError> {
        let mut hooks = Vec::new();
        for (number, hook) in (1..).zip(settings) {
            let timeout = Duration::from_secs(u64::from(hook.timeout_s));
            let (name, target) = target(hook)?;
            let name = format!("hook {number} ({name})");
            let (queue, waiting) = bounded(hook.queue as usize);
            let (end, ended) = bounded::<()>(0);
            let counters =
                Arc::new(Counters { name, capacity: u64::from(hook.queue), tally: Tally::default() });
            let counted = counters.clone();
            thread::Builder::new()
                .name("hook".into())
                .spawn(move || {
                    // Dropped at the end: whoever waits for it sees that.
                    let _end = end;
                    deliver_all(&target, &waiting, timeout, &counted);
                })
                .map_err(HookError::Thread)?;
            hooks.push(Running { severity: hook.severity, queue, counters, ended });
        }
        Ok(Hooks { hooks })
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Offers an alert to every hook that wants it.
    pub fn offer(&self, alert: &Arc<Notice>) {
        for hook in self.hooks.iter().filter(|hook| alert.severity >= hook.severity) {
            hook.counters.tally.offer(1);
            if hook.queue.try_send(alert.clone()).is_err() {
                hook.counters.tally.lose(1);
            }
        }
    }

    /// What each has done, as `status` shows it.
    pub fn views(&self) -> Vec<StageView> {
        let view = |hook: &Running| {
            let tally = &hook.counters.tally;
            StageView {
                name: hook.counters.name.clone(),
                capacity: hook.counters.capacity,
                depth: hook.queue.len() as u64,
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

    /// Waits until everything is delivered, for this long at most.
    pub fn finish(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        for Running { queue, ended, .. } in self.hooks {
            drop(queue);
            // Disconnected: it has ended. Late: it is left behind.
            let _ = ended.recv_deadline(deadline);
        }
    }
}

fn deliver_all(target: &Target, waiting: &Receiver<Arc<Notice>>, timeout: Duration, counters: &Counters) {
    let mut told = false;
    while let Ok(alert) = waiting.recv() {
        let record = &alert.record;
        let delivered = match target {
            Target::Command(command) => command::run(command, record, timeout),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::record::samples;

    fn notice() -> Notice {
        Notice::of(&samples::context(), &samples::alert()).unwrap()
    }

    fn hook(command: &[&str]) -> config::Hook {
        let command = Some(command.iter().map(|part| (*part).to_owned()).collect());
        config::Hook { command, timeout_s: 1, queue: 2, ..config::Hook::default() }
    }

    #[test]
    fn a_command_gets_the_record() {
        let file = std::env::temp_dir().join(format!("streamwatch-hook-{}", std::process::id()));
        let script = format!("cat > {}", file.display());
        let hooks = Hooks::start(&[hook(&["/bin/sh", "-c", &script])]).unwrap();
        hooks.offer(&Arc::new(notice()));
        hooks.finish(Duration::from_secs(20));
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(record["rule"]["id"], "plaintext");
    }

    #[test]
    fn what_is_not_delivered_is_counted() {
        let wanted = [hook(&["/bin/sh", "-c", "sleep 60"]), hook(&["/nonexistent/program"])];
        let hooks = Hooks::start(&wanted).unwrap();
        for _ in 0..20 {
            hooks.offer(&Arc::new(notice()));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        // Two wait and one is under way, at most; the others found the queue full.
        while hooks.views().iter().any(|view| view.dropped < 17) {
            assert!(Instant::now() < deadline, "{:?}", hooks.views());
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn silences_acknowledgements_and_lesser_severities_go_to_no_hook() {
        let high = config::Hook { log: true, severity: Severity::Critical, ..config::Hook::default() };
        let all = config::Hook { log: true, ..config::Hook::default() };
        let hooks = Hooks::start(&[high, all]).unwrap();
        let at = jiff::Timestamp::UNIX_EPOCH;
        let why = String::new();
        let known = crate::model::Acknowledgement { by: 0, at, until: at, why: why.clone() };
        let silence = crate::model::Silence { id: 1, filter: why.clone(), by: 0, at, until: at, why };
        let of = |alert: &AlertView| Notice::of(&samples::context(), alert);
        assert_eq!(of(&AlertView { acknowledged: Some(known), ..samples::alert() }), None);
        assert_eq!(of(&AlertView { silenced: Some(silence), ..samples::alert() }), None);
        hooks.offer(&Arc::new(notice()));
        assert_eq!(hooks.views().iter().map(|view| view.offered).collect::<Vec<_>>(), [0, 1]);
        hooks.finish(Duration::from_secs(5));
    }

    #[test]
    fn a_webhook_is_posted_to_and_no_redirect_is_followed() {
        for (answer, delivered) in [("200 OK", true), ("302 Found\r\nLocation: http://127.0.0.1:1/", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/in", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut said = Vec::new();
                let mut buffer = [0; 4096];
                while !said.windows(2).any(|end| end == b"}\n") {
                    let n = stream.read(&mut buffer).unwrap();
                    assert!(n > 0);
                    said.extend_from_slice(&buffer[..n]);
                }
                write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap();
                String::from_utf8(said).unwrap()
            });
            let webhook = Webhook::new(&url, None, Duration::from_secs(10)).unwrap();
            let mut record = Vec::new();
            ecs::encode_alert(&samples::context(), &samples::alert(), &mut record);
            assert_eq!(webhook.post(&record).is_ok(), delivered);
            let said = server.join().unwrap();
            assert!(said.starts_with("POST /in HTTP/1.1\r\n") && said.contains("application/json"), "{said}");
        }
    }

    #[test]
    fn a_hook_is_exactly_one_thing() {
        let both = config::Hook { log: true, webhook: Some("http://x/".into()), ..config::Hook::default() };
        for wrong in [config::Hook::default(), both] {
            assert!(Hooks::start(&[wrong]).is_err());
        }
        assert!(Webhook::new("ftp://x/", None, PAUSE).is_err());
    }
}
