//! The daemon's life: it starts once, says so, ends cleanly, reloads safely, and fails with a clear
//! line and the promised exit status.

#[path = "daemon/signals.rs"]
mod signals;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tests::fdinfo;
use tests::traffic;
use tests::{
    Daemon, DaemonOptions, Finished, Lab, Process, Suite, binary, finish, is_flow, number, show, text,
};

const PORT: u16 = 34_567;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    Suite::new("daemon")
        .test("says READY to the service manager", &[], ready)
        .test("a second instance is refused", &[], second_instance)
        .alone("SIGTERM writes open flows and leaves no hook", &[], clean_end)
        .alone("SIGINT ends it cleanly, too", &[], interrupted)
        .test("a bad policy on SIGHUP changes nothing and says why", &[], bad_reload)
        .test("a good policy on SIGHUP is in force", &[], good_reload)
        .test("SIGTERM while a long policy is read again ends it at once", &[], signals::end_while_reloading)
        .test("… and a worker that ends meanwhile has a next one", &[], signals::next_worker_while_reloading)
        .test(
            "SIGTERM or SIGINT while it starts with a long policy ends it cleanly",
            &[],
            signals::end_while_starting,
        )
        .test("SIGHUP while it starts is for later", &[], signals::reload_while_starting)
        .test("SIGTERM while its worker does not come up ends it cleanly", &[], signals::end_with_no_worker)
        .test("… sent to both at once, too", &[], signals::end_of_all_at_once)
        .test("… and one that comes up by then tells what was seen", &[], signals::end_with_a_late_worker)
        .test("a bad configuration or policy is refused with file and line", &[], bad_file)
        .test("a policy that somebody else can change is taken, and said to be so", &[], policy_of_others)
        .test("a configuration that somebody else can change is refused", &[], configuration_of_others)
        .test(
            "a policy in a volume that is mounted read-only is nobody else's, whatever its mode",
            &["unshare", "mount"],
            policy_in_a_volume,
        )
        .test("the command line says when nobody answers", &[], unreachable)
        .test("the API answers what it promises", &[], api)
        .test("a socket that is removed is told, and what is put in its place stays", &[], removed_socket)
        .test("it is ahead of the load where processors are short, unless told otherwise", &[], ahead)
        .test(
            "where memory is short the loader is kept, and what it starts is as any other",
            &["choom"],
            kept,
        )
        .main()
}

fn ready() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let message = daemon.notification(PATIENCE).context("no message came")?;
    ensure!(message.lines().any(|line| line == "READY=1"), "no READY=1: {message:?}");
    Ok(())
}

fn second_instance() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let first = Daemon::start(&lab, DaemonOptions::default())?;
    let options = DaemonOptions { socket: Some(first.socket().to_owned()), ..DaemonOptions::default() };
    let second = Daemon::refused(&lab, options)?;
    ensure!(!second.status.success(), "the second instance ended with 0");
    ensure!(
        second.stderr.contains("already"),
        "it does not say that another one runs already: {}",
        second.stderr
    );
    ensure!(second.stderr.trim().lines().count() <= 2, "not a clear line: {}", second.stderr);
    first.status().context("the first instance was disturbed")?;
    Ok(())
}

fn removed_socket() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let socket = lab.directory.path().join("api.sock");
    let options = DaemonOptions { socket: Some(socket.clone()), ..DaemonOptions::default() };
    let daemon = Daemon::start(&lab, options)?;
    std::fs::remove_file(&socket)?;
    std::fs::write(&socket, "another's")?;
    let deadline = Instant::now() + PATIENCE;
    while !daemon.stderr().contains("api.sock was removed or replaced: it watches on, and nobody can ask it")
    {
        ensure!(Instant::now() < deadline, "it is not told: {}", daemon.stderr());
        thread::sleep(Duration::from_millis(100));
    }
    let ended = daemon.stop_with(Signal::TERM)?;
    ensure!(ended.status.success(), "it ended with {}", ended.status);
    ensure!(std::fs::read(&socket)? == b"another's", "what another one put there is gone");
    Ok(())
}

