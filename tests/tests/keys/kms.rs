//! A key of AWS KMS.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::servers::{program, python};
use tests::{Daemon, Directory, Place, Process, finish, number, text};

use super::{CLIENT, KEY, SOON, Site, is_kept, known_again, open_alert, secret, wait_for, waits};

const AWS: u16 = 34_662;
/// Somebody in between, who can be gone without the keys being gone.
const RELAY: u16 = 34_663;

/// Passes on what comes, both ways.
const RELAY_PY: &str = r#"
import socket, sys, threading
def copy(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    for it in (one, other):
        try:
            it.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    one, _ = listener.accept()
    other = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for pair in [(one, other), (other, one)]:
        threading.Thread(target=copy, args=pair, daemon=True).start()
"#;

/// A server that checks signatures, once there is somebody to check: two keys, and a user who may use them.
struct Aws {
    moto: Process,
    endpoint: String,
    first: String,
    second: String,
    alias: String,
    id: String,
    password: String,
}

impl Aws {
    fn start(directory: &Directory) -> Result<Aws> {
        let mut command = Place::default().command(python());
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &AWS.to_string()]);
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", "6").env("MOTO_ALLOW_NONEXISTENT_REGION", "false");
        let mut moto = Process::start("moto", directory, command)?;
        moto.wait_for_port("tcp", AWS, SOON)?;
        let endpoint = format!("http://127.0.0.1:{AWS}");
        // Six actions.
        let made = helper(&endpoint, &["make"])?;
        let field = |name: &str| made[name].as_str().map(str::to_owned).context("a field of kms.py");
        let [first, second, alias, id, password] = ["first", "second", "alias", "id", "secret"].map(field);
        let (first, second, alias, id, password) = (first?, second?, alias?, id?, password?);
        Ok(Aws { moto, endpoint, first, second, alias, id, password })
    }

    /// What the user may do as well.
    fn ask(&self, verb: &str, arguments: &[&str]) -> Result<()> {
        helper(&self.endpoint, &[&[verb, &self.id, &self.password], arguments].concat()).map(drop)
    }

    fn profile(&self, password: &str) -> String {
        format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {password}\n[other]\naws_access_key_id = x\n",
            self.id
        )
    }
}

fn helper(endpoint: &str, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new(python());
    command.arg(program("kms.py")).arg(endpoint).args(arguments);
    let said = finish(command, CLIENT)?.success()?.stdout;
    serde_json::from_str(&said).with_context(|| said.clone())
}

pub fn kms() -> Result<()> {
    let site = Site::new()?;
    let directory = &site.lab.directory;
    let aws = Aws::start(directory)?;
    let Aws { endpoint, first, second, id, password, .. } = &aws;
    let profile = |password: &str| aws.profile(password);
    let credentials = secret(directory, "aws", &profile(password))?;
    let settings = |key: &str, previous: &str| {
        format!(
            "key = \"aws-kms:{key}\"\nprevious = [{previous}]\nwait_s = 10\n[state.aws]\nendpoint = \"{endpoint}\"\n\
             credentials = \"file:{}\"\n",
            credentials.display()
        )
    };
    let daemon = site.start(&settings(first, ""), &[])?;
    site.alert(&daemon)?;
    let state = wait_for(&daemon, SOON, "kept", is_kept)?;
    ensure!(state["key_id"] == first.as_str(), "{state}");
    let daemon = known_again(&site, daemon, &settings(first, ""), &[])?;
    daemon.stop()?;

    // Another key, and the one before to open what is old.
    let previous = format!("\"aws-kms:{first}\"");
    let daemon = site.start(&settings(second, &previous), &[])?;
    open_alert(&daemon)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, SOON, "under the second key", |state| state["key_id"] == second.as_str())?;
    daemon.stop()?;
    let daemon = site.start(&settings(second, ""), &[])?;
    open_alert(&daemon)?;
    daemon.stop()?;

    // Credentials that sign wrongly are refused: this server looks at signatures.
    secret(directory, "aws", &profile("wrong"))?;
    let daemon = site.start(&settings(second, ""), &[])?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    ensure!(state["reason"].as_str().is_some_and(|why| why.contains("answers 403")), "{state}");
    secret(directory, "aws", &profile(password))?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    open_alert(&daemon)?;
    let said = daemon.stop()?.stderr;
    ensure!(!said.contains(password) && !said.contains("wrong"), "{said}");
    // The environment is not asked.
    fs::remove_file(&credentials)?;
    let environment = [("AWS_ACCESS_KEY_ID", Path::new(id)), ("AWS_SECRET_ACCESS_KEY", Path::new(password))];
    let daemon = site.start(&settings(second, ""), &environment)?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    ensure!(state["reason"].as_str().is_some_and(|why| why.contains("can't be read")), "{state}");
    daemon.stop().map(drop)
}

/// How often the alert was seen, once nothing more is under way.
fn count_at_rest(daemon: &Daemon) -> Result<u64> {
    let count = || -> Result<u64> {
        number(&open_alert(daemon)?, "streamwatch.alert.count").context("the alert has no count")
    };
    let (mut before, deadline) = (count()?, Instant::now() + SOON);
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = count()?;
        if now == before {
            return Ok(now);
        }
        ensure!(Instant::now() < deadline, "it is counted on: {now}");
        before = now;
    }
}

