//! The key of the state: a file, a credential, Vault's KV store, AWS KMS; changed while the daemon runs, and
//! not there when it is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::servers::{program, python, tool};
use tests::{
    Certificates, Daemon, DaemonOptions, Directory, Lab, Place, Process, Suite, binary, finish, is_alert,
    number, text,
};

const PORT: u16 = 34_660;
const VAULT: u16 = 34_661;
const AWS: u16 = 34_662;
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
        .test("a key in Vault's KV store: used, rotated, gone, back", &["openssl"], vault)
        .test("a key of AWS KMS: used, replaced, refused", &[], kms)
        .test("a state that is removed while it is kept is written anew, and is told", &[], removed)
        .test("files that may be no longer (RLIMIT_FSIZE) are as a full disk", &["prlimit"], limited)
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

    fs::rename(&aside, &key)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    let said = silence(&daemon, "rule == \"weak-cipher\"")?;
    ensure!(said.starts_with("silence 2 until") && !said.contains("memory"), "{said}");
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

/// RustyVault, over TLS.
struct Vault {
    process: Process,
    unseal: String,
    root: String,
    authority: String,
    config: String,
}

impl Vault {
    fn start(directory: &Directory) -> Result<Vault> {
        let certificates = Certificates::new(directory)?;
        let config = format!(
            "storage \"file\" {{\n  path = \"{}\"\n}}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:{VAULT}\"\n  \
             tls_disable = \"false\"\n  tls_cert_file = \"{}\"\n  tls_key_file = \"{}\"\n}}\n\
             api_addr = \"https://127.0.0.1:{VAULT}\"\nlog_level = \"info\"\npid_file = \"{}\"\n",
            directory.file("vault"),
            certificates.certificate,
            certificates.key,
            directory.file("vault.pid"),
        );
        let config = directory.write("vault.hcl", &config)?;
        let process = Vault::serve(directory, &config)?;
        let mut vault = Vault {
            process,
            unseal: String::new(),
            root: String::new(),
            authority: certificates.authority,
            config,
        };
        let begun = vault.ask("PUT", "sys/init", &json!({ "secret_shares": 1, "secret_threshold": 1 }))?;
        let key = begun["keys"][0].as_str().context("no key")?;
        vault.unseal = key.to_owned();
        vault.root = begun["root_token"].as_str().context("no token")?.to_owned();
        vault.unseal()?;
        Ok(vault)
    }

    fn serve(directory: &Directory, config: &str) -> Result<Process> {
        let mut command = Place::default().command(tool("rvault")?);
        command.args(["server", "--config", config]);
        let mut process = Process::start("vault", directory, command)?;
        process.wait_for_port("tcp", VAULT, SOON)?;
        Ok(process)
    }

    fn unseal(&self) -> Result<()> {
        let answer = self.ask("PUT", "sys/unseal", &json!({ "key": self.unseal }))?;
        ensure!(answer["sealed"] == false, "{answer}");
        Ok(())
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "10", "-X", method, "--cacert", &self.authority]);
        curl.args(["-H", &format!("X-Vault-Token: {}", self.root), "-d", &body.to_string()]);
        curl.arg(format!("https://127.0.0.1:{VAULT}/v1/{path}"));
        let said = finish(curl, CLIENT)?.success()?.stdout;
        if said.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&said).with_context(|| format!("{path}: {said}"))
    }

    fn write(&self, fields: &Value) -> Result<()> {
        let answer = self.ask("POST", "secret/streamwatch", fields)?;
        ensure!(answer["errors"].is_null(), "{answer}");
        Ok(())
    }
}

