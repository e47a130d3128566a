//! `cargo xtask fuzz [TARGET]`: any bytes into each parser, for a minute each, or as long as one wants.
//!
//! The targets are in `fuzz/`, seeds are made of the fixtures, and what libFuzzer learns stays in
//! `target/fuzz/corpus`. Without the address sanitizer: nothing that is fuzzed holds unsafe code, and
//! what is looked for is a panic, a promise that does not hold, or a loop. Several at a time, as many as there
//! are processors; each writes into a file of its own below `target/fuzz/logs`. What is counted is not the time
//! in which a target was kept waiting for a processor: beside other work it goes on until it has had as much as alone.

mod inside;
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::setup::{self, Policy, Scope};
use crate::step::{self, Shown, failure};
use crate::timing;
use crate::tools;
use crate::workspace;

/// In the order of what hostile bytes reach first.
const TARGETS: [&str; 20] = [
    "stream",
    "datagrams",
    "tls",
    "dtls",
    "quic",
    "ssh",
    "certificates",
    "proxy",
    "activity",
    "names",
    "ring",
    "link",
    "identity",
    "request",
    "query",
    "audit",
    "state",
    "keys",
    "policy",
    "config",
];

/// What one input may take.
const SECONDS_AN_INPUT: u32 = 10;
const MEBIBYTES: u32 = 2048;
const LONGEST_INPUT: u32 = 40_000;

/// Seconds for each target as a part of `cargo xtask test`, where the environment does not say.
const BRIEFLY: u32 = 60;

/// What libFuzzer's chance begins with as a part of `cargo xtask test`. It is not the same run on each machine for all
/// that: the order in which a directory gives seeds of one size counts, too, and how much is tried in the time. New
/// ground is for `cargo xtask fuzz`, which begins elsewhere each time.
const SEED: u32 = 1;

/// Lines of a target that found something, which name what and where the input is.
const SHOWN: usize = 40;

/// Lines that say what did not hold: where, and what was expected.
const PANIC: usize = 5;

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
    setup::ensure(policy, Scope::Fuzz)?;
    run_all(&TARGETS, seconds, Some(SEED), Shown::IfItFails)
}

/// Runs the targets that are named, or all, each for so many seconds.
///
/// # Errors
/// A target is unknown, does not build, or found something; the lines of libFuzzer name the input.
pub fn fuzz(policy: Policy, targets: &[String], seconds: u32, seed: Option<u32>) -> Result<()> {
    if let Some(unknown) = targets.iter().find(|target| !TARGETS.contains(&target.as_str())) {
        return Err(failure(format!("no fuzz target {unknown:?}"), format!("one of {}", TARGETS.join(", "))));
    }
    setup::ensure(policy, Scope::Fuzz)?;
    let wanted = |target: &&str| targets.is_empty() || targets.iter().any(|named| named == target);
    let wanted: Vec<&str> = TARGETS.into_iter().filter(wanted).collect();
    run_all(&wanted, seconds, seed, Shown::AtOnce)
}

