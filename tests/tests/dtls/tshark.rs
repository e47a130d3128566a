//! What tshark says of the same datagrams: those of live stacks, kept by a relay, and the fixtures of the
//! dissectors' own tests.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::servers::tool;
use tests::{Certificates, Lab, Place, Process, finish};

use crate::{PATIENCE, talk};

/// In the order in which they passed; `true`: the client's.
type Datagrams = Vec<(bool, Vec<u8>)>;

/// How long each side is listened to, by turns.
const TICK: Duration = Duration::from_millis(30);

/// Between a client, whoever speaks first, and a server on loopback.
struct Relay {
    port: u16,
    passed: Arc<Mutex<Datagrams>>,
    over: Arc<AtomicBool>,
}

impl Relay {
    fn to(server: u16) -> Result<Relay> {
        let [front, back] =
            [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
        back.connect((Ipv4Addr::LOCALHOST, server))?;
        front.set_read_timeout(Some(TICK))?;
        back.set_read_timeout(Some(TICK))?;
        let relay = Relay { port: front.local_addr()?.port(), passed: Arc::default(), over: Arc::default() };
        let (passed, over) = (Arc::clone(&relay.passed), Arc::clone(&relay.over));
        thread::spawn(move || {
            let keep = |from_client: bool, datagram: &[u8]| {
                passed.lock().unwrap_or_else(PoisonError::into_inner).push((from_client, datagram.to_vec()));
            };
            let mut buffer = vec![0; 1 << 16];
            let mut client = None;
            while !over.load(Ordering::Relaxed) {
                // By turns, as a handshake goes.
                if let Ok((length, from)) = front.recv_from(&mut buffer) {
                    client = Some(from);
                    keep(true, &buffer[..length]);
                    let _ = back.send(&buffer[..length]);
                }
                while let (Ok(length), Some(client)) = (back.recv(&mut buffer), client) {
                    keep(false, &buffer[..length]);
                    let _ = front.send_to(&buffer[..length], client);
                }
            }
        });
        Ok(relay)
    }

    fn finish(self) -> Datagrams {
        self.over.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.passed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Server and client of a stack, with their arguments.
enum Stack {
    OpenSsl(&'static [&'static str], &'static [&'static str]),
    GnuTls(&'static str),
    Dimpl,
}

const STACKS: [(&str, Stack); 9] = [
    ("OpenSSL 1.2", Stack::OpenSsl(&["-dtls1_2"], &["-dtls1_2"])),
    ("OpenSSL 1.2 after a cookie", Stack::OpenSsl(&["-dtls1_2", "-listen"], &["-dtls1_2"])),
    ("OpenSSL 1.2, ChaCha20", Stack::OpenSsl(&["-dtls1_2"], &["-dtls1_2", "-cipher", "ECDHE+CHACHA20"])),
    ("OpenSSL 1.2, static RSA", Stack::OpenSsl(&["-dtls1_2"], &["-dtls1_2", "-cipher", "AES128-GCM-SHA256"])),
    (
        "OpenSSL 1.2, short datagrams",
        Stack::OpenSsl(&["-dtls1_2", "-mtu", "300"], &["-dtls1_2", "-mtu", "300"]),
    ),
    (
        "OpenSSL 1.0",
        Stack::OpenSsl(
            &["-dtls1", "-cipher", "DEFAULT@SECLEVEL=0"],
            &["-dtls1", "-cipher", "DEFAULT@SECLEVEL=0"],
        ),
    ),
    ("GnuTLS 1.2", Stack::GnuTls("NORMAL")),
    ("GnuTLS 1.0", Stack::GnuTls("NORMAL:-VERS-ALL:+VERS-DTLS1.0:%COMPAT")),
    ("dimpl 1.3", Stack::Dimpl),
];

pub fn says_the_same() -> Result<()> {
    let lab = Lab::new("dtls")?;
    let certificates = Certificates::new(&lab.directory)?;
    let mut differ = Vec::new();
    for (name, stack) in STACKS {
        let datagrams = passed(&lab, &certificates, &stack).context(name)?;
        differ.extend(compare(&lab, name, &datagrams).context(name)?);
    }
    for name in ["dtls10", "dtls12"] {
        differ.extend(compare(&lab, name, &fixture(name)?).context(name)?);
    }
    ensure!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    Ok(())
}

/// A session of a stack with itself.
fn passed(lab: &Lab, certificates: &Certificates, stack: &Stack) -> Result<Datagrams> {
    // On this host's loopback, where the relay is.
    let place = Place::default();
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut server = match stack {
        Stack::OpenSsl(arguments, _) => {
            let mut command = place.command("openssl");
            command.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-quiet"]).args(*arguments);
            command.args(["-cert", &certificates.certificate, "-key", &certificates.key]);
            command
        }
        Stack::GnuTls(priority) => {
            let mut command = place.command("gnutls-serv");
            command.args(["--udp", "--echo", "-p", &port.to_string(), "--priority", priority]);
            command.args(["--disable-client-cert", "--x509certfile", &certificates.certificate]);
            command.args(["--x509keyfile", &certificates.key]);
            command
        }
        Stack::Dimpl => {
            let mut command = place.command(tool("tls-peer")?);
            command.args(["dtls-server", &format!("127.0.0.1:{port}"), "anyone"]);
            command
        }
    };
    server.stdin(std::process::Stdio::null());
    let mut running = Process::start(&format!("server-{port}"), &lab.directory, server)?;
    running.wait_for_port("udp", port, PATIENCE)?;
    let relay = Relay::to(port)?;
    let to = format!("127.0.0.1:{}", relay.port);
    match stack {
        Stack::OpenSsl(_, arguments) => {
            let mut command = place.command("openssl");
            command.args(["s_client", "-connect", &to, "-servername", "api.example.org"]).args(*arguments);
            talk(lab, command, "Verify return code")?;
        }
        Stack::GnuTls(priority) => {
            let mut command = place.command("gnutls-cli");
            command.args(["--udp", "--insecure", "-p", &relay.port.to_string(), "--priority", priority]);
            command.args(["--sni-hostname", "api.example.org", "127.0.0.1"]);
            talk(lab, command, "Handshake was completed")?;
        }
        Stack::Dimpl => {
            let mut command = place.command(tool("tls-peer")?);
            command.args(["dtls-client", &to]);
            finish(command, PATIENCE)?.success()?;
        }
    }
    Ok(relay.finish())
}

/// Version, suite, server name, JA3 and JA3S, as each says them; `None`: they agree.
fn compare(lab: &Lab, name: &str, datagrams: &Datagrams) -> Result<Option<String>> {
    let path = lab.directory.file("dtls.pcap");
    let all = datagrams.iter().map(|(from_client, datagram)| (*from_client, datagram.as_slice()));
    tests::pcap::write_datagrams(&mut std::fs::File::create(&path)?, all)?;
    let of = |side: bool| -> Vec<&[u8]> {
        datagrams.iter().filter(|(from, _)| *from == side).map(|(_, it)| it.as_slice()).collect()
    };
    let facts = dissect::inspect_datagrams(&of(true), &of(false), dissect::Hint::default()).facts;
    let tls = facts.tls.context("nothing is told")?;
    let ours = [
        tls.version.unwrap_or_default(),
        tls.cipher.unwrap_or_default(),
        tls.server_name.unwrap_or_default(),
        tls.ja3.unwrap_or_default(),
        tls.ja3s.unwrap_or_default(),
    ];
    let asked = fields(&path, 1, &["extensions_server_name", "ja3"])?;
    let answered = fields(&path, 2, &["version", "extensions.supported_version", "ja3s"])?;
    let (first, last) =
        (asked.first().context("tshark sees no hello")?, answered.last().context("no answer")?);
    let number = if last[1].is_empty() { &last[0] } else { &last[1] };
    let version = match number.as_str() {
        "0xfeff" => "1.0",
        "0xfefd" => "1.2",
        "0xfefc" => "1.3",
        other => other,
    };
    let theirs = [version.to_owned(), suite(&path)?, first[0].clone(), first[1].clone(), last[2].clone()];
    Ok((ours != theirs).then(|| format!("{name}\n  ours   {ours:?}\n  theirs {theirs:?}")))
}

/// Of each hello of a kind, in their order; the last one of a datagram.
fn fields(path: &str, kind: u8, names: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = tshark(path, kind);
    command.args(["-T", "fields", "-E", "occurrence=l"]);
    for name in names {
        command.args(["-e", &format!("dtls.handshake.{name}")]);
    }
    let said = finish(command, PATIENCE)?.success()?.stdout;
    Ok(said.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

/// The suite of the last ServerHello, by tshark's own name.
fn suite(path: &str) -> Result<String> {
    let mut command = tshark(path, 2);
    command.arg("-V");
    let said = finish(command, PATIENCE)?.success()?.stdout;
    let mut lines = said.lines().filter_map(|line| line.trim().strip_prefix("Cipher Suite: "));
    let name = lines.next_back().and_then(|line| line.split(' ').next());
    Ok(name.context("tshark names no suite")?.to_owned())
}

fn tshark(path: &str, kind: u8) -> Command {
    let mut command = Command::new("tshark");
    command.args(["-r", path, "-d", "udp.port==443,dtls"]);
    command.args(["-Y", &format!("dtls.handshake.type == {kind}")]);
    command
}

fn fixture(name: &str) -> Result<Datagrams> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dissect/fixtures");
    let mut sides = Vec::new();
    for (side, from_client) in [("client", true), ("server", false)] {
        let bytes = std::fs::read(folder.join(format!("{name}.{side}.datagrams")))?;
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let [high, low, after @ ..] = rest {
            let (datagram, next) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            all.push((from_client, datagram.to_vec()));
            rest = next;
        }
        sides.push(all.into_iter());
    }
    // By turns, the client first.
    let [Some(mut client), Some(mut server)] = [sides.first().cloned(), sides.get(1).cloned()] else {
        return Ok(Vec::new());
    };
    let (mut order, mut before) = (Vec::new(), usize::MAX);
    while order.len() != before {
        before = order.len();
        order.extend(client.next());
        order.extend(server.next());
    }
    Ok(order)
}
