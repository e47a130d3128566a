//! Policy: real clients that may and may not, by all that a policy can ask of them; a policy learnt
//! from traffic holds for that traffic. What files say by themselves: `policy_files.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::servers::{self, Security};
use tests::{
    Certificates, Cgroup, Daemon, DaemonOptions, Finished, Heard, Lab, Place, Process, Server, Suite, binary,
    finish, is_alert, is_flow, number, show, text,
};

const PORT: u16 = 34_567;
/// Generous: the host may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
const CLIENT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::new("policy")
        .test("who may connect: by unit, process, user, executable, its hash, address", &["nginx"], who)
        .test(
            "a program at the place of another, in a mount namespace of its own, is not taken for it",
            &["nginx", "unshare"],
            elsewhere,
        )
        .test(
            "what a client may connect to: by unit, port and name from DNS",
            &["dnsmasq", "dig", "nginx"],
            egress,
        )
        .test("what is learnt from traffic finds nothing in it, and finds a stranger", &["nginx"], learnt)
        .test("a directory is reloaded on SIGHUP, and a broken file changes nothing", &["nginx"], directory)
        .test("a role that cannot be seen in TLS breaks the policy where it says so", &["nginx"], hidden)
        .main()
}

fn policy(text: String) -> DaemonOptions {
    DaemonOptions { policy: Some(text), ..DaemonOptions::default() }
}

/// Web servers at `ports` ports from [`PORT`] on.
fn web(lab: &Lab, ports: u16) -> Result<Vec<Server>> {
    let certificates = Certificates::new(&lab.directory)?;
    let start = |port| {
        // Of one that ran before.
        let _ = std::fs::remove_dir_all(lab.directory.file(&format!("nginx-{port}")));
        servers::nginx(lab, &certificates, port, Security::Plain)
    };
    (PORT..PORT + ports).map(start).collect()
}

/// Two requests, half a second apart: of a process that has ended before it was looked at, neither its
/// executable nor its unit is sure to be known, and the policy rightly says so.
fn visit(place: &Place, program: impl AsRef<Path>, host: &str, port: u16) -> Result<()> {
    let mut command = place.command(program);
    let url = format!("http://{host}:{port}/");
    command.args(["-sSf", "-g", "-m", "20", "--rate", "2/s", &url, &url]);
    finish(command, CLIENT)?.success().map(drop)
}

/// The place of a client that runs in this unit.
fn within(lab: &Lab, unit: &Cgroup) -> Place {
    Place { cgroup: Some(unit.path().to_owned()), ..lab.client() }
}

fn port_of(record: &Value) -> Option<u16> {
    number(record, "server.port").and_then(|port| u16::try_from(port).ok())
}

fn of_client<'a>(record: &'a Value, name: &str) -> bool {
    let peer = text(record, "streamwatch.peer.process.name");
    let own: &'a str = text(record, "process.name");
    match text(record, "network.direction") {
        "egress" => own == name,
        _ => peer == name,
    }
}

/// Waits for the end of a flow of this client to this port, and gives what its policy answer is.
fn verdict(daemon: &Daemon, client: &str, host: &str, port: u16) -> Result<Value> {
    let heard = daemon.wait_for("flow that has ended", PATIENCE, is_flow, |record| {
        is_flow(record)
            && text(record, "streamwatch.flow.state") == "closed"
            && text(record, "event.action") == "flow_closed"
            && text(record, "network.direction") == "egress"
            && text(record, "server.ip") == host
            && port_of(record) == Some(port)
            && of_client(record, client)
    })?;
    Ok(heard.record["streamwatch"]["verdict"]["authorised"].clone())
}

fn unexpected(heard: &[Heard]) -> Vec<&Value> {
    heard
        .iter()
        .map(|heard| &heard.record)
        .filter(|record| is_alert(record) && text(record, "rule.id") == "unexpected-peer")
        .collect()
}

fn list(records: &[&Value]) -> String {
    records.iter().map(|record| show(record)).collect::<Vec<_>>().join("\n  ")
}

/// curl, and another program: a copy with another name and another content.
fn curl_and_a_stranger(lab: &Lab) -> Result<[PathBuf; 2]> {
    let curl = String::from_utf8(Command::new("sh").args(["-c", "command -v curl"]).output()?.stdout)?;
    let curl = std::fs::canonicalize(curl.trim())?;
    let mut bytes = std::fs::read(&curl)?;
    bytes.push(0);
    let copy = lab.directory.path().join("stranger");
    std::fs::write(&copy, bytes)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&copy, mode)?;
    Ok([curl, copy])
}

