//! How the cost of an event grows with what is there.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use monitor::event::Event;
use monitor::policy::Policy;
use monitor_common::Kind;

use super::connections::{Connection, Maker, Spread};
use super::host::{Host, settings};
use super::memory::fill;
use super::report::{sample, timed};

/// Events that each point is measured with.
const EVENTS: usize = 300_000;

/// Connections that each point of streams and rules is measured with.
const CONNECTIONS: usize = 20_000;

/// `largest`: flows at the end of their curve.
pub fn run(largest: usize) -> Result<()> {
    for flows in [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|flows| *flows <= largest) {
        progress(flows)?;
    }
    for streams in [10, 100, 1_000, 10_000, 100_000] {
        let processes = (streams / 10).clamp(1, 100);
        let services = streams / processes;
        let spread = Spread { processes, services, first_port: 2_000, web: false };
        let connections = CONNECTIONS.max(3 * streams);
        let cost = lives(spread, 2 * streams.max(1_000), connections, Policy::builtin())?;
        sample("growth", &format!("streams={streams}"), cost, "ns/event");
    }
    let spread = Spread { processes: 20, services: 20, first_port: 2_000, web: false };
    for rules in [10, 100, 1_000, 10_000] {
        let cost = lives(spread, 65_536, CONNECTIONS, policy(rules, 2_000, 16)?)?;
        sample("growth", &format!("rules={rules}"), cost, "ns/event");
        let cost = lives(spread, 65_536, CONNECTIONS, policy(rules, 2_000, 0)?)?;
        sample("growth", &format!("rules={rules}, at any port"), cost, "ns/event");
    }
    Ok(())
}

/// Progress of so many open flows, in turns.
fn progress(flows: usize) -> Result<()> {
    let mut host = Host::new(settings(flows, 65_536), Policy::builtin());
    fill(&mut host, &mut Maker::new(Spread::default()), flows)?;
    let mut maker = Maker::new(Spread::default());
    // A prime stride, so that neighbours in time are no neighbours in memory.
    let connections: Vec<Connection> =
        (0..flows).map(|_| maker.next(host.now_ns)).step_by((flows / 100_000).max(1)).collect();
    let mut events = Vec::new();
    for n in 0..EVENTS {
        let connection = &connections[n * 7919 % connections.len()];
        events
            .push(connection.progress(1000 + (n / connections.len()) as u64, host.now_ns + n as u64 * 1_000));
    }
    let ((), time) = timed(|| {
        for event in events {
            host.event(Event::Flow(Kind::Progress, event));
        }
    });
    sample("growth", &format!("flows={flows}"), time.as_nanos() as f64 / EVENTS as f64, "ns/event");
    Ok(())
}

/// Whole lives of connections: ns an event, encoding included.
fn lives(spread: Spread, streams: usize, connections: usize, policy: Policy) -> Result<f64> {
    let mut host = Host::new(settings(65_536, streams), policy);
    let mut maker = Maker::new(spread);
    let mut events = 0_usize;
    let mut result = Ok(());
    let (recorded, time) = timed(|| {
        for _ in 0..connections {
            let connection = maker.next(host.now_ns);
            connection.begin(&mut |record| {
                events += 1;
                if result.is_ok() {
                    result = host.record(record);
                }
            });
            for nth in 1..=5 {
                host.event(Event::Flow(Kind::Progress, connection.progress(nth, host.now_ns)));
            }
            host.event(Event::Flow(Kind::Close, connection.close(6, host.now_ns)));
            events += 6;
        }
    });
    let () = recorded;
    result.context("a record that cannot be decoded")?;
    Ok(time.as_nanos() as f64 / events as f64)
}

/// So many services with three clients each. `ports`: so many of them share a port; 0: none names one.
fn policy(rules: usize, first_port: usize, ports: usize) -> Result<Policy> {
    let mut text = String::new();
    for rule in 0..rules {
        writeln!(text, "[[service]]\nname = \"service{rule}\"")?;
        if let Some(port) = rule.checked_div(ports) {
            writeln!(text, "ports = [{}]", first_port + port % 60_000)?;
        }
        writeln!(text, "address = [\"10.2.{}.{}\"]", rule / 250 % 250, rule % 250 + 1)?;
        for client in 0..3 {
            writeln!(text, "[[service.client]]\nunit = \"app{}.service\"", 100 + (rule + client) % 100)?;
        }
    }
    Ok(Policy::parse(Path::new("rules.toml"), &text)?)
}
