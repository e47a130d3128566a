//! The life of an alert: acknowledged, silenced, told to hooks, alive after a crash of the daemon, and
//! heard once, whoever comes back.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::servers::{program, python};
use tests::{
    Certificates, Daemon, DaemonOptions, Finished, Heard, Lab, Place, Process, Suite, binary, field, finish,
    is_alert, number, text,
};

const PORT: u16 = 34_650;
const OTHER: u16 = 34_651;
const HOOK: u16 = 34_652;
const CLIENT: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    Suite::new("alert_life")
        .test("what is acknowledged is not repeated, and the record says by whom", &[], acknowledged)
        .test("only root acknowledges", &["setpriv"], only_root)
        .test("what is silenced is written and told to no hook", &[], silenced)
        .test("alerts and acknowledgements outlive a crash of the daemon", &[], crash)
        .test("what a hook was not told when the daemon was killed, the next one tells it", &[], posted_again)
        .test("a follower hears everything once, over a restart", &[], follower)
        .test("a webhook with TLS is told, and one that cannot be verified is not", &["openssl"], webhook)
        .main()
}

/// A web server in the clear, of one process, so that it is the same to every daemon; and requests
/// that each are a finding.
struct Clear {
    lab: Lab,
    _server: Process,
}

impl Clear {
    fn new() -> Result<Clear> {
        let lab = Lab::new("alert_life")?;
        let server = Clear::serve(&lab, PORT)?;
        Ok(Clear { lab, _server: server })
    }

    fn serve(lab: &Lab, port: u16) -> Result<Process> {
        let mut command = lab.server().command(python());
        command.args(["-m", "http.server", "--directory"]).arg(lab.directory.path()).arg(port.to_string());
        let mut server = Process::start(&format!("web-{port}"), &lab.directory, command)?;
        server.wait_for_port("tcp", port, SOON)?;
        Ok(server)
    }

    fn other(&self) -> Result<Process> {
        Clear::serve(&self.lab, OTHER)
    }

    fn request(&self, port: u16) -> Result<()> {
        let mut curl = self.lab.client().command("curl");
        curl.args(["-sSf", "-m", "15", &format!("http://10.213.0.2:{port}/")]);
        self.lab.run(curl, CLIENT).map(drop)
    }

    /// The daemon, with more in its configuration.
    fn daemon(&self, more: &str) -> Result<Daemon> {
        let state = self.lab.directory.file("state.redb");
        let config = format!("[alerts]\nrepeat_every_s = 1\nstate = \"{state}\"\n{more}");
        let socket = Some(self.lab.directory.path().join("api.sock"));
        Daemon::start(&self.lab, DaemonOptions { config: Some(config), socket, ..DaemonOptions::default() })
    }
}

fn streamwatch(daemon: &Daemon, arguments: &[&str]) -> Result<Finished> {
    let mut command = Place::default().command(binary());
    command.arg("--socket").arg(daemon.socket()).args(arguments);
    finish(command, CLIENT)
}

fn is_plaintext(record: &Value) -> bool {
    is_alert(record)
        && text(record, "rule.id") == "plaintext"
        && number(record, "server.port") == Some(PORT.into())
}

/// Says that the alert is known, and why.
fn acknowledge(daemon: &Daemon, alert: &Value, why: &str) -> Result<()> {
    let key = text(alert, "streamwatch.alert.key");
    let said = streamwatch(daemon, &["alerts", "ack", key, "--for", "2h", "--why", why])?;
    ensure!(said.status.success() && said.stdout.starts_with("acknowledged until "), "{said:?}");
    Ok(())
}

/// Asks the server in the clear until there is an alert about a client that is known. Whether a request goes by a tunnel
/// may not be known by its end, while other tests make some: then it is none. A client that was gone before anybody looked,
/// as curl may be on a busy machine, is in an alert of its own.
fn opened(clear: &Clear, daemon: &Daemon) -> Result<Heard> {
    let deadline = Instant::now() + 2 * SOON;
    loop {
        clear.request(PORT)?;
        let heard = daemon.wait_for("the alert", Duration::from_secs(2), is_alert, |record| {
            is_plaintext(record)
                && text(record, "event.action") == "alert_opened"
                && !text(record, "streamwatch.alert.key").contains('?')
        });
        if heard.is_ok() || Instant::now() >= deadline {
            return heard;
        }
    }
}

