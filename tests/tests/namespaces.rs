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
    let lines = doctor(&through)?;
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

    let lines = doctor(through)?;
    let found = lines.iter().find(|line| line["name"] == check).context("no such check")?;
    ensure!(found["outcome"] == "missing" && says(&found["detail"].to_string()), "{found}");
    Ok(())
}

/// What `doctor` says where it cannot run.
fn doctor(through: &[&str]) -> Result<Vec<Value>> {
    let mut doctor = Command::new(through[0]);
    doctor.args(&through[1..]).arg(binary()).args(["doctor", "--json"]);
    let doctor = finish(doctor, PATIENCE)?;
    ensure!(doctor.status.code() == Some(4), "doctor: {doctor:?}");
    Ok(doctor.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}