/// The host's curl, and one that a user has put at its place for itself.
fn elsewhere() -> Result<()> {
    let lab = Lab::new("policy")?;
    let [curl, copy] = curl_and_a_stranger(&lab)?;
    let entry = format!("executable = \"{}\"", curl.display());
    let file = [PORT, PORT + 1, PORT + 2].map(|port| {
        format!("[[service]]\nname = \"s{port}\"\nports = [{port}]\n[[service.client]]\n{entry}\n")
    });
    let _web = web(&lab, 3)?;
    let daemon = Daemon::start(&lab, policy(file.concat()))?;
    visit(&lab.client(), &curl, "10.213.0.2", PORT)?;
    let mut command = lab.client().as_user("www-data").command("unshare");
    let url = format!("http://10.213.0.2:{}/", PORT + 1);
    let script = "mount --bind \"$1\" \"$2\" && exec \"$2\" -sSf -m 20 --rate 2/s \"$3\" \"$3\"";
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.args([copy.as_path(), &curl]).arg(&url);
    finish(command, CLIENT)?.success()?;
    let own = verdict(&daemon, "curl", "10.213.0.2", PORT)?;
    ensure!(own["answer"] == "yes", "{own}");
    let others = verdict(&daemon, "curl", "10.213.0.2", PORT + 1)?;
    ensure!(others["answer"] == "unknown", "{others}");
    executed_outside(&lab, &curl, &copy)?;
    let outside = verdict(&daemon, "9", "10.213.0.2", PORT + 2)?;
    ensure!(outside["answer"] == "unknown", "{outside}");
    Ok(())
}

/// The same file, opened in there, and executed by one that is in the host's mount namespace: its name is that of the
/// descriptor.
fn executed_outside(lab: &Lab, curl: &Path, copy: &Path) -> Result<()> {
    let inside = "mount --bind \"$1\" \"$2\" && exec 9<\"$2\" && sleep 20";
    let script = format!(
        "unshare --user --map-root-user --mount sh -c '{inside}' sh \"$1\" \"$2\" & \
         until [ -e /proc/$!/fd/9 ]; do sleep 0.1; done; \
         /proc/$!/fd/9 -sSf -m 20 --rate 2/s \"$3\" \"$3\"; code=$?; kill $!; exit $code"
    );
    let mut command = lab.client().as_user("www-data").command("sh");
    command.args(["-c", &script, "sh"]).args([copy, curl]);
    command.arg(format!("http://10.213.0.2:{}/", PORT + 2));
    finish(command, CLIENT)?.success().map(drop)
}

fn who() -> Result<()> {
    let lab = Lab::new("policy")?;
    let payments = lab.cgroup.child("payments.service")?;
    let other = lab.cgroup.child("other.service")?;
    let [curl, copy] = curl_and_a_stranger(&lab)?;
    let said = Command::new("sha256sum").arg(&curl).output()?.stdout;
    let hash = String::from_utf8(said)?.split_whitespace().next().context("no hash")?.to_owned();

    let entries = [
        "unit = \"payments.service\"".to_owned(),
        "unit = [\"pay*.service\", \"audit.service\"]".to_owned(),
        "process = \"curl\"".to_owned(),
        "user = \"root\"".to_owned(),
        format!("executable = \"{}\"", curl.display()),
        format!("sha256 = \"{hash}\""),
        "address = \"10.213.0.0/24\"".to_owned(),
        "group = \"payments\"".to_owned(),
    ];
    let mut file = String::from("[groups]\npayments = [{ unit = \"payments.service\", user = \"root\" }]\n");
    for (index, entry) in entries.iter().enumerate() {
        let port = usize::from(PORT) + index;
        file += &format!("[[service]]\nname = \"s{index}\"\nports = [{port}]\n[[service.client]]\n{entry}\n");
    }
    let count = entries.len() as u16;
    let _web = web(&lab, count)?;
    let daemon = Daemon::start(&lab, policy(file))?;
    for port in PORT..PORT + count {
        visit(&within(&lab, &payments), &curl, "10.213.0.2", port)?;
        visit(&within(&lab, &other).as_user("www-data"), &copy, "[fd13::2]", port)?;
    }
    for (index, entry) in entries.iter().enumerate() {
        let port = PORT + index as u16;
        let allowed = verdict(&daemon, "curl", "10.213.0.2", port)?;
        ensure!(allowed["answer"] == "yes", "{entry}: {allowed}");
        let evidence = allowed["evidence"].as_str().unwrap_or_default();
        let line = 3 + 5 * index + 3;
        ensure!(
            evidence.contains(&format!("(policy.toml:{line})")),
            "{entry}: not its line {line}: {evidence}"
        );
        let refused = verdict(&daemon, "stranger", "fd13::2", port)?;
        ensure!(refused["answer"] == "no", "{entry}: {refused}");
        let alert = daemon.wait_for("unexpected-peer alert", PATIENCE, is_alert, |record| {
            is_alert(record)
                && text(record, "rule.id") == "unexpected-peer"
                && port_of(record) == Some(port)
                && of_client(record, "stranger")
        })?;
        let reason = text(&alert.record, "event.reason");
        ensure!(reason.contains(&format!("'s{index}'")) && reason.contains("policy.toml:"), "{reason}");
    }
    let heard = daemon.heard();
    let wrong: Vec<&Value> =
        unexpected(&heard).into_iter().filter(|record| of_client(record, "curl")).collect();
    ensure!(wrong.is_empty(), "alerted about who may:\n  {}", list(&wrong));
    Ok(())
}

