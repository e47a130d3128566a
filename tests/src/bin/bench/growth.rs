//! How cost grows: open flows and processors here, what is inside the process by `inside growth`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tests::{Certificates, Lab, Process};

use crate::accounting::{self, Statistics};
use crate::pairs::{Effort, FEWEST, compare, whole};
use crate::report::Findings;
use crate::statistics::median;
use crate::watch::Watch;
use crate::{churn, inside, programs};

const PORT: u16 = 7004;

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = inside::run("growth")?;
    flows(effort, &mut findings)?;
    processors(effort, &mut findings)?;
    large(&mut findings);
    Ok(findings)
}

/// Flows of the large host that cannot be had here.
const MANY: f64 = 1e7;

/// What the curves mean for a host with 128 processors and ten million flows: each carried on as it went
/// over its last points, which is a guess, and marked as one.
fn large(findings: &mut Findings) {
    let points = |figure: &str| -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = findings
            .rows
            .iter()
            .filter_map(|row| {
                let name = row.figure.strip_suffix(figure)?;
                let count = name.trim_start_matches("flows=").trim_end_matches(" flows: ");
                Some((count.parse().ok()?, row.value))
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let per_doubling = |points: &[(f64, f64)]| {
        let (first, last) = (points.first()?, points.last()?);
        let slope = (last.1 - first.1) / (last.0 / first.0).log2();
        Some((last.1 + slope * (MANY / last.0).log2(), slope))
    };
    let packet = per_doubling(&points("a packet in the programs"));
    let event = per_doubling(&points(""));
    let last = |figure: &str| points(figure).last().map(|point| point.1);
    let (kernel, user) = (last("kernel memory"), last("resident in user space"));
    let connection = findings.rows.iter().rev().find(|row| row.figure.ends_with(CONNECTION));
    let connection = connection.map(|row| row.value);
    for (what, carried) in [("a packet in the programs", packet), ("an event in user space", event)] {
        if let Some((value, slope)) = carried {
            findings.stated(format!("10 million flows, a guess: {what}"), value, "ns").note =
                format!("{slope:.1} ns more with each doubling");
        }
    }
    for (what, bytes) in [("kernel memory", kernel), ("user-space memory", user)] {
        if let Some(bytes) = bytes {
            findings
                .stated(
                    format!("10 million flows, a guess: {what}"),
                    bytes * MANY / f64::from(1 << 30),
                    "GiB",
                )
                .note = "as many bytes a flow as at the last point".into();
        }
    }
    if let Some(us) = connection {
        findings
            .stated(
                "128 processors, a guess: connections that one core of user space follows",
                1e6 / us,
                "connections/s",
            )
            .note =
            "the process has one reader, one core and one writer, however many processors there are".into();
    }
}

/// The figure that [`large`] rests on.
const CONNECTION: &str = "churn, user space a connection";

/// Kept connections that are used in turn: a packet then finds its flow in no cache.
fn flows(effort: &Effort, findings: &mut Findings) -> Result<()> {
    for connections in [1_000, 5_000, 15_000_u64] {
        let lab = Lab::new("bench")?;
        churn::many_ports(&lab)?;
        let flows = 2 * connections;
        // The first sockets make the slabs grow, whoever watches.
        held(&lab, connections, || Ok(()))?;
        let bare = held(&lab, connections, || Ok(slab()))?;
        let watch = Watch::start(lab.cgroup.path())?;
        let (mut cost, mut with, mut taken) = (0.0, 0.0, 0.0);
        let idle = watch.resident() as f64;
        let statistics = Statistics::on()?;
        held(&lab, connections, || {
            with = slab();
            taken = watch.resident() as f64;
            Ok(())
        })?;
        let before = accounting::of_process(watch.pid())?;
        held(&lab, connections, || Ok(()))?;
        let after = accounting::of_process(watch.pid())?;
        drop(statistics);
        let done = accounting::difference(&before, &after);
        let (mut ns, mut count) = (0.0, 0.0);
        for name in ["sent", "received"] {
            let runs = done.get(name).copied().unwrap_or_default();
            ns += runs.net_ns(effort.clock);
            count += runs.count as f64;
        }
        if count > 0.0 {
            cost = ns / count;
        }
        watch.stop()?;
        findings.stated(format!("{flows} flows: a packet in the programs"), cost, "ns").note =
            "connections opened, used in turn, and closed".into();
        findings
            .stated(format!("{flows} flows: kernel memory"), (with - bare) / flows as f64, "bytes/flow")
            .note = "growth of the slab, with and without".into();
        findings.stated(
            format!("{flows} flows: resident in user space"),
            (taken - idle) / flows as f64,
            "bytes/flow",
        );
    }
    Ok(())
}

/// Opens connections, uses each a few times, looks at something, and closes them.
fn held<T>(lab: &Lab, connections: u64, look: impl FnOnce() -> Result<T>) -> Result<T> {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let listen = format!("0.0.0.0:{PORT}");
    let mut serve = programs::load(&lab.server());
    serve.args(["exchange-serve", "--listen", &listen]);
    let mut server = Process::start("exchange", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, Duration::from_secs(10))?;
    let (to, connections, uses) =
        (format!("10.213.0.2:{PORT}"), connections.to_string(), (3 * connections).to_string());
    let mut command = programs::load(&lab.client());
    command.args(["exchange", "--pause", "--to", &to, "--connections", &connections]);
    command.args(["--warm-up", &uses, "--count", "1"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::start_piped("exchange", command)?;
    let mut stdin = process.take_stdin()?;
    let mut said = BufReader::new(process.child().stdout.take().context("no stdout")?).lines();
    said.next().context("the load ended early")??;
    let seen = look()?;
    stdin.write_all(b"go\nend\n")?;
    process.wait(Duration::from_secs(30))?;
    Ok(seen)
}

/// Memory of the kernel's small objects, bytes.
fn slab() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(f64::NAN) * 1024.0
}

/// Churn on one processor, two, and so on.
fn processors(effort: &Effort, findings: &mut Findings) -> Result<()> {
    let all = sched_getaffinity(None)?;
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    let mut count = 1;
    while count <= usable.len() {
        let mut some = CpuSet::new();
        usable.iter().take(count).for_each(|cpu| some.set(*cpu));
        sched_setaffinity(None, &some)?;
        let found = on_some(effort);
        sched_setaffinity(None, &all)?;
        let found = found?;
        let (share, kernel, process) = found.accounted();
        let name = format!("{count} processor{}", if count == 1 { "" } else { "s" });
        findings.stated(format!("{name}: churn, accounted share"), share, "%").note =
            format!("programs {kernel:.2} %, process {process:.2} %");
        let with: Vec<f64> = found.with.iter().map(|sample| sample.values[0]).collect();
        findings.stated(format!("{name}: churn, connections a second"), median(&with), "connections/s");
        let each = found.monitor_ns() / churn::PLAIN as f64 / 1e3;
        findings.stated(format!("{name}: {CONNECTION}"), each, "µs").note = "two flows each".into();
        findings.raw(name, &found);
        count *= 2;
    }
    Ok(())
}

fn on_some(effort: &Effort) -> Result<crate::pairs::Comparison> {
    let lab = Lab::new("bench")?;
    let certificates = Certificates::new(&lab.directory)?;
    churn::many_ports(&lab)?;
    let client = lab.client();
    compare(
        &Effort { pairs: FEWEST.min(effort.pairs), time: Duration::ZERO, ..*effort },
        &whole(lab.cgroup.path()),
        1.0,
        || churn::connections(&lab, &certificates, &client, false, churn::PLAIN).map(|rate| vec![rate]),
    )
}