/// A client that holds a connection to an echo server, both in `lab`.
fn held_connection(lab: &Lab) -> Result<[Process; 2]> {
    let server = traffic::echo(lab, PORT)?;
    let mut hold = lab.client().command(traffic::program());
    hold.args(["hold", "--to", &format!("10.213.0.2:{PORT}")]).stdin(std::process::Stdio::piped());
    hold.stdout(std::process::Stdio::null());
    let mut client = Process::start_piped("hold", hold)?;
    use std::io::Write;
    client.child().stdin.as_mut().context("no stdin")?.write_all(b"hello\n")?;
    Ok([client, server])
}

fn ahead() -> Result<()> {
    let lab = Lab::new("daemon")?;
    for (config, expected) in [(None, -4), (Some("[worker]\npriority_boost = 0\n".to_owned()), 0)] {
        let daemon = Daemon::start(&lab, DaemonOptions { config, ..DaemonOptions::default() })?;
        let worker = number(&daemon.status()?, "worker.pid").context("no worker")?;
        for pid in [u64::from(daemon.pid()), worker] {
            for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
                let path = thread?.path();
                // proc_pid_stat(5): behind the name in parentheses, the 17th.
                let stat = std::fs::read_to_string(path.join("stat"))?;
                let (_, fields) = stat.rsplit_once(')').context("no name")?;
                let nice: i32 = fields.split_whitespace().nth(16).context("too short")?.parse()?;
                ensure!(nice == expected, "{}: nice {nice}, not {expected}", path.display());
            }
        }
        daemon.stop()?;
    }
    Ok(())
}

fn kept() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let said = lab.directory.path().join("said");
    let script = format!("sleep 1; cat /proc/self/oom_score_adj >> {}", said.display());
    let config = format!("[[alerts.hooks]]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\n");
    for (given, loader, others) in [("-500", "-500", "0"), ("200", "200", "200")] {
        if !Command::new("choom").args(["-n", given, "--", "true"]).output()?.status.success() {
            eprintln!("daemon: {given} takes CAP_SYS_RESOURCE, which is not here");
            continue;
        }
        let through = ["choom", "-n", given, "--"].map(Into::into).into();
        let options = DaemonOptions { config: Some(config.clone()), through, ..DaemonOptions::default() };
        let daemon = Daemon::start(&lab, options)?;
        let worker = number(&daemon.status()?, "worker.pid").context("no worker")?;
        for (pid, expected) in [(u64::from(daemon.pid()), loader), (worker, others)] {
            let value = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?;
            ensure!(value.trim() == expected, "{pid}: {value}, not {expected}");
        }
        // Its end is told.
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(i32::try_from(worker)?).context("no process")?,
            Signal::KILL,
        )?;
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_to_string(&said).unwrap_or_default().is_empty() {
            ensure!(Instant::now() < deadline, "no hook was told: {}", daemon.stderr());
            thread::sleep(Duration::from_millis(100));
        }
        let value = std::fs::read_to_string(&said)?;
        ensure!(value.lines().next() == Some(others), "what a hook runs has {value}");
        daemon.stop()?;
        std::fs::remove_file(&said)?;
    }
    Ok(())
}

fn clean_end() -> Result<()> {
    ends_with(Signal::TERM)
}

fn interrupted() -> Result<()> {
    ends_with(Signal::INT)
}