fn egress() -> Result<()> {
    let lab = Lab::new("policy")?;
    let payments = lab.cgroup.child("payments.service")?;
    let other = lab.cgroup.child("other.service")?;
    lab.pair.right.ip(&["address", "add", "10.213.0.3/24", "dev", "link0"])?;
    let mut serve = lab.server().command("dnsmasq");
    serve.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--conf-file=/dev/null"]);
    serve.args(["--pid-file=", "--port=53", "--address=/allowed.test/10.213.0.2"]);
    serve.arg("--address=/other.test/10.213.0.3");
    let mut dns = Process::start("dnsmasq", &lab.directory, serve)?;
    dns.wait_for_port("udp", 53, PATIENCE)?;
    let _web = web(&lab, 2)?;
    let file = format!(
        "[names]\nresolvers = [\"10.213.0.2\"]\n\
         [[client]]\nname = \"payments\"\nunit = \"payments.service\"\n\
         [[client.to]]\ndns = \"allowed.test\"\nports = [{PORT}]\n\
         [[client.to]]\nports = [53]\n"
    );
    let daemon = Daemon::start(&lab, policy(file))?;
    let place = within(&lab, &payments);
    for (name, address) in [("allowed.test", "10.213.0.2"), ("other.test", "10.213.0.3")] {
        let mut dig = place.command("dig");
        dig.args(["@10.213.0.2", "+short", "+tries=1", "+timeout=10", name]);
        let answer = lab.run(dig, CLIENT)?;
        ensure!(answer.stdout.trim() == address, "{name}: {answer:?}");
        visit(&place, "curl", address, PORT)?;
    }
    visit(&place, "curl", "10.213.0.2", PORT + 1)?;
    visit(&within(&lab, &other), "curl", "10.213.0.2", PORT + 1)?;
    let named = verdict(&daemon, "curl", "10.213.0.2", PORT)?;
    ensure!(
        named["answer"] == "yes" && named["evidence"].as_str().unwrap_or("").contains("dns=allowed.test"),
        "{named}"
    );
    let misnamed = verdict(&daemon, "curl", "10.213.0.3", PORT)?;
    ensure!(misnamed["answer"] == "no", "{misnamed}");
    for (host, port) in [("10.213.0.3", PORT), ("10.213.0.2", PORT + 1)] {
        let alert = daemon.wait_for("egress alert", PATIENCE, is_alert, |record| {
            is_alert(record)
                && text(record, "rule.id") == "unexpected-peer"
                && text(record, "server.ip") == host
                && port_of(record) == Some(port)
        })?;
        let reason = text(&alert.record, "event.reason");
        ensure!(reason.contains("for the client 'payments' expects only dns=allowed.test"), "{reason}");
        ensure!(text(&alert.record, "service.name") == "payments.service", "not its unit: {}", alert.record);
    }
    let heard = daemon.heard();
    let wrong: Vec<&Value> = unexpected(&heard)
        .into_iter()
        .filter(|record| text(record, "service.name") == "other.service" || port_of(record) == Some(53))
        .collect();
    ensure!(wrong.is_empty(), "alerted about who may:\n  {}", list(&wrong));
    Ok(())
}

fn streamwatch(daemon: &Daemon, arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new(binary());
    command.arg("--socket").arg(daemon.socket()).arg("policy").args(arguments);
    finish(command, CLIENT)
}

