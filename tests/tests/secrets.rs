//! Secrets that go over the wire in the clear are told of, and never told: neither in what the daemon writes,
//! nor in what it answers, nor in what it keeps, not even to one who has the key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use monitor::config::State;
use monitor::keys::Keys;
use monitor::store::{Store, files};
use serde_json::Value;
use tests::servers::{self, Security, python};
use tests::{
    Bpffs, Certificates, Daemon, DaemonOptions, Lab, Place, Process, Suite, binary, finish, is_alert, number,
    text,
};

const WEB: u16 = 34_670;
const REDIS: u16 = 34_671;
const WEBHOOK: u16 = 34_672;
/// Writes what is posted to it into a file.
const HOOK: &str = r#"
import http.server, sys
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open(sys.argv[2], "ab") as file:
            file.write(str(self.headers).encode() + self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
"#;

const CLIENT: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(30);

/// Each of a kind of its own, none of them a word that stands anywhere by chance.
const PASSWORD: &str = "Zq7x9-basic-pAssw0rd";
const BEARER: &str = "eyJhbGciOi.Zq7x9bearer.sig";
const COOKIE: &str = "Zq7x9cookieSession";
const QUERY: &str = "Zq7x9queryToken";
const FORM: &str = "Zq7x9formSecret";
const REDIS_AUTH: &str = "Zq7x9RedisAuth";

fn main() -> ExitCode {
    Suite::new("secrets")
        .test("secrets in traffic are in no record, answer, line, or file", &["redis-server"], || {
            nowhere("ecs")
        })
        .test("… nor in OCSF", &["redis-server"], || nowhere("ocsf"))
        .test("… nor in what Zeek's readers take", &["redis-server"], || nowhere("zeek"))
        .test("… nor in text for people", &["redis-server"], || nowhere("text"))
        .main()
}

fn curl(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let mut curl = lab.client().command("curl");
    curl.args(["-sS", "-m", "15", "-o", "/dev/null"]).args(arguments);
    // The server may refuse: what was sent was sent.
    finish(curl, CLIENT).map(drop)
}

/// The tables of the command line, and what else it says of a running daemon.
const TABLES: &[&[&str]] = &[
    &["flows"],
    &["flows", "--json"],
    &["streams"],
    &["streams", "--json"],
    &["alerts"],
    &["alerts", "--json"],
    &["hist"],
    &["top", "--json"],
    &["status"],
    &["inventory"],
    &["check"],
    &["policy", "show"],
    &["policy", "learn"],
];

/// What the daemon writes in that format, answers, posts and keeps.
fn nowhere(format: &'static str) -> Result<()> {
    let lab = Lab::new("secrets")?;
    let certificates = Certificates::new(&lab.directory)?;
    let mut command = lab.server().command(python());
    command.args(["-m", "http.server", "--directory"]).arg(lab.directory.path()).arg(WEB.to_string());
    let mut web = Process::start("web", &lab.directory, command)?;
    web.wait_for_port("tcp", WEB, SOON)?;
    let _redis = servers::redis(&lab, &certificates, REDIS, Security::Plain)?;

    let posted = lab.directory.file("posted");
    let mut command = Place::default().command(python());
    command.args(["-c", HOOK, &WEBHOOK.to_string(), &posted]);
    let mut webhook = Process::start("webhook", &lab.directory, command)?;
    webhook.wait_for_port("tcp", WEBHOOK, SOON)?;

    let state = lab.directory.path().join("kept").join("state.redb");
    let config = format!(
        "[alerts]\nrepeat_every_s = 1\nstate = \"{}\"\n[[alerts.hooks]]\nlog = true\n\
         [[alerts.hooks]]\nwebhook = \"http://127.0.0.1:{WEBHOOK}/hook\"\n[output]\ninterval_s = 1\n\
         [detect.traffic]\nsensitivity = \"high\"\ninterval_s = 1\nwarm_up_s = 3\n",
        state.display(),
    );
    // Hooks that stay, so that what is noted of them lies there, too.
    let bpffs = Bpffs::new(&lab.directory)?;
    let pin = Some(bpffs.place());
    let options = DaemonOptions { config: Some(config), format, pin, ..DaemonOptions::default() };
    let daemon = Daemon::start(&lab, options)?;
    let base = format!("http://10.213.0.2:{WEB}/");
    for _ in 0..3 {
        curl(&lab, &["-u", &format!("admin:{PASSWORD}"), &base])?;
        curl(&lab, &["-H", &format!("Authorization: Bearer {BEARER}"), &base])?;
        curl(&lab, &["-b", &format!("session={COOKIE}"), &format!("{base}?access_token={QUERY}")])?;
        curl(&lab, &["-d", &format!("user=admin&password={FORM}"), &base])?;
        let mut redis = lab.client().command("redis-cli");
        redis.args([
            "-h",
            "10.213.0.2",
            "-p",
            &REDIS.to_string(),
            "--no-auth-warning",
            "-a",
            REDIS_AUTH,
            "ping",
        ]);
        finish(redis, CLIENT)?;
    }
    // They were seen: else nothing is proved below.
    let is_told = |port: u16| {
        move |record: &Value| {
            is_alert(record)
                && text(record, "rule.id") == "credential-in-clear"
                && number(record, "server.port") == Some(port.into())
        }
    };
    for port in [WEB, REDIS] {
        let deadline = Instant::now() + SOON;
        while !daemon.list("/v1/alerts")?.iter().any(is_told(port)) {
            ensure!(Instant::now() < deadline, "no alert of {port}: {:?}", daemon.list("/v1/alerts")?);
            thread::sleep(Duration::from_millis(100));
        }
    }
    let alert =
        daemon.list("/v1/alerts")?.into_iter().find(|alert| is_told(WEB)(alert)).context("no open alert")?;
    let key = text(&alert, "streamwatch.alert.key").to_owned();
    let mut acknowledge = Place::default().command(binary());
    acknowledge
        .arg("--socket")
        .arg(daemon.socket())
        .args(["alerts", "ack", &key, "--for", "1h", "--why", "known"]);
    finish(acknowledge, CLIENT)?.success()?;

    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    for path in [
        "flows",
        "streams",
        "alerts",
        "alerts?follow=true&after=0",
        "silences",
        "histograms",
        "status",
        "policy",
        "inventory",
    ] {
        let mut curl = Place::default().command("curl");
        // Who follows hears more for as long as they are there.
        let most = if path.contains("follow") { "2" } else { "10" };
        curl.args(["-sS", "-m", most, "--unix-socket"]).arg(daemon.socket());
        curl.arg(format!("http://localhost/v1/{path}"));
        seen.push((format!("GET /v1/{path}"), finish(curl, CLIENT)?.stdout.into_bytes()));
    }
    let mut curl = Place::default().command("curl");
    curl.args(["-sS", "-m", "10", "--unix-socket"]).arg(daemon.socket()).arg("http://localhost/metrics");
    seen.push(("GET /metrics".to_owned(), finish(curl, CLIENT)?.stdout.into_bytes()));
    for table in TABLES {
        // `top` goes on until it is ended.
        let mut command = Place::default().command("timeout");
        command.args(["-s", "TERM", if table[0] == "top" { "5" } else { "20" }]).arg(binary());
        command.arg("--socket").arg(daemon.socket()).args(*table).env("COLUMNS", "400");
        let done = finish(command, CLIENT)?;
        // `check` says by its status that there is something.
        let is_ended = table[0] == "top" && done.status.code() == Some(124);
        let is_done =
            (is_ended || matches!(done.status.code(), Some(0 | 1))) && !done.stdout.trim().is_empty();
        ensure!(is_done, "{table:?}: {done:?}");
        seen.push((
            format!("streamwatch {}", table.join(" ")),
            [done.stdout, done.stderr].concat().into_bytes(),
        ));
    }
    let deadline = Instant::now() + SOON;
    while !fs::read_to_string(&posted).unwrap_or_default().contains("credential-in-clear") {
        ensure!(Instant::now() < deadline, "the webhook was not told");
        thread::sleep(Duration::from_millis(100));
    }
    // What lies beside its socket, and where it notes what it told and which hooks are its own.
    let beside = daemon.socket().parent().context("no parent")?.to_owned();
    let noted = files_in(&beside)?;
    ensure!(noted.iter().any(|path| path.to_string_lossy().contains(".told")), "{noted:?}");
    for path in noted {
        seen.push((path.display().to_string(), fs::read(&path)?));
    }
    let ended = daemon.stop()?;
    seen.push(("what was posted".to_owned(), fs::read(&posted)?));
    ensure!(!ended.heard.is_empty(), "nothing was written");
    ensure!(ended.stderr.contains("credential-in-clear"), "the hook was not told: {}", ended.stderr);
    seen.push(("stderr".to_owned(), ended.stderr.into_bytes()));
    for heard in &ended.heard {
        seen.push(("stdout".to_owned(), heard.record.to_string().into_bytes()));
    }
    let known: Vec<_> = files(&state).into_iter().filter(|path| path.exists()).collect();
    ensure!(known.len() >= 4, "{known:?}");
    // Also what is there and not known.
    let files = files_in(state.parent().context("no parent")?)?;
    ensure!(known.iter().all(|path| files.contains(path)), "{known:?} are not in {files:?}");
    for path in files {
        seen.push((path.display().to_string(), fs::read(&path)?));
    }
    // As one who has the key.
    let keys = Keys::new(&State::default(), &state)?;
    let opened = Store::open(&state, &keys)?;
    ensure!(!opened.saved.open.is_empty() && !opened.saved.told.is_empty(), "nothing was kept");
    seen.push(("what is kept".to_owned(), format!("{:?}", opened.saved).into_bytes()));
    for (stream, past) in opened.saved.baselines {
        seen.push((format!("baseline of {stream}"), past));
    }

    // As it is, as curl sends a password, and without regard to case. What all have in common is long enough not to
    // turn up by chance in a community id or a sealed file.
    let basic = "YWRtaW46WnE3eDktYmFzaWMtcEFzc3cwcmQ";
    for secret in [PASSWORD, BEARER, COOKIE, QUERY, FORM, REDIS_AUTH, basic, "zq7x9"] {
        for (place, bytes) in &seen {
            let found =
                bytes.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret.as_bytes()));
            ensure!(!found, "{secret} is in {place}: {}", String::from_utf8_lossy(bytes));
        }
    }
    Ok(())
}

/// Every file there, however deep.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(files_in(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}
