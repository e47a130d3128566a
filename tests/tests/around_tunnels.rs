//! A socket may choose the interface that its packets leave by (IP_UNICAST_IF, IP_PKTINFO; no privilege is needed),
//! whatever its route says: what goes around a tunnel is not encrypted by it.

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{
    Daemon, DaemonOptions, Lab, Place, Process, Skip, Suite, finish, is_alert, is_closed, is_flow, number,
    text,
};

const PORT: u16 = 34_612;
const PATIENCE: Duration = Duration::from_secs(20);
/// The other end within the tunnel; past it, it is reached as well.
const PEERS: [&str; 2] = ["10.214.0.2", "fd14::2"];

/// Stands for a WireGuard of user space: a TUN device with its control socket, whose packets come out of another one
/// in the other namespace, and the other way.
const DEVICE: &str = "import fcntl, os, socket, struct, subprocess, sys, threading\n\
    name, far, there = sys.argv[1:]\n\
    def tun(name):\n    \
    fd = os.open('/dev/net/tun', os.O_RDWR)\n    \
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH', name.encode(), 0x1001))\n    \
    return fd\n\
    near_fd, far_fd = tun(name), tun(far)\n\
    os.makedirs('/run/wireguard', exist_ok=True)\n\
    path = '/run/wireguard/%s.sock' % name\n\
    if os.path.exists(path): os.unlink(path)\n\
    s = socket.socket(socket.AF_UNIX)\n\
    s.bind(path)\n\
    s.listen(16)\n\
    def accept():\n    \
    while True: s.accept()[0].close()\n\
    def relay(one, other):\n    \
    while True: os.write(other, os.read(one, 2000))\n\
    def ip(*words): subprocess.check_call(['ip', *words])\n\
    ip('link', 'set', far, 'netns', there)\n\
    for where, device, host in (([], name, 1), (['-n', there], far, 2)):\n    \
    ip(*where, 'addr', 'add', '10.214.0.%d/24' % host, 'dev', device)\n    \
    ip(*where, 'addr', 'add', 'fd14::%d/64' % host, 'dev', device, 'nodad')\n    \
    ip(*where, 'link', 'set', device, 'up')\n\
    for target, args in ((accept, ()), (relay, (far_fd, near_fd))):\n    \
    threading.Thread(target=target, args=args, daemon=True).start()\n\
    print('up', flush=True)\n\
    relay(near_fd, far_fd)\n";

/// Answers one connection, each line with itself.
const SERVER: &str = "import socket, sys\n\
    s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ':' in sys.argv[1] \
    else socket.AF_INET)\n\
    print('up', flush=True)\n\
    c = s.accept()[0].makefile('rw')\n\
    for line in c:\n    \
    c.write(line)\n    \
    c.flush()\n";

/// Asks that server five times; with `tcp-once`, one segment leaves by the other interface, for which there is a route
/// at that moment. Writes its port.
const CONNECTION: &str = "import socket, subprocess, sys, time\n\
    how, to, port = sys.argv[1], sys.argv[2], int(sys.argv[3])\n\
    s = socket.create_connection((to, port))\n\
    def route(verb):\n    \
    whole = to + ('/128' if ':' in to else '/32')\n    \
    subprocess.check_call(['ip', 'route', verb, whole, 'dev', 'link0'])\n\
    for n in range(5):\n    \
    around = how == 'tcp-once' and n == 2\n    \
    if around:\n        \
    time.sleep(2.5)\n        \
    route('add')\n    \
    s.sendall(b'plain words, number %d of five\\n' % n)\n    \
    if around: route('del')\n    \
    assert s.recv(2000)\n    \
    time.sleep(0.2)\n\
    print(s.getsockname()[1])\n";

/// Sends seven datagrams: as their route goes, around it (by the socket's interface or by each datagram's own), or
/// the first ones in and the rest around. Writes its port.
const CLIENT: &str = "import socket, struct, sys, time\n\
    how, to, port, other = sys.argv[1], sys.argv[2], int(sys.argv[3]), socket.if_nametoindex('link0')\n\
    six = ':' in to\n\
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)\n\
    if how == 'unicast_if':\n    \
    s.setsockopt(41 if six else 0, 76 if six else 50, struct.pack('!I', other))\n\
    info = (41, 50, struct.pack('=16sI', bytes(16), other)) if six else \
    (0, 8, struct.pack('=I4s4s', other, bytes(4), bytes(4)))\n\
    for n in range(7):\n    \
    if how == 'later' and n == 3: time.sleep(2.5)\n    \
    around = how == 'pktinfo' or how == 'later' and n >= 3 or how == 'once' and n == 3\n    \
    s.sendmsg([b'plain words, number %d of seven\\n' % n], [info] if around else [], 0, (to, port))\n    \
    time.sleep(0.2)\n\
    print(s.getsockname()[1])\n";

