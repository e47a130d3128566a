//! How long it takes from a stream's first plaintext byte to the alert line on stdout. Prints the
//! percentiles; asserts only that every stream was alerted (the time is the host's, too).

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::traffic::{self, FirstByte};
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, is_alert, number, text};

const FIRST_PORT: u16 = 34_567;
/// Distinct streams: alerts come once a stream.
const STREAMS: u16 = 200;

fn main() -> ExitCode {
    Suite::new("latency").alone("first plaintext byte to alert line", &[], latency).main()
}

fn latency() -> Result<()> {
    let lab = Lab::new("latency")?;
    let daemon = Daemon::start(&lab, DaemonOptions { keep: is_alert, ..DaemonOptions::default() })?;
    let mut serve = lab.server().command(traffic::program());
    serve.args(["echo", "--listen", &format!("[::]:{FIRST_PORT}"), "--ports", &STREAMS.to_string()]);
    let mut server = Process::start("traffic", &lab.directory, serve)?;
    server.wait_for_port("tcp", FIRST_PORT + STREAMS - 1, Duration::from_secs(10))?;
    let mut burst = lab.client().command(traffic::program());
    burst.args(["burst", "--to", "10.213.0.2", "--first-port", &FIRST_PORT.to_string()]);
    burst.args(["--ports", &STREAMS.to_string()]);
    let said = lab.run(burst, Duration::from_secs(60))?.stdout;
    let wrote: Vec<FirstByte> = said
        .lines()
        .map(|line| serde_json::from_str(line).context(line.to_owned()))
        .collect::<Result<_>>()?;
    let alerted =
        daemon.wait_until("alert for every stream", Duration::from_secs(10), is_alert, |heard| {
            let mut first = HashMap::new();
            for heard in heard.iter().filter(|heard| text(&heard.record, "rule.id") == "plaintext") {
                let port = number(&heard.record, "server.port").unwrap_or(0);
                first.entry(port).or_insert(heard.at_ns);
            }
            (first.len() >= wrote.len()).then_some(first)
        })?;
    let mut taken = Vec::new();
    for FirstByte { port, at_ns } in wrote {
        let alert = alerted.get(&port.into()).with_context(|| format!("no alert for port {port}"))?;
        ensure!(*alert >= at_ns, "port {port}: alerted before its first byte");
        taken.push(alert - at_ns);
    }
    taken.sort_unstable();
    let percentile = |part: usize| taken[(taken.len() - 1) * part / 100] as f64 / 1e6;
    println!(
        "\nlatency, first plaintext byte to alert line, {} streams: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        taken.len(),
        percentile(50),
        percentile(90),
        percentile(99),
        percentile(100),
    );
    Ok(())
}