/// A listing of the API, a record a line.
fn listing(daemon: &Daemon, path: &str) -> Result<Vec<Value>> {
    let mut curl = Command::new("curl");
    curl.args(["-sSf", "--max-time", "10", "--unix-socket"]).arg(daemon.socket());
    curl.arg(format!("http://localhost{path}"));
    let answer = finish(curl, CLIENT)?.success()?;
    answer.stdout.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

fn acknowledged() -> Result<()> {
    let clear = Clear::new()?;
    let daemon = clear.daemon("")?;
    let alert = opened(&clear, &daemon)?.record;
    // It is repeated as long as nobody knows of it.
    let key = text(&alert, "streamwatch.alert.key");
    let repeated = |record: &Value| {
        text(record, "streamwatch.alert.key") == key && text(record, "event.action") == "alert_repeated"
    };
    let deadline = Instant::now() + SOON;
    while !daemon.heard().iter().any(|heard| repeated(&heard.record)) {
        ensure!(Instant::now() < deadline, "never repeated: nothing is tested");
        thread::sleep(Duration::from_millis(300));
        clear.request(PORT)?;
    }
    acknowledge(&daemon, &alert, "known since May")?;
    let told = daemon.wait_for("the acknowledgement", SOON, is_alert, |record| {
        text(record, "event.action") == "alert_acknowledged"
    })?;
    let known = field(&told.record, "streamwatch.alert.acknowledged");
    ensure!(known["by"] == 0 && known["why"] == "known since May", "who and why: {known}");
    let until = text(&told.record, "streamwatch.alert.acknowledged.until");
    ensure!(!until.is_empty() && until > text(&told.record, "@timestamp"), "until when: {known}");
    // As long as it took to be repeated above, and longer.
    let before = daemon.heard().iter().filter(|heard| repeated(&heard.record)).count();
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(300));
        clear.request(PORT)?;
    }
    let after = daemon.heard().iter().filter(|heard| repeated(&heard.record)).count();
    ensure!(after == before, "repeated {} times after it was acknowledged", after - before);
    let listed = listing(&daemon, "/v1/alerts")?;
    let is_it = |record: &&Value| text(record, "streamwatch.alert.key") == key;
    let listed = listed.iter().find(is_it).context("no longer listed")?;
    ensure!(field(listed, "streamwatch.alert.acknowledged.by") == 0, "not in the listing: {listed}");
    let nobody = streamwatch(&daemon, &["alerts", "ack", "no such key", "--for", "2h", "--why", "x"])?;
    ensure!(nobody.status.code() == Some(2) && nobody.stderr.contains("no open alert"), "{nobody:?}");
    Ok(())
}

fn only_root() -> Result<()> {
    let clear = Clear::new()?;
    let daemon = clear.daemon("[api]\ngroup = \"daemon\"\n")?;
    opened(&clear, &daemon)?;
    let ask = |method: &str, path: &str| -> Result<String> {
        let mut curl = Place::default().as_user("daemon").command("curl");
        curl.args(["-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", "-X", method]);
        curl.arg("--unix-socket").arg(daemon.socket()).arg(format!("http://localhost{path}"));
        Ok(finish(curl, CLIENT)?.success()?.stdout)
    };
    ensure!(ask("GET", "/v1/alerts")? == "200", "a member of the group may not look");
    ensure!(ask("POST", "/v1/alerts/ack?key=x&for=2h&why=x")? == "403", "it may acknowledge");
    ensure!(ask("POST", "/v1/silences?filter=rule%3D%3Dplaintext&for=2h&why=x")? == "403", "it may silence");
    ensure!(ask("POST", "/v1/silences/end?id=1")? == "403", "it may end a silence");
    Ok(())
}

