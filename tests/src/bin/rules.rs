//! What a decision of the policy costs, from ten to ten thousand rules.
//!
//! Out: a JSON line a case: `case`, `rules`, `selectors`, `answer` (what the flows of this line get),
//! `ns` (of one decision: the median of rounds of many flows). No traffic, no daemon, no root.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use monitor::model::{Identity, Transport};
use monitor::policy::{Decision, FlowFacts, Policy};
use serde_json::json;

const ROUNDS: usize = 21;
/// Decisions of a round.
const DECISIONS: usize = 2000;

/// A policy, and flows that get the answer.
struct Case {
    name: &'static str,
    selectors: usize,
    policy: String,
    flows: Vec<(Identity, SocketAddr, SocketAddr)>,
    answer: &'static str,
}

fn main() -> Result<()> {
    for rules in [10, 100, 1000, 10_000] {
        for case in [
            one_service(rules, "allowed"),
            one_service(rules, "unexpected"),
            many_services(rules, "allowed"),
            many_services(rules, "unexpected"),
            groups(rules, "allowed"),
            groups(rules, "unexpected"),
            egress(rules, "allowed"),
            egress(rules, "unexpected"),
            unseen(rules),
            wildcards(rules, "allowed"),
            wildcards(rules, "unexpected"),
        ] {
            measure(rules, case?)?;
        }
    }
    Ok(())
}

fn measure(rules: usize, case: Case) -> Result<()> {
    let policy = Policy::parse(Path::new("rules.toml"), &case.policy)?;
    let mut taken = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for (client, from, to) in case.flows.iter().cycle().take(DECISIONS) {
            black_box(policy.decide(black_box(&facts(client, *from, *to))));
        }
        taken.push(began.elapsed().as_nanos() / DECISIONS as u128);
    }
    for (client, from, to) in &case.flows {
        let answer = match policy.decide(&facts(client, *from, *to)) {
            Decision::Allowed { .. } => "allowed",
            Decision::Unexpected { .. } => "unexpected",
            Decision::Unknown { .. } => "unknown",
            Decision::NoPolicy => "none",
        };
        ensure!(answer == case.answer, "{}: {answer}, not {}: {client:?} → {to}", case.name, case.answer);
    }
    taken.sort_unstable();
    let line = json!({
        "case": case.name, "rules": rules, "selectors": case.selectors, "answer": case.answer,
        "ns": taken[ROUNDS / 2] as u64,
    });
    println!("{line}");
    Ok(())
}

fn facts(client: &Identity, from: SocketAddr, to: SocketAddr) -> FlowFacts<'_> {
    FlowFacts {
        client: Some(client),
        client_address: from,
        server: None,
        server_address: to,
        transport: Transport::Tcp,
    }
}

fn client(number: usize) -> Identity {
    Identity {
        pid: Some(1),
        name: Some(format!("p{number}")),
        executable: Some(format!("/opt/app{number}/bin/server")),
        uid: Some(number as u32),
        user: Some(format!("user{number}")),
        unit: Some(format!("app{number}-instance.service")),
        ..Identity::default()
    }
}

/// An address of its own for each.
fn address(number: usize, port: u16) -> SocketAddr {
    SocketAddr::from(([10, (number >> 16) as u8, (number >> 8) as u8, number as u8], port))
}

/// A selector, of another kind for each.
fn selector(number: usize) -> String {
    match number % 5 {
        0 => format!("unit = \"app{number}-instance.service\""),
        1 => format!("unit = \"app{number}-*.service\""),
        2 => format!("process = \"p{number}\"\nuser = \"user{number}\""),
        3 => format!("executable = \"/opt/app{number}/*\"\naddress = \"10.0.0.0/8\""),
        _ => format!("address = \"{}/32\"", address(number, 1).ip()),
    }
}

/// Numbers spread over all rules; or those of nobody.
fn numbers(rules: usize, answer: &str) -> Vec<usize> {
    let beyond = if answer == "allowed" { 0 } else { 1_000_000 };
    (0..100).map(|step| beyond + step * rules / 100).collect()
}

