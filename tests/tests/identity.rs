//! Who is at each end: the process that uses a socket, not the one that made it; the process at the
//! other end, where that is on this host; and the container around it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{program, python};
use tests::{
    Daemon, DaemonOptions, Lab, Place, Process, Stopped, Suite, is_flow, number, show, text, traffic,
};

const PORT: u16 = 34_567;
const PATIENCE: Duration = Duration::from_secs(30);
/// Says a word on a connection, on a thread with a name of its own, and ends.
const ON_A_THREAD: &str = "import socket, sys, threading
def ask():
    open('/proc/thread-self/comm', 'w').write('a-thread-of-it')
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as server:
        server.sendall(b'who asked?')
        server.recv(1)
threading.Thread(target=ask).start()
";
/// The same, and then goes by another name.
const RENAMED: &str = "import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as server:
    server.sendall(b'who asked?')
    open('/proc/self/comm', 'w').write('somebody-else')
    server.recv(1)
    time.sleep(60)
";
/// The same, once its first thread has ended, and stays.
const WITHOUT_ITS_FIRST: &str = "import ctypes, os, socket, sys, threading, time
def ask():
    while 'State:\\tZ' not in open(f'/proc/{os.getpid()}/status').read():
        time.sleep(0.01)
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as server:
        server.sendall(b'who asked?')
        server.recv(1)
        time.sleep(60)
