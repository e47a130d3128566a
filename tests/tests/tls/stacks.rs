//! TLS stacks as servers and as clients.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::servers::{program, python};
use tests::{Process, finish};

use crate::authority::{Authority, Identity};
use crate::peers;

/// What a stack is known by in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stack {
    OpenSsl,
    GnuTls,
    Nss,
    BoringSsl,
    Go,
    Rustls,
    Java,
}

impl Stack {
    pub fn name(self) -> &'static str {
        match self {
            Stack::OpenSsl => "OpenSSL",
            Stack::GnuTls => "GnuTLS",
            Stack::Nss => "NSS",
            Stack::BoringSsl => "BoringSSL",
            Stack::Go => "Go",
            Stack::Rustls => "rustls",
            Stack::Java => "Java",
        }
    }
}

pub const SERVERS: [Stack; 6] =
    [Stack::OpenSsl, Stack::GnuTls, Stack::Nss, Stack::Go, Stack::Rustls, Stack::Java];
pub const CLIENTS: [Stack; 7] =
    [Stack::OpenSsl, Stack::GnuTls, Stack::Nss, Stack::BoringSsl, Stack::Go, Stack::Rustls, Stack::Java];

/// Whether a server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    No,
    Optional,
    /// And turns down whoever has none that it trusts.
    Required,
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub version: &'static str,
    pub identity: Identity,
    pub asks: Asks,
    pub tickets: bool,
}

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub port: u16,
    _process: Option<Process>,
}

/// Programs of ours, compiled once.
pub struct Built {
    pub go: String,
    /// Directory of the classes.
    pub java: String,
}

/// # Errors
/// A compiler failed.
pub fn build(authority: &Authority) -> Result<Built> {
    let directory = authority.directory();
    let built = Built { go: directory.file("tls_peer"), java: directory.file("classes") };
    let mut go = Command::new("go");
    go.args(["build", "-o", &built.go]).arg(program("tls_peer.go"));
    go.env("GO111MODULE", "off").env("GOCACHE", directory.file("go-cache")).env("HOME", directory.path());
    finish(go, Duration::from_secs(240))?.success()?;
    let mut java = Command::new("javac");
    java.args(["-d", &built.java]).arg(program("TlsPeer.java"));
    finish(java, Duration::from_secs(240))?.success()?;
    Ok(built)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A server on a port of its own.
///
/// # Errors
/// It did not start.
pub fn serve(stack: Stack, setup: &Setup, authority: &Authority, built: &Built) -> Result<Server> {
    let port = free_port()?;
    let number = port.to_string();
    let Identity { leaf, chain, above, key, archive, name } = &setup.identity;
    let asks = match setup.asks {
        Asks::No => "no",
        Asks::Optional => "optional",
        Asks::Required => "required",
    };
    let tickets = if setup.tickets { "on" } else { "off" };
    let root = authority.root_file();
    let mut command = match stack {
        Stack::OpenSsl => {
            let mut command = Command::new("openssl");
            let address = format!("127.0.0.1:{port}");
            command.args(["s_server", "-www", "-accept", &address, "-cert", leaf, "-key", key]);
            command.args(["-CAfile", &root, "-quiet"]);
            if let Some(above) = above {
                command.args(["-cert_chain", above]);
            }
            command.arg(if setup.version == "1.3" { "-tls1_3" } else { "-tls1_2" });
            match setup.asks {
                Asks::No => {}
                Asks::Optional => drop(command.args(["-verify", "5"])),
                Asks::Required => drop(command.args(["-Verify", "5", "-verify_return_error"])),
            }
            if !setup.tickets {
                command.args(["-num_tickets", "0", "-no_ticket"]);
            }
            command
        }
        Stack::GnuTls => {
            let mut command = Command::new("gnutls-serv");
            command.args(["--http", "-q", "-p", &number, "--x509certfile", chain, "--x509keyfile", key]);
            command.args(["--x509cafile", &root, "--priority", &gnutls_priority(setup.version)]);
            match setup.asks {
                Asks::No => drop(command.arg("--disable-client-cert")),
                Asks::Optional => {}
                Asks::Required => drop(command.args(["--require-client-cert", "--verify-client-cert"])),
            }
            if !setup.tickets {
                command.arg("--noticket");
            }
            command
        }
        Stack::Nss => {
            let database = nss_database(authority, Some(&setup.identity))?;
            let mut command = Command::new("selfserv");
            command.args(["-p", &number, "-d", &database, "-n", name, "-V", &nss_version(setup.version)]);
            match setup.asks {
                Asks::No => {}
                Asks::Optional => drop(command.arg("-r")),
                Asks::Required => drop(command.args(["-r", "-r"])),
            }
            if setup.tickets {
                command.arg("-u");
            }
            command
        }
        Stack::Go => {
            let mut command = Command::new(&built.go);
            command.args(["serve", &number, chain, key, &root, asks, setup.version, tickets]);
            command
        }
        Stack::Java => {
            let mut command = java(built);
            command.args(["serve", &number, archive, &root, asks, setup.version, tickets]);
            command
        }
        Stack::Rustls => {
            let port = peers::rustls_server(setup, authority)?;
            return Ok(Server { port, _process: None });
        }
        Stack::BoringSsl => bail!("there is no BoringSSL server"),
    };
    command.env("HOME", authority.directory().path());
    let mut process = Process::start(&format!("{}-{port}", stack.name()), authority.directory(), command)?;
    process.wait_for_port("tcp", port, PATIENCE)?;
    Ok(Server { port, _process: Some(process) })
}

/// OpenSSL's server, with its mind on early data, which its web mode does not go with.
///
/// # Errors
/// It did not start.
pub fn serve_early_data(authority: &Authority, takes: bool) -> Result<Server> {
    let port = free_port()?;
    let Identity { leaf, key, .. } = authority.identity("rsa", 1);
    let early = if takes { "-early_data" } else { "-no_early_data" };
    // It reads its own stdin, and would end with it.
    let mut command = Command::new("sh");
    let run = r#"sleep 600 | exec openssl s_server -quiet -tls1_3 -accept "$1" -cert "$2" -key "$3" "$4""#;
    command.args(["-c", run, "sh", &format!("127.0.0.1:{port}"), &leaf, &key, early]);
    let mut process = Process::start(&format!("early-{port}"), authority.directory(), command)?;
    process.wait_for_port("tcp", port, PATIENCE)?;
    Ok(Server { port, _process: Some(process) })
}

fn java(built: &Built) -> Command {
    let mut command = Command::new("java");
    // Less to start.
    command.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xshare:auto",
        "-cp",
        &built.java,
        "TlsPeer",
    ]);
    command
}

