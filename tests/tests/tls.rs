//! What a handshake tells: real stacks, each with each, their bytes kept by a relay and given to the
//! dissectors; and a few through the whole daemon.

#[path = "tls/authority.rs"]
mod authority;
#[path = "tls/chains.rs"]
mod chains;
#[path = "tls/confusion.rs"]
mod confusion;
#[path = "tls/encrypted_hello.rs"]
mod encrypted_hello;
#[path = "tls/odd.rs"]
mod odd;
#[path = "tls/peers.rs"]
mod peers;
#[path = "tls/relay.rs"]
mod relay;
#[path = "tls/stacks.rs"]
mod stacks;

#[path = "tls/tshark.rs"]
mod tshark;

use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, ensure};
use authority::Authority;
use confusion::{Said, Table, Truth};
use relay::{Exchange, Relay};
use stacks::{Asks, Built, CLIENTS, Came, Clients, SERVERS, Setup, Stack, Visit, seen, serve};
use tests::{Netns, Suite};

const PROGRAMS: &[&str] =
    &["openssl", "gnutls-serv", "gnutls-cli", "selfserv", "tstclnt", "certutil", "go", "java", "javac"];

const PROGRAMS_AND_TSHARK: &[&str] =
    &["openssl", "gnutls-cli", "tstclnt", "certutil", "go", "java", "javac", "tshark"];

fn main() -> ExitCode {
    Suite::new("tls")
        .test("client_certificates_of_every_stack", PROGRAMS, client_certificates_of_every_stack)
        .test("padding_misleads_nobody", PROGRAMS, || with_stacks(odd::padding))
        .test("sessions_and_early_data", PROGRAMS, || with_stacks(|authority, _| odd::sessions(authority)))
        .test("tshark_says_the_same", PROGRAMS_AND_TSHARK, tshark_says_the_same)
        .test("long_chains_are_captured", &["openssl"], chains::long_chains_are_captured)
        .test("the_daemon_takes_long_chains", &["openssl"], chains::the_daemon_takes_long_chains)
        .test("the outer name of an encrypted hello is marked", &["openssl"], encrypted_hello::real)
        .test("that of a made-up encrypted hello is marked, too", &["openssl"], encrypted_hello::made_up)
        .test("a name in the clear is not marked", &["openssl"], encrypted_hello::none)
        .main()
}

/// Runs in a network namespace of its own: some servers listen on every address.
fn apart(run: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let netns = Netns::new()?;
    let name = netns.name().to_owned();
    let inside = thread::spawn(move || {
        let namespace = std::fs::File::open(format!("/run/netns/{name}"))?;
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind))?;
        run()
    });
    inside.join().ok().context("the test broke")?
}

fn with_stacks(run: impl FnOnce(&Authority, &Built) -> Result<()> + Send + 'static) -> Result<()> {
    apart(|| {
        let authority = Authority::new()?;
        let built = stacks::build(&authority)?;
        run(&authority, &built)
    })
}

/// One server and how it is set up, as the matrix has it.
struct Column {
    version: &'static str,
    kind: &'static str,
    length: usize,
    asks: Asks,
    tickets: bool,
}

const fn column(
    version: &'static str,
    kind: &'static str,
    length: usize,
    asks: Asks,
    tickets: bool,
) -> Column {
    Column { version, kind, length, asks, tickets }
}

/// Every server is set up in each of these ways.
const COLUMNS: &[Column] = &[
    column("1.3", "rsa", 1, Asks::No, true),
    column("1.3", "ecdsa", 3, Asks::No, false),
    column("1.3", "ed25519", 2, Asks::No, true),
    column("1.3", "rsa", 2, Asks::Optional, true),
    column("1.3", "ecdsa", 4, Asks::Optional, false),
    column("1.3", "ecdsa", 1, Asks::Required, true),
    column("1.2", "ecdsa", 2, Asks::Optional, true),
];

/// Certificates that clients bring where they are asked: key type and length of the chain.
const BROUGHT: &[Option<(&str, usize)>] =
    &[None, Some(("rsa", 1)), Some(("ecdsa", 2)), Some(("ed25519", 3)), Some(("ecdsa", 4)), Some(("rsa", 3))];

fn client_certificates_of_every_stack() -> Result<()> {
    apart(|| {
        let authority = Authority::new()?;
        let built = stacks::build(&authority)?;
        let mut clients = Clients::new(&authority, &built);
        let mut table = Table::default();
        let mut wrong = Vec::new();
        for server in SERVERS {
            for column in COLUMNS {
                visits(server, column, &authority, &built, &mut clients, &mut table, &mut wrong)?;
            }
        }
        let text = table.text();
        println!("{text}");
        ensure!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
        let [right, _, open] = table.sums();
        ensure!(open * 20 <= right, "{open} were left open, {right} were right");
        for stack in CLIENTS {
            let [right, _, open] = table.of_client(stack);
            ensure!(right > open, "{} as a client: {right} right, {open} left open", stack.name());
        }
        Ok(())
    })
}