fn relay(directory: &Directory) -> Result<Process> {
    let mut command = Place::default().command(python());
    command.args(["-c", RELAY_PY, &RELAY.to_string(), &AWS.to_string()]);
    let mut relay = Process::start("relay", directory, command)?;
    relay.wait_for_port("tcp", RELAY, SOON)?;
    Ok(relay)
}

/// The key changes while the daemon runs; then the service is gone, while it runs and before a start.
pub fn while_it_runs() -> Result<()> {
    let site = Site::new()?;
    let directory = &site.lab.directory;
    let aws = Aws::start(directory)?;
    let between = relay(directory)?;
    let credentials = secret(directory, "aws", &aws.profile(&aws.password))?;
    let settings = |wait_s: u32| {
        format!(
            "key = \"aws-kms:{}\"\nwait_s = {wait_s}\n[state.aws]\nendpoint = \"http://127.0.0.1:{RELAY}\"\n\
             credentials = \"file:{}\"\n",
            aws.alias,
            credentials.display()
        )
    };
    let daemon = site.start(&settings(10), &[])?;
    site.alert(&daemon)?;
    let under = |key: &str| {
        let key = key.to_owned();
        move |state: &Value| is_kept(state) && state["key_id"] == key.as_str()
    };
    wait_for(&daemon, SOON, "under the first key", under(&aws.first))?;

    // The alias stands for another key from now on: nothing stops, and what is kept goes on.
    let before = number(&open_alert(&daemon)?, "streamwatch.alert.count");
    aws.ask("move", &[&aws.alias, &aws.second])?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, SOON, "under the second key", under(&aws.second))?;
    // As in `alert`: one may be over before anybody has looked who serves it.
    let more = || -> Result<bool> { Ok(number(&open_alert(&daemon)?, "streamwatch.alert.count") > before) };
    let deadline = Instant::now() + SOON;
    while !more()? {
        ensure!(Instant::now() < deadline, "nothing is counted under the second key");
        site.request()?;
        thread::sleep(Duration::from_millis(200));
    }
    // A rotation on demand harms nothing.
    aws.ask("rotate", &[&aws.second])?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, SOON, "under the second key", under(&aws.second))?;
    let said = daemon.stderr();
    ensure!(said.contains(&format!("written anew under the key {}", aws.second)), "{said}");
    ensure!(!said.contains("not kept") && !said.contains("could not"), "{said}");
    let daemon = known_again(&site, daemon, &settings(10), &[])?;

    // Gone while it runs: what is open stays open, and that it is gone is said.
    drop(between);
    daemon.signal(Signal::HUP);
    let state = wait_for(&daemon, SOON, "missing it", |state| state["reason"].is_string())?;
    ensure!(state["kept"] == true, "{state}");
    site.request()?;
    wait_for(&daemon, SOON, "kept without it", is_kept)?;
    ensure!(daemon.stderr().contains("the key could not be looked at"), "{}", daemon.stderr());
    let kept = count_at_rest(&daemon)?;
    let ended = daemon.stop()?;
    ensure!(!ended.stderr.contains("not kept"), "{}", ended.stderr);

    // Gone at the start: watched on, with as much held as there is room for.
    let daemon = site.start(&settings(0), &[])?;
    wait_for(&daemon, SOON, "waiting", waits)?;
    let anew = site.alert(&daemon)?;
    ensure!(text(&anew, "streamwatch.alert.state") == "opened", "{anew}");
    wait_for(&daemon, SOON, "held in memory", |state| state["pending"].as_u64() > Some(0))?;
    let status = daemon.status()?;
    let stage =
        status["stages"].as_array().and_then(|all| all.iter().find(|it| it["name"] == "state-memory"));
    let stage = stage.with_context(|| format!("no memory for the state: {status}"))?;
    let of = |name: &str| stage[name].as_u64().unwrap_or_default();
    ensure!(of("depth") > 0 && of("depth") <= of("capacity"), "{stage}");
    // Back again: what was held is put together with what was kept.
    let between = relay(directory)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    let together = number(&open_alert(&daemon)?, "streamwatch.alert.count");
    ensure!(together > Some(kept), "{together:?}, and {kept} were kept: not put together");

    // The service itself is killed, with all its keys: what is open stays open; nothing is opened after that.
    drop(aws.moto);
    daemon.signal(Signal::HUP);
    let state = wait_for(&daemon, SOON, "missing it", |state| state["reason"].is_string())?;
    ensure!(state["kept"] == true, "{state}");
    daemon.stop()?;
    let daemon = site.start(&settings(0), &[])?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    ensure!(state["reason"].is_string(), "{state}");
    site.alert(&daemon)?;
    let said = daemon.stop()?.stderr;
    ensure!(!said.contains(&aws.password), "the password was told: {said}");
    drop(between);
    site.hides(&[&aws.password, "plaintext", "10.213.0"])
}
