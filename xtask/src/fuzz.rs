//! `cargo xtask fuzz [TARGET]`: any bytes into each parser, for a minute each, or as long as one wants.
//!
//! The targets are in `fuzz/`, seeds are made of the fixtures, and what libFuzzer learns stays in
//! `target/fuzz/corpus`. Without the address sanitizer: nothing that is fuzzed holds unsafe code, and
//! what is looked for is a panic, a promise that does not hold, or a loop.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{self, Policy, Scope};
use crate::step::{self, failure};
use crate::tools;
use crate::workspace;

/// In the order of what hostile bytes reach first.
const TARGETS: [&str; 6] = ["stream", "datagrams", "activity", "ring", "query", "policy"];

/// What one input may take.
const SECONDS_AN_INPUT: u32 = 10;
const MEBIBYTES: u32 = 2048;
const LONGEST_INPUT: u32 = 40_000;

/// Seconds for each target as a part of `cargo xtask test`, where the environment does not say.
const BRIEFLY: u32 = 15;

/// All targets for a short while: `STREAMWATCH_FUZZ_SECONDS` each.
///
/// # Errors
/// See [`fuzz`]; or the variable holds no number.
pub fn briefly(policy: Policy) -> Result<()> {
    let seconds = match std::env::var("STREAMWATCH_FUZZ_SECONDS") {
        Ok(text) => text.parse().map_err(|_| {
            failure(format!("STREAMWATCH_FUZZ_SECONDS is {text:?}"), "a number of seconds for each target")
        })?,
        Err(_) => BRIEFLY,
    };
    fuzz(policy, &[], seconds)
}

/// Runs the targets that are named, or all, each for so many seconds.
///
/// # Errors
/// A target is unknown, does not build, or found something; the last lines of libFuzzer name the input.
pub fn fuzz(policy: Policy, targets: &[String], seconds: u32) -> Result<()> {
    if let Some(unknown) = targets.iter().find(|target| !TARGETS.contains(&target.as_str())) {
        return Err(failure(format!("no fuzz target {unknown:?}"), format!("one of {}", TARGETS.join(", "))));
    }
    setup::ensure(policy, Scope::Fuzz)?;
    for target in TARGETS {
        if targets.is_empty() || targets.iter().any(|wanted| wanted == target) {
            run(target, seconds)?;
        }
    }
    Ok(())
}

fn run(target: &str, seconds: u32) -> Result<()> {
    println!("xtask: fuzzing {target} for {seconds} s");
    let corpus = workspace::target().join("fuzz/corpus").join(target);
    seed(target, &corpus)?;
    let artifacts = workspace::target().join("fuzz/artifacts").join(target);
    fs::create_dir_all(&artifacts).with_context(|| format!("{}", artifacts.display()))?;
    let mut command = cargo_fuzz("run");
    command.arg(target).arg(&corpus).arg("--");
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-timeout={SECONDS_AN_INPUT}"),
        format!("-rss_limit_mb={MEBIBYTES}"),
        format!("-max_len={LONGEST_INPUT}"),
        "-print_final_stats=1".to_owned(),
        "-verbosity=0".to_owned(),
    ]);
    step::run(
        &mut command,
        &format!("fuzzing {target}"),
        &format!(
            "run `target/fuzz/build/*/release/{target} INPUT` with the input that is named above, below {}",
            artifacts.display()
        ),
    )
}

/// `cargo fuzz`, with what it needs of a stable compiler.
fn cargo_fuzz(verb: &str) -> Command {
    let mut command = Command::new(workspace::root().join(tools::DIRECTORY).join("bin/cargo-fuzz"));
    command.current_dir(workspace::root().join("fuzz")).env("RUSTC_BOOTSTRAP", "1");
    command.env_remove("CARGO_TARGET_DIR");
    command.args([verb, "--sanitizer", "none", "--target-dir"]).arg(workspace::target().join("fuzz/build"));
    command
}