fn vault() -> Result<()> {
    let site = Site::new()?;
    let directory = &site.lab.directory;
    let mut vault = Vault::start(directory)?;
    let mounted = vault.ask("POST", "sys/mounts/secret", &json!({ "type": "kv" }))?;
    ensure!(mounted["errors"].is_null() || mounted.to_string().contains("already in use"), "{mounted}");
    vault.write(&json!({ "key": "110f".repeat(16) }))?;
    let token = secret(directory, "token", &vault.root)?;
    let settings = format!(
        "key = \"vault-kv:secret/streamwatch\"\nwait_s = 10\n[state.vault]\naddress = \"https://127.0.0.1:{VAULT}\"\n\
         token = \"file:{}\"\nca = \"{}\"\nkv_version = 1\n",
        token.display(),
        vault.authority
    );
    let daemon = site.start(&settings, &[])?;
    site.alert(&daemon)?;
    let before = wait_for(&daemon, SOON, "kept", is_kept)?;
    let daemon = known_again(&site, daemon, &settings, &[])?;
    ensure!(!site.state.with_file_name("state.key").exists(), "a key file beside Vault");

    // Rotated while the daemon runs.
    vault.write(&json!({ "key": "220f".repeat(16), "old": "110f".repeat(16) }))?;
    daemon.signal(Signal::HUP);
    let now = wait_for(&daemon, SOON, "under another key", |state| state["key_id"] != before["key_id"])?;
    ensure!(is_kept(&now), "{now}");
    // And while it does not: what the older key wrapped is opened by it.
    open_alert(&daemon)?;
    daemon.stop()?;
    vault.write(&json!({ "key": "330f".repeat(16), "old": "220f".repeat(16) }))?;
    let daemon = site.start(&settings, &[])?;
    open_alert(&daemon)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, SOON, "under the third key", |state| {
        is_kept(state) && state["key_id"] != now["key_id"]
    })?;

    // Gone while it runs: what is open stays open.
    drop(vault.process);
    daemon.signal(Signal::HUP);
    let state = wait_for(&daemon, SOON, "missing it", |state| state["reason"].is_string())?;
    ensure!(state["kept"] == true, "{state}");
    ensure!(daemon.stderr().contains("the key could not be looked at"), "{}", daemon.stderr());
    let ended = daemon.stop()?;
    ensure!(!ended.stderr.contains("not kept"), "{}", ended.stderr);

    // Gone at the start: watched on.
    let daemon = site.start(&settings.replace("wait_s = 10", "wait_s = 0"), &[])?;
    wait_for(&daemon, SOON, "waiting", waits)?;
    let anew = site.alert(&daemon)?;
    ensure!(text(&anew, "streamwatch.alert.state") == "opened", "{anew}");
    vault.process = Vault::serve(directory, &vault.config)?;
    // Sealed is not there either.
    vault.unseal()?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    ensure!(number(&open_alert(&daemon)?, "streamwatch.alert.count") >= Some(2), "not put together");
    let said = daemon.stop()?.stderr;
    ensure!(!said.contains(&vault.root), "the token was told");
    site.hides(&[&vault.root, "plaintext", "10.213.0"])
}

