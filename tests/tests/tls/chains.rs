//! Chains that are longer than the usual budget, through the kernel programs and the whole daemon.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dissect::{Hint, Prefix, Reassembly, TlsFacts, inspect_stream};
use monitor::event::{Event, decode};
use monitor::kernel::{Kernel, Ring, Sizes};
use monitor_common::capture_flag;
use tests::{Daemon, DaemonOptions, Directory, Lab, Place, Process, finish, is_flow, show, text};

const PATIENCE: Duration = Duration::from_secs(60);
const BUDGET: u32 = 8192;
/// Certificates of 5 kB each.
const LENGTH: usize = 5;
const PORT: u16 = 4433;

/// Writes `big.pem`, a chain of more than 20 kB, and `big.key`.
fn make(directory: &Directory) -> Result<()> {
    let run = |arguments: &str| {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(directory.path());
        finish(command, PATIENCE)?.success()
    };
    let padding = "x".repeat(4600);
    for number in (0..LENGTH).rev() {
        fs::write(
            directory.file("extensions"),
            format!("2.25.1=ASN1:UTF8String:{padding}\nbasicConstraints=CA:TRUE\n"),
        )?;
        run(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=big{number} -keyout big{number}.key -out big{number}.csr"
        ))?;
        let signer = match number + 1 {
            LENGTH => format!("-signkey big{number}.key"),
            above => format!("-CA big{above}.crt -CAkey big{above}.key -CAcreateserial"),
        };
        run(&format!(
            "x509 -req -in big{number}.csr {signer} -days 30 -extfile extensions -out big{number}.crt"
        ))?;
    }
    let mut chain = String::new();
    // The first is given by itself.
    for number in 1..LENGTH {
        chain += &fs::read_to_string(directory.file(&format!("big{number}.crt")))?;
    }
    fs::write(directory.file("big.pem"), chain)?;
    Ok(())
}

fn server(lab: &Lab, directory: &Directory, version: &str) -> Result<Process> {
    let file = |name: &str| directory.file(name);
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-www", "-quiet", "-accept", &PORT.to_string(), version]);
    command.args(["-cert", &file("big0.crt"), "-key", &file("big0.key"), "-cert_chain", &file("big.pem")]);
    let mut process = Process::start("s_server", &lab.directory, command)?;
    process.wait_for_port("tcp", PORT, PATIENCE)?;
    Ok(process)
}

fn visit(place: &Place, host: &str) -> Result<()> {
    let mut command = place.command("curl");
    command.args(["-sSfk", "-m", "30", &format!("https://{host}:{PORT}/")]);
    finish(command, PATIENCE)?.success().map(drop)
}

/// What the kernel programs hand on, with nobody there to tell them to stop or to go on.
struct Captured {
    server_bytes: usize,
    facts: TlsFacts,
}

fn captured(lab: &Lab, directory: &Directory, version: &str, place: &Place, host: &str) -> Result<Captured> {
    let sizes = Sizes {
        ring_bytes: 8 << 20,
        overflow: 64,
        decisions: 64,
        udp_flows: 64,
        tcp_budget: BUDGET,
        handshake_budget: 65_536,
        udp_budget: 1024,
        listener_captures: 1024,
        tick_ms: 100,
    };
    let kernel = Kernel::load(&sizes, lab.cgroup.path(), None)?;
    let (map, size) = kernel.ring()?;
    let mut ring = Ring::new(map.try_clone_to_owned()?, size, kernel.journal()?)?;
    let _server = server(lab, directory, version)?;
    visit(place, host)?;
    // Of the client's socket: what it sent, and what it received.
    let mut flows: HashMap<u64, [Reassembly; 2]> = HashMap::new();
    let deadline = Instant::now() + PATIENCE;
    let mut quiet = 0;
    while quiet < 5 && Instant::now() < deadline {
        ring.wait(Duration::from_millis(20));
        let drained = ring.drain(4096, |record| {
            if let Ok(Event::Capture(head, data)) = decode(record)
                && head.remote_port == PORT
                && head.flags & capture_flag::LISTENER == 0
            {
                let sides = flows
                    .entry(head.cookie)
                    .or_insert_with(|| [Reassembly::new(1 << 16), Reassembly::new(1 << 16)]);
                sides[usize::from(head.flags & capture_flag::SENT == 0)].push(head.offset, &data);
            }
        });
        quiet = if drained == 0 { quiet + 1 } else { 0 };
    }
    ensure!(flows.len() == 1, "{} connections, not one", flows.len());
    let [sent, received] = flows.into_values().next().context("none")?;
    let prefix = |side| Prefix { bytes: side, ended: true, midstream: false, ..Prefix::default() };
    let facts = inspect_stream(prefix(sent.prefix()), prefix(received.prefix()), Hint::default()).facts;
    Ok(Captured { server_bytes: received.prefix().len(), facts: facts.tls.context("no TLS")? })
}

/// A chain of more than 20 kB comes whole, over a link and over loopback, whose segments hold it all;
/// where the wire hides it, the budget stays.
pub fn long_chains_are_captured() -> Result<()> {
    let directory = Directory::new()?;
    make(&directory)?;
    let lab = Lab::new("chains")?;
    for (place, host) in [(lab.client(), "10.213.0.2"), (lab.server(), "127.0.0.1")] {
        let found = captured(&lab, &directory, "-tls1_2", &place, host)?;
        let chain = &found.facts.server_certificates;
        ensure!(chain.len() == LENGTH, "{} certificates from {host}", chain.len());
        ensure!(chain[0].subject == "CN=big0" && chain[LENGTH - 1].self_signed, "{chain:?}");
        ensure!(chain[..LENGTH - 1].iter().all(|one| one.issued_by_next == Some(true)), "{chain:?}");
        ensure!(found.server_bytes > 20_000, "{} bytes from {host}", found.server_bytes);
        let found = captured(&lab, &directory, "-tls1_3", &place, host)?;
        ensure!(found.server_bytes <= BUDGET as usize, "{} bytes of TLS 1.3 from {host}", found.server_bytes);
        ensure!(found.facts.version.as_deref() == Some("1.3"), "{:?}", found.facts);
    }
    Ok(())
}

/// The same with the daemon: it says what was negotiated, and loses nothing.
pub fn the_daemon_takes_long_chains() -> Result<()> {
    let directory = Directory::new()?;
    make(&directory)?;
    let lab = Lab::new("chains")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    for (version, number) in [("-tls1_2", "1.2"), ("-tls1_3", "1.3")] {
        let _server = server(&lab, &directory, version)?;
        visit(&lab.client(), "10.213.0.2")?;
        let flow = daemon.wait_for(number, PATIENCE, is_flow, |record| {
            is_flow(record)
                && text(record, "tls.version") == number
                && text(record, "streamwatch.flow.state") == "closed"
        })?;
        let flow = flow.record;
        ensure!(text(&flow, "streamwatch.verdict.encrypted.answer") == "yes", "{}", show(&flow));
        ensure!(text(&flow, "streamwatch.verdict.watched.answer") == "yes", "{}", show(&flow));
    }
    Ok(())
}
