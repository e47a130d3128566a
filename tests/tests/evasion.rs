//! One request in the clear, sent in every way that may hide it: the verdict is that of the undisturbed
//! flow, or an explicit "unknown"; never "encrypted"; and every byte counts once.
//!
//! What is not covered, and said to be: AF_UNIX proxies, raw and packet sockets (`docs/architecture.md`).
//! TLS first and plaintext after: `detectors`. Over a link that drops and reorders: `first_bytes`.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{program, python};
use tests::{
    Daemon, DaemonOptions, Lab, Process, Skip, Suite, field, finish, is_closed, is_flow, is_loss, number,
    show, text,
};

const PORT: u16 = 34_800;
const V4: &str = "10.213.0.2";
const V6: &str = "fd13::2";
/// The address that nobody has.
const OWN: &str = "10.213.0.99";
/// The slowest client on a busy host.
const CLIENT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

/// Who sends, and so at which ends there is a socket to be seen.
#[derive(Clone, Copy, PartialEq)]
enum Sender {
    /// The kernel, from the other namespace.
    Kernel,
    /// A program that makes its own packets: only the server has a socket.
    Packets,
    /// A socket that is both ends.
    Itself,
}

struct Row {
    name: &'static str,
    sender: Sender,
    /// How the server serves, and the client sends (`tests/programs/evade.py`).
    server: &'static str,
    host: &'static str,
    way: &'static str,
}

const fn row(name: &'static str, sender: Sender, host: &'static str, way: &'static str) -> Row {
    Row { name, sender, server: "", host, way }
}

const ROWS: &[Row] = &[
    row("undisturbed", Sender::Kernel, V4, "undisturbed"),
    row("with urgent data", Sender::Kernel, V4, "urgent"),
    Row { server: "fastopen", ..row("in the SYN (TCP Fast Open)", Sender::Kernel, V4, "fastopen") },
    row("from a socket to itself (simultaneous open)", Sender::Itself, V4, "simultaneous"),
    Row { server: "mptcp", ..row("over MPTCP", Sender::Kernel, V4, "mptcp") },
    row("with MSG_ZEROCOPY", Sender::Kernel, V4, "zerocopy"),
    Row { server: "zerocopy", ..row("taken with TCP_ZEROCOPY_RECEIVE", Sender::Kernel, V4, "zerocopy") },
    row("with sendfile", Sender::Kernel, V4, "sendfile"),
    Row { server: "splice", ..row("with splice at both ends", Sender::Kernel, V4, "splice") },
    Row { server: "uring", ..row("with io_uring at both ends", Sender::Kernel, V4, "uring") },
    row("with io_uring and without a copy (SEND_ZC)", Sender::Kernel, V4, "uring-zerocopy"),
    row("by a process that was handed the socket", Sender::Kernel, V4, "passed"),
    row("behind padding", Sender::Kernel, V4, "padding"),
    row("with packets of its own", Sender::Packets, V4, "undisturbed"),
    row("with packets of its own, IPv6", Sender::Packets, V6, "undisturbed"),
    row("in a SYN that nobody asked for", Sender::Packets, V4, "syn-data"),
    row("last byte first", Sender::Packets, V4, "backwards"),
    row("in segments that overlap", Sender::Packets, V4, "overlapping"),
    row("with an urgent pointer to nowhere", Sender::Packets, V4, "urgent-pointer"),
    row("and again what was taken, with other content", Sender::Packets, V4, "taken-again"),
    row("early, and again with other content", Sender::Packets, V4, "rewritten"),
    row("as the second of three copies", Sender::Packets, V4, "middle-copy"),
    row("behind a decoy with a wrong checksum", Sender::Packets, V4, "spoiled"),
    row("behind a decoy with an old timestamp", Sender::Packets, V4, "old-stamp"),
    row("in IP fragments", Sender::Packets, V4, "fragments"),
    row("in IP fragments, the last first", Sender::Packets, V4, "fragments-backwards"),
    row("behind IP fragments that overlap", Sender::Packets, V4, "fragments-overlapping"),
    row("in IPv6 fragments", Sender::Packets, V6, "fragments"),
    row("in IPv6 fragments, the last first", Sender::Packets, V6, "fragments-backwards"),
    row("behind IPv6 fragments that overlap", Sender::Packets, V6, "fragments-overlapping"),
    row("behind eight destination options", Sender::Packets, V6, "headers-destination"),
    row("behind as many as fit into a packet", Sender::Packets, V6, "headers-many"),
    row("behind hop-by-hop options", Sender::Packets, V6, "headers-hop"),
    row("behind a routing header", Sender::Packets, V6, "headers-route"),
    row("behind an atomic fragment header", Sender::Packets, V6, "headers-atomic"),
    row("behind every extension header", Sender::Packets, V6, "headers-all"),
];