/// Inputs to begin with: what is made of the fixtures, and what once made a target fail.
fn seed(target: &str, corpus: &Path) -> Result<()> {
    fs::create_dir_all(corpus).with_context(|| format!("{}", corpus.display()))?;
    let fixtures = workspace::root().join("dissect/fixtures");
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    match target {
        "stream" => {
            for folder in ["", "plain", "ssh"] {
                for (name, client, server) in pairs(&fixtures.join(folder), "")? {
                    let turns = [cut(&client, true), cut(&server, false)].concat();
                    seeds.push((format!("{folder}{name}"), [&[0][..], &turns].concat()));
                }
            }
        }
        "datagrams" => {
            for (name, client, server) in pairs(&fixtures, ".datagrams")? {
                // Each is led by its length already; the highest bit says whose it is.
                seeds.push((name, [client, marked(server)].concat()));
            }
        }
        "activity" => seeds.extend(exchanges(&fixtures.join("activity"))?),
        "ring" => seeds
            .extend([1u8, 2, 3, 4].map(|kind| (format!("kind-{kind}"), [&[kind][..], &[0; 300]].concat()))),
        "query" => seeds
            .extend(QUERIES.iter().enumerate().map(|(at, text)| (at.to_string(), text.as_bytes().into()))),
        _ => seeds.push(("example".to_owned(), read(&workspace::root().join("deploy/policy.example.toml"))?)),
    }
    let regressions = workspace::root().join("fuzz/regressions").join(target);
    if regressions.is_dir() {
        for entry in fs::read_dir(&regressions).with_context(|| format!("{}", regressions.display()))? {
            let path = entry.with_context(|| format!("{}", regressions.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            seeds.push((name, read(&path)?));
        }
    }
    for (name, bytes) in seeds {
        let path = corpus.join(format!("seed-{name}"));
        fs::write(&path, bytes).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

const QUERIES: [&str; 3] = [
    "client.process == \"curl\" && encrypted == no\nbytes:desc",
    "bytes > 10MB || (server.port == 5432 && !(client.ip == 10.0.0.0/8))\nserver.port",
    "rule == plaintext && severity >= high",
];

/// Name, client's bytes, server's bytes.
type Fixture = (String, Vec<u8>, Vec<u8>);

/// The two sides of each fixture of a folder.
fn pairs(folder: &Path, suffix: &str) -> Result<Vec<Fixture>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(name) = file.strip_suffix(&format!(".client{suffix}")) else { continue };
        let server = folder.join(format!("{name}.server{suffix}"));
        found.push((name.to_owned(), read(&path)?, read(&server)?));
    }
    Ok(found)
}

/// Recorded exchanges, led by the number of their protocol in `fuzz_targets/activity.rs`.
fn exchanges(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    const PROTOCOLS: [&str; 14] = [
        "http",
        "postgresql",
        "mysql",
        "redis",
        "mongodb",
        "kafka",
        "amqp",
        "mqtt",
        "nats",
        "smtp",
        "imap",
        "pop3",
        "ftp",
        "ldap",
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?.flatten() {
        let path = entry.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(name) = name.strip_suffix(".exchange") else { continue };
        let number = PROTOCOLS.iter().position(|protocol| name.starts_with(protocol)).unwrap_or(14);
        let bytes = read(&path)?;
        let (mut rest, mut input) = (&bytes[..], vec![number as u8]);
        // Each piece is led by who sent it, in a byte, and its length in four.
        while let [from, a, b, c, d, after @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let (piece, next) = after.split_at(length.min(after.len()));
            input.extend(cut(piece, *from == b'c'));
            rest = next;
        }
        found.push((name.to_owned(), input));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}", path.display()))
}

/// In pieces as the targets take them: led by a length, whose highest bit is the server's.
fn cut(bytes: &[u8], from_client: bool) -> Vec<u8> {
    let mut pieces = Vec::new();
    for piece in bytes.chunks(1448) {
        let [high, low] = (piece.len() as u16).to_be_bytes();
        pieces.extend([if from_client { high } else { high | 0x80 }, low]);
        pieces.extend(piece);
    }
    pieces
}

fn marked(mut datagrams: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some([high, low]) = datagrams.get(at..at + 2).map(|head| [head[0], head[1]]) {
        datagrams[at] |= 0x80;
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    datagrams
}
