//! Who may ask the daemon what: every user, every call, over the real socket; and that nobody takes the
//! place of others.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::servers::python;
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, finish};

/// Users and groups that nobody else has.
const VIEWERS: u32 = 54_001;
const OPERATORS: u32 = 54_002;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the daemon says to who asks, as far as roles go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    Yes,
    /// 403.
    No,
}
use May::{No, Yes};

/// Every call: viewer, operator. Root may what operators may, strangers nothing.
const CALLS: [(&str, May, May); 14] = [
    ("GET /metrics", Yes, Yes),
    ("GET /v1/alerts", Yes, Yes),
    ("GET /v1/flows", Yes, Yes),
    ("GET /v1/histograms", Yes, Yes),
    ("GET /v1/inventory", Yes, Yes),
    ("GET /v1/openapi.json", Yes, Yes),
    ("GET /v1/policy", Yes, Yes),
    ("GET /v1/silences", Yes, Yes),
    ("GET /v1/status", Yes, Yes),
    ("GET /v1/streams", Yes, Yes),
    ("POST /v1/alerts/ack", No, Yes),
    ("POST /v1/histograms/reset", No, Yes),
    ("POST /v1/silences", No, Yes),
    ("POST /v1/silences/end", No, Yes),
];

fn main() -> ExitCode {
    Suite::new("access")
        .test("every user, every call", &["setpriv", "curl"], every_call)
        .test("one user does not take the place of others", &["setpriv", "curl"], places)
        .test("who asks from a PID namespace is served", &["unshare", "setpriv", "curl"], from_within)
        .main()
}

/// Somebody on this host.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
    group: Option<u32>,
}

impl User {
    fn command(self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &self.uid.to_string(), "--regid", &self.gid.to_string()]);
        match self.group {
            Some(group) => command.args(["--groups", &group.to_string()]),
            None => command.arg("--clear-groups"),
        };
        command.arg("--").arg(program.as_ref());
        command
    }

    /// The status of the answer; `None`: the socket could not be opened.
    fn ask(self, socket: &Path, method: &str, path: &str) -> Result<Option<u16>> {
        self.ask_through(Command::new("env"), socket, method, path)
    }

    /// The same, through a program that starts others.
    fn ask_through(self, mut curl: Command, socket: &Path, method: &str, path: &str) -> Result<Option<u16>> {
        let ask = self.command("curl");
        curl.arg(ask.get_program()).args(ask.get_args());
        curl.args(["-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", "-X", method]);
        curl.arg("--unix-socket").arg(socket).arg(format!("http://localhost{path}"));
        let said = finish(curl, PATIENCE)?;
        let status = said.stdout.trim().parse().with_context(|| format!("{said:?}"))?;
        // curl(1): 000 and exit status 7 where it could not connect.
        match (status, said.status.code()) {
            (0, Some(7)) => Ok(None),
            (0, _) => bail!("no answer: {said:?}"),
            (status, _) => Ok(Some(status)),
        }
    }
}

const ROOT: User = User { uid: 0, gid: 0, group: None };
const VIEWER: User = User { uid: 54_011, gid: 54_011, group: Some(VIEWERS) };
const OPERATOR: User = User { uid: 54_012, gid: 54_012, group: Some(OPERATORS) };
/// With the group as its own one.
const FIRST_VIEWER: User = User { uid: 54_013, gid: VIEWERS, group: None };
const FIRST_OPERATOR: User = User { uid: 54_014, gid: OPERATORS, group: None };
const STRANGER: User = User { uid: 54_015, gid: 54_015, group: Some(54_015) };

fn daemon(lab: &Lab, more: &str) -> Result<(Daemon, PathBuf)> {
    // A directory that the daemon makes, as in /run: strangers may not even enter.
    let socket = lab.directory.path().join("streamwatch").join("api.sock");
    let config = format!("[api]\nviewers = \"{VIEWERS}\"\noperators = \"{OPERATORS}\"\n{more}");
    let options = DaemonOptions { config: Some(config), socket: Some(socket.clone()), ..Default::default() };
    Ok((Daemon::start(lab, options)?, socket))
}

fn open_to_all(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context("permissions")
}

/// What a call needs, so that it is understood: what is asked for need not be there.
fn with_query(call: &str) -> &'static str {
    match call {
        "POST /v1/alerts/ack" => "?key=none&for=2h&why=test",
        "POST /v1/silences" => "?filter=rule%3D%3Dplaintext&for=1s&why=test",
        "POST /v1/silences/end" => "?id=4294967295",
        _ => "",
    }
}