fn main() -> ExitCode {
    let mut suite = Suite::new("evasion");
    for row in ROWS {
        suite = suite.test(row.name, &["python3"], || evade(row));
    }
    suite
        .test("behind IPv6 extension headers in every order", &["python3"], || orders("orders-usual"))
        .test("with an AH or a mobility header among them", &["python3"], || orders("orders-odd"))
        .test("between two sockets that call each other (simultaneous open)", &["python3"], crossed)
        .test("over MPTCP with a second subflow: every byte, and nothing encrypted", &["python3"], subflows)
        .test("to one of two listeners (SO_REUSEPORT)", &["python3"], reuseport)
        .test("datagrams with sendmmsg and recvmmsg", &["python3"], || datagrams("datagrams"))
        .test("datagrams with UDP_SEGMENT", &["python3"], || datagrams("datagrams-segmented"))
        .test("reset after the decoy of an end: every byte", &["python3"], decoy_end)
        .test("answered with a decoy first: every byte, and none made up", &["python3"], decoy_answer)
        .test(
            "data before the answer to a SYN: not taken for first bytes, and told",
            &["python3"],
            data_first,
        )
        .test("as the second of three copies, early: nothing is believed", &["python3"], early_middle)
        .test("early bytes again and again: seen, or told", &["python3"], early_often)
        .test("the first bytes of a deferred accept: seen, or told", &["python3"], deferred)
        .test("one socket, one connection after the other: each by itself", &["python3"], reused)
        .test("behind more headers than are walked: lost, counted, not called watched", &["python3"], beyond)
        .main()
}

fn evade_py(place: tests::Place, arguments: &[&str]) -> Command {
    let mut command = place.command(python());
    command.arg(program("evade.py")).args(arguments);
    command
}

fn serve(lab: &Lab, how: &str) -> Result<Process> {
    let mut server =
        Process::start("serve", &lab.directory, evade_py(lab.server(), &["serve", &PORT.to_string(), how]))?;
    let transport = if how == "datagrams" { "udp" } else { "tcp" };
    server.wait_for_port(transport, PORT, CLIENT)?;
    Ok(server)
}

/// What the client says that it did.
struct Done {
    port: u64,
    sent: u64,
    got: u64,
}

fn client(place: tests::Place, arguments: &[&str]) -> Result<Done> {
    let mut all = clients(place, arguments)?;
    ensure!(all.len() == 1, "{} connections", all.len());
    Ok(all.remove(0))
}

/// The same of one that makes several connections.
fn clients(place: tests::Place, arguments: &[&str]) -> Result<Vec<Done>> {
    let said = finish(evade_py(place, arguments), CLIENT)?;
    ensure!(said.status.success(), "the client failed: {said:?}");
    let done = said.stdout.lines().map(|line| {
        let said: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let of = |field: &str| number(&said, field).with_context(|| format!("no {field}: {said}"));
        Ok(Done { port: of("port")?, sent: of("sent")?, got: of("got")? })
    });
    done.collect()
}