fn ends_with(signal: Signal) -> Result<()> {
    let lab = Lab::new("daemon")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let ours = held_programs(daemon.pid())?;
    ensure!(ours.len() >= 9 && left(&ours) == ours, "the daemon runs and there are no hooks: {ours:?}");
    let _connection = held_connection(&lab)?;
    daemon.wait_for("open flow", PATIENCE, is_flow, |record| {
        is_flow(record) && number(record, "server.port") == Some(PORT.into())
    })?;
    thread::sleep(Duration::from_millis(200));
    let ended = daemon.stop_with(signal)?;
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
    for direction in ["egress", "ingress"] {
        let last = ended.heard.iter().rev().map(|heard| &heard.record).find(|record| {
            is_flow(record)
                && number(record, "server.port") == Some(PORT.into())
                && text(record, "network.direction") == direction
        });
        let last = last.with_context(|| format!("no {direction} record"))?;
        ensure!(
            text(last, "event.action") == "flow_closed",
            "the last {direction} record is no final one: {}",
            show(last)
        );
        // "hello" and a line feed, there and back.
        let bytes = (number(last, "client.bytes"), number(last, "server.bytes"));
        ensure!(bytes == (Some(6), Some(6)), "{direction}: {bytes:?} bytes, not 6 and 6: {last}");
    }
    // The kernel frees links a moment after the last reference.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !left(&ours).is_empty() {
        ensure!(Instant::now() < deadline, "programs are left: {:?}", left(&ours));
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The BPF programs that a process holds, by their numbers, which are not given again soon.
fn held_programs(pid: u32) -> Result<BTreeSet<u32>> {
    let id = |text: String| u32::try_from(fdinfo::field(&text, "prog_id:")?).ok();
    Ok(fdinfo::of(pid)?.filter_map(id).collect())
}

/// Those that the kernel still has.
fn left(programs: &BTreeSet<u32>) -> BTreeSet<u32> {
    let loaded = aya::programs::loaded_programs().filter_map(Result::ok).map(|program| program.id());
    loaded.filter(|id| programs.contains(id)).collect()
}

const GOOD: &str =
    "[[service]]\nname = \"echo\"\nports = [34567]\n[[service.client]]\nprocess = \"traffic\"\n";
const BAD: &str = "[[service]]\nname = \"echo\"\nports = [99999]\n";
/// Other ports, so that the flow is not covered.
const ELSEWHERE: &str =
    "[[service]]\nname = \"echo\"\nports = [1]\n[[service.client]]\nprocess = \"traffic\"\n";

/// Waits for a flow of the held connection that the policy gives this answer.
fn authorised(daemon: &Daemon, answer: &str) -> Result<()> {
    let found = daemon.wait_for(&format!("flow with authorised = {answer}"), PATIENCE, is_flow, |record| {
        is_flow(record)
            && text(record, "network.direction") == "egress"
            && text(record, "streamwatch.verdict.authorised.answer") == answer
    });
    found.map(drop)
}

fn bad_reload() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let daemon =
        Daemon::start(&lab, DaemonOptions { policy: Some(GOOD.into()), ..DaemonOptions::default() })?;
    daemon.write_policy(BAD)?;
    daemon.signal(Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    while !daemon.stderr().contains("policy.toml:3") {
        ensure!(Instant::now() < deadline, "it does not say what is wrong, and where:\n{}", daemon.stderr());
        thread::sleep(Duration::from_millis(20));
    }
    let _connection = held_connection(&lab)?;
    authorised(&daemon, "yes").context("the old policy is not in force any more")
}

fn good_reload() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let daemon =
        Daemon::start(&lab, DaemonOptions { policy: Some(ELSEWHERE.into()), ..DaemonOptions::default() })?;
    let connection = held_connection(&lab)?;
    authorised(&daemon, "unknown")?;
    drop(connection);
    daemon.write_policy(GOOD)?;
    daemon.signal(Signal::HUP);
    // Nothing on the outside tells the end of a reload that went well.
    thread::sleep(Duration::from_secs(1));
    let _connection = held_connection(&lab)?;
    authorised(&daemon, "yes")
}

