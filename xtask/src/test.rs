//! `cargo xtask test`: every check and every test, the fast ones first, and one line at the end
//! that adds them up: `N passed, N failed, N skipped`. A check (format, lints, builds) counts as one.
//!
//! What takes long and hangs on nothing runs beside the rest, at a low priority: building the servers that are no
//! packages, and fuzzing, which takes what processor time the others leave. The end-to-end tests mostly wait (for
//! servers, windows, clocks): several files of them run side by side.

use std::io::Write;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::binaries::{self, Binary, Ran};
use crate::report::Report;
use crate::setup::{self, Later, Policy, Scope};
use crate::step::{self, Shown};
use crate::tally::Tally;
use crate::{build, deny, fuzz, kernel_object, kernels, miri, python, workspace};

/// Of all test binaries those that take longest, so that none is left to the end.
const LONGEST: [&str; 14] = [
    "monitor",
    "fixtures",
    "dissect",
    "hostile", // Unit tests.
    "log_ins",
    "counting",
    "baselines",
    "protocols",
    "roles",
    "tls",
    "detectors",
    "restarts",
    "dtls",
    "audit",
];

/// Files of many tests that wait for servers: two of each at a time, or they would go on when all others have ended.
const TWO_AT_A_TIME: [&str; 2] = ["log_ins", "protocols"];

/// Of libtest, which tells how long each test took; our own suites do so unasked.
const TIMED: [&str; 3] = ["-Z", "unstable-options", "--report-time"];

/// What is installed beside the rest, which waits for it.
const LOW_PRIORITY: i32 = 10;

/// Sets up, checks and tests. A check that fails does not hide what the later ones say; only the
/// end-to-end tests need the builds before them.
///
/// # Errors
/// Set-up failed, or anything failed or did not run through.
pub fn test(policy: Policy, filters: &[String]) -> Result<()> {
    let began = Instant::now();
    let mut report = Report::default();
    let later = report.timings.time("set-up", || setup::begin(policy, Scope::Test))?;
    let (is_set_up, set_up) = mpsc::channel();
    let beside = thread::spawn({
        let everything = filters.is_empty();
        move || {
            // Of this thread and of all that it starts. Without it everything is slower, and right.
            let _ = rustix::process::nice(LOW_PRIORITY);
            let mut report = Report::default();
            install(&later, &mut report);
            // Who waits for it lives longer than this thread.
            let _ = is_set_up.send(());
            if everything {
                run_when_idle();
                report.check("licences, duplicates and sources of dependencies", deny::check);
                report.check_if_possible("advisories on dependencies", deny::advisories);
                report.check_if_possible("unsafe code under Miri", || miri::check(policy, Shown::IfItFails));
                report.check("fuzzing", || fuzz::briefly(policy));
            }
            report
        }
    });
    report.check("format", || format("Cargo.toml"));
    report.check("format of the kernel programs", || format("monitor-ebpf/Cargo.toml"));
    // Before the lints: the daemon embeds the object, so nothing of it compiles without.
    let object = report.check("kernel object", kernel_object::build);
    report.check("lints", lints);
    unit_tests(&mut report, filters);
    report.check("tests in the documentation", documentation);
    if object && report.check("release build", build::release) {
        end_to_end(&mut report, filters, &set_up);
    } else {
        println!("xtask: the end-to-end tests did not run: the build they need failed");
    }
    match beside.join() {
        Ok(found) => report.merge(found),
        Err(_) => drop(report.judge("what runs beside the rest", Err(anyhow::anyhow!("it panicked")))),
    }
    report.conclude(began)
}

/// This thread, and what it starts, runs when no other wants a processor. A nice value is not enough: who is nice is not
/// put off the processor by one who wakes up, and a server that answers late changes what a test sees.
fn run_when_idle() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    // Without it everything is slower, and right.
    let _ = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
}

/// One that fails is told; what needs it then says so itself.
fn install(later: &Later, report: &mut Report) {
    if later.python {
        report.need("set-up of Python", || python::install(Shown::IfItFails));
    }
    for tool in &later.tools {
        report.need(&format!("set-up of {}", tool.name), || tool.install(Shown::IfItFails));
    }
}