/// Packets for the address that nobody has go to the program that made them.
fn be_found(lab: &Lab) -> Result<()> {
    const LINK: &str = "02:00:00:00:00:63";
    lab.pair.left.ip(&["link", "set", "link0", "address", LINK])?;
    for own in [OWN, "fd13::63"] {
        lab.pair.right.ip(&["neigh", "replace", own, "lladdr", LINK, "nud", "permanent", "dev", "link0"])?;
    }
    Ok(())
}

fn ended(daemon: &Daemon, direction: &str, done: &Done) -> Result<Value> {
    let heard = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
        is_closed(record, PORT)
            && number(record, "client.port") == Some(done.port)
            && text(record, "network.direction") == direction
    })?;
    Ok(heard.record)
}

fn evade(row: &'static Row) -> Result<()> {
    let lab = Lab::new("evasion")?;
    for place in [lab.client(), lab.server()] {
        let mut allow = place.command("sh");
        allow.args(["-c", "echo 3 > /proc/sys/net/ipv4/tcp_fastopen"]);
        lab.run(allow, CLIENT)?;
    }
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let port = PORT.to_string();
    let (place, verb, directions): (_, _, &[&str]) = match row.sender {
        Sender::Kernel => (lab.client(), "connect", &["egress", "ingress"]),
        Sender::Packets => (lab.client(), "raw", &["ingress"]),
        Sender::Itself => (lab.server(), "connect", &["egress"]),
    };
    let server = if row.sender == Sender::Itself { None } else { Some(serve(&lab, row.server)?) };
    if row.sender == Sender::Packets {
        be_found(&lab)?;
    }
    let done = client(place, &[verb, row.host, &port, row.way])
        .map_err(|error| match format!("{error:#}").contains("has no IORING_OP_SEND_ZC") {
            true => Skip::because("the kernel has no IORING_OP_SEND_ZC"),
            false => error,
        })
        .with_context(|| server.as_ref().map(Process::said).unwrap_or_default())?;
    for direction in directions {
        let record = in_the_clear_and_whole(&daemon, direction, &done)?;
        as_undisturbed(row.way, &record)?;
        if row.way == "fastopen" {
            let evidence = text(&record, "streamwatch.verdict.encrypted.evidence");
            ensure!(evidence.contains("POST /evade/fastopen"), "{direction}: {evidence:?}");
        }
    }
    Ok(())
}

/// Protocol and "watched" are those of the first row, which nobody disturbs.
fn as_undisturbed(way: &str, record: &Value) -> Result<()> {
    let protocol = text(record, "network.protocol");
    let watched = text(record, "streamwatch.verdict.watched.answer");
    // What is padded is no HTTP; that it can be read is seen all the same.
    let wanted = if way == "padding" { "" } else { "http" };
    ensure!(protocol == wanted, "the protocol is {protocol:?}, not {wanted:?}: {}", show(record));
    ensure!(watched == "yes", "watched is {watched:?}: {}", show(record));
    Ok(())
}

/// What one end's record says of what was done.
fn in_the_clear_and_whole(daemon: &Daemon, direction: &str, done: &Done) -> Result<Value> {
    let record = ended(daemon, direction, done)?;
    ensure!(is_in_the_clear(&record), "{direction}: not told: {}", show(&record));
    whole(&record, done)?;
    Ok(record)
}

/// That it is in the clear; or, where nobody knew by its end which way its packets go, that, and what they hold.
fn is_in_the_clear(record: &Value) -> bool {
    let reason = text(record, "streamwatch.verdict.encrypted.reason");
    match text(record, "streamwatch.verdict.encrypted.answer") {
        "no" => true,
        "unknown" => reason.starts_with("whether it goes through a tunnel is not known"),
        _ => false,
    }
}

