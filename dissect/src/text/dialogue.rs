//! What SMTP, FTP, POP3 and IMAP share: a greeting, then a command a line and a reply to each, and
//! among them the command that asks for TLS.
//!
//! In: both directions and a dialect. Out: what the probe answers. Replies are matched to commands
//! by their order, so it does not matter in which order both arrived here.
//!
//! The greeting tells the protocol, and where it may be that of another, the first command that is known: lines that are
//! none change nothing, as a server refuses them and goes on.
//!
//! Until the client has gone beyond what may come before TLS, the answer stays open: plaintext so
//! far. A greeting alone makes a provisional answer, too.

use crate::Protocol;
use crate::activity::is_command_of_redis;
use crate::bytes::{line, printable, starts_with_ignore_case};
use crate::probe::{Found, Prefix, Probe};

/// Longer lines and dialogues than these do not come before TLS.
const LONGEST_LINE: usize = 1024;
const MOST_COMMANDS: usize = 24;

/// One server reply: where it ends, and what it says.
pub(crate) struct Reply<'a> {
    pub text: &'a [u8],
    pub granted: bool,
    /// The server does not take it for a command, or not now.
    pub refused: bool,
}

pub(crate) struct Dialect {
    pub protocol: Protocol,
    /// What the greeting starts with.
    pub greetings: &'static [&'static [u8]],
    /// A word in the greeting that names the protocol. Empty: every greeting does.
    pub name: &'static [u8],
    /// Commands that, after such a greeting, name the protocol.
    pub openings: &'static [&'static [u8]],
    /// Commands of another protocol that greets alike.
    pub foreign: &'static [&'static [u8]],
    /// The word that names that one.
    pub foreign_name: &'static [u8],
    /// Commands that may come before TLS.
    pub neutral: &'static [&'static [u8]],
    /// Commands that log in, with a space behind them where they need an argument for that: they settle that no TLS is
    /// waited for. So does any other that is not refused.
    pub log_ins: &'static [&'static [u8]],
    /// Commands that ask for TLS.
    pub upgrades: &'static [&'static [u8]],
    /// How the server says that it has TLS.
    pub offer: &'static [u8],
    /// The reply at the start of these bytes, to this command (to none: the greeting).
    pub reply: for<'a> fn(&'a [u8], Option<&[u8]>) -> Option<Reply<'a>>,
    /// A command line without its tag.
    pub command: for<'a> fn(&'a [u8]) -> Option<&'a [u8]>,
}

pub(crate) fn probe(dialect: &Dialect, client: Prefix<'_>, server: Prefix<'_>) -> Probe {
    let greets = |greeting: &&[u8]| {
        let n = greeting.len().min(server.bytes.len());
        server.bytes[..n] == greeting[..n]
    };
    if !dialect.greetings.iter().any(greets) {
        return Probe::No;
    }
    // Whether its end has come by now must not matter.
    if server.bytes.get(..LONGEST_LINE).is_some_and(|start| line(start).is_none()) {
        return Probe::No;
    }
    let Some(greeting) = (dialect.reply)(server.bytes, None) else {
        return if server.ended { Probe::No } else { Probe::Maybe };
    };
    // Redis answers a command like that, too: where the client spoke first, it is no greeting, and no
    // second reply follows; nor does Redis ask for more.
    let after = &server.bytes[greeting.text.len()..];
    let answers: [&[u8]; 4] = [b"+OK", b"-ERR", b"+ ", b"+\r\n"];
    if greeting.text == b"+OK\r\n" && !answers.iter().any(|answer| after.starts_with(answer)) {
        let hopeless = !answers.iter().any(|answer| answer.starts_with(after));
        return if hopeless || server.ended { Probe::No } else { Probe::Maybe };
    }
    let named = dialect.name.is_empty() || contains(greeting.text, dialect.name);
    let for_good = match Spoken::read(dialect, client, server, &greeting) {
        Spoken::Own => return Probe::Yes(follow(dialect, client, server, &greeting)),
        Spoken::Foreign => return Probe::No,
        Spoken::Nothing { for_good } => for_good,
    };
    // Nothing else greets with text behind it, and then answers like that.
    let answers = |word: &[u8]| greeting.text.starts_with(b"+OK ") && after.starts_with(word);
    let may_answer = greeting.text.starts_with(b"+OK ")
        && (b"+OK".starts_with(after) || b"-ERR".starts_with(after))
        && !server.ended;
    if named || answers(b"+OK") || answers(b"-ERR") {
        let mut found = follow(dialect, client, server, &greeting);
        let is_certain = for_good || dialect.foreign.is_empty();
        found.settled &= is_certain;
        // As long as it may be the other protocol after all, TLS alone shows that it was asked for.
        if let Some((client_at, server_at)) = found.upgraded_at
            && !is_certain
            && begins_tls(client.after(client_at), server.after(server_at)) != Some(true)
        {
            found = Found { upgraded_at: None, settled: false, ..found };
        }
        Probe::Yes(if found.upgraded_at.is_some() { found } else { describe(found) })
    } else if for_good && !may_answer {
        Probe::No
    } else {
        Probe::Maybe
    }
}