threading.Thread(target=ask).start()
ctypes.CDLL(None).pthread_exit(None)
";
/// A server whose first thread ends, and whose child, of another user, has its listener open and does nothing.
const SERVER_WITHOUT_ITS_FIRST: &str = "import ctypes, os, socket, sys, threading, time
listener = socket.create_server(('::', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
if os.fork() == 0:
    os.setuid(1)
    time.sleep(600)
def serve():
    while True:
        client, _ = listener.accept()
        client.sendall(client.recv(100))
threading.Thread(target=serve).start()
print('ready', flush=True)
ctypes.CDLL(None).pthread_exit(None)
";
/// Connects, waits, and becomes another program of the same name, which connects in its turn.
const ONE_THEN_ANOTHER: &str = "exec 3<>/dev/tcp/$0/$1; echo 'who asked?' >&3; read line; exec \"$2\" -c \"exec 4<>/dev/tcp/$0/$3; echo 'who else?' >&4; read line\"";
/// Connects, says a word, and becomes another program, whose name is the same.
const THEN_ANOTHER: &str = "exec 3<>/dev/tcp/$0/$1; echo 'who asked?' >&3; exec \"$2\" 60";
/// As Docker names the cgroup of a container where systemd makes it.
const CONTAINER: &str = "5f3a1c9b7d2e4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";

fn main() -> ExitCode {
    Suite::new("identity")
        .test("a listening socket that was handed over belongs to who accepts", &[], || handed("passed"))
        .test("a connection that was handed over belongs to who serves it", &[], || handed("forked"))
        .test("both ends on this host name each other, and the container", &[], both_ends)
        .test("one that is gone is named by its program, not by its thread", &[], gone)
        .test("a program of the same name is not taken for the one that connected", &[], same_name)
        .test("a setuid program's connection is of who began it", &["setpriv"], || setuid(false))
        .test("… also where it could not be looked at while it was there", &["setpriv"], || setuid(true))
        .test("… nor the other way round, when it was looked at before", &[], same_name_later)
        .test("one that renames itself when it has connected is named all the same", &[], renamed)
        .test("one whose first thread has ended is named as any other", &[], without_its_first)
        .test("… also as the server, from before the start", &[], server_without_its_first)
        .main()
}

fn of_connection(record: &Value, direction: &str) -> bool {
    is_flow(record)
        && number(record, "server.port") == Some(PORT.into())
        && text(record, "network.direction") == direction
}

/// A client that says one line, hears it back, and stays until its stdin ends.
fn hold(place: &Place) -> Result<Process> {
    let mut command = place.command(traffic::program());
    command
        .args(["hold", "--to", &format!("10.213.0.2:{PORT}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    Process::start_piped("hold", command)
}

fn handed(way: &str) -> Result<()> {
    let lab = Lab::new("identity")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let mut command = lab.server().command(python());
    command.arg(program("handing_server.py")).args([&PORT.to_string(), way]).stdout(Stdio::piped());
    let mut server = Process::start_piped("server", command)?;
    let mut says = BufReader::new(server.child().stdout.take().context("the server has no stdout")?);
    server.wait_for_port("tcp", PORT, PATIENCE)?;
    let mut client = hold(&lab.client())?;
    let mut stdin = client.take_stdin()?;
    stdin.write_all(b"who serves me?\n")?;
    let mut line = String::new();
    says.read_line(&mut line)?;
    let serving: u64 = line.trim().parse().context("the pid that serves")?;
    ensure!(serving != u64::from(server.pid()), "the server serves by itself: nothing is handed over");
    let mut back = BufReader::new(client.child().stdout.take().context("hold has no stdout")?);
    back.read_line(&mut String::new())?;
    drop(stdin);
    client.wait(PATIENCE)?;
    let last = daemon.wait_for("closed flow of the server", PATIENCE, is_flow, |record| {
        of_connection(record, "ingress") && text(record, "event.action") == "flow_closed"
    })?;
    ensure!(
        number(&last.record, "process.pid") == Some(serving),
        "it belongs to {serving}, made by {}: {}",
        server.pid(),
        show(&last.record)
    );
    Ok(())
}

fn both_ends() -> Result<()> {
    let lab = Lab::new("identity")?;
    let container = lab.cgroup.path().join(format!("docker-{CONTAINER}.scope"));
    std::fs::create_dir(&container).with_context(|| container.display().to_string())?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let inside = Place { cgroup: Some(container.clone()), ..lab.server() };
    let mut serve: Command = inside.command(traffic::program());
    serve.args(["echo", "--listen", &format!("[::]:{PORT}")]);
    let mut server = Process::start("echo", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, PATIENCE)?;
    let mut client = hold(&lab.client())?;
    let mut stdin = client.take_stdin()?;
    stdin.write_all(b"hello in there\n")?;
    let mut back = BufReader::new(client.child().stdout.take().context("hold has no stdout")?);
    back.read_line(&mut String::new())?;
    drop(stdin);
    client.wait(PATIENCE)?;
    let (client, server) = (u64::from(client.pid()), u64::from(server.pid()));
    for (direction, own, other) in [("egress", client, server), ("ingress", server, client)] {
        let last = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
            of_connection(record, direction) && text(record, "event.action") == "flow_closed"
        })?;
        let record = &last.record;
        ensure!(number(record, "process.pid") == Some(own), "{direction}: not {own}: {}", show(record));
        ensure!(
            number(record, "streamwatch.peer.process.pid") == Some(other),
            "{direction}: the other end is not {other}: {record}"
        );
        let (here, there) = ("container.id", "streamwatch.peer.container.id");
        let (of_server, of_client) = if direction == "egress" { (there, here) } else { (here, there) };
        ensure!(text(record, of_server) == CONTAINER, "{direction}: the container is missing: {record}");
        ensure!(text(record, of_client).is_empty(), "{direction}: the client is in no container: {record}");
    }
    Ok(())
}

/// A script that asks the server.
fn asking(lab: &Lab, script: &str) -> Command {
    let mut command = lab.client().command(python());
    command.args(["-c", script, "10.213.0.2", &PORT.to_string()]);
    command
}

/// Nobody could look at it while it was there: all of the daemon stood still.
fn gone() -> Result<()> {
    let lab = Lab::new("identity")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = traffic::echo(&lab, PORT)?;
    let client = asking(&lab, ON_A_THREAD);
    let still = Stopped::new(daemon.pid())?;
    lab.run(client, PATIENCE)?;
    drop(still);
    let closed = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
        of_connection(record, "egress") && text(record, "event.action") == "flow_closed"
    })?;
    let record = &closed.record;
    let name = python().file_name().context("python has no name")?.to_string_lossy().into_owned();
    ensure!(text(record, "process.name") == name, "not {name}: {}", show(record));
    let missing = text(record, "streamwatch.missing");
    ensure!(missing == "process ended before it could be looked at", "{missing:?}: {}", show(record));
    Ok(())
}

/// Root's program, which anybody may run with root's rights, begun by somebody else.
fn setuid(is_gone: bool) -> Result<()> {
    const USER: &str = "daemon";
    let lab = Lab::new("identity")?;
    let _server = traffic::echo(&lab, PORT)?;
    let program = lab.directory.path().join("as-root");
    std::fs::copy(traffic::program(), &program).context("a copy")?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755))?;
    let policy =
        format!("[[service]]\nname = \"roots\"\nports = [{PORT}]\n[[service.client]]\nuser = \"root\"\n");
    let daemon = Daemon::start(&lab, DaemonOptions { policy: Some(policy), ..DaemonOptions::default() })?;
    let still = is_gone.then(|| Stopped::new(daemon.pid())).transpose()?;
    let mut command = lab.client().as_user(USER).command(&program);
    command.args(["hold", "--to", &format!("10.213.0.2:{PORT}")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Process::start_piped("as-root", command)?;
    let mut stdin = client.take_stdin()?;
    stdin.write_all(b"who am I?\n")?;
    let mut back = BufReader::new(client.child().stdout.take().context("no stdout")?);
    back.read_line(&mut String::new())?;
    let own = std::fs::metadata(format!("/proc/{}", client.pid()))?.uid();
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.pid()))?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("no user")?;
    let uids: Vec<u32> = uids.split_whitespace().map_while(|uid| uid.parse().ok()).collect();
    // Otherwise the test would prove nothing: real and effective user.
    ensure!(own == 0 && uids[0] != 0 && uids[1] == 0, "it has no rights of root's: {uids:?}");
    if !is_gone {
        daemon.wait_for("flow", PATIENCE, is_flow, |record| of_connection(record, "egress"))?;
    }
    drop(stdin);
    client.wait(PATIENCE)?;
    drop(still);
    let closed = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
        of_connection(record, "egress") && text(record, "event.action") == "flow_closed"
    })?;
    let record = &closed.record;
    let (name, id) = (text(record, "user.name"), text(record, "user.id"));
    ensure!((name, id) == (USER, &uids[0].to_string()), "it is {name:?}, {id:?}: {record}");
    let path = program.to_string_lossy();
    let expected = if is_gone { ("", "process ended before it could be looked at") } else { (&*path, "") };
    let (path, said) = (text(record, "process.executable"), text(record, "streamwatch.missing"));
    ensure!((path, said) == expected, "{path:?}, {said:?}: {record}");
    let authorised = text(record, "streamwatch.verdict.authorised.answer");
    ensure!(authorised == "no", "judged as root: {authorised:?}: {record}");
    Ok(())
}