/// The records that a hook wrote, so far.
fn written(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn wait_written(path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !written(path).iter().any(&wanted) {
        ensure!(Instant::now() < deadline, "the hook was not told of {what}: {:?}", written(path));
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn silenced() -> Result<()> {
    let clear = Clear::new()?;
    let told = clear.lab.directory.file("told");
    let hook = format!("[[alerts.hooks]]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> {told}\"]\n");
    let daemon = clear.daemon(&hook)?;
    let filter = format!("rule == \"plaintext\" && server.port == {PORT}");
    let said = streamwatch(
        &daemon,
        &["alerts", "silence", "--filter", &filter, "--for", "1h", "--why", "maintenance"],
    )?;
    ensure!(said.status.success() && said.stdout.starts_with("silence 1 until "), "{said:?}");
    let list = streamwatch(&daemon, &["alerts", "silences"])?;
    ensure!(list.stdout.contains("by user 0 (maintenance)"), "{list:?}");
    let record = opened(&clear, &daemon)?.record;
    ensure!(field(&record, "streamwatch.alert.silenced.by") == 0, "not marked: {record}");
    ensure!(text(&record, "streamwatch.alert.silenced.why") == "maintenance", "not marked: {record}");
    // Another one is not covered, and comes later: by then the first would have come.
    let _other = clear.other()?;
    clear.request(OTHER)?;
    let of_port = |record: &Value, port: u16| {
        text(record, "rule.id") == "plaintext" && number(record, "server.port") == Some(port.into())
    };
    wait_written(&told, "what is not silenced", |record| of_port(record, OTHER))?;
    ensure!(!written(&told).iter().any(|record| of_port(record, PORT)), "told of what is silenced");
    // Ended, it is heard again.
    ensure!(streamwatch(&daemon, &["alerts", "unsilence", "1"])?.status.success(), "it cannot be ended");
    let deadline = Instant::now() + SOON;
    while !written(&told).iter().any(|record| of_port(record, PORT)) {
        ensure!(Instant::now() < deadline, "not heard after the silence");
        thread::sleep(Duration::from_millis(500));
        clear.request(PORT)?;
    }
    Ok(())
}

fn posted_again() -> Result<()> {
    let clear = Clear::new()?;
    let (told, may) = (clear.lab.directory.file("told"), clear.lab.directory.file("may"));
    // It takes until it may (or half a minute); then it has it.
    let script =
        format!("n=0; until [ -e {may} -o $n = 600 ]; do n=$((n+1)); sleep 0.05; done; cat >> {told}");
    let hook = format!("[[alerts.hooks]]\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\ntimeout_s = 60\n");
    let daemon = clear.daemon(&hook)?;
    let alert = opened(&clear, &daemon)?.record;
    // What was written is on the disk within a fifth of a second.
    thread::sleep(Duration::from_secs(2));
    daemon.stop_with(Signal::KILL)?;
    ensure!(written(&told).is_empty(), "the hook has it already: nothing is tested");
    let daemon = clear.daemon(&hook)?;
    std::fs::write(&may, "")?;
    let key = text(&alert, "streamwatch.alert.key").to_owned();
    let is_it = |record: &Value| {
        text(record, "streamwatch.alert.key") == key && text(record, "event.action") == "alert_opened"
    };
    // That of the daemon that was killed may have gone on by itself: twice is once more than that.
    let deadline = Instant::now() + SOON;
    while written(&told).iter().filter(|record| is_it(record)).count() < 2 {
        ensure!(
            Instant::now() < deadline,
            "not told by the next one: {:?}\n{}",
            written(&told),
            daemon.stderr()
        );
        thread::sleep(Duration::from_millis(50));
    }
    ensure!(daemon.stderr().contains("were told and not posted before"), "{}", daemon.stderr());
    // Nothing is left for the one after it.
    thread::sleep(Duration::from_secs(2));
    daemon.stop_with(Signal::KILL)?;
    let daemon = clear.daemon(&hook)?;
    ensure!(!daemon.stderr().contains("not posted before"), "{}", daemon.stderr());
    Ok(())
}

fn crash() -> Result<()> {
    let clear = Clear::new()?;
    let daemon = clear.daemon("")?;
    let first = opened(&clear, &daemon)?.record;
    acknowledge(&daemon, &first, "known")?;
    // What was answered is on the disk.
    daemon.stop_with(Signal::KILL)?;
    let daemon = clear.daemon("")?;
    let listed = listing(&daemon, "/v1/alerts")?;
    // The flow that showed it is gone with the daemon; the key is not.
    let key = text(&first, "streamwatch.alert.key");
    let is_it = |record: &&Value| text(record, "streamwatch.alert.key") == key;
    let alert = listed.iter().find(is_it).context("gone after the crash")?;
    let (before, after) =
        (text(&first, "streamwatch.alert.first_seen"), text(alert, "streamwatch.alert.first_seen"));
    ensure!(before == after, "first seen {before}, and after the crash {after}");
    ensure!(text(alert, "streamwatch.alert.acknowledged.why") == "known", "no longer acknowledged: {alert}");
    // It goes on: other findings neither open it again nor repeat what is known. One that could not be
    // laid at a process counts as another stream's.
    let count = |alert: &Value| number(alert, "streamwatch.alert.count").unwrap_or_default();
    let (deadline, kept) = (Instant::now() + SOON, count(alert));
    loop {
        clear.request(PORT)?;
        let listed = listing(&daemon, "/v1/alerts")?;
        if listed.iter().find(is_it).is_some_and(|alert| count(alert) >= kept + 3) {
            break;
        }
        ensure!(Instant::now() < deadline, "not found again: nothing is tested: {listed:?}");
        thread::sleep(Duration::from_millis(500));
    }
    let _other = clear.other()?;
    clear.request(OTHER)?;
    daemon.wait_for("another alert", SOON, is_alert, |record| {
        is_alert(record) && number(record, "server.port") == Some(OTHER.into())
    })?;
    let heard = daemon.heard();
    let again = heard.iter().find(|heard| is_it(&&heard.record));
    ensure!(
        again.is_none(),
        "told again: {}",
        again.map(|heard| heard.record.to_string()).unwrap_or_default()
    );
    let counted = listing(&daemon, "/v1/alerts")?;
    let alert = counted.iter().find(is_it).context("gone")?;
    ensure!(number(alert, "streamwatch.alert.count") > Some(1), "not counted on: {alert}");
    Ok(())
}

fn cursors(heard: &[Heard]) -> Vec<u64> {
    let alerts = heard.iter().filter(|heard| is_alert(&heard.record));
    alerts.filter_map(|heard| number(&heard.record, "streamwatch.alert.cursor")).collect()
}

fn follower() -> Result<()> {
    let clear = Clear::new()?;
    let daemon = clear.daemon("")?;
    let mut command = Place::default().command(binary());
    command.arg("--socket").arg(daemon.socket()).args(["alerts", "--follow", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut follower = Process::start_piped("follower", command)?;
    let stdout = follower.child().stdout.take().context("no stdout")?;
    let heard: Arc<Mutex<Vec<u64>>> = Arc::default();
    let reader = {
        let heard = heard.clone();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let record: Value = serde_json::from_str(&line).unwrap_or_default();
                let cursor = number(&record, "streamwatch.alert.cursor").unwrap_or(0);
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(cursor);
            }
        })
    };
    let wait_for = |cursor: u64| -> Result<()> {
        let deadline = Instant::now() + 2 * SOON;
        loop {
            let now = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if now.contains(&cursor) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the follower heard {now:?}, and not {cursor}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    let first = opened(&clear, &daemon)?;
    wait_for(number(&first.record, "streamwatch.alert.cursor").context("no cursor")?)?;
    let before = daemon.stop_with(Signal::KILL)?;
    let daemon = clear.daemon("")?;
    // Told before the follower is back, as a rule, and at any rate while it may be away.
    let _other = clear.other()?;
    clear.request(OTHER)?;
    let last = daemon.wait_for("another alert", SOON, is_alert, |record| {
        is_alert(record) && number(record, "server.port") == Some(OTHER.into())
    })?;
    wait_for(number(&last.record, "streamwatch.alert.cursor").context("no cursor")?)?;
    follower.signal(Signal::KILL);
    reader.join().ok().context("the reader panicked")?;
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let up_to = heard.iter().max().copied().unwrap_or(0);
    // What the follower heard last, the daemon writes, too.
    daemon.wait_for("the last alert", SOON, is_alert, |record| {
        number(record, "streamwatch.alert.cursor") >= Some(up_to)
    })?;
    let told: Vec<u64> = [cursors(&before.heard), cursors(&daemon.heard())].concat();
    let expected: Vec<u64> = told.into_iter().filter(|cursor| *cursor <= up_to).collect();
    ensure!(heard == expected, "the daemons told {expected:?}, the follower heard {heard:?}");
    // The same by hand: after a cursor only what came later.
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "3", "--unix-socket"]).arg(daemon.socket());
    curl.arg(format!("http://localhost/v1/alerts?follow=true&after={}", expected[0]));
    let rest = finish(curl, CLIENT)?.stdout;
    let rest: Vec<u64> = rest
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|record| number(&record, "streamwatch.alert.cursor"))
        .collect();
    ensure!(rest.starts_with(&expected[1..]), "after the first: {rest:?}, expected {:?}", &expected[1..]);
    Ok(())
}

fn webhook() -> Result<()> {
    let clear = Clear::new()?;
    let told = clear.lab.directory.file("posted");
    let authorities = Certificates::new(&clear.lab.directory)?;
    let file = |name: &str| clear.lab.directory.file(name);
    // Of an end entity, as verifiers want it.
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    make.args(["-days", "30", "-subj", "/CN=hook", "-addext", "subjectAltName=IP:127.0.0.1"]);
    make.args(["-addext", "basicConstraints=critical,CA:FALSE", "-CA", &authorities.authority]);
    make.args(["-CAkey", &file("ca.key"), "-keyout", &file("hook.key"), "-out", &file("hook.pem")]);
    finish(make, CLIENT)?.success()?;
    let mut command = Command::new(python());
    command.arg(program("webhook_server.py"));
    command.args([&HOOK.to_string(), &file("hook.pem"), &file("hook.key"), &told]);
    let mut server = Process::start("webhook", &clear.lab.directory, command)?;
    server.wait_for_port("tcp", HOOK, SOON)?;
    let url = format!("https://127.0.0.1:{HOOK}/in");
    let hook = |ca: &str| format!("[[alerts.hooks]]\nwebhook = \"{url}\"\nca = \"{ca}\"\n");
    // The second one trusts somebody else.
    let hooks = hook(&authorities.authority) + &hook(&authorities.client_certificate);
    let daemon = clear.daemon(&hooks)?;
    clear.request(PORT)?;
    wait_written(&told, "the alert", is_plaintext).with_context(|| daemon.stderr())?;
    let deadline = Instant::now() + SOON;
    loop {
        let status = daemon.status()?;
        let hooks: Vec<&Value> = status["stages"]
            .as_array()
            .context("no stages")?
            .iter()
            .filter(|stage| text(stage, "name").starts_with("hook "))
            .collect();
        ensure!(hooks.len() == 2, "two hooks: {hooks:?}");
        ensure!(number(hooks[0], "dropped") == Some(0), "not delivered: {}", hooks[0]);
        if number(hooks[1], "dropped") > Some(0) {
            break;
        }
        ensure!(Instant::now() < deadline, "not counted: {}", hooks[1]);
        thread::sleep(Duration::from_millis(100));
    }
    // One about a client that was gone before anybody looked is another one.
    let lines = written(&told);
    let opened = lines.iter().filter(|r| is_plaintext(r) && text(r, "event.action") == "alert_opened");
    let keys: Vec<&str> = opened.map(|record| text(record, "streamwatch.alert.key")).collect();
    let alerts = keys.iter().collect::<HashSet<_>>().len();
    ensure!(!keys.is_empty() && keys.len() == alerts, "told {keys:?}, once by a hook that cannot verify it");
    Ok(())
}
