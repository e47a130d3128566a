//! Sockets whose option memory is used up, so that the kernel refuses the room for notes on them: clients, servers, and
//! one that listens.

use super::*;

/// Fills the option memory of a socket with the longest filter that finds room (SO_ATTACH_FILTER, which needs no
/// privilege; it takes every packet), and gives its length.
const FILL: &str = r#"
import ctypes, socket, struct, sys

def attach(it, steps):
    # LDX MSH: many instructions in the kernel.
    program = [(0xb1, 0, 0, 0)] * steps + [(6, 0, 0, 0xffffffff)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    try:
        it.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", len(program), ctypes.addressof(code)))
    except OSError:
        return False
    return True

def longest(it):
    low, high = 0, 4095
    while low < high:
        middle = (low + high + 1) // 2
        if attach(it, middle):
            it.setsockopt(socket.SOL_SOCKET, 27, 0)
            low = middle
        else:
            high = middle - 1
    return low
"#;

/// Makes full UDP sockets, and waits. Then it sends datagrams, of which each comes back.
const FULL_UDP: &str = r#"
host, port, size, count, rounds = sys.argv[1], *(int(it) for it in sys.argv[2:])
made = []
steps = None
for number in range(count):
    it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    it.settimeout(20)
    # The same for all of them.
    steps = steps or longest(it)
    assert attach(it, steps)
    made.append(it)
print(steps, flush=True)
sys.stdin.readline()
for it in made:
    for _ in range(rounds):
        it.sendto(b"x" * size, (host, port))
        assert len(it.recv(65536)) == size
    it.close()
"#;

/// Sends back whatever comes, with a full socket of that kind: of TCP the one that listens, from which those that it
/// accepts have their filter.
const FULL_SERVER: &str = r#"
port, kind = int(sys.argv[1]), sys.argv[2]
it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
it.bind(("0.0.0.0", port))
steps = longest(it)
assert attach(it, steps)
if kind == "tcp":
    it.listen(64)
print(steps, flush=True)
while kind == "udp":
    data, sender = it.recvfrom(65536)
    it.sendto(data, sender)
while kind == "tcp":
    one, _ = it.accept()
    with one:
        while data := one.recv(65536):
            one.sendall(data)
"#;

/// Sends so much in each of so many connections, or datagrams of one socket, and has it back.
const CLIENT: &str = r#"
import socket, sys
host, kind, port, size, count = sys.argv[1], sys.argv[2], *(int(it) for it in sys.argv[3:])
if kind == "udp":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        it.settimeout(20)
        for _ in range(count):
            it.sendto(b"x" * size, (host, port))
            assert len(it.recv(65536)) == size
else:
    for _ in range(count):
        with socket.create_connection((host, port), 20) as it:
            it.sendall(b"x" * size)
            it.shutdown(socket.SHUT_WR)
            got = 0
            while chunk := it.recv(65536):
                got += len(chunk)
            assert got == size, got
"#;

/// Sends every datagram back.
const ECHO_UDP: &str = r#"
import socket, sys
it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
it.bind(("0.0.0.0", int(sys.argv[1])))
while True:
    data, sender = it.recvfrom(65536)
    it.sendto(data, sender)
"#;

/// Makes sockets, fills their option memory with keys for peers that nobody has (TCP_MD5SIG, which needs no
/// privilege), and waits. Then it connects, sends, and closes.
const FULL: &str = r#"
import socket, struct, sys
host, port, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
made = []
for _ in range(count):
    it = socket.socket()
    keys = 0
    try:
        while keys < 4096:
            address = struct.pack("=HH4s", socket.AF_INET, 0, bytes([127, 9, keys >> 8, keys & 255])).ljust(128, b"\0")
            it.setsockopt(socket.IPPROTO_TCP, 14, address + struct.pack("=BBHiI", 0, 0, 1, 0, 0) + b"k".ljust(80, b"\0"))
            keys += 1
    except OSError:
        pass
    made.append((it, keys))
print(min(keys for _, keys in made), flush=True)
sys.stdin.readline()
for it, _ in made:
    it.connect((host, port))
    it.sendall(b"x" * size)
    it.shutdown(socket.SHUT_WR)
    got = 0
    while chunk := it.recv(65536):
        got += len(chunk)
    assert got == size, got
    it.close()
"#;

pub fn clients() -> Result<()> {
    const SIZE: u64 = 30_000;
    const COUNT: u64 = 20;
    let lab = Lab::new("exhaustion")?;
    let _server = echo(&lab)?;
    // The sockets are there before the daemon is: later ones get their notes when they are made.
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", FULL, "10.213.0.2", &PORT.to_string(), &SIZE.to_string(), &COUNT.to_string()]);
    let (mut attacker, keys) = attack(command)?;
    ensure!((1..4096).contains(&keys), "the option memory was not used up: {keys} keys");

    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    attacker.take_stdin()?.write_all(b"now\n")?;
    ensure!(attacker.wait(PATIENCE)?.success(), "the attacker's connections failed");
    wait_for_totals(&daemon, (COUNT * SIZE, COUNT * SIZE))?;
    are_unwatched(&daemon, COUNT)
}

/// A loss record and an alert.
fn refusals_are_told(daemon: &Daemon) -> Result<()> {
    let refused = |record: &Value| {
        is_loss(record)
            && record.pointer("/streamwatch/loss/rows").and_then(Value::as_array).is_some_and(|rows| {
                rows.iter().any(|row| row["kind"] == "socket_storage" && row["lost"].as_u64() > Some(0))
            })
    };
    daemon.wait_for("the loss record", PATIENCE, is_loss, refused)?;
    daemon.wait_for("the alert", PATIENCE, is_alert, |record| {
        is_alert(record) && text(record, "rule.id") == "evidence-lost"
    })?;
    Ok(())
}

/// The kernel counts no bytes of a UDP socket, and without notes there is no flow to count them in.
pub fn udp() -> Result<()> {
    const SIZE: u64 = 700;
    const COUNT: u64 = 10;
    const ROUNDS: u64 = 30;
    let lab = Lab::new("exhaustion")?;
    let mut place = lab.server();
    place.cgroup = None;
    let mut command = place.command(python());
    command.args(["-c", ECHO_UDP, &PORT.to_string()]);
    let mut server = Process::start("echo", &lab.directory, command)?;
    server.wait_for_port("udp", PORT, PATIENCE)?;
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", &format!("{FILL}{FULL_UDP}"), "10.213.0.2"]);
    command.args([u64::from(PORT), SIZE, COUNT, ROUNDS].map(|number| number.to_string()));
    let (mut attacker, steps) = attack(command)?;
    ensure!((1..4095).contains(&steps), "the option memory was not used up: {steps}");

    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    attacker.take_stdin()?.write_all(b"now\n")?;
    ensure!(attacker.wait(PATIENCE)?.success(), "the attacker's datagrams did not come back");
    are_of_no_flow(&daemon, 2 * SIZE * COUNT * ROUNDS, COUNT)
}

/// So many bytes, of at least so many sockets, are in the host's totals, in those of no flow, and told as lost.
fn are_of_no_flow(daemon: &Daemon, wanted: u64, refused: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = daemon.status()?;
        let bytes = status["totals"]["of_no_flow_bytes"].as_u64().context("no such total")?;
        ensure!(bytes <= wanted, "{bytes} are more than {wanted}");
        if bytes == wanted {
            let rows = status["loss"].as_array().context("no losses")?;
            let row = rows.iter().find(|row| row["kind"] == "socket_storage").context("no row")?;
            ensure!(row["lost_bytes"].as_u64() == Some(wanted), "{row}");
            ensure!(row["lost"].as_u64() >= Some(refused), "{row}");
            break;
        }
        ensure!(Instant::now() < deadline, "{bytes} of {wanted} bytes are counted: {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
    refusals_are_told(daemon)?;
    // And once: whose they are nobody knows.
    ensure!(totals(daemon)? == (0, 0), "{:?}", totals(daemon)?);
    let flows = daemon.list("/v1/flows")?;
    ensure!(flows.iter().all(|flow| flow["server"]["port"] != PORT), "{flows:?}");
    Ok(())
}

/// A full server within the watched cgroup, from before the daemon, and what so many clients outside did with it.
/// In the order in which they are made: they end the other way round.
fn served(kind: &str, size: u64, count: u64) -> Result<(Lab, Process, Daemon)> {
    let lab = Lab::new("exhaustion")?;
    let server = server(&lab, kind)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    client(&lab, kind, size, count)?;
    Ok((lab, server, daemon))
}

fn server(lab: &Lab, kind: &str) -> Result<Process> {
    // By now kernels take filters of TCP from root alone, with which what is accepted is full from its start.
    let place = if kind == "tcp" { lab.server() } else { lab.server().as_user(USER) };
    let mut command = place.command(python());
    command.args(["-c", &format!("{FILL}{FULL_SERVER}"), &PORT.to_string(), kind]);
    let (server, steps) = attack(command)?;
    ensure!((1..4095).contains(&steps), "the option memory was not used up: {steps}");
    Ok(server)
}

fn client(lab: &Lab, kind: &str, size: u64, count: u64) -> Result<()> {
    let mut place = lab.client();
    place.cgroup = None;
    let mut command = place.command(python());
    command.args(["-c", CLIENT, "10.213.0.2", kind]);
    command.args([u64::from(PORT), size, count].map(|number| number.to_string()));
    lab.run(command, PATIENCE).map(drop)
}

pub fn udp_server() -> Result<()> {
    const SIZE: u64 = 900;
    const COUNT: u64 = 200;
    let (_lab, _server, daemon) = served("udp", SIZE, COUNT)?;
    are_of_no_flow(&daemon, 2 * SIZE * COUNT, 1)
}

pub fn listener() -> Result<()> {
    const SIZE: u64 = 30_000;
    const COUNT: u64 = 20;
    let (_lab, _server, daemon) = served("tcp", SIZE, COUNT)?;
    wait_for_totals(&daemon, (COUNT * SIZE, COUNT * SIZE))?;
    are_unwatched(&daemon, COUNT)
}

/// Of so many sockets at least the refusal is counted and told, and what was not seen of their flows is not called seen.
fn are_unwatched(daemon: &Daemon, refused: u64) -> Result<()> {
    refusals_are_told(daemon)?;
    let of_storage = |row: &Value| row["kind"] == "socket_storage" && row["lost"].as_u64() >= Some(refused);
    let status = daemon.status()?;
    let rows = status["loss"].as_array().context("no losses")?;
    ensure!(rows.iter().any(of_storage), "the refusals are not counted: {rows:?}");
    let mut flows = daemon.list("/v1/flows")?;
    flows.retain(|flow| flow["server"]["port"] == PORT);
    ensure!(flows.len() as u64 >= refused, "{} flows are listed: {flows:?}", flows.len());
    for flow in flows {
        ensure!(text(&flow, "streamwatch.verdict.watched.answer") == "no", "{flow}");
        ensure!(text(&flow, "streamwatch.verdict.encrypted.answer") == "unknown", "{flow}");
    }
    Ok(())
}

/// Starts one that uses up the option memory of its sockets, says in how many steps, and waits for a word.
fn attack(mut command: Command) -> Result<(Process, u32)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut attacker = Process::start_piped("attacker", command)?;
    let said = attacker.first_line()?;
    let steps = said.parse().with_context(|| format!("the attacker said {said:?}"))?;
    Ok((attacker, steps))
}