fn format(manifest: &str) -> Result<()> {
    step::run(
        &mut workspace::cargo(&["fmt", "--all", "--check", "--manifest-path", manifest]),
        "cargo fmt --check",
        "run cargo fmt --all, in the workspace and in monitor-ebpf",
    )
}

fn lints() -> Result<()> {
    step::run(
        &mut workspace::cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        "cargo clippy",
        "read the first warning above",
    )
}

fn documentation() -> Result<()> {
    step::run(
        &mut workspace::cargo(&["test", "--quiet", "--doc", "--workspace", "--exclude", "tests"]),
        "cargo test --doc",
        "read the first failure above",
    )
}

fn unit_tests(report: &mut Report, filters: &[String]) {
    // Those that need root say so by being ignored: without it they are skipped, and told.
    let ignored: &[&str] = if rustix::process::geteuid().is_root() { &["--include-ignored"] } else { &[] };
    let Some(built) = report.need("building the unit tests", || {
        binaries::build(&["--workspace", "--exclude", "tests"], &LONGEST)
    }) else {
        return;
    };
    // Each runs its tests side by side already; another one fills in where its last test goes on.
    run(report, "unit tests", &built, 2, &[&TIMED, ignored].concat(), filters);
}

fn end_to_end(report: &mut Report, filters: &[String], set_up: &mpsc::Receiver<()>) {
    let Some(built) =
        report.need("building the end-to-end tests", || binaries::build(&["--package", "tests"], &LONGEST))
    else {
        return;
    };
    // An error: whoever sets up has panicked, which is told in the end.
    let _ = report.timings.time("waiting for the set-up of servers", || set_up.recv());
    let machines = filters.is_empty().then(|| {
        thread::spawn(|| {
            let began = Instant::now();
            (kernels::oldest_and_newest(), began.elapsed())
        })
    });
    let at_a_time = thread::available_parallelism().map_or(1, usize::from) + 1;
    run(report, "end-to-end tests", &built, at_a_time, &[], filters);
    match machines.map(thread::JoinHandle::join) {
        None => {}
        Some(Ok((outcome, took))) => {
            report.timings.step("other kernels", took);
            match outcome {
                Ok(outcomes) => kernels::conclude(&outcomes, &mut report.tally),
                Err(error) => drop(report.judge("other kernels", Err(error))),
            }
        }
        Some(Err(_)) => drop(report.judge("other kernels", Err(anyhow::anyhow!("it panicked")))),
    }
}

/// Runs test binaries; shows what each said in one piece, and reads it.
fn run(
    report: &mut Report,
    name: &str,
    binaries: &[Binary],
    at_a_time: usize,
    options: &[&str],
    filters: &[String],
) {
    println!("xtask: {name}");
    let began = Instant::now();
    let filters = filters.iter().map(String::as_str);
    let arguments: Vec<&str> =
        ["--format", "pretty"].into_iter().chain(options.iter().copied()).chain(filters).collect();
    let twice = [&arguments, &["--test-threads", "2"][..]].concat();
    let of = |name: &str| if TWO_AT_A_TIME.contains(&name) { &twice[..] } else { &arguments[..] };
    binaries::run(binaries, at_a_time, of, |ran| read(report, ran));
    report.timings.step(name, began.elapsed());
}

fn read(report: &mut Report, ran: Ran) {
    // Errors of stdout are no reason to stop testing.
    let mut stdout = std::io::stdout().lock();
    let _ = write!(stdout, "xtask: tests of {}\n{}\n", ran.name, ran.said.trim_end());
    let _ = stdout.flush();
    drop(stdout);
    let mut tally = Tally::default();
    ran.said.lines().for_each(|line| tally.read(line.trim_end()));
    let failed = tally.failed > 0;
    report.tally.merge(tally);
    report.timings.file(&ran.name, ran.took);
    // It died before it could say how many failed, or did not start.
    let outcome = ran.outcome.and_then(|status| {
        if status.success() || failed {
            return Ok(());
        }
        bail!("it ended early ({status})")
    });
    if outcome.is_err() {
        report.judge(&format!("tests of {}", ran.name), outcome);
    }
}
