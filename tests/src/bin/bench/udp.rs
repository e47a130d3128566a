//! UDP: datagrams of 64 bytes to one socket, from one peer and from 1,000; all sockets watched, and the one.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::{Cgroup, Lab, Place, Process};

use crate::pairs::{Effort, beside, compare, compare_empty, whole};
use crate::programs;
use crate::report::{Findings, Must};

const PORT: u16 = 7001;
/// Datagrams of one run.
const DATAGRAMS: u32 = 500_000;

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("udp");
    let lab = Lab::new("bench")?;
    crate::churn::many_ports(&lab)?;
    let outside = Cgroup::new("bench-outside")?;
    let outsider = Place { cgroup: Some(outside.path().to_owned()), ..lab.client() };
    let both = whole(lab.cgroup.path());
    let one_socket = beside(lab.cgroup.path(), outside.path());
    let variants = [
        ("1 peer, both ends watched", &both, lab.client(), 1),
        ("1000 peers, both ends watched", &both, lab.client(), 1000),
        ("1000 peers, the one socket watched", &one_socket, outsider, 1000),
    ];
    for (name, ground, client, peers) in variants {
        let found = compare(effort, ground, 0.01, || datagrams(&lab, &client, peers))?;
        let note = found.note(0, "received/s");
        findings.ratio(format!("{name}: throughput"), found.ratio(0), Some(Must::AtLeast(0.97))).note = note;
        let note = found.note(1, "");
        findings.ratio(format!("{name}: share received"), found.ratio(1), None).note = note;
        let (all, kernel, process) = found.accounted();
        findings.stated(format!("{name}: accounted share"), all, "%").note =
            format!("programs {kernel:.2} %, process {process:.2} %");
        findings.ratio(format!("{name}: processor time"), found.processor_ratio(), None);
        let floor = compare_empty(effort, ground, 0.01, || datagrams(&lab, &client, peers))?;
        findings.ratio(format!("{name}: throughput with empty programs in our place"), floor, None).note =
            "at the hooks of packets alone, ours have three: the kernel's part".to_owned();
        findings.raw(name, &found);
    }
    Ok(findings)
}

/// One run: datagrams received a second, and their share of those sent.
fn datagrams(lab: &Lab, client: &Place, peers: u32) -> Result<Vec<f64>> {
    let mut serve = programs::load(&lab.server());
    serve.args(["datagrams-serve", "--listen", &format!("0.0.0.0:{PORT}")]);
    serve.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut server = Process::start_piped("datagrams", serve)?;
    server.wait_for_port("udp", PORT, Duration::from_secs(10))?;
    let mut command = programs::load(client);
    command.args(["datagrams", "--to", &format!("10.213.0.2:{PORT}")]);
    command.args(["--peers", &peers.to_string(), "--count", &DATAGRAMS.to_string()]);
    lab.run(command, Duration::from_secs(60))?;
    server.wait(Duration::from_secs(40))?;
    let stdout = server.child().stdout.take().context("no stdout")?;
    let said: Value = serde_json::from_reader(stdout).context("the load said no JSON")?;
    let received = said["received"].as_f64().context("a figure is missing")?;
    let elapsed = said["elapsed_ns"].as_f64().context("a figure is missing")?;
    Ok(vec![received / elapsed * 1e9, received / f64::from(DATAGRAMS)])
}