/// Which reply answers the next command. Servers differ in whether they answer an empty line, so that a refusal behind
/// one may be of the next command: then the dialogue is read in both ways.
#[derive(Clone)]
struct Reading {
    /// Where that reply begins.
    server_at: usize,
    upgrade_offered: bool,
    upgrade_refused: bool,
}

impl Reading {
    fn found(&self, dialect: &Dialect, settled: bool) -> Found {
        describe(Found {
            settled,
            upgrade_offered: self.upgrade_offered,
            upgrade_refused: self.upgrade_refused,
            ..Found::plain(dialect.protocol)
        })
    }
}

/// Where the ways to read it disagree, TLS tells which it was, and where none follows, there was none.
fn follow(dialect: &Dialect, client: Prefix<'_>, server: Prefix<'_>, greeting: &Reply<'_>) -> Found {
    let first = Reading {
        server_at: greeting.text.len(),
        upgrade_offered: contains(greeting.text, dialect.offer),
        upgrade_refused: false,
    };
    let (mut readings, mut granted) = (vec![first.clone()], Vec::new());
    // What is said where no reading is left that TLS may follow.
    let mut plain: Option<Found> = None;
    let mut open: Option<Found> = None;
    let mut client_at = 0;
    for turn in 0..=MOST_COMMANDS {
        let rest = &client.bytes[client_at..];
        let (text, next) = match line(rest) {
            Some(found) if turn < MOST_COMMANDS && found.1 <= LONGEST_LINE => found,
            None if turn < MOST_COMMANDS && rest.len() <= LONGEST_LINE => {
                open = open.or_else(|| readings.first().map(|reading| reading.found(dialect, false)));
                break;
            }
            _ => {
                plain = plain.or_else(|| readings.first().map(|reading| reading.found(dialect, true)));
                break;
            }
        };
        client_at += next;
        let command = (dialect.command)(text).unwrap_or(&[]);
        if logs_in(command, dialect.log_ins) {
            plain = plain.or_else(|| readings.first().map(|reading| reading.found(dialect, true)));
            break;
        }
        let asks = is_one_of(command, dialect.upgrades);
        let is_neutral = is_one_of(command, dialect.neutral);
        for mut reading in std::mem::take(&mut readings) {
            let Some(reply) = (dialect.reply)(&server.bytes[reading.server_at..], Some(text)) else {
                reading.upgrade_offered |= asks;
                let waits = if server.ended { &mut plain } else { &mut open };
                waits.get_or_insert(reading.found(dialect, server.ended));
                continue;
            };
            if !asks && !is_neutral && !reply.refused {
                if is_empty(text) {
                    keep(&mut readings, reading);
                } else {
                    plain = plain.or_else(|| Some(reading.found(dialect, true)));
                }
                continue;
            }
            let passed_over = is_empty(text).then(|| reading.clone());
            reading.server_at += reply.text.len();
            reading.upgrade_offered |= asks || contains(reply.text, dialect.offer);
            if asks && reply.granted {
                granted.push((client_at, reading.server_at));
                continue;
            }
            reading.upgrade_refused |= asks;
            keep(&mut readings, reading);
            if let Some(reading) = passed_over {
                keep(&mut readings, reading);
            }
        }
        if readings.is_empty() {
            break;
        }
    }
    let upgraded = |at| Found {
        upgrade_offered: true,
        upgraded_at: Some(at),
        detail: dialect.upgrades.first().map(|name| printable(name)),
        ..Found::plain(dialect.protocol)
    };
    let is_agreed = plain.is_none() && open.is_none() && readings.is_empty();
    let mut is_open = false;
    for at in granted.iter().copied() {
        match begins_tls(client.after(at.0), server.after(at.1)) {
            _ if is_agreed && granted.len() == 1 => return upgraded(at),
            Some(true) => return upgraded(at),
            Some(false) => {}
            None => is_open = true,
        }
    }
    match (open, plain) {
        (Some(open), _) => open,
        (None, Some(plain)) => describe(Found { settled: plain.settled && !is_open, ..plain }),
        (None, None) => match granted.first() {
            Some(at) if !is_open => upgraded(*at),
            _ => first.found(dialect, false),
        },
    }
}