fn gnutls_priority(version: &str) -> String {
    format!("NORMAL:-VERS-ALL:+VERS-TLS{version}")
}

fn nss_version(version: &str) -> String {
    format!("tls{version}:tls{version}")
}

/// A database with the authorities and one certificate with its key, made once.
fn nss_database(authority: &Authority, identity: Option<&Identity>) -> Result<String> {
    let path = authority.file(&format!("nss-{}", identity.map_or("none", |identity| &identity.name)));
    let name = format!("sql:{path}");
    if std::path::Path::new(&path).exists() {
        return Ok(name);
    }
    std::fs::create_dir(&path)?;
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        finish(command, PATIENCE)?.success()
    };
    run("certutil", &["-N", "-d", &name, "--empty-password"])?;
    for (file, trust) in [("root", "CT,C,C"), ("a1", ",,"), ("a2", ",,"), ("a3", ",,")] {
        let pem = authority.file(&format!("{file}.pem"));
        run("certutil", &["-A", "-d", &name, "-n", file, "-t", trust, "-i", &pem])?;
    }
    if let Some(identity) = identity {
        run("pk12util", &["-i", &identity.archive, "-d", &name, "-W", "changeit", "-K", ""])?;
    }
    Ok(name)
}

/// What a client brings.
#[derive(Clone, Debug)]
pub struct Visit<'a> {
    pub version: &'static str,
    pub identity: Option<&'a Identity>,
    /// The browser whose hello BoringSSL sends; empty: its own.
    pub browser: &'static str,
}

/// What came of a client's visit.
#[derive(Debug)]
pub enum Came {
    /// With the server's answer.
    Ok(String),
    Failed(#[expect(dead_code, reason = "shown when a test says what was left out")] String),
}

/// Clients; those that take a while to start are kept.
pub struct Clients<'a> {
    authority: &'a Authority,
    built: &'a Built,
    kept: HashMap<Stack, Kept>,
}

struct Kept {
    _process: Process,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

const REQUEST: &str = "GET / HTTP/1.0\r\n\r\n";

impl<'a> Clients<'a> {
    pub fn new(authority: &'a Authority, built: &'a Built) -> Self {
        Clients { authority, built, kept: HashMap::new() }
    }

    /// Sends a client to a port of this host.
    ///
    /// # Errors
    /// It could not be started; not: it or the server said no.
    pub fn visit(&mut self, stack: Stack, port: u16, visit: &Visit<'_>) -> Result<Came> {
        match stack {
            Stack::Go | Stack::Java | Stack::BoringSsl => self.order(stack, port, visit),
            Stack::Rustls => Ok(peers::rustls_client(port, visit)),
            Stack::OpenSsl | Stack::GnuTls | Stack::Nss => self.run(stack, port, visit),
        }
    }

