//! Upgrades: the daemon ends and another one takes over, while connections come and go as fast as they can. What
//! nobody reads meanwhile the kernel has to keep.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::{Certificates, Lab, Process};

use crate::churn::{PLAIN_PORT, at_a_rate, connections, many_ports};
use crate::pairs::Effort;
use crate::report::{Findings, Must};
use crate::statistics::{median, quantile, spread};
use crate::watch::Home;

/// Connections a second, in bursts; `None`: as fast as they go. At these rates nothing at all is to be lost, nor first
/// bytes.
const LOADS: [Option<u64>; 4] = [Some(1_000), Some(5_000), Some(10_000), None];

/// How long one run takes, in which there is one upgrade, and how many connections that are where nothing holds them up.
const RUN: Duration = Duration::from_secs(3);
const UNBOUNDED: u64 = 60_000;

/// Into the run.
const AFTER: Duration = Duration::from_millis(1000);

/// By then what was lost is told, too.
const LOSSES: Duration = Duration::from_millis(2500);

const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("upgrade");
    let lab = Lab::new("bench")?;
    let certificates = Certificates::new(&lab.directory)?;
    many_ports(&lab)?;
    let house = House::new(&lab)?;
    let mut daemon = house.start()?;
    let mut made = 0;
    for load in LOADS {
        let name =
            load.map_or("as fast as they go".to_owned(), |rate| format!("{rate} connections a second"));
        let count = load.map_or(UNBOUNDED, |rate| rate * RUN.as_secs());
        let (mut rates, mut gaps) = (Vec::new(), Vec::new());
        let before = house.losses();
        for _ in 0..effort.pairs {
            let client = lab.client();
            let (next, rate) = thread::scope(|scope| -> Result<_> {
                let load = scope.spawn(|| match load {
                    Some(rate) => at_a_rate(&lab, &certificates, &client, rate, count),
                    None => connections(&lab, &certificates, &client, false, count),
                });
                thread::sleep(AFTER);
                let begun = Instant::now();
                daemon.stop()?;
                let next = house.start()?;
                gaps.push(begun.elapsed().as_secs_f64() * 1e3);
                Ok((next, load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??))
            })?;
            daemon = next;
            rates.push(rate);
            made += count;
            // Both ends of each, and those of none of them are told twice.
            house.wait_for(2 * made)?;
        }
        thread::sleep(LOSSES);
        let after = house.losses();
        let [ends, again, others] = [0, 1, 2].map(|kind| (after[kind] - before[kind]) as f64);
        findings.judged(format!("{name}: ends lost"), ends, "ends", Must::AtMost(0.0)).note =
            format!("of {} ends; {} upgrades", 2 * count * effort.pairs as u64, effort.pairs);
        findings.judged(format!("{name}: ends told twice"), again, "ends", Must::AtMost(0.0));
        let figure = format!("{name}: first bytes and beginnings lost");
        let others = match load {
            Some(_) => findings.judged(figure, others, "events", Must::AtMost(0.0)),
            None => findings.stated(figure, others, "events"),
        };
        others.note = "told as lost; the flows' totals are exact".to_owned();
        let figure = format!("{name}: from the signal to the next one's first answer");
        findings.stated(figure, median(&gaps), "ms").note =
            format!("median; most {:.0} ms", quantile(&gaps, 1.0));
        findings.stated(format!("{name}: connections"), median(&rates), "a second").note =
            format!("median, both ends watched; spread {:.1} %", 100.0 * spread(&rates));
        findings.raw(format!("{name}: connections a second"), &rates);
        findings.raw(format!("{name}: from the signal to the next answer, ms"), &gaps);
    }
    daemon.stop()?;
    house.home.detach()?;
    let told = house.told.lock().unwrap_or_else(PoisonError::into_inner);
    let ends = told.ends.len() as u64;
    ensure!(ends <= 2 * made, "{ends} ends are told of {made} connections");
    // What is lost may also be ends of connections on which ab said nothing.
    ensure!(ends + told.lost >= 2 * made, "{ends} ends told and {} lost of {made} connections", told.lost);
    Ok(findings)
}

/// Where daemons follow each other.
struct House<'a> {
    lab: &'a Lab,
    home: Home,
    told: Arc<Mutex<Told>>,
}

/// What all of them told.
#[derive(Default)]
struct Told {
    /// By the ids of their flows.
    ends: HashSet<String>,
    again: u64,
    lost: u64,
    /// Events that were lost and are no ends.
    others: u64,
    /// Records that the reader did not take in time.
    untaken: u64,
}

struct Daemon {
    process: Process,
    reader: JoinHandle<()>,
}

impl House<'_> {
    fn new(lab: &Lab) -> Result<House<'_>> {
        Ok(House { lab, home: Home::new()?, told: Arc::default() })
    }

    /// Starts one, and waits until it answers.
    fn start(&self) -> Result<Daemon> {
        let (mut process, stdout) = self.home.start(self.lab.cgroup.path())?;
        let told = self.told.clone();
        let reader = thread::spawn(move || hear(stdout, &told));
        self.home.wait_for_answer(&mut process)?;
        Ok(Daemon { process, reader })
    }

    /// Ends that were lost by now, those that were told twice, and what else was lost.
    fn losses(&self) -> [u64; 3] {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        [told.lost, told.again, told.others]
    }

    /// Waits until so many ends were told or counted as lost.
    fn wait_for(&self, ends: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (come, untaken) = {
                let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                (told.ends.len() as u64 + told.lost, told.untaken)
            };
            ensure!(untaken == 0, "the reader of the records did not keep up: {untaken} are lost");
            if come >= ends {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{come} of {ends} ends were told, or counted as lost");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Daemon {
    /// As a service manager does; its hooks stay.
    fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM);
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "the daemon ended with {status}");
        self.reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))
    }
}

fn hear(stdout: ChildStdout, told: &Mutex<Told>) {
    // A collector that keeps up: what nobody takes from a full pipe is lost, and not what is measured here.
    let _ = rustix::process::setpriority_process(None, -8);
    let ours = format!("\"server\":{{\"ip\":\"10.213.0.2\",\"port\":{PLAIN_PORT},");
    for line in BufReader::with_capacity(1 << 18, stdout).lines() {
        let Ok(line) = line else { return };
        if line.contains("\"action\":\"flow_closed\"") {
            // ab ends with some connections on which it says nothing.
            let is_silent = line.split_once("\"bytes\":").is_some_and(|(_, rest)| rest.starts_with("0,"));
            if is_silent || !line.contains(&ours) {
                continue;
            }
            let Some(id) = after(&line, "\"flow\":{\"id\":\"") else { continue };
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if !told.ends.insert(id.to_owned()) {
                told.again += 1;
            }
        } else if line.contains("\"dataset\":\"streamwatch.loss\"") {
            let record = serde_json::from_str::<Value>(&line).unwrap_or_default();
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            for row in record["streamwatch"]["loss"]["rows"].as_array().into_iter().flatten() {
                let lost = row["lost"].as_u64().unwrap_or_default();
                match (row["stage"].as_str(), row["kind"].as_str()) {
                    (Some("sink"), _) => told.untaken += lost,
                    (_, Some("close")) => told.lost += lost,
                    _ => told.others += lost,
                }
            }
        }
    }
}

/// The text from behind `before` to the next quote.
fn after<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    rest.split_once('"').map(|(text, _)| text)
}