/// Of those that wait for the same reply, the first.
fn keep(readings: &mut Vec<Reading>, reading: Reading) {
    if readings.iter().all(|other| other.server_at != reading.server_at) {
        readings.push(reading);
    }
}

/// Whether an alert or a handshake of TLS stands at the start of both, or of one where no more comes of the other.
fn begins_tls(client: Prefix<'_>, server: Prefix<'_>) -> Option<bool> {
    let mut says = None;
    let mut is_open = false;
    for side in [client, server] {
        match side.bytes.first() {
            Some(0x15 | 0x16) => says = Some(true),
            Some(_) => return Some(false),
            None => is_open |= !side.ended,
        }
    }
    if is_open { None } else { says.or(Some(false)) }
}

fn is_empty(text: &[u8]) -> bool {
    text.trim_ascii().is_empty()
}

fn describe(mut found: Found) -> Found {
    let phrase = match (found.upgrade_refused, found.upgrade_offered) {
        (true, _) => "the client asked for TLS, the server refused",
        (false, true) => "the server offers TLS, the client did not use it",
        (false, false) => "TLS was neither offered nor asked for",
    };
    found.detail = (found.settled || found.upgrade_refused).then(|| phrase.into());
    found
}

/// What the client's commands say of the protocol: the first that is known, and that the server knows, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// Only this protocol has it.
    Own,
    /// Another that greets alike has it.
    Foreign,
    /// None so far, nor will one come.
    Nothing { for_good: bool },
}

impl Spoken {
    fn read(dialect: &Dialect, client: Prefix<'_>, server: Prefix<'_>, greeting: &Reply<'_>) -> Spoken {
        // It may be an answer of Redis, whose commands have lines of any content.
        let is_bare = greeting.text == b"+OK\r\n";
        let is_named = |name| !dialect.foreign_name.is_empty() && contains(greeting.text, name);
        let is_only = match (is_named(dialect.name), is_named(dialect.foreign_name)) {
            (true, false) => Some(Spoken::Own),
            (false, true) => Some(Spoken::Foreign),
            _ => None,
        };
        let mut rest = client.bytes;
        // Where the reply to the next command may begin: see [`Reading`].
        let mut readings = vec![greeting.text.len()];
        let mut said = None;
        let mut most = if is_bare { 1 } else { MOST_COMMANDS };
        let mut seen = 0;
        while seen < most {
            seen += 1;
            let Some((text, next)) = line(rest) else {
                if client.ended || rest.len() > LONGEST_LINE {
                    break;
                }
                return Spoken::Nothing { for_good: false };
            };
            if next > LONGEST_LINE {
                break;
            }
            rest = &rest[next..];
            let command = (dialect.command)(text).unwrap_or(&[]);
            // To a line that it does not know it says another thing first.
            if is_bare && seen == most && most < MOST_COMMANDS {
                most = if is_empty(text) {
                    most + 1
                } else if may_be_redis(text) {
                    most
                } else {
                    MOST_COMMANDS
                };
            }
            let says = match () {
                () if is_one_of(command, dialect.openings) => Some(Spoken::Own),
                () if is_one_of(command, dialect.upgrades) => Some(Spoken::Own),
                () if is_one_of(command, dialect.foreign) => Some(Spoken::Foreign),
                () => None,
            };
            if dialect.foreign.is_empty() {
                match says {
                    Some(says) => return says,
                    None => continue,
                }
            }
            for at in std::mem::take(&mut readings) {
                let reply = (dialect.reply)(&server.bytes[at..], Some(text));
                let is_refused = reply.as_ref().is_some_and(|reply| reply.refused);
                let known = match (&reply, says) {
                    (None, _) if !server.ended => return Spoken::Nothing { for_good: false },
                    // Against a greeting that names the other alone, a refusal tells nothing.
                    (_, Some(says))
                        if (reply.is_none() || is_refused) && is_only.is_some_and(|it| it != says) =>
                    {
                        None
                    }
                    (Some(reply), Some(says)) => is_known(command, reply).then_some(says),
                    (None, says) => says,
                    (_, None) => None,
                };
                let behind = at + reply.map_or(0, |reply| reply.text.len());
                let begins_tls = matches!(server.bytes.get(behind), Some(0x15 | 0x16));
                match known {
                    // What follows has no lines.
                    Some(Spoken::Own) if begins_tls && is_one_of(command, dialect.upgrades) => {
                        return Spoken::Own;
                    }
                    Some(says) if said.is_some_and(|said| said != says) => {
                        return Spoken::Nothing { for_good: true };
                    }
                    Some(says) => said = Some(says),
                    None => {
                        let may_be = [(behind, is_refused || !is_empty(text)), (at, is_empty(text))];
                        for at in may_be.iter().filter(|(_, may_be)| *may_be).map(|(at, _)| *at) {
                            if !readings.contains(&at) {
                                readings.push(at);
                            }
                        }
                    }
                }
            }
            if readings.is_empty() {
                break;
            }
        }
        said.unwrap_or(Spoken::Nothing { for_good: true })
    }
}

