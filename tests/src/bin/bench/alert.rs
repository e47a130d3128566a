//! Alert latency: from the first plaintext byte of a stream to the line on stdout.

use std::collections::HashMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tests::traffic::FirstByte;
use tests::{Certificates, Lab, Process, number, text};

use crate::pairs::Effort;
use crate::programs::beside;
use crate::report::{Findings, Must};
use crate::statistics::quantile;
use crate::watch::Watch;

const FIRST_PORT: u16 = 34_567;
/// Alerts come once a stream.
const STREAMS: u16 = 200;

pub fn run(_: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("alert");
    for (name, churn, limit) in [("idle", false, 10.0), ("under churn", true, 50.0)] {
        let taken = latencies(churn)?;
        findings.judged(format!("{name}: p99"), quantile(&taken, 0.99), "ms", Must::AtMost(limit)).note = format!(
            "{} streams; p50 {:.2} ms, p90 {:.2} ms, most {:.2} ms",
            taken.len(),
            quantile(&taken, 0.5),
            quantile(&taken, 0.9),
            quantile(&taken, 1.0)
        );
        findings.raw(format!("{name}, ms"), &taken);
    }
    Ok(findings)
}

fn latencies(churn: bool) -> Result<Vec<f64>> {
    let lab = Lab::new("bench")?;
    let certificates = Certificates::new(&lab.directory)?;
    crate::churn::many_ports(&lab)?;
    let watch = Watch::listen(lab.cgroup.path())?;
    let mut serve = lab.server().command(beside("traffic"));
    serve.args(["echo", "--listen", &format!("[::]:{FIRST_PORT}"), "--ports", &STREAMS.to_string()]);
    let mut server = Process::start("traffic", &lab.directory, serve)?;
    server.wait_for_port("tcp", FIRST_PORT + STREAMS - 1, Duration::from_secs(10))?;
    let mut burst: Command = lab.client().command(beside("traffic"));
    burst.args(["burst", "--to", "10.213.0.2", "--first-port", &FIRST_PORT.to_string()]);
    burst.args(["--ports", &STREAMS.to_string()]);
    let said = if churn {
        thread::scope(|scope| {
            let bursting = scope.spawn(|| lab.run(burst, Duration::from_secs(120)));
            let client = lab.client();
            while !bursting.is_finished() {
                crate::churn::connections(&lab, &certificates, &client, false, 10_000)?;
            }
            bursting.join().map_err(|_| anyhow::anyhow!("the burst panicked"))?
        })?
    } else {
        lab.run(burst, Duration::from_secs(60))?
    };
    let wrote: Vec<FirstByte> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).context(line.to_owned()))
        .collect::<Result<_>>()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let alerts = alerts(&watch);
        let taken: Vec<f64> = wrote
            .iter()
            .filter_map(|first| Some((alerts.get(&first.port)?.checked_sub(first.at_ns)?) as f64 / 1e6))
            .collect();
        if taken.len() == wrote.len() {
            watch.stop()?;
            return Ok(taken);
        }
        if Instant::now() > deadline {
            bail!("{} alerts came for {} streams in the clear", taken.len(), wrote.len());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// When the first alert of each server port was read, CLOCK_MONOTONIC ns.
fn alerts(watch: &Watch) -> HashMap<u16, u64> {
    let mut first = HashMap::new();
    for (at_ns, line) in watch.alerts() {
        let Ok(record) = serde_json::from_slice::<Value>(&line) else { continue };
        if text(&record, "rule.id") == "plaintext"
            && let Some(port) = number(&record, "server.port").and_then(|port| u16::try_from(port).ok())
        {
            first.entry(port).or_insert(at_ns);
        }
    }
    first
}