/// All clients at one server.
fn visits(
    server: Stack,
    column: &Column,
    authority: &Authority,
    built: &Built,
    clients: &mut Clients<'_>,
    table: &mut Table,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let identity = authority.identity(column.kind, column.length);
    let setup = Setup { version: column.version, identity, asks: column.asks, tickets: column.tickets };
    let running = match serve(server, &setup, authority, built) {
        Ok(running) => running,
        // NSS has no Ed25519.
        Err(error) if column.kind == "ed25519" => {
            println!("{} does not serve {}: {error:#}", server.name(), column.kind);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for client in CLIENTS {
        let brought = match column.asks {
            Asks::No => vec![None],
            Asks::Optional => {
                BROUGHT.iter().map(|b| b.map(|(kind, n)| authority.identity(kind, n))).collect()
            }
            Asks::Required => {
                vec![None, Some(authority.identity("rsa", 0)), Some(authority.identity("ecdsa", 0))]
            }
        };
        for identity in &brought {
            if client == Stack::Nss
                && identity.as_ref().is_some_and(|identity| identity.name.starts_with("ed25519"))
            {
                println!("NSS has no Ed25519");
                continue;
            }
            let relay = Relay::to(running.port)?;
            let visit = Visit { version: column.version, identity: identity.as_ref(), browser: "" };
            let came = clients.visit(client, relay.port, &visit)?;
            let exchange = relay.finish()?;
            let what = format!(
                "{} at {} ({}, {} {}, {:?}, tickets {}), bringing {:?}",
                client.name(),
                server.name(),
                column.version,
                column.kind,
                column.length,
                column.asks,
                column.tickets,
                identity.as_ref().map(|identity| &identity.name)
            );
            // NSS does not list Ed25519, and so nobody presents it there.
            let kind = identity.as_ref().map(|identity| identity.name.as_str());
            let brings = kind.is_some_and(|kind| server != Stack::Nss || !kind.starts_with("ed25519"));
            let Some(truth) = truth(column.asks, brings, &came) else {
                println!("left out: {what}: {came:?}");
                continue;
            };
            let Some(facts) = confusion::facts(&exchange, true) else {
                println!("left out, no TLS: {what}: {came:?}");
                continue;
            };
            let said = confusion::judge(truth, &facts);
            if said != Said::Right {
                println!(
                    "{said:?}: {what}: {truth:?}, said {:?}, {}",
                    facts.client_certificate,
                    lengths(&exchange)
                );
            }
            if said == Said::Wrong {
                wrong.push(format!(
                    "{what}: {truth:?}, said {:?}\n{}",
                    facts.client_certificate,
                    lengths(&exchange)
                ));
            }
            table.add(client, server, truth, said);
        }
    }
    Ok(())
}

/// What was so, from what was asked, what was brought, and what the server says that it saw.
fn truth(asks: Asks, brought: bool, came: &Came) -> Option<Truth> {
    match (asks, came) {
        (Asks::No, Came::Ok(_)) => Some(Truth::NotRequested),
        (Asks::Optional, Came::Ok(answer)) => match seen(answer).unwrap_or(brought) {
            true => Some(Truth::Presented),
            false => Some(Truth::Refused),
        },
        (Asks::Required, Came::Failed(_)) if brought => Some(Truth::TurnedDown),
        (Asks::Required, Came::Failed(_)) => Some(Truth::Refused),
        _ => None,
    }
}

/// Browsers whose hellos have made-up values, Encrypted Client Hello and post-quantum key shares.
const BROWSERS: [&str; 4] = ["chrome", "firefox", "safari", "edge"];

/// Versions, suites, names and fingerprints of the same packets.
fn tshark_says_the_same() -> Result<()> {
    apart(|| {
        let authority = Authority::new()?;
        let built = stacks::build(&authority)?;
        let mut clients = Clients::new(&authority, &built);
        let (mut exchanges, mut names) = (Vec::new(), Vec::new());
        for version in ["1.2", "1.3"] {
            let identity = authority.identity("rsa", 2);
            let setup = Setup { version, identity, asks: Asks::No, tickets: true };
            let running = serve(Stack::OpenSsl, &setup, &authority, &built)?;
            let browsers = BROWSERS.iter().map(|browser| (Stack::BoringSsl, *browser));
            for (client, browser) in CLIENTS.into_iter().map(|client| (client, "")).chain(browsers) {
                let relay = Relay::to(running.port)?;
                let came = clients.visit(client, relay.port, &Visit { version, identity: None, browser })?;
                ensure!(matches!(came, Came::Ok(_)), "{} {browser}: {came:?}", client.name());
                exchanges.push(relay.finish()?);
                names.push(format!("{} {browser} {version}", client.name()));
            }
        }
        for (name, exchange) in confusion::fixtures()? {
            names.push(name);
            exchanges.push(exchange);
        }
        let file = authority.directory().path().join("handshakes.pcap");
        tshark::write(&file, &exchanges)?;
        let opinions = tshark::opinions(&file, exchanges.len())?;
        let mut differ = Vec::new();
        for ((name, exchange), theirs) in names.iter().zip(&exchanges).zip(opinions) {
            let facts = confusion::facts(exchange, true).context("no TLS")?;
            let ours = confusion::as_tshark(&facts, &theirs);
            if ours != theirs {
                differ.push(format!("{name}\n  ours   {ours:?}\n  theirs {theirs:?}"));
            }
        }
        println!("{} handshakes compared", names.len());
        ensure!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
        Ok(())
    })
}

/// The records of both sides, for people: content type and length.
fn lengths(exchange: &Exchange) -> String {
    let of = |bytes: &[u8]| {
        let (mut at, mut text) = (0, String::new());
        while let Some([kind, _, _, high, low]) = bytes.get(at..at + 5) {
            let length = u16::from_be_bytes([*high, *low]);
            text += &format!(" {kind}:{length}");
            at += 5 + usize::from(length);
        }
        text.chars().take(160).collect::<String>()
    };
    format!("client{} | server{}", of(&exchange.client), of(&exchange.server))
}