/// Every byte counts once.
fn whole(record: &Value, done: &Done) -> Result<()> {
    for (field, bytes) in [("client.bytes", done.sent), ("server.bytes", done.got)] {
        ensure!(number(record, field) == Some(bytes), "{field} is not {bytes}: {}", show(record));
    }
    Ok(())
}

/// A connection whose client makes its own packets, and what its server's end tells of it.
fn by_packets(way: &str) -> Result<(Done, Value)> {
    let lab = Lab::new("evasion")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = serve(&lab, "")?;
    be_found(&lab)?;
    let done = client(lab.client(), &["raw", V4, &PORT.to_string(), way])?;
    let record = ended(&daemon, "ingress", &done)?;
    Ok((done, record))
}

/// The kernel throws it away; the byte in its place counts.
fn decoy_end() -> Result<()> {
    let (done, record) = by_packets("reset")?;
    ensure!(number(&record, "client.bytes") == Some(done.sent), "not {}: {}", done.sent, show(&record));
    Ok(())
}

/// A connection of the kernel's to a server that makes its own packets.
fn answered(way: &str) -> Result<Value> {
    let lab = Lab::new("evasion")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    be_found(&lab)?;
    let port = PORT.to_string();
    let server = evade_py(lab.client(), &["answer", V4, &port, way]);
    let server = Process::start("answer", &lab.directory, server)?;
    let until = Instant::now() + CLIENT;
    while !server.said().contains("ready") {
        ensure!(Instant::now() < until, "the server does not begin: {}", server.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    let done =
        client(lab.server(), &["connect", OWN, &port, "undisturbed"]).with_context(|| server.said())?;
    let record = ended(&daemon, "egress", &done)?;
    whole(&record, &done)?;
    Ok(record)
}

/// What the kernel does not take begins nothing.
fn decoy_answer() -> Result<()> {
    let record = answered("decoy-answer")?;
    ensure!(text(&record, "streamwatch.verdict.encrypted.answer") == "no", "{}", show(&record));
    ensure!(text(&record, "streamwatch.verdict.watched.answer") == "yes", "{}", show(&record));
    Ok(())
}

fn data_first() -> Result<()> {
    let record = answered("data-first")?;
    ensure!(text(&record, "streamwatch.verdict.encrypted.answer") == "no", "{}", show(&record));
    ensure!(text(&record, "streamwatch.verdict.watched.answer") == "no", "{}", show(&record));
    Ok(())
}

/// The request was read, or it is said that not all was seen.
fn seen_or_told(record: &Value) -> Result<bool> {
    let seen = text(record, "streamwatch.verdict.encrypted.evidence").contains("POST /evade/");
    let told = text(record, "streamwatch.verdict.watched.answer") == "no";
    ensure!(seen || told, "neither seen nor told: {}", show(record));
    Ok(told)
}

/// The first and the last copy are alike, and neither was taken.
fn early_middle() -> Result<()> {
    let (_, record) = by_packets("early-middle")?;
    let reason = text(&record, "streamwatch.verdict.encrypted.reason");
    ensure!(text(&record, "streamwatch.verdict.encrypted.answer") == "unknown", "{}", show(&record));
    ensure!(reason.contains("came twice, with different content"), "{reason}");
    Ok(())
}

fn early_often() -> Result<()> {
    let (done, record) = by_packets("early-often")?;
    ensure!(number(&record, "client.bytes") == Some(done.sent), "not {}: {}", done.sent, show(&record));
    seen_or_told(&record).map(drop)
}

/// The kernel makes the connection when its first bytes come: until then there is only the listener.
fn deferred() -> Result<()> {
    let lab = Lab::new("evasion")?;
    let config = Some("[kernel]\nlistener_captures = 1\n".to_owned());
    let daemon = Daemon::start(&lab, DaemonOptions { config, ..DaemonOptions::default() })?;
    let _server = serve(&lab, "deferred")?;
    let mut told = 0;
    for done in clients(lab.client(), &["connect", V4, &PORT.to_string(), "eight"])? {
        let record = ended(&daemon, "ingress", &done)?;
        ensure!(number(&record, "client.bytes") == Some(done.sent), "not {}: {}", done.sent, show(&record));
        told += u32::from(seen_or_told(&record)?);
    }
    ensure!(told > 0, "more was captured than was asked for");
    daemon.wait_for("loss", PATIENCE, is_loss, |record| {
        let rows = field(record, "streamwatch.loss.rows").as_array();
        rows.is_some_and(|rows| rows.iter().any(|row| text(row, "kind") == "capture"))
    })?;
    Ok(())
}

/// The socket stays the same, and so does its cookie.
fn reused() -> Result<()> {
    let lab = Lab::new("evasion")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = serve(&lab, "")?;
    for done in clients(lab.client(), &["connect", V4, &PORT.to_string(), "reused"])? {
        for direction in ["egress", "ingress"] {
            in_the_clear_and_whole(&daemon, direction, &done)?;
        }
    }
    Ok(())
}

/// Into a packet of 1500 bytes they do not fit.
fn beyond() -> Result<()> {
    let lab = Lab::new("evasion")?;
    for end in [&lab.pair.left, &lab.pair.right] {
        end.ip(&["link", "set", "link0", "mtu", "9000"])?;
    }
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = serve(&lab, "")?;
    be_found(&lab)?;
    let done = client(lab.client(), &["raw", V6, &PORT.to_string(), "headers-beyond"])?;
    let record = ended(&daemon, "ingress", &done)?;
    ensure!(text(&record, "streamwatch.verdict.watched.answer") == "no", "{}", show(&record));
    ensure!(text(&record, "streamwatch.verdict.encrypted.answer") != "yes", "{}", show(&record));
    daemon.wait_for("loss", PATIENCE, is_loss, |record| {
        let rows = field(record, "streamwatch.loss.rows").as_array();
        rows.is_some_and(|rows| rows.iter().any(|row| text(row, "kind") == "capture"))
    })?;
    Ok(())
}

/// What the kernel takes behind headers in some order is read; what it does not take changes nothing.
fn orders(which: &'static str) -> Result<()> {
    let lab = Lab::new("evasion")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = serve(&lab, "")?;
    be_found(&lab)?;
    let all = clients(lab.client(), &["raw", V6, &PORT.to_string(), which])?;
    ensure!(all.len() >= 12, "{} connections", all.len());
    for done in all {
        let record = in_the_clear_and_whole(&daemon, "ingress", &done)?;
        as_undisturbed(which, &record)?;
    }
    Ok(())
}

/// Neither listens. What each sends first gets lost, so that both have called before they hear of each other.
fn crossed() -> Result<()> {
    const OTHER: u16 = PORT + 1;
    let lab = Lab::new("evasion")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let ends = [(&lab.pair.left, V4), (&lab.pair.right, tests::LEFT[0])];
    for (end, other) in ends {
        let nobody =
            ["neigh", "replace", other, "lladdr", "02:00:00:00:00:64", "nud", "permanent", "dev", "link0"];
        end.ip(&nobody)?;
    }
    let (here, there) = (OTHER.to_string(), PORT.to_string());
    let start = |name: &str, place: tests::Place, arguments: &[&str]| -> Result<Process> {
        let process = Process::start(name, &lab.directory, evade_py(place, arguments))?;
        let until = Instant::now() + CLIENT;
        while !process.said().contains("calls") {
            ensure!(Instant::now() < until, "{name} does not call: {}", process.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    };
    let asks = &["crossed", V4, &there, tests::LEFT[0], &here, "asks"];
    let answers = &["crossed", tests::LEFT[0], &here, V4, &there, "answers"];
    let mut asks = start("asks", lab.client(), asks)?;
    let mut answers = start("answers", lab.server(), answers)?;
    for (end, other) in ends {
        end.ip(&["neigh", "del", other, "dev", "link0"])?;
    }
    for process in [&mut asks, &mut answers] {
        let status = process.wait(CLIENT)?;
        ensure!(status.success(), "{}", process.said());
    }
    let of = |process: &Process| -> Result<Done> {
        let said = process.said();
        let last = said.lines().rfind(|line| line.contains("sent")).with_context(|| said.clone())?;
        let said: Value = serde_json::from_str(last)?;
        let of = |field: &str| number(&said, field).with_context(|| format!("no {field}: {said}"));
        Ok(Done { port: of("port")?, sent: of("sent")?, got: of("got")? })
    };
    // Each says of itself that it began: then each is the client of what it tells.
    for (process, server) in [(&asks, PORT), (&answers, OTHER)] {
        let done = of(process)?;
        let heard = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
            is_closed(record, server) && number(record, "client.port") == Some(done.port)
        })?;
        let record = heard.record;
        whole(&record, &done)?;
        let answer = text(&record, "streamwatch.verdict.encrypted.answer");
        ensure!(matches!(answer, "no" | "unknown"), "encrypted is {answer:?}: {}", show(&record));
        ensure!(text(&record, "network.direction") == "egress", "{}", show(&record));
    }
    Ok(())
}

/// A head that is cut in two, and the body wherever the kernel likes.
fn subflows() -> Result<()> {
    const SECOND: &str = "10.213.0.3";
    let lab = Lab::new("evasion")?;
    lab.pair.left.ip(&["address", "add", &format!("{SECOND}/24"), "dev", "link0"])?;
    let endpoint = ["mptcp", "endpoint", "add", SECOND, "dev", "link0", "subflow"];
    for (side, arguments) in [
        (&lab.pair.left, &["mptcp", "limits", "set", "subflows", "1"][..]),
        (&lab.pair.right, &["mptcp", "limits", "set", "subflows", "1"]),
        (&lab.pair.left, &endpoint),
    ] {
        side.ip(arguments).map_err(|error| Skip::because(format!("no MPTCP here: {error:#}")))?;
    }
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let server = serve(&lab, "mptcp")?;
    let done = client(lab.client(), &["connect", V4, &PORT.to_string(), "subflows"])
        .with_context(|| server.said())?;
    let is_end = |record: &Value, direction: &str| {
        is_closed(record, PORT) && text(record, "network.direction") == direction
    };
    let client_again = Again::of(&lab, lab.client())?;
    let server_again = Again::of(&lab, lab.server())?;
    for direction in ["egress", "ingress"] {
        let ends: Vec<Value> = daemon.wait_until("both subflows", PATIENCE, is_flow, |heard| {
            let ends = heard.iter().map(|heard| &heard.record).filter(|record| is_end(record, direction));
            Some(ends.cloned().collect::<Vec<_>>()).filter(|ends| ends.len() >= 2)
        })?;
        let shown: Vec<String> = ends.iter().map(show).collect();
        ensure!(ends.len() == 2, "{direction}: more than two subflows: {shown:?}");
        let sum = |name: &str| ends.iter().filter_map(|record| number(record, name)).sum::<u64>();
        let (sent, got) = (sum("client.bytes"), sum("server.bytes"));
        ensure!(
            client_again.explains(sent, done.sent) && server_again.explains(got, done.got),
            "{direction}: {sent} of {} ({client_again:?}) and {got} of {} bytes ({server_again:?}): {shown:?}",
            done.sent,
            done.got
        );
        for record in &ends {
            // Otherwise it would be one subflow.
            ensure!(number(record, "client.bytes") > Some(0), "{direction}: nothing on one: {shown:?}");
            let answer = text(record, "streamwatch.verdict.encrypted.answer");
            ensure!(matches!(answer, "no" | "unknown"), "encrypted is {answer:?}: {}", show(record));
            let client = text(record, "client.ip");
            if client != SECOND {
                ensure!(is_in_the_clear(record), "the head is there: {}", show(record));
            }
        }
        let second = ends
            .iter()
            .find(|record| text(record, "client.ip") == SECOND)
            .with_context(|| shown.join("; "))?;
        if direction == "egress" {
            // The kernel connects that one, on a thread that runs as root.
            let missing = text(second, "streamwatch.missing");
            ensure!(missing.contains("for whom is not known"), "{missing:?}: {second}");
            ensure!(field(second, "user.id").is_null(), "whose is it? {second}");
        }
    }
    Ok(())
}

/// What an end has sent more than once, by its kernel's own counters: it counts on each subflow that carries it.
#[derive(Debug)]
struct Again {
    /// Something that another subflow had carried, of a length that is not told.
    any: bool,
    /// Probes of the peer's closed window, each of them the last byte once more
    /// (`mptcp_sendmsg_frag` in net/mptcp/protocol.c); `None`: the kernel does not count them.
    probes: Option<u64>,
}

impl Again {
    fn of(lab: &Lab, place: tests::Place) -> Result<Again> {
        let mut command = place.command("cat");
        command.arg("/proc/self/net/netstat");
        let said = lab.run(command, CLIENT)?.stdout;
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("MPTcpExt:")).collect();
        let [names, values] = lines[..] else { anyhow::bail!("nothing of MPTCP: {said}") };
        let counter = |name: &str| {
            let mut both = names.split(' ').zip(values.split(' '));
            both.find(|(known, _)| *known == name).map(|(_, value)| value.parse::<u64>()).transpose()
        };
        let any = counter("MPTCPRetrans")?.context("no MPTCPRetrans")? > 0;
        Ok(Again { any, probes: counter("WinProbe")? })
    }

    /// Whether `counted` is right for an end whose program wrote `written` bytes.
    fn explains(&self, counted: u64, written: u64) -> bool {
        match self.probes {
            Some(probes) if !self.any => counted == written + probes,
            _ => counted >= written,
        }
    }
}

fn reuseport() -> Result<()> {
    let lab = Lab::new("evasion")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = serve(&lab, "reuseport")?;
    for _ in 0..10 {
        let done = client(lab.client(), &["connect", V4, &PORT.to_string(), "undisturbed"])?;
        for direction in ["egress", "ingress"] {
            in_the_clear_and_whole(&daemon, direction, &done)?;
        }
    }
    Ok(())
}

/// The same verdict as of datagrams that are sent and taken one by one.
fn datagrams(way: &'static str) -> Result<()> {
    let said = |record: &Value| {
        let of = |name: &str| text(record, name).to_owned();
        [
            of("network.protocol"),
            of("streamwatch.verdict.encrypted.answer"),
            of("streamwatch.verdict.encrypted.evidence"),
            of("streamwatch.verdict.watched.answer"),
        ]
    };
    let (singly, together) = (said(&datagrams_of("datagrams-singly")?), said(&datagrams_of(way)?));
    ensure!(singly[1] == "no" && singly[3] == "yes", "one by one: {singly:?}");
    ensure!(singly == together, "one by one {singly:?}, together {together:?}");
    Ok(())
}

fn datagrams_of(way: &'static str) -> Result<Value> {
    let lab = Lab::new("evasion")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = serve(&lab, "datagrams")?;
    let done = client(lab.client(), &["connect", V4, &PORT.to_string(), way])?;
    let record = ended(&daemon, "egress", &done)?;
    ensure!(
        number(&record, "client.bytes") == Some(done.sent)
            && number(&record, "server.bytes") == Some(done.got)
            && number(&record, "client.packets") == Some(8)
            && number(&record, "server.packets") == Some(8),
        "{} bytes were sent, {} came back: {}",
        done.sent,
        done.got,
        show(&record)
    );
    Ok(record)
}