/// The name is all that a look at it later could go by.
fn same_name() -> Result<()> {
    let lab = Lab::new("identity")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = traffic::echo(&lab, PORT)?;
    let other = lab.directory.path().join("bash");
    std::fs::copy("/usr/bin/sleep", &other).context("a copy of sleep")?;
    let mut client = lab.client().command("bash");
    client.args(["-c", THEN_ANOTHER, "10.213.0.2", &PORT.to_string()]).arg(&other);
    let still = Stopped::new(daemon.pid())?;
    let client = Process::start("bash", &lab.directory, client)?;
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_link(format!("/proc/{}/exe", client.pid()))? != other {
        ensure!(Instant::now() < deadline, "it did not become {}", other.display());
        thread::sleep(Duration::from_millis(10));
    }
    drop(still);
    let opened = daemon.wait_for("flow", PATIENCE, is_flow, |record| of_connection(record, "egress"))?;
    let record = &opened.record;
    ensure!(number(record, "process.pid") == Some(client.pid().into()), "whose is it? {}", show(record));
    ensure!(text(record, "process.executable").is_empty(), "it is told as another: {}", show(record));
    let missing = text(record, "streamwatch.missing");
    ensure!(
        missing == "the process has become another program since, or goes by another name",
        "{missing:?}: {}",
        show(record)
    );
    Ok(())
}