/// One service with as many clients as there are rules.
fn one_service(rules: usize, answer: &'static str) -> Result<Case> {
    let mut policy = String::from("[[service]]\nname = \"s\"\nports = [443]\n");
    for number in 0..rules {
        write!(policy, "[[service.client]]\n{}\n", selector(number))?;
    }
    let to = address(9_999_999, 443);
    let flows = numbers(rules, answer).into_iter().map(|number| (client(number), address(number, 9), to));
    Ok(Case { name: "clients of one service", selectors: rules, policy, flows: flows.collect(), answer })
}

/// The same, and a client that could not be looked at.
fn unseen(rules: usize) -> Result<Case> {
    let mut case = one_service(rules, "unexpected")?;
    for (client, _, _) in &mut case.flows {
        *client = Identity { pid: Some(1), missing: Some("it ended".into()), ..Identity::default() };
    }
    Ok(Case { name: "a client that is not known", answer: "unknown", ..case })
}

/// One service whose clients are texts with a wildcard at both ends, or whose ends are those of all.
fn wildcards(rules: usize, answer: &'static str) -> Result<Case> {
    let mut case = one_service(1, answer)?;
    case.policy = String::from("[[service]]\nname = \"s\"\nports = [443]\n");
    for number in 0..rules {
        let pattern = match number % 2 {
            0 => format!("*app{number}-*"),
            _ => format!("a*pp{number}-*.service"),
        };
        write!(case.policy, "[[service.client]]\nunit = \"{pattern}\"\n")?;
    }
    for ((who, from, _), number) in case.flows.iter_mut().zip(numbers(rules, answer)) {
        (*who, *from) = (client(number), address(number, 9));
    }
    Ok(Case { name: "wildcards at both ends", selectors: rules, ..case })
}

/// As many services as there are rules, several at each port.
fn many_services(rules: usize, answer: &'static str) -> Result<Case> {
    let mut policy = String::new();
    let port = |number: usize| 1000 + (number % 2500) as u16;
    for number in 0..rules {
        let server = address(number, 1).ip();
        write!(
            policy,
            "[[service]]\nname = \"s{number}\"\nports = [{}]\naddress = \"{server}/32\"\n\
             [[service.client]]\nunit = \"app{number}-*.service\"\n",
            port(number)
        )?;
    }
    let beyond = if answer == "allowed" { 0 } else { 1_000_000 };
    let flows = numbers(rules, "allowed")
        .into_iter()
        .map(|number| (client(number + beyond), address(5, 9), address(number, port(number))));
    Ok(Case { name: "services", selectors: 2 * rules, policy, flows: flows.collect(), answer })
}

/// As many services as there are rules, whose clients are one of up to 1,000 selectors in groups.
fn groups(rules: usize, answer: &'static str) -> Result<Case> {
    let selectors = rules.clamp(10, 1000);
    let mut policy = String::from("[groups]\n");
    for number in 0..selectors {
        writeln!(policy, "g{number} = [{{ {} }}]", selector(number).replace('\n', ", "))?;
    }
    for number in 0..rules {
        write!(
            policy,
            "[[service]]\nname = \"s{number}\"\nports = [{}]\n[[service.client]]\ngroup = \"g{}\"\n",
            1 + number % 65_535,
            number % selectors
        )?;
    }
    let beyond = if answer == "allowed" { 0 } else { 1_000_000 };
    let flows = numbers(rules, "allowed").into_iter().map(|number| {
        let who = number % selectors + beyond;
        (client(who), address(who, 9), address(9_999_999, (1 + number % 65_535) as u16))
    });
    Ok(Case { name: "groups", selectors, policy, flows: flows.collect(), answer })
}

/// As many destinations as there are rules, of ten clients.
fn egress(rules: usize, answer: &'static str) -> Result<Case> {
    let mut policy = String::new();
    for who in 0..10 {
        write!(policy, "[[client]]\nname = \"c{who}\"\nunit = \"app{who}-instance.service\"\n")?;
        for number in (who..rules).step_by(10) {
            let to = address(number, 1).ip();
            write!(policy, "[[client.to]]\naddress = \"{to}/32\"\nports = [443]\n")?;
        }
    }
    let flows = numbers(rules, answer)
        .into_iter()
        .map(|number| (client(number % 10), address(5, 9), address(number, 443)));
    Ok(Case { name: "egress", selectors: rules, policy, flows: flows.collect(), answer })
}