fn every_call() -> Result<()> {
    let lab = Lab::new("access")?;
    let (daemon, socket) = daemon(&lab, "")?;
    let table: BTreeMap<&str, (May, May)> = CALLS.iter().map(|(call, v, o)| (*call, (*v, *o))).collect();
    let document = daemon.get("/v1/openapi.json")?;
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().context("no paths")? {
        for method in methods.as_object().context("no methods")?.keys() {
            calls.push((method.to_uppercase(), path.clone()));
        }
    }
    ensure!(calls.len() == table.len(), "calls without a row, or rows without a call: {calls:?}");
    for open in [false, true] {
        if open {
            // As if somebody had got the modes wrong: the daemon looks for itself.
            open_to_all(&socket, 0o666)?;
            open_to_all(socket.parent().context("no directory")?, 0o755)?;
        }
        for (method, path) in &calls {
            let call = format!("{method} {path}");
            let (viewer, operator) = *table.get(call.as_str()).with_context(|| format!("no row: {call}"))?;
            let users = [
                ("root", ROOT, operator),
                ("an operator", OPERATOR, operator),
                ("an operator by his first group", FIRST_OPERATOR, operator),
                ("a viewer", VIEWER, viewer),
                ("a viewer by his first group", FIRST_VIEWER, viewer),
                ("a stranger", STRANGER, No),
            ];
            for (who, user, may) in users {
                let status = user.ask(&socket, method, &format!("{path}{}", with_query(&call)))?;
                let right = match (may, status) {
                    // 400: understood, and what it is about is not there.
                    (Yes, Some(200 | 400)) => true,
                    (No, Some(403)) => true,
                    (No, None) => user.uid == STRANGER.uid && !open,
                    _ => false,
                };
                ensure!(right, "{call} as {who} ({open}): {status:?}, and it is {may:?}");
            }
        }
    }
    Ok(())
}

/// A container's own tools: who it is the kernel says there as everywhere, whatever number it has inside.
fn from_within() -> Result<()> {
    let lab = Lab::new("access")?;
    let (_daemon, socket) = daemon(&lab, "")?;
    open_to_all(&socket, 0o666)?;
    open_to_all(socket.parent().context("no directory")?, 0o755)?;
    for (user, expected) in [(ROOT, 200), (VIEWER, 200), (STRANGER, 403), (OPERATOR, 200)] {
        let mut within = Command::new("unshare");
        within.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        let status = user.ask_through(within, &socket, "GET", "/v1/status")?;
        ensure!(status == Some(expected), "{user:?}: {status:?}, not {expected}");
    }
    Ok(())
}

/// Opens connections and says how many of them were not answered (with "too many") at once; then waits.
const HOLD: &str = r#"
import socket, sys
held, refused = [], 0
for _ in range(int(sys.argv[2])):
    it = socket.socket(socket.AF_UNIX)
    it.settimeout(5)
    it.connect(sys.argv[1])
    # Those that are served wait for the rest of this; the others are told.
    it.sendall(b"GET /v1/status HTTP/1.1\r\n")
    held.append(it)
for it in held:
    it.settimeout(0.3)
    try:
        refused += b"503" in it.recv(64)
    except OSError:
        pass
print(refused, flush=True)
sys.stdin.read()
"#;

fn places() -> Result<()> {
    let lab = Lab::new("access")?;
    let (_daemon, socket) = daemon(&lab, "connections = 16\n")?;
    let mut hold = VIEWER.command(python());
    hold.args(["-c", HOLD]).arg(&socket).arg("12").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = Process::start_piped("holder", hold)?;
    let others = |when: &str| -> Result<()> {
        for user in [FIRST_VIEWER, OPERATOR, ROOT] {
            let status = user.ask(&socket, "GET", "/v1/status")?;
            ensure!(status == Some(200), "{user:?} {when}: {status:?}");
        }
        Ok(())
    };
    let stdout = holder.child().stdout.take().context("no stdout")?;
    let mut said = String::new();
    BufReader::new(stdout).read_line(&mut said)?;
    let refused: usize = said.trim().parse().with_context(|| said.clone())?;
    // A quarter of sixteen is served; the rest is told, as long as not too many are being told already.
    ensure!(refused == 8, "{refused} of 12 connections were refused");
    others("while one user holds all that he gets")
}
