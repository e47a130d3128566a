//! A key of AWS KMS.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::servers::{program, python};
use tests::{Place, Process, finish};

use super::{CLIENT, KEY, SOON, Site, is_kept, known_again, open_alert, secret, wait_for, waits};

const AWS: u16 = 34_662;

pub fn kms() -> Result<()> {
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