/// Holds so many sockets, of which the flows in question are none.
const CROWD: &str = "import resource, socket, sys, time\n\
    first, count = int(sys.argv[1]), int(sys.argv[2])\n\
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)\n\
    held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]\n\
    for n, s in enumerate(held, first): s.bind(('127.0.%d.%d' % (n // 200, 1 + n % 200), 7))\n\
    print('up', flush=True)\n\
    time.sleep(300)\n";

/// One datagram from each of so many sockets, which stay open until stdin is closed.
const MANY: &str = "import socket, sys\n\
    to, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n\
    all = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]\n\
    for s in all: s.sendto(b'plain words that anybody may read on the way\\n', (to, port))\n\
    sys.stdin.read()\n";
/// Processes, and the sockets of each.
const CROWD_SIZE: [usize; 2] = [10, 4_000];
const FLOWS: usize = 100;

fn main() -> ExitCode {
    Suite::new("around_tunnels")
        .test("datagrams that leave by the tunnel are encrypted", &["python3"], || datagrams("routed", true))
        .test("by IP_UNICAST_IF around it, they are not", &["python3"], || datagrams("unicast_if", false))
        .test("by IP_PKTINFO around it, they are not", &["python3"], || datagrams("pktinfo", false))
        .test("the first ones in it and later ones around it", &["python3"], || datagrams("later", false))
        .test("a single one around it", &["python3"], || datagrams("once", false))
        .test("connections through it are encrypted", &["python3"], || connections("tcp"))
        .test("those that are accepted through it are", &["python3"], || connections("tcp-in"))
        .test("a single segment around it", &["python3"], || connections("tcp-once"))
        .test("beside very many sockets of somebody, too", &["python3"], beside_many_sockets)
        .main()
}

struct Tunnel {
    lab: Lab,
    daemon: Daemon,
    _device: Process,
    name: String,
}

impl Tunnel {
    /// The daemon is there before the sockets are, and the tunnel before the daemon.
    fn new(how: &str) -> Result<Tunnel> {
        if !std::path::Path::new("/dev/net/tun").exists() {
            return Err(Skip::because("this host has no /dev/net/tun"));
        }
        let lab = Lab::new("around_tunnels")?;
        let [left, right] = [&lab.pair.left, &lab.pair.right];
        // A name of its own: others may run beside it.
        let name = format!("swt-{how}");
        let place = Place { netns: Some(left.name().to_owned()), ..Place::default() };
        let mut command = place.command("python3");
        command.args(["-c", DEVICE, &name, &format!("f{name}"), right.name()]);
        let mut device = Process::start("device", &lab.directory, command)?;
        up(&mut device)?;
        for peer in PEERS {
            right.ip(&["address", "add", peer, "dev", "link0"])?;
        }
        for network in ["10.214.0.0/24", "fd14::/64"] {
            left.ip(&["route", "add", network, "dev", "link0", "metric", "4000"])?;
        }
        let daemon = Daemon::start(&lab, DaemonOptions::default())?;
        Ok(Tunnel { lab, daemon, _device: device, name })
    }

    /// What was said of a flow when it ended, `end` being which of its ends; and how often "yes" was said of it.
    fn verdict(&self, client_port: u64, server: &str, end: &str) -> Result<(String, String, usize)> {
        let ours = |record: &Value| {
            is_flow(record)
                && number(record, "client.port") == Some(client_port)
                && text(record, "server.ip") == server
                && text(record, "network.direction") == end
        };
        let ended = |record: &Value| ours(record) && text(record, "event.action") == "flow_closed";
        let found = self.daemon.wait_for("the end of the flow", PATIENCE, ours, ended)?.record;
        let said = |what: &str| text(&found, &format!("streamwatch.verdict.encrypted.{what}")).to_owned();
        let yes =
            |record: &Value| ours(record) && text(record, "streamwatch.verdict.encrypted.answer") == "yes";
        Ok((said("answer"), said("reason"), self.daemon.count(yes)))
    }

    fn is_within(&self, (answer, reason, _): (String, String, usize)) -> Result<()> {
        let expected = format!("WireGuard tunnel {} (readable data inside)", self.name);
        ensure!((answer.as_str(), &reason) == ("yes", &expected), "{answer}: {reason}");
        Ok(())
    }

    fn is_not_alerted(&self) -> Result<()> {
        let alerts = self.daemon.count(is_of_plaintext);
        ensure!(alerts == 0, "{alerts} alerts of plaintext about what is encrypted");
        Ok(())
    }

    fn stop(self) -> Result<()> {
        let ended = self.daemon.stop()?;
        ensure!(ended.status.success(), "the daemon ended with {}:\n{}", ended.status, ended.stderr);
        let _ = std::fs::remove_file(format!("/run/wireguard/{}.sock", self.name));
        Ok(())
    }

    fn alerts_of_plaintext(&self) -> Result<()> {
        self.daemon.wait_for("alert for what goes around", PATIENCE, is_alert, is_of_plaintext).map(drop)
    }
}

