//! A user without privileges whose executables are as large as may be hashed, and holes: who names processes would read
//! them for seconds. Other users' processes are named all the same, and soon, and so are their hashes found, which a
//! policy names.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::others::holding_server;
use tests::servers::python;
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, is_flow, number, show, text};

const PORT: u16 = 34_950;
const LARGE: u16 = PORT + 1;
const PATIENCE: Duration = Duration::from_secs(60);
/// Less than an answer waits at most for a hash.
const SOON: Duration = Duration::from_secs(3);
const USER: &str = "daemon";
const OTHER: &str = "www-data";
const VICTIMS: usize = 10;

fn main() -> ExitCode {
    Suite::new("hashes")
        .test(
            "a user whose executables are huge delays neither others' names nor their hashes",
            &["bash", "setpriv"],
            delays_nobody,
        )
        .main()
}

/// Programs that connect one after the other, again and again, each time as one that nobody has read yet: of many
/// megabytes, and smaller ones for which there is room when there is none for those.
const HUGE: &str = r#"
import os, subprocess, sys, time
place, address, port = sys.argv[1:]
os.chdir(place)
own = os.path.getsize("/bin/bash") >> 10
sizes = [511 << 10] * 8 + [20 << 10] * 8 + [own + 8] * 20
for number, size in enumerate(sizes):
    subprocess.run(["cp", "/bin/bash", f"huge-{number}"], check=True)
    os.truncate(f"huge-{number}", size << 10)
print("ready", flush=True)
children = []
while True:
    for number in range(len(sizes)):
        os.utime(f"huge-{number}")
        connect = f"exec 3<>/dev/tcp/{address}/{port}; read -t 1 -u 3"
        children.append(subprocess.Popen([f"./huge-{number}", "-c", connect], stderr=subprocess.DEVNULL))
        children = [child for child in children if child.poll() is None]
        time.sleep(0.03)
"#;

fn huge(lab: &Lab) -> Result<Process> {
    let place = lab.directory.path().join("huge");
    std::fs::create_dir(&place)?;
    ensure!(Command::new("chown").arg(USER).arg(&place).status()?.success(), "chown");
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", HUGE]).arg(&place).args(["10.213.0.2", &LARGE.to_string()]);
    command.stdout(Stdio::piped());
    let mut huge = Process::start_piped("huge", command)?;
    let said = huge.first_line()?;
    ensure!(said == "ready", "it said {said:?}");
    Ok(huge)
}

/// A program of its own content, and its hash.
fn program(lab: &Lab, number: usize) -> Result<(std::path::PathBuf, String)> {
    let path = lab.directory.path().join(format!("victim-{number}"));
    // By other processes: a copy that is open here would be busy.
    let script = "cp /bin/bash \"$0\" && printf %s \"$1\" >> \"$0\" && chmod 755 \"$0\" && sha256sum \"$0\"";
    let made = Command::new("sh").args(["-c", script]).arg(&path).arg(number.to_string()).output()?;
    ensure!(made.status.success(), "{made:?}");
    let hash = String::from_utf8(made.stdout)?.split_whitespace().next().context("no hash")?.to_owned();
    Ok((path, hash))
}

/// Waits until its end is told with its name and as authorised.
fn wait(daemon: &Daemon, pid: u32) -> Result<()> {
    let begun = Instant::now();
    let mut last: Option<Value> = None;
    while begun.elapsed() < SOON {
        let flows = daemon.list("/v1/flows")?;
        let own = flows.into_iter().find(|flow| {
            flow["server"]["port"] == PORT && number(flow, "process.pid") == Some(u64::from(pid))
        });
        if let Some(flow) = own {
            if flow["streamwatch"]["verdict"]["authorised"]["answer"] == "yes" {
                return Ok(());
            }
            last = Some(flow);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("after {SOON:?}, {pid} is told as {last:?}")
}

fn connect(lab: &Lab, path: &Path) -> Result<Process> {
    let mut command = lab.client().as_user(OTHER).command(path);
    command.args(["-c", &format!("exec 3<>/dev/tcp/10.213.0.2/{PORT}; read -t 60 -u 3")]);
    Process::start("victim", &lab.directory, command)
}

fn delays_nobody() -> Result<()> {
    let lab = Lab::new("hashes")?;
    let programs = (0..VICTIMS).map(|number| program(&lab, number)).collect::<Result<Vec<_>>>()?;
    let hashes: Vec<String> = programs.iter().map(|(_, hash)| format!("{hash:?}")).collect();
    let policy = format!(
        "[[service]]\nname = \"small\"\nports = [{PORT}]\n[[service.client]]\nsha256 = [{}]\n\
         [[service]]\nname = \"large\"\nports = [{LARGE}]\n[[service.client]]\nsha256 = \"{}\"\n",
        hashes.join(", "),
        "0".repeat(64)
    );
    let _servers = [holding_server(&lab, PORT)?, holding_server(&lab, LARGE)?];
    let options = DaemonOptions { policy: Some(policy), ..DaemonOptions::default() };
    // One that is there before the daemon.
    let (first, others) = programs.split_first().context("no victims")?;
    let before = connect(&lab, &first.0)?;
    let daemon = Daemon::start(&lab, options)?;
    wait(&daemon, before.pid())?;
    let mut huge = huge(&lab)?;
    for (path, _) in others {
        let victim = connect(&lab, path)?;
        wait(&daemon, victim.pid())?;
        std::thread::sleep(Duration::from_millis(400));
    }
    ensure!(huge.ended()?.is_none(), "nobody ran huge programs for as long");
    drop(huge);
    // Those who ran them are named, hashed or not, and never taken for who may.
    let is_large = |record: &Value| {
        is_flow(record)
            && number(record, "server.port") == Some(LARGE.into())
            && text(record, "network.direction") == "egress"
    };
    daemon.wait_for("flow of a huge program", PATIENCE, is_flow, |record| {
        is_large(record) && text(record, "process.name").starts_with("huge-")
    })?;
    let wrong: Vec<String> = daemon
        .heard()
        .iter()
        .map(|heard| &heard.record)
        .filter(|record| is_large(record))
        .filter(|record| record["streamwatch"]["verdict"]["authorised"]["answer"] == "yes")
        .map(show)
        .collect();
    ensure!(wrong.is_empty(), "taken for who may:\n  {}", wrong.join("\n  "));
    Ok(())
}