fn learnt() -> Result<()> {
    let lab = Lab::new("policy")?;
    let payments = lab.cgroup.child("payments.service")?;
    let audit = lab.cgroup.child("audit.service")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    // A server that is older than the monitor and has several processes is not always known.
    let servers = web(&lab, 2)?;
    let traffic = || -> Result<()> {
        for port in [PORT, PORT + 1] {
            visit(&within(&lab, &payments), "curl", "10.213.0.2", port)?;
        }
        visit(&within(&lab, &audit), "curl", "[fd13::2]", PORT)?;
        visit(&lab.server(), "curl", "127.0.0.1", PORT)
    };
    traffic()?;
    verdict(&daemon, "curl", "127.0.0.1", PORT)?;
    let learnt = streamwatch(&daemon, &["learn"])?.success()?;
    let file = lab.directory.write("learnt.toml", &learnt.stdout)?;
    for expected in
        ["unit = \"payments.service\"", "unit = \"audit.service\"", "[[client.to]]\nservice = ", " flow"]
    {
        ensure!(learnt.stdout.contains(expected), "no {expected} in\n{}", learnt.stdout);
    }
    let checked = streamwatch(&daemon, &["check", &file])?.success()?;
    ensure!(checked.stdout.contains("a policy for "), "{checked:?}\n{}", learnt.stdout);
    for name in ["nginx-tcp-34567", "nginx-tcp-34568"] {
        let times = learnt.stdout.matches(&format!("name = \"{name}\"")).count();
        ensure!(times == 1, "{name} is there {times} times:\n{}", learnt.stdout);
    }
    let tested = streamwatch(&daemon, &["test", &file])?;
    ensure!(tested.status.code() == Some(0), "{tested:?}\n{}", learnt.stdout);
    ensure!(tested.stdout.contains(" 0 unexpected"), "{tested:?}");

    // The same from a file of records.
    let records: Vec<String> = daemon.heard().iter().map(|heard| heard.record.to_string()).collect();
    let records = lab.directory.write("records.jsonl", &records.join("\n"))?;
    let again = streamwatch(&daemon, &["learn", "--flows", &records])?.success()?;
    let again = lab.directory.write("again.toml", &again.stdout)?;
    let difference = streamwatch(&daemon, &["diff", &file, &again])?;
    let tested = streamwatch(&daemon, &["test", &again, "--flows", &records])?;
    ensure!(tested.status.code() == Some(0), "{tested:?}\n{}", difference.stdout);

    // In force, it finds nothing in the same traffic, and finds a stranger.
    let stranger = lab.cgroup.child("stranger.service")?;
    drop((daemon, servers));
    let daemon = Daemon::start(&lab, policy(learnt.stdout.clone()))?;
    let _servers = web(&lab, 2)?;
    traffic()?;
    let allowed = verdict(&daemon, "curl", "127.0.0.1", PORT)?;
    ensure!(allowed["answer"] == "yes", "{allowed}\n{}", learnt.stdout);
    visit(&within(&lab, &stranger), "curl", "10.213.0.2", PORT + 1)?;
    daemon.wait_for("unexpected-peer alert", PATIENCE, is_alert, |record| {
        is_alert(record)
            && text(record, "rule.id") == "unexpected-peer"
            && record.to_string().contains("stranger.service")
    })?;
    let heard = daemon.heard();
    let wrong: Vec<&Value> = unexpected(&heard)
        .into_iter()
        .filter(|record| !record.to_string().contains("stranger.service"))
        .collect();
    ensure!(wrong.is_empty(), "found in what it was learnt from:\n  {}\n{}", list(&wrong), learnt.stdout);
    let tested = streamwatch(&daemon, &["test", &file])?;
    ensure!(tested.status.code() == Some(1), "{tested:?}");
    ensure!(tested.stdout.contains("unexpected-peer: stranger.service"), "{tested:?}");
    Ok(())
}

