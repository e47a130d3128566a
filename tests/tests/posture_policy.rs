//! What a policy requires of a service's encryption, on real servers and clients: whoever keeps to it is
//! not told of, whoever breaks it is, under the rule that it belongs to and with the reason.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::tool;
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, Process, Suite, finish, is_alert, is_flow, number, text,
};

/// Each service has the next port.
const FIRST_PORT: u16 = 34_640;
/// For a busy machine; nothing here is about speed.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    Suite::new("posture_policy")
        .test("a service's oldest version", &["openssl"], || hold(VERSIONS))
        .test("a service's suites", &["openssl"], || hold(SUITES))
        .test("a service's key exchanges", &["openssl"], || hold(GROUPS))
        .test("a service that wants client certificates", &["openssl"], || hold(CLIENT_CERTIFICATES))
        .test("names and SPIFFE IDs of either end", &["openssl"], || hold(NAMES))
        .main()
}

/// A service, who talks to it how, and what is to be said of that.
struct Case {
    /// Of the policy.
    require: &'static str,
    server: Program,
    client: Program,
    /// Rule and a part of the reason; `None`: it keeps to what is required.
    breach: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy)]
enum Program {
    /// `openssl s_server` or `s_client`, with these arguments more.
    OpenSsl(&'static [&'static str]),
    /// The same, presenting a certificate of this end's: `spiffe` or `other`.
    Named(&'static str, &'static [&'static str]),
    /// rustls, which exchanges keys by X25519MLKEM768.
    Rustls,
    /// No TLS at all.
    Plain,
}

use Program::{Named, OpenSsl, Plain, Rustls};

const fn case(
    require: &'static str,
    server: Program,
    client: Program,
    breach: Option<(&'static str, &'static str)>,
) -> Case {
    Case { require, server, client, breach }
}

const ANY: Program = OpenSsl(&["-cipher", "ALL:@SECLEVEL=0"]);
const OLD: Program = OpenSsl(&["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]);
const NEW: Program = OpenSsl(&["-tls1_3"]);
const ELDER: Program = OpenSsl(&["-tls1_2"]);

const VERSIONS: &[Case] = &[
    case("tls = \"1.3\"", NEW, ANY, None),
    case("tls = \"1.3\"", ELDER, ANY, Some(("weak-tls", "uses TLS 1.2, and TLS 1.3 is required"))),
    case("tls = \"1.2\"", ELDER, ANY, None),
    case("tls = \"1.2\"", OLD, OLD, Some(("weak-tls", "uses TLS 1.1, and TLS 1.2 is required"))),
    case("tls = \"1.2\"", Plain, Plain, Some(("weak-tls", "is in the clear, and TLS is required"))),
];

const CHACHA: Program = OpenSsl(&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]);
const CBC: Program = OpenSsl(&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA"]);
const GCM: Program = OpenSsl(&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"]);

const SUITES: &[Case] = &[
    case("suites = [\"AES-256-GCM\", \"AES-128-GCM\"]", NEW, ANY, None),
    case(
        "suites = [\"AES-256-GCM\", \"AES-128-GCM\"]",
        CHACHA,
        ANY,
        Some(("weak-cipher", "uses TLS_CHACHA20_POLY1305_SHA256, and only AES-256-GCM, AES-128-GCM")),
    ),
    case("suites = [\"TLS_ECDHE_*_GCM_*\"]", GCM, ANY, None),
    case(
        "suites = [\"TLS_ECDHE_*_GCM_*\"]",
        CBC,
        ANY,
        Some(("weak-cipher", "uses TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, and only TLS_ECDHE_*_GCM_*")),
    ),
];

const P384: Program = OpenSsl(&["-tls1_3", "-groups", "P-384"]);
const P256_ELDER: Program = OpenSsl(&["-tls1_2", "-groups", "P-256"]);
const STATIC: Program = OpenSsl(&["-tls1_2", "-cipher", "AES256-GCM-SHA384"]);

const GROUPS: &[Case] = &[
    case("groups = [\"x25519\", \"X25519MLKEM768\"]", NEW, ANY, None),
    case("groups = [\"x25519\", \"X25519MLKEM768\"]", Rustls, Rustls, None),
    case(
        "groups = [\"x25519\", \"X25519MLKEM768\"]",
        P384,
        ANY,
        Some(("weak-cipher", "exchanges keys by secp384r1, and only x25519, X25519MLKEM768")),
    ),
    case("groups = [\"secp*\"]", P256_ELDER, ANY, None),
    case("groups = [\"secp*\"]", STATIC, ANY, Some(("weak-cipher", "exchanges keys by RSA"))),
    case("post_quantum = true", Rustls, Rustls, None),
    case("post_quantum = true", NEW, ANY, Some(("not-post-quantum", "that is not post-quantum (x25519)"))),
];

const ASKING: Program = OpenSsl(&["-tls1_3", "-verify", "2"]);
const ASKING_ELDER: Program = OpenSsl(&["-tls1_2", "-verify", "2"]);
const BRINGING: Program = Named("other", &[]);

const CLIENT_CERTIFICATES: &[Case] = &[
    case("client_certificate = true", ASKING, BRINGING, None),
    case("client_certificate = true", ASKING_ELDER, BRINGING, None),
    case(
        "client_certificate = true",
        ASKING,
        ANY,
        Some(("client-cert-missing", "was asked for a client certificate and sent none")),
    ),
    case(
        "client_certificate = true",
        ASKING_ELDER,
        ANY,
        Some(("client-cert-missing", "was asked for a client certificate and sent none")),
    ),
    case(
        "client_certificate = true",
        NEW,
        BRINGING,
        Some(("client-cert-missing", "asks for no client certificate")),
    ),
    case(
        "client_certificate = true",
        ELDER,
        BRINGING,
        Some(("client-cert-missing", "asks for no client certificate")),
    ),
];

const BY_SPIFFE: Program = Named("spiffe", &["-tls1_2", "-verify", "2"]);
const BY_OTHER: Program = Named("other", &["-tls1_2", "-verify", "2"]);
const AS_SPIFFE: Program = Named("spiffe", &[]);
const AS_OTHER: Program = Named("other", &[]);
const BOTH: &str = "server_names = [\"spiffe://prod.example/server/*\"], client_names = [\"spiffe://prod.example/client/*\"]";

const NAMES: &[Case] = &[
    case(BOTH, BY_SPIFFE, AS_SPIFFE, None),
    case(
        BOTH,
        BY_OTHER,
        AS_SPIFFE,
        Some((
            "unexpected-peer",
            "has a server certificate of `server.other.example`, and spiffe://prod.example/server/* is required",
        )),
    ),
    case(
        BOTH,
        BY_SPIFFE,
        AS_OTHER,
        Some((
            "unexpected-peer",
            "has a client certificate of `client.other.example`, and spiffe://prod.example/client/* is required",
        )),
    ),
    case(BOTH, BY_SPIFFE, ANY, Some(("client-cert-missing", "sent none"))),
    case("server_names = [\"*.other.example\"]", BY_OTHER, ANY, None),
    case(
        "server_names = [\"*.other.example\"]",
        BY_SPIFFE,
        ANY,
        Some(("unexpected-peer", "has a server certificate of `spiffe://prod.example/server/a`")),
    ),
];

/// All cases at one daemon, each with a port of its own.
fn hold(cases: &'static [Case]) -> Result<()> {
    let lab = Lab::new("posture-policy")?;
    let certificates = Certificates::new(&lab.directory)?;
    for end in ["server", "client"] {
        make(&lab, "spiffe", end, &format!("URI:spiffe://prod.example/{end}/a"))?;
        make(&lab, "other", end, &format!("DNS:{end}.other.example"))?;
    }
    let with_ports = || cases.iter().zip(FIRST_PORT..);
    let mut policy = String::new();
    for (case, port) in with_ports() {
        policy += &format!(
            "[[service]]\nname = \"service-{port}\"\nports = [{port}]\nrequire = {{ {} }}\n\
             [[service.client]]\naddress = [\"0.0.0.0/0\"]\n",
            case.require
        );
    }
    // What rules say by themselves is another matter: certificates of tests are nobody's, and short-lived.
    let daemon = Daemon::start(&lab, DaemonOptions { policy: Some(policy), ..DaemonOptions::default() })?;
    let mut servers = Vec::new();
    for (case, port) in with_ports() {
        servers.push(serve(&lab, &certificates, case.server, port)?);
        talk(&lab, &certificates, case.client, port)
            .with_context(|| format!("port {port}: {}", case.require))?;
    }
    // Who keeps to it last: by then they would have been told of, too.
    let (kept, broken): (Vec<_>, Vec<_>) = with_ports().partition(|(case, _)| case.breach.is_none());
    for (case, port) in broken.into_iter().chain(kept) {
        judged(&daemon, case, port).with_context(|| format!("port {port}: {}", case.require))?;
    }
    Ok(())
}

/// A certificate of one end, by the lab's authority.
fn make(lab: &Lab, kind: &str, end: &str, name: &str) -> Result<()> {
    let file = |what: &str| lab.directory.file(&format!("{kind}-{end}.{what}"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    // An RSA key: the suites of the cases want one.
    if end == "server" {
        make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"]);
    }
    make.args(["-days", "90", "-subj", "/O=streamwatch", "-addext", &format!("subjectAltName={name}")]);
    make.args(["-addext", "basicConstraints=CA:FALSE", "-CA", &lab.directory.file("ca.pem")]);
    make.args(["-CAkey", &lab.directory.file("ca.key"), "-keyout", &file("key"), "-out", &file("pem")]);
    finish(make, PATIENCE)?.success().map(drop)
}

fn serve(lab: &Lab, certificates: &Certificates, program: Program, port: u16) -> Result<Process> {
    let mut command = match program {
        Rustls => {
            let mut command = lab.server().command(tool("tls-peer")?);
            command.args([
                "tls",
                &format!("10.213.0.2:{port}"),
                &certificates.certificate,
                &certificates.key,
            ]);
            command
        }
        Plain => {
            let mut command = lab.server().command("/usr/bin/python3");
            command.args(["-m", "http.server", "--bind", "10.213.0.2", &port.to_string()]);
            command.current_dir(lab.directory.path());
            command
        }
        OpenSsl(arguments) | Named(_, arguments) => {
            let mut command = lab.server().command("openssl");
            command.args([
                "s_server",
                "-www",
                "-accept",
                &port.to_string(),
                "-CAfile",
                &certificates.authority,
            ]);
            let (certificate, key) = match program {
                Named(kind, _) => pair(lab, kind, "server"),
                _ => (certificates.certificate.clone(), certificates.key.clone()),
            };
            command.args(["-cert", &certificate, "-key", &key]).args(arguments);
            command
        }
    };
    command.stdin(std::process::Stdio::null());
    let mut process = Process::start(&format!("server-{port}"), &lab.directory, command)?;
    process.wait_for_port("tcp", port, PATIENCE)?;
    Ok(process)
}

fn pair(lab: &Lab, kind: &str, end: &str) -> (String, String) {
    let file = |what: &str| lab.directory.file(&format!("{kind}-{end}.{what}"));
    (file("pem"), file("key"))
}

fn talk(lab: &Lab, certificates: &Certificates, program: Program, port: u16) -> Result<()> {
    let address = format!("10.213.0.2:{port}");
    let mut command = match program {
        Rustls => {
            let mut command = lab.client().command(tool("tls-peer")?);
            command.args(["tls-client", &address, &certificates.authority, "localhost"]);
            command
        }
        Plain => {
            let mut command = lab.client().command("curl");
            command.args(["-sSf", "-m", "20", "-o", "/dev/null", &format!("http://{address}/")]);
            command
        }
        OpenSsl(arguments) | Named(_, arguments) => {
            let mut command = lab.client().command("openssl");
            command.args(["s_client", "-connect", &address]).args(arguments);
            if let Named(kind, _) = program {
                let (certificate, key) = pair(lab, kind, "client");
                command.args(["-cert", &certificate, "-key", &key]);
            }
            command
        }
    };
    // `s_client` ends with its input, as soon as the handshake is through; told by its exit status.
    command.stdin(std::process::Stdio::null());
    lab.run(command, PATIENCE).map(drop)
}

fn judged(daemon: &Daemon, case: &Case, port: u16) -> Result<()> {
    let here = |record: &Value| number(record, "server.port") == Some(port.into());
    let over =
        |record: &Value| is_flow(record) && here(record) && text(record, "event.action") == "flow_closed";
    daemon.wait_for("closed flow", PATIENCE, here, over)?;
    let of_policy = |record: &Value| {
        is_alert(record) && here(record) && text(record, "event.reason").contains(&format!("service-{port}"))
    };
    let Some((rule, reason)) = case.breach else {
        let told = daemon.heard().into_iter().find(|heard| of_policy(&heard.record));
        ensure!(told.is_none(), "it keeps to the policy, and is told of: {told:?}");
        return Ok(());
    };
    daemon.wait_for(rule, PATIENCE, here, |record| {
        of_policy(record) && text(record, "rule.id") == rule && text(record, "event.reason").contains(reason)
    })?;
    let others = daemon.heard().into_iter().filter(|heard| of_policy(&heard.record));
    let wrong: Vec<String> = others
        .filter(|heard| text(&heard.record, "rule.id") != rule)
        .map(|heard| text(&heard.record, "event.reason").to_owned())
        .collect();
    ensure!(wrong.is_empty(), "told of what holds: {wrong:?}");
    Ok(())
}
