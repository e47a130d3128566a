//! What could mislead: padding, sessions taken up again, early data. With OpenSSL, which does all of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dissect::{ClientCertificateState as State, EarlyData, TlsFacts};
use tests::Process;

use crate::authority::Authority;
use crate::confusion;
use crate::relay::Relay;
use crate::stacks::{Asks, Built, PATIENCE, Server, Setup, Stack, serve, serve_early_data};

/// Sizes of blocks; 37 and 53 are what a Finished takes, 9 and 45 what an empty Certificate does.
const BLOCKS: [u32; 16] = [2, 3, 5, 9, 15, 16, 37, 45, 53, 64, 100, 256, 333, 512, 1000, 4096];

/// Clients that pad, asked and not, with a certificate and without: nothing wrong is said.
pub fn padding(authority: &Authority, built: &Built) -> Result<()> {
    let identity = authority.identity("ecdsa", 2);
    for (asks, brings, truth) in [
        (Asks::No, false, State::NotRequested),
        (Asks::Optional, false, State::Refused),
        (Asks::Optional, true, State::Presented),
    ] {
        let setup = Setup { version: "1.3", identity: authority.identity("rsa", 1), asks, tickets: true };
        let running = serve(Stack::OpenSsl, &setup, authority, built)?;
        for suite in ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"] {
            for block in BLOCKS {
                let mut command = client(&["-quiet", "-ign_eof", "-ciphersuites", suite]);
                command.args(["-record_padding", &block.to_string()]);
                if brings {
                    command.args(["-cert", &identity.leaf, "-key", &identity.key]);
                }
                let facts = visit(&running, command, authority, None)?;
                let state = facts.client_certificate.state;
                ensure!(
                    state == truth || state == State::Unknown,
                    "{truth:?}, padded to {block} with {suite}: said {state:?}"
                );
            }
        }
    }
    Ok(())
}

/// A session taken up again, with early data that is taken and early data that is not.
pub fn sessions(authority: &Authority) -> Result<()> {
    let (session, early) = (authority.file("session"), authority.file("early"));
    fs::write(&early, "GET /early HTTP/1.0\r\n\r\n")?;
    for (offers, takes) in [(false, false), (true, true), (true, false)] {
        let _ = fs::remove_file(&session);
        let first = serve_early_data(authority, true)?;
        let facts = visit(&first, client(&["-sess_out", &session]), authority, Some(&session))?;
        ensure!(facts.resumed == Some(false), "a first session: {facts:?}");
        // Another server cannot read the ticket, and so does not take the session up.
        let other = serve_early_data(authority, true)?;
        let mut command = client(&["-sess_in", &session]);
        if offers {
            command.args(["-early_data", &early]);
        }
        let facts = visit(if takes || !offers { &first } else { &other }, command, authority, None)?;
        let wanted = match (offers, takes) {
            (false, _) => None,
            (true, true) => Some(EarlyData::Offered),
            (true, false) => Some(EarlyData::Rejected),
        };
        ensure!(facts.early_data == wanted, "offered {offers}, taken {takes}: {facts:?}");
        ensure!(facts.resumed == Some(takes || !offers), "offered {offers}, taken {takes}: {facts:?}");
        let state = facts.client_certificate.state;
        ensure!(matches!(state, State::NotRequested | State::Unknown), "nobody asked: {facts:?}");
    }
    Ok(())
}

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-tls1_3"]).args(arguments);
    command
}

/// Sends it through a relay, until it ends by itself, or for good once `until` is there or it has an
/// answer.
fn visit(
    server: &Server,
    mut command: Command,
    authority: &Authority,
    until: Option<&str>,
) -> Result<TlsFacts> {
    let relay = Relay::to(server.port)?;
    command.args(["-connect", &format!("127.0.0.1:{}", relay.port)]);
    let said = authority.file("odd.said");
    command.stdin(Stdio::piped()).stdout(fs::File::create(&said)?).stderr(Stdio::null());
    let mut process = Process::start_piped("s_client", command)?;
    let mut stdin = process.take_stdin()?;
    let _ = std::io::Write::write_all(&mut stdin, b"GET / HTTP/1.0\r\n\r\n");
    let deadline = Instant::now() + PATIENCE;
    while process.ended()?.is_none() {
        ensure!(Instant::now() < deadline, "the client does not come to an end");
        let answered = String::from_utf8_lossy(&fs::read(&said)?).contains("---\n");
        if until.map_or(answered, |file| Path::new(file).exists() && answered) && until_settled(&said)? {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    // It says goodbye: a server forgets the session of a client that just goes.
    drop(stdin);
    process.wait(PATIENCE)?;
    confusion::facts(&relay.finish()?, true).context("no TLS")
}

/// The client has told what it negotiated.
fn until_settled(said: &str) -> Result<bool> {
    let text = String::from_utf8_lossy(&fs::read(said)?).into_owned();
    Ok(text.contains("Verify return code") || text.contains("Early data was"))
}