fn directory() -> Result<()> {
    let lab = Lab::new("policy")?;
    let _web = web(&lab, 1)?;
    let place = lab.directory.directory("policies", None)?;
    let write = |name: &str, text: &str| lab.directory.write(&format!("policies/{name}"), text);
    write("10-groups.toml", "[groups]\nshop = [{ process = \"curl\" }]\n")?;
    let service =
        format!("[[service]]\nname = \"web\"\nports = [{PORT}]\n[[service.client]]\ngroup = \"shop\"\n");
    write("20-web.toml", &service)?;
    let config = format!("[policy]\nfile = \"{place}\"\n");
    let options = DaemonOptions { config: Some(config.clone()), ..DaemonOptions::default() };
    let daemon = Daemon::start(&lab, options)?;
    let answer = |expected: &str, evidence: &str| -> Result<()> {
        visit(&lab.client(), "curl", "10.213.0.2", PORT)?;
        daemon.wait_for("answer of the policy", PATIENCE, is_flow, |record| {
            let said = &record["streamwatch"]["verdict"]["authorised"];
            is_flow(record)
                && text(record, "event.action") == "flow_closed"
                && port_of(record) == Some(PORT)
                && said["answer"] == expected
                && said["evidence"].as_str().unwrap_or_default().contains(evidence)
        })?;
        Ok(())
    };
    answer("yes", "20-web.toml:4")?;
    write("10-groups.toml", "[groups]\nshop = [{ process = \"wget\" }]\n")?;
    let reload = |said: &str, times: usize| -> Result<()> {
        daemon.signal(Signal::HUP);
        let deadline = std::time::Instant::now() + PATIENCE;
        while daemon.stderr().matches(said).count() < times {
            ensure!(std::time::Instant::now() < deadline, "it did not say {said:?}: {}", daemon.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    };
    reload("streamwatch: reloaded", 1)?;
    answer("no", "20-web.toml:1")?;
    write(
        "30-broken.toml",
        "[[service]]\nname = \"x\"\nports = [22]\naction = \"deny\"\n[[service.client]]\nuser = \"root\"\n",
    )?;
    reload("30-broken.toml:4:10: action \"deny\" is reserved for a later version", 1)?;
    ensure!(daemon.stderr().contains("not reloaded, the old policy stays in force"), "{}", daemon.stderr());
    std::fs::remove_file(format!("{place}/30-broken.toml"))?;
    std::fs::rename(&place, format!("{place}.away"))?;
    reload(&format!("config.toml:2:8: policy.file: {place}: can't be read"), 1)?;
    std::fs::rename(format!("{place}.away"), &place)?;
    // As it is while it is written anew.
    write("20-web.toml", "")?;
    reload(
        "holds no service and no client; to go without a policy, take policy.file out of the settings",
        1,
    )?;
    answer("no", "20-web.toml:1")?;
    write("20-web.toml", &format!("# moved\n{}", service.replace("group = \"shop\"", "user = \"root\"")))?;
    reload("streamwatch: reloaded", 2)?;
    answer("yes", "20-web.toml:5")?;
    daemon.stop()?;
    // There is no old one to stay in force.
    write("20-web.toml", "")?;
    let said =
        Daemon::start(&lab, DaemonOptions { config: Some(config), ..DaemonOptions::default() })?.stderr();
    let expected = format!("the policy {place} holds no service and no client, so nothing breaks it");
    ensure!(said.matches(&expected).count() == 1, "{said}");
    Ok(())
}

fn hidden() -> Result<()> {
    let lab = Lab::new("policy")?;
    let certificates = Certificates::new(&lab.directory)?;
    let _tls = servers::nginx(&lab, &certificates, PORT, Security::Tls)?;
    let _plain = servers::nginx(&lab, &certificates, PORT + 1, Security::Plain)?;
    let _accepted = servers::nginx(&lab, &certificates, PORT + 2, Security::Tls)?;
    let file: String = [("tls", 0, "alert"), ("plain", 1, "alert"), ("accepted", 2, "accept")]
        .iter()
        .map(|(name, port, encrypted)| {
            format!(
                "[[service]]\nname = \"{name}\"\nports = [{}]\nencrypted = \"{encrypted}\"\n\
                 [[service.client]]\nprocess = \"curl\"\nmay = [\"read\"]\n",
                PORT + port
            )
        })
        .collect();
    let daemon = Daemon::start(&lab, policy(file))?;
    for (scheme, port) in [("https", PORT), ("http", PORT + 1), ("https", PORT + 2)] {
        let mut command = lab.client().command("curl");
        command.args([
            "-sSf",
            "-m",
            "10",
            "--cacert",
            &certificates.authority,
            &format!("{scheme}://10.213.0.2:{port}/"),
        ]);
        lab.run(command, CLIENT)?;
    }
    // In the clear it is read, and a GET is what the role allows.
    for (port, expected, why) in
        [(PORT, "no", "encrypted"), (PORT + 1, "yes", "allows"), (PORT + 2, "unknown", "encrypted")]
    {
        let said = verdict(&daemon, "curl", "10.213.0.2", port)?;
        ensure!(said["answer"] == expected, "port {port}: {said}");
        ensure!(said["reason"].as_str().unwrap_or_default().contains(why), "port {port}: {said}");
    }
    daemon.wait_for("unexpected-peer alert", PATIENCE, is_alert, |record| {
        is_alert(record) && text(record, "rule.id") == "unexpected-peer" && port_of(record) == Some(PORT)
    })?;
    let heard = daemon.heard();
    let wrong: Vec<&Value> =
        unexpected(&heard).into_iter().filter(|record| port_of(record) != Some(PORT)).collect();
    ensure!(wrong.is_empty(), "alerted:\n  {}", list(&wrong));
    Ok(())
}