fn kms() -> Result<()> {
    let site = Site::new()?;
    let directory = &site.lab.directory;
    // A server that checks signatures, once there is somebody to check.
    let mut command = Place::default().command(python());
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &AWS.to_string()]);
    command.env("INITIAL_NO_AUTH_ACTION_COUNT", "5").env("MOTO_ALLOW_NONEXISTENT_REGION", "false");
    let mut moto = Process::start("moto", directory, command)?;
    moto.wait_for_port("tcp", AWS, SOON)?;
    let endpoint = format!("http://127.0.0.1:{AWS}");
    let helper = |arguments: &[&str]| -> Result<Value> {
        let mut command = Command::new(python());
        command.arg(program("kms.py")).arg(&endpoint).args(arguments);
        let said = finish(command, CLIENT)?.success()?.stdout;
        serde_json::from_str(&said).with_context(|| said.clone())
    };
    // Two keys, a user who may use them, and the user's credentials: five actions.
    let made = helper(&["make"])?;
    let field = |name: &str| made[name].as_str().map(str::to_owned).context("a field of kms.py");
    let (first, second) = (field("first")?, field("second")?);
    let (id, password) = (field("id")?, field("secret")?);
    let profile = |password: &str| {
        format!(
            "[default]\naws_access_key_id = {id}\naws_secret_access_key = {password}\n[other]\naws_access_key_id = x\n"
        )
    };
    let credentials = secret(directory, "aws", &profile(&password))?;
    let settings = |key: &str, previous: &str| {
        format!(
            "key = \"aws-kms:{key}\"\nprevious = [{previous}]\nwait_s = 10\n[state.aws]\nendpoint = \"{endpoint}\"\n\
             credentials = \"file:{}\"\n",
            credentials.display()
        )
    };
    let daemon = site.start(&settings(&first, ""), &[])?;
    site.alert(&daemon)?;
    let state = wait_for(&daemon, SOON, "kept", is_kept)?;
    ensure!(state["key_id"] == first.as_str(), "{state}");
    let daemon = known_again(&site, daemon, &settings(&first, ""), &[])?;
    daemon.stop()?;

    // Another key, and the one before to open what is old.
    let previous = format!("\"aws-kms:{first}\"");
    let daemon = site.start(&settings(&second, &previous), &[])?;
    open_alert(&daemon)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, SOON, "under the second key", |state| state["key_id"] == second.as_str())?;
    daemon.stop()?;
    let daemon = site.start(&settings(&second, ""), &[])?;
    open_alert(&daemon)?;
    daemon.stop()?;

    // Credentials that sign wrongly are refused: this server looks at signatures.
    secret(directory, "aws", &profile("wrong"))?;
    let daemon = site.start(&settings(&second, ""), &[])?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    ensure!(state["reason"].as_str().is_some_and(|why| why.contains("answers 403")), "{state}");
    secret(directory, "aws", &profile(&password))?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    open_alert(&daemon)?;
    let said = daemon.stop()?.stderr;
    ensure!(!said.contains(&password) && !said.contains("wrong"), "{said}");
    // The environment is not asked.
    fs::remove_file(&credentials)?;
    let environment =
        [("AWS_ACCESS_KEY_ID", Path::new(&id)), ("AWS_SECRET_ACCESS_KEY", Path::new(&password))];
    let daemon = site.start(&settings(&second, ""), &environment)?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    ensure!(state["reason"].as_str().is_some_and(|why| why.contains("can't be read")), "{state}");
    daemon.stop().map(drop)
}

/// What is acknowledged after that is there at the next start, and so is what was before.
fn removed() -> Result<()> {
    let site = Site::new()?;
    let directory = site.state.parent().context("no parent")?;
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(!said.contains("memory"), "{said}");
    // The key with it: there is another one then.
    fs::remove_dir_all(directory)?;
    let said = silence(&daemon, "rule == \"weak-cipher\"")?;
    ensure!(!said.contains("memory"), "{said}");
    let told = |daemon: &Daemon| daemon.stderr().matches("removed or replaced while open").count();
    ensure!(told(&daemon) == 1, "{}", daemon.stderr());
    wait_for(&daemon, SOON, "under another key", |state| {
        is_kept(state) && daemon.stderr().contains("written anew under the key")
    })?;
    daemon.stop()?;
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 2, "silences are gone");

    // Where there is no place for it, nobody is told that it is kept.
    let aside = site.lab.directory.path().join("aside");
    fs::rename(directory, &aside)?;
    fs::write(directory, "no directory")?;
    let said = silence(&daemon, "rule == \"scan\"")?;
    ensure!(said.contains("in memory alone"), "{said}");
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    let reason = state["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("was removed or replaced, and cannot be written there anew"), "{state}");
    fs::remove_file(directory)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    ensure!(told(&daemon) == 1, "{}", daemon.stderr());
    // The key is made soon after, or at the end at the latest.
    let ended = daemon.stop()?;
    ensure!(!ended.stderr.contains("not kept:"), "{}", ended.stderr);
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 3, "silences are gone: {}", daemon.stderr());
    daemon.stop().map(drop)
}

/// A write beyond the limit is an error, and no signal that ends the process.
fn limited() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    wait_for(&daemon, SOON, "kept", is_kept)?;
    let limit = |bytes: &str| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args([&format!("--pid={}", daemon.pid()), &format!("--fsize={bytes}:unlimited")]);
        finish(prlimit, CLIENT)?.success().map(drop)
    };
    limit("4096")?;
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(said.contains("in memory alone"), "{said}");
    wait_for(&daemon, SOON, "waiting", waits)?;
    limit("unlimited")?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    let ended = daemon.stop()?;
    ensure!(ended.stderr.contains("the state is not kept now"), "{}", ended.stderr);
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 1, "the silence is gone: {}", daemon.stderr());
    daemon.stop().map(drop)
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
