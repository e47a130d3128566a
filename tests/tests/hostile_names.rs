//! A process whose name, arguments, cgroup and bytes are made to be interpreted: in every format a line is a
//! line, and nothing of it acts on a terminal; so it is with what the command line shows.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::servers::python;
use tests::{Lab, Place, Process, Suite, api, binary, finish};

const PORT: u16 = 34_670;
const PATIENCE: Duration = Duration::from_secs(30);

/// Clears the screen, sets a title, turns the writing direction, ends the line; and what is no UTF-8.
const EVIL: &[u8] = b"\x1b[2J\x1b]0;owned\x07\r\n\xe2\x80\xae\xc2\x9b31m\xff\xfe\"}{";

const CLIENT: &str = r#"
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, b"\x1b[2J\nevil\xc2\x9b\xff\xe3\x85\xa4", 0, 0, 0)
with socket.create_connection(("10.213.0.2", int(sys.argv[1]))) as it:
    it.sendall(b"GET /\x1b[2J HTTP/1.1\r\nHost: \x1b]0;x\x07\xc2\x9bevil\xff\r\nUser-Agent: \x1b[31m\r\n\r\n")
    while it.recv(4096):
        pass
"#;

fn main() -> ExitCode {
    Suite::new("hostile_names")
        .test("ECS: one JSON line each, and nothing acts", &[], || format("ecs", true))
        .test("OCSF: one JSON line each, and nothing acts", &[], || format("ocsf", true))
        .test("Zeek: one JSON line each, and nothing acts", &[], || format("zeek", true))
        .test("text, and the tables of the command line: nothing acts", &[], || format("text", false))
        .main()
}

/// What a terminal acts on: C0 and C1 controls, DEL, and what turns the direction of writing; and what it does not show.
fn acts(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{3164}')
}

fn inert(what: &str, bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).with_context(|| format!("{what}: no UTF-8"))?;
    if let Some(at) = text.find(acts) {
        let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
        bail!("{what}: {:?} acts in {:?}", text[at..].chars().next(), text[from..].lines().next());
    }
    Ok(text.to_owned())
}

/// The daemon with this output, in files.
fn daemon(lab: &Lab, format: &str) -> Result<(Process, PathBuf, PathBuf)> {
    let socket = lab.directory.path().join("api.sock");
    let written = lab.directory.path().join("written");
    let mut command = Place::default().command(binary());
    command.args(["run", "--output", format, "--cgroup"]).arg(lab.cgroup.path()).arg("--socket").arg(&socket);
    let said = fs::File::create(lab.directory.path().join("daemon.said"))?;
    command.stdin(Stdio::null()).stdout(fs::File::create(&written)?).stderr(said);
    let mut daemon = Process::start_piped("streamwatch", command)?;
    let deadline = Instant::now() + PATIENCE;
    while api::get(&socket, "/v1/status").is_err() {
        let said = fs::read_to_string(lab.directory.path().join("daemon.said"))?;
        ensure!(daemon.ended()?.is_none() && Instant::now() < deadline, "the daemon does not answer: {said}");
    }
    Ok((daemon, socket, written))
}

fn format(name: &str, json: bool) -> Result<()> {
    let lab = Lab::new("hostile")?;
    let (mut daemon, socket, written) = daemon(&lab, name)?;
    let mut serve = lab.server().command(python());
    serve.args(["-m", "http.server", "--directory"]).arg(lab.directory.path()).arg(PORT.to_string());
    let mut server = Process::start("web", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, PATIENCE)?;

    // The kernel takes everything but a newline and a slash.
    let cgroup = lab.cgroup.path().join(OsStr::from_bytes(b"evil\x1b[31m\x07\xc2\x9b\xff.service"));
    fs::create_dir(&cgroup).with_context(|| format!("{cgroup:?}"))?;
    let place = Place { cgroup: Some(cgroup), ..lab.client() };
    let mut client = place.command(python());
    client.args(["-c", CLIENT, &PORT.to_string()]).arg(OsStr::from_bytes(EVIL));
    lab.run(client, PATIENCE)?;

    let is_ours = |record: &Value| record["server"]["port"] == PORT;
    let deadline = Instant::now() + PATIENCE;
    let listed = |path: &str| api::list(&socket, path);
    while !listed("/v1/alerts")?.iter().any(is_ours) || listed("/v1/streams")?.iter().all(|it| !is_ours(it)) {
        ensure!(Instant::now() < deadline, "the connection was not seen");
    }
    // It was seen as what it is: the evil is in there, made harmless.
    let flows = listed("/v1/flows")?;
    let flow = flows.iter().find(|record| is_ours(record)).context("no flow")?;
    ensure!(flow.to_string().contains("evil"), "{flow}");
    for arguments in [
        &["streams"][..],
        &["streams", "--wide"],
        &["flows"],
        &["flows", "--json"],
        &["alerts"],
        &["alerts", "--json"],
        &["hist"],
        &["status"],
        &["inventory"],
    ] {
        let mut command = Command::new(binary());
        command.arg("--socket").arg(&socket).args(arguments).env("NO_COLOR", "1");
        let shown = finish(command, PATIENCE)?.success()?;
        inert(&format!("{arguments:?}"), shown.stdout.as_bytes())?;
        if arguments == ["flows"] {
            ensure!(shown.stdout.contains(&PORT.to_string()), "the flow is not shown: {}", shown.stdout);
            ensure!(shown.stdout.contains("\\u{3164}"), "a filler is not shown: {}", shown.stdout);
        }
    }
    daemon.signal(rustix::process::Signal::TERM);
    ensure!(daemon.wait(PATIENCE)?.success(), "the daemon ended badly");
    let text = inert(name, &fs::read(&written)?)?;
    ensure!(text.contains(&PORT.to_string()), "nothing was written of it: {text}");
    for line in text.lines().filter(|_| json) {
        serde_json::from_str::<Value>(line).with_context(|| format!("{name}: {line:?}"))?;
    }
    inert("standard error", &read(&lab.directory.path().join("daemon.said"))?).map(drop)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
