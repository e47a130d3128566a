//! Bulk: one and eight TCP streams of iperf3, between namespaces and over loopback.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::{Lab, Process};

use crate::pairs::{Effort, compare, whole};
use crate::report::{Findings, Must};

const PORT: u16 = 5201;
/// Bytes of one run, over all its streams: some seconds here, so that the fixed work of noticing new connections counts as it does on a
/// stream that lasts.
const BYTES: u64 = 8 << 30;

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("bulk");
    let lab = Lab::new("bench")?;
    for (place, address, client) in
        [("veth", "10.213.0.2", lab.client()), ("loopback", "127.0.0.1", lab.server())]
    {
        for streams in [1, 8] {
            let found = compare(effort, &whole(lab.cgroup.path()), 0.005, || {
                iperf3(&lab, &client, address, streams, BYTES).map(|rate| vec![rate / 1e9])
            })?;
            let name = format!("{place}, {streams} stream{}", if streams == 1 { "" } else { "s" });
            let (all, kernel, process) = found.accounted();
            let row = findings.judged(format!("{name}: accounted share"), all, "%", Must::AtMost(1.0));
            row.note = format!("programs {kernel:.3} %, process {process:.3} %");
            let note = found.note(0, "Gbit/s");
            findings.ratio(format!("{name}: throughput"), found.ratio(0), Some(Must::AtLeast(0.99))).note =
                note;
            findings.ratio(format!("{name}: processor time"), found.processor_ratio(), None);
            findings.raw(name, &found);
        }
    }
    Ok(findings)
}

/// One run; bits a second.
pub fn iperf3(lab: &Lab, client: &tests::Place, to: &str, streams: u64, bytes: u64) -> Result<f64> {
    // A new server each time: the monitor was there before it, as on a host where it starts at boot.
    let mut serve = lab.server().command("iperf3");
    serve.args(["--server", "--one-off", "--port", &PORT.to_string()]);
    let mut server = Process::start("iperf3", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, Duration::from_secs(10))?;
    let mut command = client.command("iperf3");
    command.args(["--client", to, "--port", &PORT.to_string(), "--json"]);
    command.args(["--parallel", &streams.to_string(), "--bytes", &bytes.to_string()]);
    let said = lab.run(command, Duration::from_secs(60))?.stdout;
    let said: Value = serde_json::from_str(&said).context("iperf3 said no JSON")?;
    server.wait(Duration::from_secs(10))?;
    said["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 gave no rate")
}