fn is_of_plaintext(record: &Value) -> bool {
    is_alert(record) && text(record, "rule.id") == "plaintext"
}

fn up(process: &mut Process) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !process.said().contains("up") {
        ensure!(process.ended()?.is_none(), "it ended; it said:\n{}", process.said());
        ensure!(std::time::Instant::now() < deadline, "it is not up: {}", process.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn datagrams(how: &str, within: bool) -> Result<()> {
    let tunnel = Tunnel::new(how)?;
    for peer in PEERS {
        let mut client = tunnel.lab.client().command("python3");
        client.args(["-c", CLIENT, how, peer, &PORT.to_string()]);
        let port: u64 = finish(client, PATIENCE)?.success()?.stdout.trim().parse()?;
        let (answer, reason, yes) = tunnel.verdict(port, peer, "egress")?;
        if within {
            tunnel.is_within((answer, reason, yes))?;
            tunnel.is_not_alerted()?;
            continue;
        }
        ensure!(answer == "no" && !reason.contains("tunnel"), "{how} to {peer}: {answer}: {reason}");
        ensure!(yes == 0 || matches!(how, "later" | "once"), "{how} to {peer}: \"yes\" was said of it");
    }
    if !within {
        tunnel.alerts_of_plaintext()?;
    }
    tunnel.stop()
}

/// From here through the tunnel, or accepted here from its other end.
fn connections(how: &str) -> Result<()> {
    let tunnel = Tunnel::new(how)?;
    let (here, there) = (tunnel.lab.client(), tunnel.lab.server());
    let (from, at, end, hosts) = match how {
        "tcp-in" => (&there, &here, "ingress", ["10.214.0.1", "fd14::1"]),
        _ => (&here, &there, "egress", PEERS),
    };
    for host in hosts {
        let mut command = at.command("python3");
        command.args(["-c", SERVER, host, &PORT.to_string()]);
        let mut server = Process::start(&format!("server-{host}"), &tunnel.lab.directory, command)?;
        up(&mut server)?;
        let mut client = from.command("python3");
        client.args(["-c", CONNECTION, how, host, &PORT.to_string()]);
        let port: u64 = finish(client, PATIENCE)?.success()?.stdout.trim().parse()?;
        let (answer, reason, yes) = tunnel.verdict(port, host, end)?;
        match how {
            "tcp-once" => {
                ensure!(yes > 0, "{host}: it was in the tunnel first, and was said to be {answer}: {reason}");
                ensure!(answer == "no" && !reason.contains("tunnel"), "{host}: {answer}: {reason}");
            }
            _ => tunnel.is_within((answer, reason, yes))?,
        }
        // Where the client is at the far end, it has no tunnel that it knows of.
        if how == "tcp" {
            tunnel.is_not_alerted()?;
        }
    }
    tunnel.stop()
}

/// Where a look for the way of one goes through all sockets, others' wait for theirs.
fn beside_many_sockets() -> Result<()> {
    let tunnel = Tunnel::new("many")?;
    let [processes, sockets] = CROWD_SIZE;
    let mut crowd = Vec::new();
    for n in 0..processes {
        let mut command = tunnel.lab.client().command("python3");
        command.args(["-c", CROWD, &(n * sockets).to_string(), &sockets.to_string()]);
        let mut process = Process::start(&format!("crowd-{n}"), &tunnel.lab.directory, command)?;
        up(&mut process)?;
        crowd.push(process);
    }
    let mut client = tunnel.lab.client().command("python3");
    client.args(["-c", MANY, PEERS[0], &PORT.to_string(), &FLOWS.to_string()]);
    let mut client = Process::start_piped("many", {
        client.stdin(Stdio::piped());
        client
    })?;
    let stdin = client.take_stdin()?;
    let deadline = Instant::now() + PATIENCE;
    let is_told = |flow: &Value| {
        flow["server"]["port"] == PORT && text(flow, "streamwatch.verdict.encrypted.answer") == "yes"
    };
    loop {
        let told = tunnel.daemon.list("/v1/flows")?.iter().filter(|flow| is_told(flow)).count();
        if told >= FLOWS {
            break;
        }
        ensure!(Instant::now() < deadline, "{told} of {FLOWS} are told to be within the tunnel");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(stdin);
    ensure!(client.wait(PATIENCE)?.success(), "the client failed");
    let ended = |record: &Value| is_closed(record, PORT);
    tunnel.daemon.wait_until("the ends of the flows", PATIENCE, ended, |heard| {
        (heard.iter().filter(|heard| ended(&heard.record)).count() >= FLOWS).then_some(())
    })?;
    let within =
        |record: &Value| ended(record) && text(record, "streamwatch.verdict.encrypted.answer") == "yes";
    let found = tunnel.daemon.count(within);
    ensure!(found == FLOWS, "{found} of {FLOWS} were told to be within the tunnel");
    tunnel.is_not_alerted()?;
    tunnel.stop()
}