    fn run(&self, stack: Stack, port: u16, visit: &Visit<'_>) -> Result<Came> {
        let number = port.to_string();
        let mut command = match stack {
            Stack::OpenSsl => {
                let mut command = Command::new("openssl");
                command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-quiet", "-ign_eof"]);
                command.arg(if visit.version == "1.3" { "-tls1_3" } else { "-tls1_2" });
                if let Some(Identity { leaf, above, key, .. }) = visit.identity {
                    command.args(["-cert", leaf, "-key", key]);
                    if let Some(above) = above {
                        command.args(["-cert_chain", above]);
                    }
                }
                command
            }
            Stack::GnuTls => {
                let mut command = Command::new("gnutls-cli");
                command.args(["--insecure", "-p", &number, "127.0.0.1"]);
                command.args(["--priority", &gnutls_priority(visit.version)]);
                if let Some(Identity { chain, key, .. }) = visit.identity {
                    command.args(["--x509certfile", chain, "--x509keyfile", key]);
                }
                command
            }
            _ => {
                let mut command = Command::new("tstclnt");
                let database = nss_database(self.authority, visit.identity)?;
                command.args(["-h", "127.0.0.1", "-p", &number, "-d", &database, "-o"]);
                command.args(["-V", &nss_version(visit.version)]);
                if let Some(Identity { name, .. }) = visit.identity {
                    command.args(["-n", name]);
                }
                command
            }
        };
        let said = self.authority.file("client.said");
        command.stdout(std::fs::File::create(&said)?).stderr(Stdio::null()).stdin(Stdio::piped());
        let mut process = Process::start_piped(stack.name(), command)?;
        let mut stdin = process.take_stdin()?;
        // It stays open until the server has ended the connection: a client that sees its end may leave.
        let _ = stdin.write_all(REQUEST.as_bytes());
        if stack == Stack::Nss {
            // It does not leave by itself.
            wait_for_answer(&mut process, &said)?;
            process.signal(rustix::process::Signal::KILL);
        }
        let status = process.wait(PATIENCE)?;
        drop(stdin);
        let answer = String::from_utf8_lossy(&std::fs::read(&said)?).into_owned();
        Ok(match status.success() || answer.contains("HTTP/1.0 200") {
            true => Came::Ok(answer),
            false => Came::Failed(format!("{status}")),
        })
    }

    fn order(&mut self, stack: Stack, port: u16, visit: &Visit<'_>) -> Result<Came> {
        if !self.kept.contains_key(&stack) {
            let kept = self.start(stack)?;
            self.kept.insert(stack, kept);
        }
        let kept = self.kept.get_mut(&stack).context("just started")?;
        let identity = match (stack, visit.identity) {
            (_, None) => "- -".to_owned(),
            (Stack::Java, Some(identity)) => identity.archive.clone(),
            (_, Some(identity)) => format!("{} {}", identity.chain, identity.key),
        };
        writeln!(kept.orders, "{port} {} {identity} {}", visit.version, visit.browser)?;
        kept.orders.flush()?;
        let mut answer = String::new();
        kept.answers.read_line(&mut answer)?;
        ensure!(!answer.is_empty(), "{} ended", stack.name());
        Ok(match answer.strip_prefix("ok") {
            Some(answer) => Came::Ok(answer.trim().to_owned()),
            None => Came::Failed(answer.trim().to_owned()),
        })
    }

    fn start(&self, stack: Stack) -> Result<Kept> {
        let mut command = match stack {
            Stack::Go => Command::new(&self.built.go),
            Stack::Java => java(self.built),
            _ => {
                let mut command = Command::new(python());
                command.arg(program("boringssl_client.py"));
                command
            }
        };
        if stack != Stack::BoringSsl {
            command.arg("connect");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::start_piped(stack.name(), command)?;
        let orders = process.take_stdin()?;
        let answers = BufReader::new(process.child().stdout.take().context("no stdout")?);
        Ok(Kept { _process: process, orders, answers })
    }
}

/// Whether an answer came, and not only its first part: a server may send it in several records.
fn is_whole(answer: &str) -> bool {
    answer.contains("HTTP/1.0 200") && (!answer.contains(COUNT) || seen(answer).is_some())
}

/// Until a client has an answer, or has ended.
fn wait_for_answer(process: &mut Process, said: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while process.ended()?.is_none() && !is_whole(&String::from_utf8_lossy(&std::fs::read(said)?)) {
        ensure!(Instant::now() < deadline, "no answer after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What servers of ours say before a count.
const COUNT: &str = "client certificates: ";

/// Whether the server says that it saw certificates of the client; nothing where it says neither, or is cut off.
pub fn seen(answer: &str) -> Option<bool> {
    if let Some((_, count)) = answer.split_once(COUNT) {
        return count.chars().next()?.to_digit(10).map(|digit| digit > 0);
    }
    let phrases = [("no client certificate available", false), ("Client certificate", true)];
    phrases.iter().find(|(phrase, _)| answer.contains(phrase)).map(|(_, seen)| *seen)
}