fn bad_file() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let config =
        DaemonOptions { config: Some("[kernel]\nring_bytes = 5000\n".into()), ..DaemonOptions::default() };
    let ended = Daemon::refused(&lab, config)?;
    ensure!(ended.status.code() == Some(2), "exit status {}, not 2:\n{}", ended.status, ended.stderr);
    ensure!(ended.stderr.contains("config.toml:"), "no file and line: {}", ended.stderr);
    let policy = DaemonOptions { policy: Some(BAD.into()), ..DaemonOptions::default() };
    let ended = Daemon::refused(&lab, policy)?;
    ensure!(ended.status.code() == Some(2), "exit status {}, not 2:\n{}", ended.status, ended.stderr);
    ensure!(ended.stderr.contains("policy.toml:3"), "no file and line: {}", ended.stderr);
    let missing = "[policy]\nfile = \"/nonexistent/policy.toml\"\n";
    let config = DaemonOptions { config: Some(missing.into()), ..DaemonOptions::default() };
    let ended = Daemon::refused(&lab, config)?;
    ensure!(ended.status.code() == Some(2), "exit status {}, not 2:\n{}", ended.status, ended.stderr);
    ensure!(
        ended.stderr.contains("config.toml:2:8: policy.file: /nonexistent/policy.toml: can't be read"),
        "not the line that names it: {}",
        ended.stderr
    );
    Ok(())
}

fn mode(path: &str, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context(path.to_owned())
}

fn policy_of_others() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let policy = lab.directory.write("shared.toml", GOOD)?;
    mode(&policy, 0o664)?;
    let line = |mode: &str| {
        format!("streamwatch: the policy {policy} has mode {mode}: others can change it; chmod go-w {policy}")
    };
    let config = Some(format!("[policy]\nfile = {policy:?}\n"));
    let daemon = Daemon::start(&lab, DaemonOptions { config, ..DaemonOptions::default() })?;
    let said = |line: &str| daemon.stderr().lines().filter(|said| *said == line).count();
    ensure!(said(&line("0664")) == 1, "not one line at the start: {}", daemon.stderr());
    let connection = held_connection(&lab)?;
    authorised(&daemon, "yes").context("it is not taken")?;
    drop(connection);
    mode(&policy, 0o646)?;
    daemon.signal(Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    while !daemon.stderr().contains("streamwatch: reloaded: ") {
        ensure!(Instant::now() < deadline, "it is not read again: {}", daemon.stderr());
        thread::sleep(Duration::from_millis(20));
    }
    ensure!(said(&line("0646")) == 1, "not one line when read again: {}", daemon.stderr());
    let checked = streamwatch(&["policy", "check", &policy])?.success()?;
    ensure!(checked.stderr.trim_end() == line("0646"), "`policy check`: {}", checked.stderr);
    mode(&policy, 0o644)?;
    let checked = streamwatch(&["policy", "check", &policy])?.success()?;
    ensure!(checked.stderr.is_empty(), "`policy check` of one that is in order: {}", checked.stderr);
    Ok(())
}

