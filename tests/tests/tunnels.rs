//! What leaves through a tunnel is encrypted by it, and the answer says which; the same service reached
//! past the tunnel is in the clear.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security};
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, LinkKind, Netns, Place, Process, Skip, Suite, is_alert,
    is_flow, number, text,
};

const PORT: u16 = 34_567;
const PATIENCE: Duration = Duration::from_secs(20);
const CLIENT: Duration = Duration::from_secs(30);
/// The addresses of the link between the namespaces, and those within the tunnel.
const OUTSIDE: [&str; 2] = ["10.213.0.1", "10.213.0.2"];
const INSIDE: [&str; 2] = ["10.214.0.1", "10.214.0.2"];

fn main() -> ExitCode {
    Suite::new("tunnels")
        .test("WireGuard of the kernel", &["wg", "nginx", "curl"], kernel_wireguard)
        .test("WireGuard in user space", &["wg", "nginx", "curl"], userspace_wireguard)
        .test("IPsec in transport mode", &["nginx", "curl"], ipsec)
        .main()
}

/// One end of a WireGuard tunnel.
struct End<'a> {
    netns: &'a Netns,
    interface: &'a str,
    key: String,
    public: String,
    inside: &'a str,
}

impl<'a> End<'a> {
    fn new(lab: &Lab, netns: &'a Netns, interface: &'a str, inside: &'a str) -> Result<Self> {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            lab.run(command, CLIENT).map(|finished| finished.stdout.trim().to_owned())
        };
        let key = lab.directory.file(&format!("{interface}.key"));
        shell(&format!("umask 077; wg genkey > '{key}'"))?;
        let public = shell(&format!("wg pubkey < '{key}'"))?;
        Ok(End { netns, interface, key, public, inside })
    }

    /// Sets the tunnel up to its other end.
    fn connect(&self, lab: &Lab, other: &End<'_>, endpoint: &str) -> Result<()> {
        let place = Place { netns: Some(self.netns.name().to_owned()), ..Place::default() };
        let mut set = place.command("wg");
        set.args(["set", self.interface, "listen-port", "51820", "private-key", &self.key]);
        set.args(["peer", &other.public, "allowed-ips", &format!("{}/32", other.inside)]);
        set.args(["endpoint", &format!("{endpoint}:51820")]);
        lab.run(set, CLIENT)?;
        self.netns.ip(&["address", "add", &format!("{}/24", self.inside), "dev", self.interface])?;
        self.netns.ip(&["link", "set", self.interface, "up"])
    }
}

fn kernel_wireguard() -> Result<()> {
    let lab = Lab::with_link("tunnels", LinkKind::Veth)?;
    let [left, right] = [&lab.pair.left, &lab.pair.right];
    for netns in [left, right] {
        if let Err(error) = netns.ip(&["link", "add", "wg0", "type", "wireguard"]) {
            return Err(Skip::because(format!("this kernel makes no WireGuard interface: {error:#}")));
        }
    }
    let here = End::new(&lab, left, "wg0", INSIDE[0])?;
    let there = End::new(&lab, right, "wg0", INSIDE[1])?;
    here.connect(&lab, &there, OUTSIDE[1])?;
    there.connect(&lab, &here, OUTSIDE[0])?;
    check(&lab, INSIDE[1], "WireGuard tunnel wg0 (http in the clear inside)", Some(OUTSIDE[1]))
}

