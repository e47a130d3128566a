//! Churn: short connections as fast as they go, 1 kB each way, in the clear and with TLS.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{Certificates, Cgroup, Lab, Place, Process};

use crate::pairs::{Effort, beside, compare, whole};
use crate::report::{Findings, Must};

/// Connections of one run.
pub const PLAIN: u64 = 10_000;
const TLS: u64 = 4_000;
/// How often ab is started, where they come at a rate.
const BURSTS_PER_S: u64 = 10;
pub const PLAIN_PORT: u16 = 8080;
const TLS_PORT: u16 = 8443;

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("churn");
    let lab = Lab::new("bench")?;
    let certificates = Certificates::new(&lab.directory)?;
    many_ports(&lab)?;
    let outside = Cgroup::new("bench-outside")?;
    let outsider = Place { cgroup: Some(outside.path().to_owned()), ..lab.client() };
    let both = whole(lab.cgroup.path());
    let server_alone = beside(lab.cgroup.path(), outside.path());
    let variants = [
        ("plaintext, both ends watched", &both, lab.client(), false, 2, PLAIN),
        ("plaintext, the server's end watched", &server_alone, outsider, false, 1, PLAIN),
        ("TLS, both ends watched", &both, lab.client(), true, 2, TLS),
    ];
    for (name, ground, client, tls, ends, count) in variants {
        let found = compare(effort, ground, 0.01, || {
            connections(&lab, &certificates, &client, tls, count).map(|rate| vec![rate])
        })?;
        let (all, kernel, process) = found.accounted();
        findings.judged(format!("{name}: accounted share"), all, "%", Must::AtMost(4.0)).note =
            format!("programs {kernel:.2} %, process {process:.2} %");
        let note = found.note(0, "connections/s");
        findings.ratio(format!("{name}: connections a second"), found.ratio(0), None).note = note;
        findings.ratio(format!("{name}: processor time"), found.processor_ratio(), None);
        let missing = (ends * count).saturating_sub(found.fewest_flows()) + found.lost();
        findings.judged(format!("{name}: lost"), missing as f64, "records", Must::AtMost(0.0)).note =
            format!("{} flows in each run", ends * count);
        let cores = found.monitor_ns() / count as f64 * 10_000.0 / 1e9;
        findings
            .judged(format!("{name}: user space at 10,000 connections/s"), cores, "cores", Must::AtMost(0.15))
            .note = format!("scaled from full speed; {ends} flows a connection");
        findings.raw(name, &found);
    }
    Ok(findings)
}

/// A client uses more ports than it has by default, run after run: those of connections that it closed
/// itself are free again after a second, not after a minute, in which each connect would look through more
/// and more of them.
pub fn many_ports(lab: &Lab) -> Result<()> {
    let mut command = lab.client().command("sh");
    let settings = "echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range && \
                    echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse";
    command.args(["-c", settings]);
    lab.run(command, Duration::from_secs(5)).map(drop)
}

/// One run: a new nginx, and ab against it; connections a second.
pub fn connections(
    lab: &Lab,
    certificates: &Certificates,
    client: &Place,
    tls: bool,
    count: u64,
) -> Result<f64> {
    let _server = nginx(lab, certificates)?;
    requests(lab, client, tls, count, 16)
}

/// The same in the clear at no more than so many a second: in bursts, of [`BURSTS_PER_S`].
pub fn at_a_rate(
    lab: &Lab,
    certificates: &Certificates,
    client: &Place,
    rate: u64,
    count: u64,
) -> Result<f64> {
    let _server = nginx(lab, certificates)?;
    let burst = rate / BURSTS_PER_S;
    let begun = Instant::now();
    for made in (0..count).step_by(burst as usize) {
        let due = Duration::from_secs_f64(made as f64 / rate as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        requests(lab, client, false, burst.min(count - made), 8)?;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// ab against a server that is there, so many at once; connections a second.
fn requests(lab: &Lab, client: &Place, tls: bool, count: u64, at_once: u32) -> Result<f64> {
    let mut command = client.command("ab");
    command.args(["-q", "-n", &count.to_string(), "-c", &at_once.to_string()]);
    command.arg("-H").arg(format!("X-Padding: {}", "x".repeat(850)));
    command.arg(if tls {
        format!("https://10.213.0.2:{TLS_PORT}/")
    } else {
        format!("http://10.213.0.2:{PLAIN_PORT}/")
    });
    let said = lab.run(command, Duration::from_secs(120))?.stdout;
    let field = |name: &str| -> Result<f64> {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).with_context(|| said.clone())?;
        let number = line.split_whitespace().next().unwrap_or_default();
        number.parse().with_context(|| format!("{name} {line}"))
    };
    ensure!(field("Complete requests:")? as u64 == count, "not every request was answered:\n{said}");
    ensure!(field("Failed requests:")? == 0.0, "requests failed:\n{said}");
    field("Requests per second:")
}

fn nginx(lab: &Lab, certificates: &Certificates) -> Result<Process> {
    let directory = lab.directory.path().display();
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log;
         events {{ worker_connections 1024; }}
         http {{
           access_log off; keepalive_timeout 0;
           client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
           uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
           ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3;
           server {{ listen {PLAIN_PORT} backlog=4096; listen {TLS_PORT} ssl backlog=4096; return 200 \"{}\"; }}
         }}",
        certificates.certificate,
        certificates.key,
        "x".repeat(850)
    );
    let config = lab.directory.write("bench-nginx.conf", &config)?;
    let mut command = lab.server().command("nginx");
    command.args(["-p", &directory.to_string(), "-c", &config, "-e", &format!("{directory}/nginx.log")]);
    let mut process = Process::start("nginx", &lab.directory, command)?;
    process.wait_for_port("tcp", TLS_PORT, Duration::from_secs(30))?;
    Ok(process)
}