/// Whether a server that answers so knows the command (RFC 5321 sections 4.2.1 and 4.3.2, RFC 4954 section 6, RFC 959
/// section 5.4): a log-in may be refused for other reasons, and what only the other protocol answers is of another
/// command.
fn is_known(command: &[u8], reply: &Reply<'_>) -> bool {
    let code = reply.text.get(..3).unwrap_or(&[]);
    let is_of_mail = matches!(code, b"220" | b"221" | b"235" | b"250" | b"251" | b"252" | b"334" | b"354");
    match () {
        () if is_one_of(command, &[b"USER", b"PASS", b"ACCT"]) => {
            matches!(code, [b'2' | b'3', ..] | b"530") && !is_of_mail
        }
        () if is_one_of(command, &[b"STARTTLS", b"AUTH TLS", b"AUTH SSL", b"AUTH TLS-C"]) => !reply.refused,
        // FTP has no such mechanism, or wants a name and a password first.
        () if is_one_of(command, &[b"AUTH"]) => {
            (reply.refused && !matches!(code, b"500" | b"502" | b"503" | b"504" | b"530"))
                || matches!(code, b"235" | b"334")
        }
        () if is_one_of(command, &super::smtp::OPENINGS) => is_of_mail,
        () => !reply.refused,
    }
}

fn may_be_redis(text: &[u8]) -> bool {
    let word = text.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or(&[]);
    word.starts_with(b"*") || is_command_of_redis(word)
}

fn is_one_of(command: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| {
        starts_with_ignore_case(command, word) && command.get(word.len()).is_none_or(|b| *b == b' ')
    })
}

/// However it is spaced. A space behind the word: only with an argument.
fn logs_in(command: &[u8], words: &[&[u8]]) -> bool {
    let command = command.trim_ascii_start();
    words.iter().any(|word| {
        let needs_more = word.ends_with(b" ");
        let word = word.trim_ascii_end();
        let rest = command.get(word.len()..).unwrap_or(&[]);
        starts_with_ignore_case(command, word)
            && !rest.first().is_some_and(u8::is_ascii_alphanumeric)
            && !(needs_more && rest.trim_ascii().is_empty())
    })
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len().max(1)).any(|window| window.eq_ignore_ascii_case(word))
}

/// Replies of three digits, over many lines where a dash follows them (RFC 5321 section 4.2.1,
/// RFC 959 section 4.2).
pub(crate) fn numbered_reply<'a>(bytes: &'a [u8], _command: Option<&[u8]>) -> Option<Reply<'a>> {
    let code = bytes.get(..3)?;
    let mut at = 0;
    loop {
        let (text, next) = line(bytes.get(at..)?)?;
        at += next;
        let last = text.starts_with(code) && text.get(3) != Some(&b'-');
        if last {
            let refused = matches!(code, [b'4' | b'5', ..]);
            return Some(Reply { text: &bytes[..at], granted: code.starts_with(b"2"), refused });
        }
    }
}

/// A command is the whole line.
pub(crate) fn untagged(text: &[u8]) -> Option<&[u8]> {
    Some(text)
}
