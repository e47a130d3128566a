//! The benchmarks, one file each: what watching costs, with and without, in one run. Called by
//! `cargo xtask bench`.
//!
//! In: names. Out: a table on stdout, raw figures in `target/bench/NAME.json`. Must never: load
//! anything outside the namespaces and cgroups that it made, or change a setting and leave it so.

#![forbid(unsafe_code)]

// One file a benchmark.
mod alert;
mod bulk;
mod churn;
mod growth;
mod idle;
mod inside;
mod messages;
mod path;
mod peers;
mod udp;
mod upgrade;

// What they stand on.
mod accounting;
mod clock;
mod machine;
mod pairs;
mod programs;
mod report;
mod statistics;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;

use pairs::Effort;
use report::{Findings, Row, State, markdown, replace, table};

#[derive(Parser)]
#[command(about = "Measures what watching costs")]
struct Arguments {
    /// Only these
    names: Vec<String>,
    /// Name them, and what each measures
    #[arg(long)]
    list: bool,
    /// Pairs of one comparison, at least
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Seconds that one comparison may go on with more pairs, to narrow its interval
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Put the tables into BENCHMARKS.md
    #[arg(long)]
    write: bool,
}

struct Benchmark {
    name: &'static str,
    what: &'static str,
    run: fn(&Effort) -> Result<Findings>,
}

const ALL: &[Benchmark] = &[
    Benchmark { name: "path", what: "a packet in the kernel programs, over an empty one", run: path::run },
    Benchmark { name: "bulk", what: "one and eight TCP streams, veth and loopback", run: bulk::run },
    Benchmark { name: "churn", what: "short connections, plaintext and TLS", run: churn::run },
    Benchmark { name: "messages", what: "latency on 1, 100, 10,000 kept connections", run: messages::run },
    Benchmark { name: "udp", what: "datagrams of 64 bytes, 1 and 1,000 peers", run: udp::run },
    Benchmark { name: "events", what: "events through the process", run: |_| inside::run("events") },
    Benchmark { name: "memory", what: "memory of a million flows", run: |_| inside::run("memory") },
    Benchmark { name: "queries", what: "queries over a million flows", run: |_| inside::run("queries") },
    Benchmark { name: "output", what: "records to pipes", run: |_| inside::run("output") },
    Benchmark { name: "idle", what: "processor and memory without traffic", run: idle::run },
    Benchmark { name: "alert", what: "first plaintext byte to the alert line", run: alert::run },
    Benchmark { name: "upgrade", what: "upgrades under churn: what is lost", run: upgrade::run },
    Benchmark { name: "growth", what: "how cost grows", run: growth::run },
    Benchmark { name: "peers", what: "side by side with other tools", run: peers::run },
];

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    tests::undo_on_signals()?;
    if arguments.list {
        for benchmark in ALL {
            println!("{:<9} {}", benchmark.name, benchmark.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = arguments.names.iter().find(|name| ALL.iter().all(|one| one.name != **name)) {
        bail!("there is no benchmark '{unknown}'; --list names them");
    }
    let chosen = ALL
        .iter()
        .filter(|one| arguments.names.is_empty() || arguments.names.iter().any(|name| name == one.name));
    let clock = clock::cost()?;
    println!("statistics cost {clock:.1} ns a run of a program; taken off");
    let effort =
        Effort { pairs: arguments.pairs.max(2), time: Duration::from_secs(arguments.seconds), clock };
    let (mut rows, mut tables) = (Vec::new(), Vec::new());
    let mut failed = false;
    for benchmark in chosen {
        let begun = Instant::now();
        println!("\n{}: {}", benchmark.name, benchmark.what);
        let about = machine::about(&effort);
        match (benchmark.run)(&effort) {
            Ok(findings) => {
                for row in &findings.rows {
                    println!("{}", markdown(row));
                }
                findings.write(&directory(), &about)?;
                tables.push((benchmark.name, table(&findings.rows, &about)));
                rows.extend(findings.rows);
            }
            Err(error) => {
                // A signal took its ground away: the thread that waits for it is still undoing.
                tests::wait_if_ending();
                failed = true;
                println!("{}: FAILED: {error:#}", benchmark.name);
            }
        }
        println!("{}: {:.0} s", benchmark.name, begun.elapsed().as_secs_f64());
    }
    conclude(&rows);
    let report: Vec<String> = tables.iter().map(|(name, table)| format!("## {name}\n\n{table}\n")).collect();
    fs::write(directory().join("report.md"), report.concat())?;
    if arguments.write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKS.md");
        let mut text = fs::read_to_string(&path)?;
        for (name, table) in &tables {
            text = replace(&text, name, table)?;
        }
        fs::write(path, text)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A figure that is missed is a finding, not a failure of the benchmark.
fn conclude(rows: &[Row]) {
    println!("\n| benchmark | figure | value | must | | how |\n|---|---|---|---|---|---|");
    for row in rows {
        println!("{}", markdown(row));
    }
    let count = |state| rows.iter().filter(|row| row.state == state).count();
    println!(
        "\n{} met, {} missed, {} unclear, {} stated, {} skipped; tables in target/bench/report.md, raw figures beside it",
        count(State::Met),
        count(State::Missed),
        count(State::Unclear),
        count(State::Stated),
        count(State::Skipped)
    );
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench")
}
