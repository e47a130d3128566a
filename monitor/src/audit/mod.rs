//! Connects to the TLS services that this host itself listens on, and judges what they accept and show.
//!
//! In: the listening sockets of this network namespace, or what somebody names. Out: one [`Report`] a
//! service. Must never: connect to another host that nobody named; log in; send a byte beyond what a
//! handshake takes; run on without end. Nothing here needs the daemon.

mod converse;
mod flight;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hello;
mod judge;
mod listeners;
mod memory;
mod probe;
mod service;
mod starttls;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dissect::Certificate;
use jiff::Timestamp;

pub use judge::Finding;
pub use listeners::{ListenError, Listening, listening};
pub use memory::{DEFAULT as DEFAULT_STATE, Memory, MemoryError, Rotation, files as state_files};
pub use service::{ClientCertificate, Offered};
pub use starttls::{Refused, Starttls};

use crate::config;
use crate::model::{Reach, reach};
use judge::{Terms, judge};
use probe::Endpoint;
use service::Questions;

/// Services asked at a time; each is asked one question at a time.
const AT_ONCE: usize = 4;

const SLOW_UPGRADE: &str = "it did not answer in time whether it offers STARTTLS";

/// Where TLS may be spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it is called in reports: how it is bound, or how it was named.
    pub bound: Vec<SocketAddr>,
    /// Addresses to try, in this order.
    pub reach: Vec<SocketAddr>,
    pub process: Option<String>,
    pub pid: Option<u32>,
    /// `None`: to be found out.
    pub starttls: Option<Starttls>,
}

impl From<Listening> for Target {
    fn from(listening: Listening) -> Self {
        let Listening { bound, reach, process, pid } = listening;
        Target { bound, reach, process, pid, starttls: None }
    }
}

impl Target {
    /// The key under which its certificates are remembered: it outlives the process.
    fn key(&self) -> String {
        let process = self.process.as_deref().unwrap_or("?");
        let address = self.bound.first().map_or_else(String::new, ToString::to_string);
        format!("{address} {process}")
    }

    fn is_loopback(&self) -> bool {
        // An unspecified address is every address.
        self.bound.iter().all(|it| !it.ip().is_unspecified() && reach(it.ip()) == Reach::Loopback)
    }
}

/// How to audit.
#[derive(Clone, Debug)]
pub struct Options {
    pub settings: config::Detect,
    /// DNS name to ask for, and that certificates must have.
    pub name: Option<String>,
    /// For connecting, and for each answer.
    pub timeout: Duration,
    /// For everything together.
    pub deadline: Duration,
}

/// What was found out about one target.
#[derive(Clone, Debug)]
pub struct Report {
    pub target: Target,
    /// The address that answered.
    pub address: Option<SocketAddr>,
    pub starttls: Option<Starttls>,
    pub outcome: Outcome,
}

/// See [`Report`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It speaks TLS.
    Tls { offered: Box<Offered>, findings: Vec<Finding> },
    /// It does not.
    Plain,
    /// Whether it does is not known: it did not answer in time, or with nothing that tells; why.
    Unclear(String),
    /// It could not be asked; why.
    Failed(String),
}

/// Asks every target. Reports come in the order of the targets.
pub fn audit(targets: Vec<Target>, options: &Options, now: Timestamp) -> Vec<Report> {
    let until = Instant::now() + options.deadline;
    let next = AtomicUsize::new(0);
    let reports: Mutex<Vec<(usize, Report)>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(targets.len()) {
            scope.spawn(|| {
                while let Some((at, target)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    targets.get(at).map(|target| (at, target))
                } {
                    let report = one(target, options, until, now);
                    reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, report));
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    reports.sort_by_key(|(at, _)| *at);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn one(target: &Target, options: &Options, until: Instant, now: Timestamp) -> Report {
    let mut report = Report {
        target: target.clone(),
        address: None,
        starttls: target.starttls,
        outcome: Outcome::Failed("it is bound to an address that this host does not have".to_owned()),
    };
    for address in &target.reach {
        if Instant::now() >= until {
            report.outcome = Outcome::Failed("no time was left for it".to_owned());
            return report;
        }
        let endpoint = Endpoint {
            address: *address,
            starttls: target.starttls,
            server_name: options.name.clone(),
            timeout: options.timeout,
        };
        match ask(endpoint, target, until) {
            Ok((starttls, offered)) => {
                report.address = Some(*address);
                report.starttls = starttls;
                report.outcome = match offered {
                    None => Outcome::Plain,
                    Some(offered) => {
                        let terms = Terms {
                            settings: &options.settings,
                            name: options.name.as_deref(),
                            loopback: target.is_loopback(),
                            now,
                        };
                        let findings = judge(&offered, terms);
                        Outcome::Tls { offered: Box::new(offered), findings }
                    }
                };
                return report;
            }
            Err(Refused::Unclear(why)) => {
                report.address = Some(*address);
                report.outcome = Outcome::Unclear(why.to_owned());
            }
            // What was learnt at another address is more.
            Err(_) if matches!(report.outcome, Outcome::Unclear(_)) => {}
            Err(error) => report.outcome = Outcome::Failed(error.to_string()),
        }
    }
    report
}

/// TLS at once or after an upgrade, whichever the service has.
fn ask(
    mut endpoint: Endpoint,
    target: &Target,
    until: Instant,
) -> Result<(Option<Starttls>, Option<Offered>), Refused> {
    let told = target.starttls;
    if told.is_none() {
        let greeting = endpoint.greeting()?;
        let by_process = target.process.as_deref().and_then(Starttls::of_process);
        endpoint.starttls = match greeting.is_empty() {
            // It waits for the client: TLS at once, or a protocol known by its process or port.
            true => by_process.or_else(|| Starttls::of_port(endpoint.address.port())),
            false => match Starttls::of_greeting(&greeting) {
                Some(protocol) => Some(protocol),
                // It spoke, and it is none that has an upgrade.
                None => return Ok((None, None)),
            },
        };
    }
    let upgraded = endpoint.starttls.map(|_| Questions::new(&endpoint, until).ask_all());
    let mut slow = None;
    match upgraded {
        Some(Ok(Some(offered))) => return Ok((endpoint.starttls, Some(offered))),
        Some(Ok(None) | Err(Refused::NotOffered)) => return Ok((endpoint.starttls, None)),
        Some(Err(error)) if told.is_some() => return Err(error),
        // Guessed wrongly: LDAPS under slapd, say.
        Some(Err(error)) => {
            endpoint.starttls = None;
            slow = error.is_silence().then_some(SLOW_UPGRADE);
        }
        None => {}
    }
    match (Questions::new(&endpoint, until).ask_all()?, slow) {
        // No TLS at once says nothing of an upgrade that was not answered.
        (None, Some(why)) => Err(Refused::Unclear(why)),
        (offered, _) => Ok((None, offered)),
    }
}

impl Report {
    pub fn findings(&self) -> &[Finding] {
        match &self.outcome {
            Outcome::Tls { findings, .. } => findings,
            Outcome::Plain | Outcome::Unclear(_) | Outcome::Failed(_) => &[],
        }
    }

    /// Notes its certificate; `None`: it showed none.
    pub fn remember(&self, memory: &mut Memory, now: Timestamp) -> Option<Rotation> {
        let certificate = self.certificate()?;
        Some(memory.see(&self.target.key(), certificate, now))
    }

    /// The server's own.
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.outcome {
            Outcome::Tls { offered, .. } => offered.certificates.first(),
            Outcome::Plain | Outcome::Unclear(_) | Outcome::Failed(_) => None,
        }
    }
}