/// boringtun: its device is a TUN device, and its control socket in the one file system tells it.
fn userspace_wireguard() -> Result<()> {
    let program =
        boringtun().ok_or_else(|| Skip::because("boringtun-cli is not there: cargo xtask setup"))?;
    ensure_tun()?;
    let lab = Lab::with_link("tunnels", LinkKind::Veth)?;
    let names = ["swtwg0", "swtwg1"];
    let mut devices = Vec::new();
    for (netns, name) in [&lab.pair.left, &lab.pair.right].into_iter().zip(names) {
        let place = Place { netns: Some(netns.name().to_owned()), ..Place::default() };
        let mut command = place.command(&program);
        command.args([name, "--foreground", "--disable-drop-privileges", "--threads", "1"]);
        command.args(["--log", &lab.directory.file(&format!("{name}.log"))]);
        let mut device = Process::start(name, &lab.directory, command)?;
        let socket = Path::new("/run/wireguard").join(format!("{name}.sock"));
        let deadline = std::time::Instant::now() + PATIENCE;
        while !socket.exists() {
            ensure!(device.ended()?.is_none(), "boringtun ended; it said:\n{}", device.said());
            ensure!(std::time::Instant::now() < deadline, "no {}: {}", socket.display(), device.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        devices.push(device);
    }
    let here = End::new(&lab, &lab.pair.left, names[0], INSIDE[0])?;
    let there = End::new(&lab, &lab.pair.right, names[1], INSIDE[1])?;
    here.connect(&lab, &there, OUTSIDE[1])?;
    there.connect(&lab, &here, OUTSIDE[0])?;
    check(&lab, INSIDE[1], "WireGuard tunnel swtwg0 (http in the clear inside)", Some(OUTSIDE[1]))
}

fn ensure_tun() -> Result<()> {
    match Path::new("/dev/net/tun").exists() {
        true => Ok(()),
        false => Err(Skip::because("this host has no /dev/net/tun")),
    }
}

fn boringtun() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/boringtun-cli");
    ours.is_file().then_some(ours)
}

fn ipsec() -> Result<()> {
    let lab = Lab::with_link("tunnels", LinkKind::Veth)?;
    let [here, there] = OUTSIDE;
    for (netns, [near, far]) in [(&lab.pair.left, [here, there]), (&lab.pair.right, [there, here])] {
        for (source, destination, spi) in [(here, there, "0x100"), (there, here, "0x101")] {
            let state =
                ["xfrm", "state", "add", "src", source, "dst", destination, "proto", "esp", "spi", spi];
            let how =
                ["reqid", "7", "mode", "transport", "enc", "cbc(aes)", KEY, "auth", "hmac(sha256)", KEY];
            if let Err(error) = netns.ip(&[&state[..], &how].concat()) {
                return Err(Skip::because(format!("this kernel has no ESP: {error:#}")));
            }
        }
        for (source, destination, direction) in [(near, far, "out"), (far, near, "in")] {
            let policy = ["xfrm", "policy", "add", "src", source, "dst", destination, "dir", direction];
            netns.ip(&[&policy[..], &["tmpl", "proto", "esp", "reqid", "7", "mode", "transport"]].concat())?;
        }
    }
    check(&lab, there, &format!("IPsec {here}-{there} (http in the clear inside)"), None)
}

/// 32 bytes.
const KEY: &str = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Fetches a page through the tunnel at `inside`, and past it at `outside`.
fn check(lab: &Lab, inside: &str, reason: &str, outside: Option<&str>) -> Result<()> {
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(lab, DaemonOptions::default())?;
    let server = servers::nginx(lab, &certificates, PORT, Security::Plain)?;
    // The first packet of a tunnel waits for its handshake.
    fetch(lab, inside).with_context(|| format!("the server said:\n{}", server.said()))?;
    let found = closed(&daemon, inside, "yes")?;
    let said = text(&found, "streamwatch.verdict.encrypted.reason");
    ensure!(said == reason, "the reason is {said:?}, not {reason:?}");
    closed_at_server(&daemon, inside)?;
    let alert = |record: &Value| is_alert(record) && text(record, "rule.id") == "plaintext";
    let alerts = |daemon: &Daemon| daemon.heard().iter().filter(|heard| alert(&heard.record)).count();
    ensure!(alerts(&daemon) == 0, "an alert for what the tunnel encrypts");
    if let Some(outside) = outside {
        fetch(lab, outside)?;
        closed(&daemon, outside, "no")?;
        daemon.wait_for("alert for what goes past the tunnel", PATIENCE, is_alert, alert)?;
    }
    let ended = daemon.stop()?;
    ensure!(ended.status.success(), "the daemon ended with {}:\n{}", ended.status, ended.stderr);
    Ok(())
}

fn fetch(lab: &Lab, host: &str) -> Result<()> {
    let mut curl = lab.client().command("curl");
    curl.args(["-sSf", "-m", "20", "-o", "/dev/null", &format!("http://{host}:{PORT}/")]);
    lab.run(curl, CLIENT).map(drop)
}

fn of(host: &str, direction: &str) -> impl Fn(&Value) -> bool {
    move |record: &Value| {
        is_flow(record)
            && number(record, "server.port") == Some(PORT.into())
            && text(record, "server.ip") == host
            && text(record, "network.direction") == direction
    }
}

/// The record of the client's end, with this answer to "encrypted?".
fn closed(daemon: &Daemon, host: &str, answer: &str) -> Result<Value> {
    let wanted = |record: &Value| {
        of(host, "egress")(record)
            && text(record, "event.action") == "flow_closed"
            && text(record, "network.protocol") == "http"
            && text(record, "streamwatch.verdict.encrypted.answer") == answer
    };
    let what = format!("closed flow to {host} with the answer {answer:?}");
    Ok(daemon.wait_for(&what, PATIENCE, of(host, "egress"), wanted)?.record)
}

/// The server's end is within the tunnel, too.
fn closed_at_server(daemon: &Daemon, host: &str) -> Result<()> {
    let wanted = |record: &Value| {
        of(host, "ingress")(record)
            && text(record, "event.action") == "flow_closed"
            && text(record, "streamwatch.verdict.encrypted.answer") == "yes"
    };
    daemon
        .wait_for("closed flow at the server within the tunnel", PATIENCE, of(host, "ingress"), wanted)
        .map(drop)
}
