//! A socket may choose the interface that its datagrams leave by (IP_UNICAST_IF, IP_PKTINFO; no privilege is needed),
//! whatever its route says: what goes around a tunnel is not encrypted by it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{
    Daemon, DaemonOptions, Lab, Place, Process, Skip, Suite, finish, is_alert, is_flow, number, text,
};

const PORT: u16 = 34_612;
const PATIENCE: Duration = Duration::from_secs(20);
/// The other end within the tunnel; past it, it is reached as well.
const PEERS: [&str; 2] = ["10.214.0.2", "fd14::2"];

/// Stands for a WireGuard of user space: a TUN device whose packets go nowhere, and its control socket.
const DEVICE: &str = "import fcntl, os, socket, struct, subprocess, sys, threading\n\
    name = sys.argv[1]\n\
    tun = os.open('/dev/net/tun', os.O_RDWR)\n\
    fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH', name.encode(), 0x1001))\n\
    os.makedirs('/run/wireguard', exist_ok=True)\n\
    path = '/run/wireguard/%s.sock' % name\n\
    if os.path.exists(path): os.unlink(path)\n\
    s = socket.socket(socket.AF_UNIX)\n\
    s.bind(path)\n\
    s.listen(16)\n\
    def accept():\n    \
    while True: s.accept()[0].close()\n\
    threading.Thread(target=accept, daemon=True).start()\n\
    for words in ('addr add 10.214.0.1/24 dev %s', 'addr add fd14::1/64 dev %s nodad', 'link set %s up'):\n    \
    subprocess.check_call(['ip'] + (words % name).split())\n\
    print('up', flush=True)\n\
    while True: os.read(tun, 2000)\n";

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

fn main() -> ExitCode {
    Suite::new("around_tunnels")
        .test("datagrams that leave by the tunnel are encrypted", &["python3"], || leave("routed", true))
        .test("by IP_UNICAST_IF around it, they are not", &["python3"], || leave("unicast_if", false))
        .test("by IP_PKTINFO around it, they are not", &["python3"], || leave("pktinfo", false))
        .test("the first ones in it and later ones around it", &["python3"], || leave("later", false))
        .test("a single one around it", &["python3"], || leave("once", false))
        .main()
}

/// The daemon is there before the socket is, and the tunnel before the daemon.
fn leave(how: &str, within: bool) -> Result<()> {
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Err(Skip::because("this host has no /dev/net/tun"));
    }
    let lab = Lab::new("around_tunnels")?;
    let [left, right] = [&lab.pair.left, &lab.pair.right];
    for peer in PEERS {
        right.ip(&["address", "add", peer, "dev", "link0"])?;
    }
    // A name of its own: others may run beside it.
    let name = format!("swt-{how}");
    let place = Place { netns: Some(left.name().to_owned()), ..Place::default() };
    let mut command = place.command("python3");
    command.args(["-c", DEVICE, &name]);
    let mut device = Process::start("device", &lab.directory, command)?;
    let deadline = std::time::Instant::now() + PATIENCE;
    while !device.said().contains("up") {
        ensure!(device.ended()?.is_none(), "the device ended; it said:\n{}", device.said());
        ensure!(std::time::Instant::now() < deadline, "no device: {}", device.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    let reason_within = format!("WireGuard tunnel {name} (readable data inside)");
    for network in ["10.214.0.0/24", "fd14::/64"] {
        left.ip(&["route", "add", network, "dev", "link0", "metric", "4000"])?;
    }
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    for peer in PEERS {
        let mut client = lab.client().command("python3");
        client.args(["-c", CLIENT, how, peer, &PORT.to_string()]);
        let port: u64 = finish(client, PATIENCE)?.success()?.stdout.trim().parse()?;
        let ours = |record: &Value| {
            is_flow(record)
                && number(record, "client.port") == Some(port)
                && text(record, "server.ip") == peer
        };
        let ended = |record: &Value| ours(record) && text(record, "event.action") == "flow_closed";
        let found = daemon.wait_for("the end of the flow", PATIENCE, ours, ended)?.record;
        let answer = text(&found, "streamwatch.verdict.encrypted.answer");
        let reason = text(&found, "streamwatch.verdict.encrypted.reason");
        if within {
            ensure!(
                (answer, reason) == ("yes", reason_within.as_str()),
                "{how} to {peer}: {answer}: {reason}"
            );
            continue;
        }
        ensure!(answer == "no" && !reason.contains("tunnel"), "{how} to {peer}: {answer}: {reason}");
        if matches!(how, "unicast_if" | "pktinfo") {
            let yes = |record: &Value| {
                ours(record) && text(record, "streamwatch.verdict.encrypted.answer") == "yes"
            };
            ensure!(daemon.count(yes) == 0, "{how} to {peer}: \"yes\" was said of it");
        }
    }
    let alert = |record: &Value| is_alert(record) && text(record, "rule.id") == "plaintext";
    if !within {
        daemon.wait_for("alert for what goes around", PATIENCE, is_alert, alert)?;
    }
    let ended = daemon.stop()?;
    ensure!(ended.status.success(), "the daemon ended with {}:\n{}", ended.status, ended.stderr);
    let _ = std::fs::remove_file(format!("/run/wireguard/{name}.sock"));
    Ok(())
}