fn run_all(wanted: &[&str], seconds: u32, seed: Option<u32>, shown: Shown) -> Result<()> {
    println!("xtask: building the fuzz targets");
    step::run_shown(
        shown,
        &mut cargo_fuzz("build"),
        "building the fuzz targets",
        "read the first error above",
    )?;
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || {
        while let Some(target) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = run(target, seconds, seed) {
                println!("xtask: {error:#}");
                found.lock().unwrap_or_else(PoisonError::into_inner).push(*target);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if found.is_empty() {
        return Ok(());
    }
    Err(failure(
        format!("fuzzing found something in {}", found.join(", ")),
        "run target/fuzz/build/*/release/TARGET INPUT with the input that is named above",
    ))
}

fn run(target: &str, seconds: u32, seed: Option<u32>) -> Result<()> {
    println!("xtask: fuzzing {target}");
    let directory = |name: &str| {
        let directory = workspace::target().join("fuzz").join(name);
        fs::create_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
        Ok::<_, anyhow::Error>(directory)
    };
    let corpus = directory(&format!("corpus/{target}"))?;
    seeds::write(target, &corpus)?;
    let artifacts = directory(&format!("artifacts/{target}"))?;
    let log = directory("logs")?.join(target);
    let file = fs::File::create(&log).with_context(|| format!("{}", log.display()))?;
    let mut command = Command::new(program(target)?);
    command.arg(&corpus).arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args([
        format!("-timeout={SECONDS_AN_INPUT}"),
        format!("-rss_limit_mb={MEBIBYTES}"),
        format!("-max_len={LONGEST_INPUT}"),
        "-print_final_stats=1".to_owned(),
        "-verbosity=0".to_owned(),
    ]);
    command.args(seed.map(|seed| format!("-seed={seed}")));
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("{target} did not start"))?;
    let (had, waited) = until_it_had(&mut child, Duration::from_secs(seconds.into()))
        .with_context(|| format!("{target} could not be waited for"))?;
    let status = child.wait().with_context(|| format!("{target} could not be waited for"))?;
    let said =
        String::from_utf8_lossy(&fs::read(&log).with_context(|| format!("{}", log.display()))?).into_owned();
    if !status.success() {
        let lines: Vec<&str> = said.lines().collect();
        // What did not hold stands before the frames that led there, which may be many.
        let panic = lines.iter().position(|line| line.contains("panicked at")).unwrap_or(lines.len());
        let tail = lines.len().saturating_sub(SHOWN);
        let what = &lines[panic.min(tail)..(panic + PANIC).min(tail)];
        let shown = [what, &lines[tail..]].concat().join("\n");
        anyhow::bail!("fuzzing {target} FAILED ({status}):\n{shown}");
    }
    let inputs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!(
        "xtask: fuzzed {target}: {} inputs in {:.0} s (and {:.0} s kept waiting)",
        inputs.map_or("?", str::trim),
        had.as_secs_f64(),
        waited.as_secs_f64()
    );
    Ok(())
}

/// Waits until it has ended or has had its time, and asks it to end then. What it has had, and how long it was kept
/// waiting besides.
fn until_it_had(child: &mut Child, time: Duration) -> std::io::Result<(Duration, Duration)> {
    let began = Instant::now();
    let (mut had, mut waited) = (Duration::ZERO, Duration::ZERO);
    while child.try_wait()?.is_none() {
        waited = waited.max(timing::kept_waiting(child.id()));
        had = began.elapsed().saturating_sub(waited);
        if had >= time {
            // libFuzzer ends as after a time of its own.
            kill_process(Pid::from_child(child), Signal::USR1)?;
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok((had, waited))
}

/// Below the directory that is named after the compiler's target.
fn program(target: &str) -> Result<PathBuf> {
    let build = workspace::target().join("fuzz/build");
    let entries = fs::read_dir(&build).with_context(|| format!("{}", build.display()))?;
    let mut programs = entries.flatten().map(|entry| entry.path().join("release").join(target));
    programs.find(|program| is_built(program, &build)).with_context(|| format!("{target} was not built"))
}

/// `cargo fuzz` builds for a target that it names; what was built for another use stands elsewhere.
fn is_built(program: &Path, build: &Path) -> bool {
    program.is_file() && program.parent().and_then(Path::parent) != Some(build)
}

/// `cargo fuzz`, with what it needs of a stable compiler.
fn cargo_fuzz(verb: &str) -> Command {
    let mut command = Command::new(workspace::root().join(tools::DIRECTORY).join("bin/cargo-fuzz"));
    command.current_dir(workspace::root().join("fuzz")).env("RUSTC_BOOTSTRAP", "1");
    command.env_remove("CARGO_TARGET_DIR");
    command.args([verb, "--sanitizer", "none", "--target-dir"]).arg(workspace::target().join("fuzz/build"));
    command
}
