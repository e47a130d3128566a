//! A key in Vault's KV store.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::servers::tool;
use tests::{Certificates, Directory, Place, Process, finish, number, text};

use super::{CLIENT, KEY, SOON, Site, is_kept, known_again, open_alert, secret, wait_for, waits};

const VAULT: u16 = 34_661;

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

pub fn vault() -> Result<()> {
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
