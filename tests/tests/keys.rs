//! The key of the state: a file, a credential, Vault's KV store, AWS KMS; changed while the daemon runs, and
//! not there when it is needed.

#[path = "keys/instead.rs"]
mod instead;
#[path = "keys/kms.rs"]
mod kms;
#[path = "keys/removed.rs"]
mod removed;
#[path = "keys/vault.rs"]
mod vault;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::servers::python;
use tests::{
    Daemon, DaemonOptions, Directory, Lab, Place, Process, Suite, binary, finish, is_alert, number, text,
};

const PORT: u16 = 34_660;
const CLIENT: Duration = Duration::from_secs(20);
/// From an event to its trace, on a busy host.
const SOON: Duration = Duration::from_secs(30);
/// The longest pause between two attempts is a minute; the first ones are seconds.
const KEY: Duration = Duration::from_secs(100);

fn main() -> ExitCode {
    Suite::new("keys")
        .test(
            "by default the key is a file for root alone, and without it the state says nothing",
            &[],
            by_default,
        )
        .test(
            "a key that is not there: watched on, held in memory, put together when it comes",
            &[],
            comes_late,
        )
        .test("a key file that others can read is refused, and watching goes on", &[], open_to_others)
        .test(
            "a credential of systemd goes before the file, which opens what is old",
            &["systemd-creds"],
            credential,
        )
        .test("a key file is replaced while the daemon runs", &[], replaced)
        .test("a key in Vault's KV store: used, rotated, gone, back", &["openssl"], vault::vault)
        .test("a key of AWS KMS: used, replaced, refused", &[], kms::kms)
        .test(
            "a key of AWS KMS: changed while the daemon runs, gone while it runs and at a start, back",
            &[],
            kms::while_it_runs,
        )
        .test("a state that is removed while it is kept is written anew, and is told", &[], removed::removed)
        .test("files that may be no longer (RLIMIT_FSIZE) are as a full disk", &["prlimit"], removed::limited)
        .test(
            "a state that is removed with its key while nothing can be written is there again",
            &["prlimit"],
            removed::removed_while_limited,
        )
        .test("where one copy has no place, the other is kept, and that is told", &[], removed::one_copy)
        .test(
            "a key file that cannot be made is made when it can, at the start and later",
            &[],
            removed::key_cannot_be_made,
        )
        .test(
            "what is no file, under the names of the state, is told, and holds nothing up",
            &[],
            instead::pipes,
        )
        .test("a disk that does not answer: watched on, told, and ended when asked to", &[], instead::hung)
        .test("a daemon that dies leaves no core dump", &[], no_core_dump)
        .main()
}

/// A web server in the clear, whose requests are alerts, and a state.
struct Site {
    lab: Lab,
    _server: Process,
    state: PathBuf,
}

impl Site {
    fn new() -> Result<Site> {
        let lab = Lab::new("keys")?;
        let mut command = lab.server().command(python());
        command.args(["-m", "http.server", "--directory"]).arg(lab.directory.path()).arg(PORT.to_string());
        let mut server = Process::start("web", &lab.directory, command)?;
        server.wait_for_port("tcp", PORT, SOON)?;
        // A directory of its own: what is in it afterwards is the state.
        let directory = lab.directory.path().join("state");
        fs::create_dir(&directory)?;
        Ok(Site { lab, _server: server, state: directory.join("state.redb") })
    }