/// A copy of the shell, which connects when the shell has: the same name, user and cgroup, within two seconds.
fn same_name_later() -> Result<()> {
    let lab = Lab::new("identity")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let (_server, _other) = (traffic::echo(&lab, PORT)?, traffic::echo(&lab, PORT + 1)?);
    let copy = lab.directory.path().join("bash");
    std::fs::copy("/usr/bin/bash", &copy).context("a copy of bash")?;
    let mut client = lab.client().command("bash");
    client.args(["-c", ONE_THEN_ANOTHER, "10.213.0.2", &PORT.to_string()]);
    client.arg(&copy).arg((PORT + 1).to_string()).stdin(Stdio::piped());
    let mut client = Process::start_piped("bash", client)?;
    let mut stdin = client.take_stdin()?;
    let to = |record: &Value, port: u16| {
        is_flow(record)
            && number(record, "server.port") == Some(port.into())
            && text(record, "network.direction") == "egress"
    };
    let first = daemon.wait_for("first flow", PATIENCE, is_flow, |record| to(record, PORT))?;
    ensure!(text(&first.record, "process.executable") == "/usr/bin/bash", "{}", show(&first.record));
    stdin.write_all(b"\n")?;
    let second = daemon.wait_for("second flow", PATIENCE, is_flow, |record| to(record, PORT + 1))?;
    let executable = text(&second.record, "process.executable");
    ensure!(executable == copy.to_string_lossy(), "it is told as {executable:?}: {}", show(&second.record));
    Ok(())
}

fn renamed() -> Result<()> {
    let lab = Lab::new("identity")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = traffic::echo(&lab, PORT)?;
    let still = Stopped::new(daemon.pid())?;
    let client = Process::start("python", &lab.directory, asking(&lab, RENAMED))?;
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_to_string(format!("/proc/{}/comm", client.pid()))? != "somebody-else\n" {
        ensure!(Instant::now() < deadline, "it goes by its own name");
        thread::sleep(Duration::from_millis(10));
    }
    drop(still);
    let opened = daemon.wait_for("flow", PATIENCE, is_flow, |record| of_connection(record, "egress"))?;
    let record = &opened.record;
    ensure!(text(record, "process.executable").contains("python"), "what does it run? {}", show(record));
    ensure!(text(record, "streamwatch.missing").is_empty(), "{}", show(record));
    Ok(())
}

fn without_its_first() -> Result<()> {
    let lab = Lab::new("identity")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = traffic::echo(&lab, PORT)?;
    let client = Process::start("python", &lab.directory, asking(&lab, WITHOUT_ITS_FIRST))?;
    let opened = daemon.wait_for("flow", PATIENCE, is_flow, |record| of_connection(record, "egress"))?;
    let record = &opened.record;
    ensure!(number(record, "process.pid") == Some(client.pid().into()), "whose is it? {}", show(record));
    ensure!(text(record, "process.executable").contains("python"), "what does it run? {}", show(record));
    ensure!(text(record, "process.command_line").contains("pthread_exit"), "{}", show(record));
    ensure!(text(record, "streamwatch.missing").is_empty(), "{}", show(record));
    Ok(())
}

fn server_without_its_first() -> Result<()> {
    let lab = Lab::new("identity")?;
    let mut server = lab.server().command(python());
    server.args(["-c", SERVER_WITHOUT_ITS_FIRST, &PORT.to_string()]).stdout(Stdio::piped());
    let mut server = Process::start_piped("python", server)?;
    let mut says = BufReader::new(server.child().stdout.take().context("the server has no stdout")?);
    says.read_line(&mut String::new())?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let mut client = hold(&lab.client())?;
    let mut stdin = client.take_stdin()?;
    stdin.write_all(b"who serves me?\n")?;
    let mut back = BufReader::new(client.child().stdout.take().context("hold has no stdout")?);
    back.read_line(&mut String::new())?;
    let opened = daemon.wait_for("flow", PATIENCE, is_flow, |record| of_connection(record, "ingress"))?;
    let record = &opened.record;
    ensure!(number(record, "process.pid") == Some(server.pid().into()), "who serves? {}", show(record));
    Ok(())
}
