//! Where it is not in the host's namespaces it would name the wrong processes, or nothing would load: it does not start,
//! and says what is wrong and what to do; so does `doctor`.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Daemon, DaemonOptions, Lab, Suite, binary, finish};

const PATIENCE: Duration = Duration::from_secs(20);

/// `/proc` as a PID namespace has it that this process is not in.
const OTHER_PROC: &str = r#"unshare --pid --fork mount -t proc proc /proc && exec "$@""#;

fn main() -> ExitCode {
    Suite::new("namespaces")
        .test("in a PID namespace it does not start", &["unshare"], processes)
        .test("with the /proc of another PID namespace it does not start", &["unshare"], other_proc)
        .test("in a user namespace it does not start", &["unshare"], users)
        .test("in a cgroup namespace it does not start", &["unshare"], cgroups)
        .test("in a time namespace it does not start", &["unshare"], clocks)
        .test("where the files of the host are kept from it, doctor says so", &["unshare"], files)
        .main()
}

fn processes() -> Result<()> {
    // Whichever /proc it has.
    for more in [&["--mount-proc"][..], &[]] {
        let mut through = vec!["unshare", "--pid", "--fork", "--kill-child"];
        through.extend(more);
        refused(&through, "processes", &["PID namespace", "--pid=host", "hostPID: true"])?;
    }
    Ok(())
}

fn other_proc() -> Result<()> {
    let through = ["unshare", "--mount", "sh", "-c", OTHER_PROC, "sh"];
    refused(&through, "processes", &["/proc does not show this process", "mount -t proc"])
}

fn users() -> Result<()> {
    let through = ["unshare", "--user", "--map-root-user"];
    refused(&through, "users", &["user namespace", "--userns=host"])?;
    // It has all of them, of that namespace.
    let lines = doctor(&through, 4)?;
    for (check, outcome) in [("capabilities", "missing"), ("sight", "limited"), ("worker", "limited")] {
        let found = lines.iter().find(|line| line["name"] == check).context("no such check")?;
        ensure!(found["outcome"] == outcome, "{found}");
    }
    Ok(())
}

fn cgroups() -> Result<()> {
    refused(&["unshare", "--cgroup"], "cgroups", &["cgroup namespace", "--cgroupns=host"])
}

fn clocks() -> Result<()> {
    let through = ["unshare", "--time", "--boottime", "1000", "--fork", "--kill-child"];
    refused(&through, "clocks", &["time namespace", "nsenter --time"])
}

/// It runs there all the same.
fn files() -> Result<()> {
    let hidden = r#"mount -t tmpfs none /proc/1 && exec "$@""#;
    // In a container they may be kept from these tests, too.
    let as_it_is = if std::fs::File::open("/proc/1/root").is_ok() { "ok" } else { "limited" };
    for (script, outcome) in [(r#"exec "$@""#, as_it_is), (hidden, "limited")] {
        let lines = doctor(&["unshare", "--mount", "sh", "-c", script, "sh"], 0)?;
        let found = lines.iter().find(|line| line["name"] == "sight").context("no such check")?;
        let is_said = found["detail"].to_string().contains("/proc/1/root can't be opened");
        ensure!(found["outcome"] == outcome && is_said == (outcome == "limited"), "{found}");
    }
    Ok(())
}

/// Neither starts nor calls the host fit, for one reason, which says so much.
fn refused(through: &[&str], check: &str, said: &[&str]) -> Result<()> {
    let says = |text: &str| said.iter().all(|words| text.contains(words));
    let lab = Lab::new("namespaces")?;
    let options = DaemonOptions {
        through: through.iter().map(|word| (*word).to_owned()).collect(),
        ..DaemonOptions::default()
    };
    let run = Daemon::refused(&lab, options)?;
    ensure!(run.status.code() == Some(4), "{}: {}", run.status, run.stderr);
    let line = run.stderr.trim();
    ensure!(line.lines().count() == 1 && says(line) && line.contains(check), "not one clear line: {line}");

    let lines = doctor(through, 4)?;
    let found = lines.iter().find(|line| line["name"] == check).context("no such check")?;
    ensure!(found["outcome"] == "missing" && says(&found["detail"].to_string()), "{found}");
    Ok(())
}

/// What `doctor` says, and ends with.
fn doctor(through: &[&str], code: i32) -> Result<Vec<Value>> {
    let mut doctor = Command::new(through[0]);
    doctor.args(&through[1..]).arg(binary()).args(["doctor", "--json"]);
    let doctor = finish(doctor, PATIENCE)?;
    ensure!(doctor.status.code() == Some(code), "doctor: {doctor:?}");
    Ok(doctor.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}