    fn start(&self, settings: &str, environment: &[(&str, &Path)]) -> Result<Daemon> {
        let state = self.state.display();
        let config = format!("[alerts]\nrepeat_every_s = 1\nstate = \"{state}\"\n[state]\n{settings}");
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.display().to_string()))
            .collect();
        Daemon::start(
            &self.lab,
            DaemonOptions { config: Some(config), environment, ..DaemonOptions::default() },
        )
    }

    fn request(&self) -> Result<()> {
        let mut curl = self.lab.client().command("curl");
        curl.args(["-sSf", "-m", "15", &format!("http://10.213.0.2:{PORT}/")]);
        self.lab.run(curl, CLIENT).map(drop)
    }

    /// A request, and the alert that it is.
    fn alert(&self, daemon: &Daemon) -> Result<Value> {
        // The first connections may be over before anybody has looked who serves them.
        let deadline = Instant::now() + SOON;
        loop {
            self.request()?;
            let heard = daemon.heard().into_iter().find(|heard| is_plaintext(&heard.record));
            match heard {
                Some(heard) => return Ok(heard.record),
                None if Instant::now() > deadline => bail!("no alert; the daemon said:\n{}", daemon.stderr()),
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn hides(&self, words: &[&str]) -> Result<()> {
        for file in fs::read_dir(self.state.parent().context("no parent")?)? {
            let path = file?.path();
            let bytes = fs::read(&path)?;
            for word in words {
                let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
                ensure!(!found, "{word:?} is in {}", path.display());
            }
        }
        Ok(())
    }
}

/// By its key: an alert that was kept has no flow any more.
fn is_plaintext(record: &Value) -> bool {
    is_alert(record)
        && text(record, "rule.id") == "plaintext"
        && text(record, "streamwatch.alert.key").contains(&format!(":{PORT}/"))
        && text(record, "streamwatch.alert.key").contains("→ python")
}

/// Until `status` is as it should be; gives its part on the state.
fn wait_for(daemon: &Daemon, patience: Duration, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + patience;
    loop {
        let state = daemon.status()?["state"].clone();
        if is(&state) {
            return Ok(state);
        }
        if Instant::now() > deadline {
            bail!("not {what}: {state}; the daemon said:\n{}", daemon.stderr());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn is_kept(state: &Value) -> bool {
    state["kept"] == true && state["pending"] == 0
}

fn waits(state: &Value) -> bool {
    state["kept"] == false && state["waiting_since"].is_string()
}

/// The plaintext alert, as it is open now.
fn open_alert(daemon: &Daemon) -> Result<Value> {
    let open = daemon.list("/v1/alerts")?;
    open.into_iter().find(is_plaintext).context("the alert is not open")
}

/// Cursors of all that was told of it, as a follower hears them.
fn told(daemon: &Daemon) -> Result<Vec<u64>> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-m", "2", "--unix-socket"]).arg(daemon.socket());
    curl.arg("http://localhost/v1/alerts?follow=true&after=0");
    // It ends by its time: a follower waits for more.
    let said = finish(curl, CLIENT)?.stdout;
    let records = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(records
        .filter(is_plaintext)
        .filter_map(|record| number(&record, "streamwatch.alert.cursor"))
        .collect())
}

fn secret(directory: &Directory, name: &str, text: &str) -> Result<PathBuf> {
    let path = PathBuf::from(directory.write(name, text)?);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    Ok(path)
}

/// Stopped in order, and started again with the same: the alert is known.
fn known_again(site: &Site, daemon: Daemon, settings: &str, environment: &[(&str, &Path)]) -> Result<Daemon> {
    let before = open_alert(&daemon)?;
    let ended = daemon.stop()?;
    ensure!(!ended.stderr.contains("not kept"), "{}", ended.stderr);
    let daemon = site.start(settings, environment)?;
    wait_for(&daemon, SOON, "kept", is_kept)?;
    let after = open_alert(&daemon)?;
    ensure!(
        text(&before, "streamwatch.alert.key") == text(&after, "streamwatch.alert.key"),
        "{before} {after}"
    );
    ensure!(daemon.stderr().is_empty(), "{}", daemon.stderr());
    Ok(daemon)
}

fn by_default() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    let daemon = known_again(&site, daemon, "", &[])?;
    let state = daemon.status()?["state"].clone();
    let key = site.state.with_file_name("state.key");
    ensure!(state["key"] == format!("file:{}", key.display()) && state["whole"] == true, "{state}");
    for file in [key, site.state.clone(), site.state.with_file_name("state.redb.copy")] {
        let mode = fs::metadata(&file)?.permissions().mode();
        ensure!(mode & 0o777 == 0o600, "{} has mode {mode:o}", file.display());
    }
    daemon.stop()?;
    site.hides(&["plaintext", "10.213.0", "curl", "http.server", "python", "severity"])
}

/// The daemon watches, and what it learns meanwhile and what was kept are one.
fn comes_late() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.start("", &[])?;
    let first = site.alert(&daemon)?;
    let said = silence(&daemon, "rule == \"scan\"")?;
    ensure!(said.starts_with("silence 1 until"), "{said}");
    daemon.stop()?;
    let key = site.state.with_file_name("state.key");
    let aside = site.lab.directory.path().join("aside");
    fs::rename(&key, &aside)?;
    let before = [fs::read(&site.state)?, fs::read(site.state.with_file_name("state.redb.copy"))?];

    let daemon = site.start("", &[])?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    ensure!(state["reason"].as_str().is_some_and(|why| why.contains("state.key: can't be read")), "{state}");
    ensure!(daemon.stderr().contains("the state is not kept now"), "{}", daemon.stderr());
    // Watched on; the alert is opened anew, since nobody knows of the one before.
    let anew = site.alert(&daemon)?;
    ensure!(text(&anew, "streamwatch.alert.state") == "opened", "{anew}");
    let state = wait_for(&daemon, SOON, "holding something", |state| state["pending"].as_u64() > Some(0))?;
    ensure!(state["dropped"] == 0, "{state}");
    let now = [fs::read(&site.state)?, fs::read(site.state.with_file_name("state.redb.copy"))?];
    ensure!(before == now, "files without a key were written to");
    // What is said now holds, and whoever says it knows where it is.
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(said.contains("in memory alone"), "{said}");
    let late = said.split_whitespace().nth(1).and_then(|id| id.parse::<u64>().ok()).context("no number")?;

    fs::rename(&aside, &key)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    let said = silence(&daemon, "rule == \"weak-cipher\"")?;
    ensure!(!said.contains("memory"), "{said}");
    // Whoever saw a number finds the same under it.
    let silenced = |daemon: &Daemon| -> Result<()> {
        let all = daemon.list("/v1/silences")?;
        for (id, rule) in [(1, "scan"), (late, "weak-tls"), (late + 1, "weak-cipher")] {
            let known = all.iter().filter(|one| one["id"] == id).collect::<Vec<_>>();
            let is = known.len() == 1 && known[0]["filter"].as_str().is_some_and(|it| it.contains(rule));
            ensure!(is, "{id}: {all:?}");
        }
        Ok(())
    };
    silenced(&daemon)?;
    let both = open_alert(&daemon)?;
    ensure!(number(&both, "streamwatch.alert.count") >= Some(2), "{both}");
    let began = text(&first, "event.start");
    ensure!(text(&both, "event.start") == began, "the earlier beginning: {first} {both}");
    // In a row: what was told before, and since.
    let row = told(&daemon)?;
    ensure!(row.len() >= 2 && row.is_sorted(), "{row:?}");
    let at = |alert: &Value| number(alert, "streamwatch.alert.cursor").context("no cursor");
    ensure!(row.contains(&at(&first)?) && row.contains(&at(&anew)?), "{row:?}: {first} {anew}");
    daemon.stop()?;
    let daemon = site.start("", &[])?;
    wait_for(&daemon, SOON, "kept", is_kept)?;
    let again = told(&daemon)?;
    ensure!(row.iter().all(|cursor| again.contains(cursor)), "{row:?} {again:?}");
    silenced(&daemon)?;
    ensure!(number(&open_alert(&daemon)?, "streamwatch.alert.count") >= Some(2), "not kept as one");
    daemon.stop().map(drop)
}

/// What the command line answers to a silence.
fn silence(daemon: &Daemon, filter: &str) -> Result<String> {
    let mut command = Place::default().command(binary());
    command.arg("--socket").arg(daemon.socket());
    command.args(["alerts", "silence", "--for", "1h", "--why", "a test", "--filter", filter]);
    Ok(finish(command, SOON)?.success()?.stdout)
}

fn open_to_others() -> Result<()> {
    let site = Site::new()?;
    let key = secret(&site.lab.directory, "key", &"5a0f".repeat(16))?;
    fs::set_permissions(&key, PermissionsExt::from_mode(0o640))?;
    let settings = format!("key = \"file:{}\"\n", key.display());
    let daemon = site.start(&settings, &[])?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    ensure!(state["reason"].as_str().is_some_and(|why| why.contains("has mode 0640")), "{state}");
    site.alert(&daemon)?;
    ensure!(!site.state.exists(), "something was written without a key");
    let ended = daemon.stop()?;
    ensure!(ended.stderr.contains("changes of the state were not kept"), "{}", ended.stderr);
    Ok(())
}

/// Sealed by systemd-creds, and handed over as systemd does: a directory that the environment names.
fn credential() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    daemon.stop()?;
    let directory = &site.lab.directory;
    let plain = secret(directory, "plain", &"c30f".repeat(16))?;
    let sealed = directory.file("sealed");
    let handed = directory.path().join("credentials");
    fs::create_dir(&handed)?;
    let credential = handed.join("streamwatch.key");
    // The null key wants neither a TPM nor a secret of the host; older versions call it otherwise.
    let sealed_by = ["null", "tpm2-absent"].into_iter().find(|key| {
        let mut seal = Command::new("systemd-creds");
        seal.args(["encrypt", &format!("--with-key={key}"), "--name=streamwatch.key"])
            .arg(&plain)
            .arg(&sealed);
        finish(seal, CLIENT).is_ok_and(|sealed| sealed.status.success())
    });
    let allow: &[&str] = match sealed_by.context("systemd-creds does not seal")? {
        "null" => &["--allow-null"],
        _ => &[],
    };
    let mut open = Command::new("systemd-creds");
    open.arg("decrypt").args(allow).args(["--name=streamwatch.key", &sealed]).arg(&credential);
    finish(open, CLIENT)?.success()?;
    fs::set_permissions(&credential, PermissionsExt::from_mode(0o400))?;
    let environment = [("CREDENTIALS_DIRECTORY", handed.as_path())];
    let daemon = site.start("check_every_s = 1\n", &environment)?;
    open_alert(&daemon)?;
    // Opened by the file, and written anew under the credential.
    wait_for(&daemon, SOON, "under the credential", |state| {
        state["key"] == "credential:streamwatch.key" && daemon.stderr().contains("written anew under the key")
    })?;
    fs::remove_file(site.state.with_file_name("state.key"))?;
    known_again(&site, daemon, "", &environment)?.stop().map(drop)
}

/// The old key is gone, the new one is there: nothing stops, and all is readable.
fn replaced() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    let before = wait_for(&daemon, SOON, "kept", is_kept)?;
    let key = site.state.with_file_name("state.key");
    let new = secret(&site.lab.directory, "new", &"170f".repeat(16))?;
    fs::copy(&new, site.state.with_file_name("new"))?;
    fs::rename(site.state.with_file_name("new"), &key)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, SOON, "under another key", |state| {
        is_kept(state) && state["key_id"] != before["key_id"] && state["key_id"].is_string()
    })?;
    known_again(&site, daemon, "", &[])?.stop().map(drop)
}

fn no_core_dump() -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    let site = Site::new()?;
    let daemon = site.start("", &[])?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid()))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit")?;
    let values: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    ensure!(values == ["0", "0"], "{core}");
    let status = daemon.stop_with(Signal::ABORT)?.status;
    ensure!(status.signal() == Some(Signal::ABORT.as_raw()) && !status.core_dumped(), "{status:?}");
    Ok(())
}