/// As Kubernetes has them: the directory is anybody's by its mode, and what is in it is behind links.
fn policy_in_a_volume() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let volume = lab.directory.path().join("volume");
    let content = volume.join("..2026_11_30");
    std::fs::create_dir_all(&content)?;
    std::fs::write(content.join("policy.toml"), GOOD)?;
    std::os::unix::fs::symlink("..2026_11_30", volume.join("..data"))?;
    std::os::unix::fs::symlink("..data/policy.toml", volume.join("policy.toml"))?;
    let volume = volume.display().to_string();
    mode(&volume, 0o777)?;
    let policy = format!("{volume}/policy.toml");
    let checked = streamwatch(&["policy", "check", &policy])?.success()?;
    let expected = format!(
        "streamwatch: the policy {policy} is in {volume}, of mode 0777: others can replace it; chmod go-w {volume}"
    );
    ensure!(checked.stderr.trim_end() == expected, "where it is written to: {}", checked.stderr);
    // Whoever is the first process there stands for the host.
    let check = |script: &str| {
        let mount =
            r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" policy check "$3""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "--", "sh", "-c", script, "sh", &volume]);
        command.arg(binary()).args([&policy, mount]);
        finish(command, PATIENCE)?.success()
    };
    let checked = check(r#"eval "$4""#)?;
    ensure!(checked.stderr.is_empty(), "where it is mounted read-only: {}", checked.stderr);
    // As systemd does with ProtectSystem: the host writes to it.
    let checked = check(r#"unshare --mount -- sh -c "$4" sh "$1" "$2" "$3"; ended=$?; exit $ended"#)?;
    ensure!(checked.stderr.trim_end() == expected, "where only we may not write to it: {}", checked.stderr);
    Ok(())
}

fn configuration_of_others() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let config = lab.directory.write("shared.toml", "[flows]\ncapacity = 5000\n")?;
    let cgroup = lab.cgroup.path().display().to_string();
    let socket = lab.directory.file("api.sock");
    let run = || streamwatch(&["run", "--config", &config, "--cgroup", &cgroup, "--socket", &socket]);
    mode(&config, 0o646)?;
    let ended = run()?;
    let expected =
        format!("{config}: not taken: it has mode 0646: others can change it; chmod go-w {config}");
    ensure!(ended.status.code() == Some(2), "exit status {}, not 2:\n{}", ended.status, ended.stderr);
    ensure!(ended.stderr.trim_end().ends_with(&expected), "not a clear line: {}", ended.stderr);
    ensure!(ended.stderr.trim_end().lines().count() == 1, "more than one line: {}", ended.stderr);
    mode(&config, 0o644)?;
    std::os::unix::fs::chown(&config, Some(1), None)?;
    let ended = run()?;
    let expected = format!("belongs to user 1, who can change it: expected root; chown root {config}");
    ensure!(ended.status.code() == Some(2), "exit status {}, not 2:\n{}", ended.status, ended.stderr);
    ensure!(ended.stderr.trim_end().ends_with(&expected), "not a clear line: {}", ended.stderr);
    Ok(())
}

fn streamwatch(arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new(binary());
    command.args(arguments);
    finish(command, PATIENCE)
}

fn unreachable() -> Result<()> {
    for verb in ["streams", "flows", "alerts", "hist", "status"] {
        let finished = streamwatch(&[verb, "--socket", "/nonexistent/api.sock"])?;
        ensure!(
            finished.status.code() == Some(3),
            "{verb}: exit status {}, not 3: {finished:?}",
            finished.status
        );
        ensure!(
            finished.stderr.contains("/nonexistent/api.sock"),
            "{verb} does not name the socket: {finished:?}"
        );
    }
    let finished = streamwatch(&["no-such-command"])?;
    ensure!(finished.status.code() == Some(2), "a wrong command: exit status {}, not 2", finished.status);
    Ok(())
}

fn api() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _connection = held_connection(&lab)?;
    daemon.wait_for("flow", PATIENCE, is_flow, is_flow)?;
    let socket = daemon.socket().display().to_string();
    for verb in ["streams", "flows", "alerts", "hist", "status"] {
        streamwatch(&[verb, "--socket", &socket])?.success().with_context(|| verb.to_owned())?;
    }
    let flows = streamwatch(&["flows", "--json", "--socket", &socket])?.success()?;
    let ours = flows.stdout.lines().any(|line| line.contains(&PORT.to_string()));
    ensure!(ours, "the held connection is not in `flows --json`: {}", flows.stdout);
    // A flow joins its stream once it is known what it is.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let streams = streamwatch(&["streams", "--socket", &socket])?.success()?;
        if streams.stdout.contains("traffic") {
            break;
        }
        ensure!(Instant::now() < deadline, "the client is not in `streams`: {}", streams.stdout);
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
