//! What SMTP, FTP, POP3 and IMAP share: a greeting, then a command a line and a reply to each, and
//! among them the command that asks for TLS.
//!
//! In: both directions and a dialect. Out: what the probe answers. Replies are matched to commands
//! by their order, so it does not matter in which order both arrived here.
//!
//! Until the client has gone beyond what may come before TLS, the answer stays open: plaintext so
//! far. A greeting alone makes a provisional answer, too.

use crate::Protocol;
use crate::bytes::{line, printable, starts_with_ignore_case};
use crate::probe::{Found, Prefix, Probe};

/// Longer lines and dialogues than these do not come before TLS.
const LONGEST_LINE: usize = 1024;
const MOST_COMMANDS: usize = 24;

/// One server reply: where it ends, and what it says.
pub(crate) struct Reply<'a> {
    pub text: &'a [u8],
    pub granted: bool,
}

pub(crate) struct Dialect {
    pub protocol: Protocol,
    /// What the greeting starts with.
    pub greetings: &'static [&'static [u8]],
    /// A word in the greeting that names the protocol. Empty: every greeting does.
    pub name: &'static [u8],
    /// First commands that, after such a greeting, name the protocol.
    pub openings: &'static [&'static [u8]],
    /// Commands that may come before TLS; any other settles that there will be none.
    pub neutral: &'static [&'static [u8]],
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
    let opening = Opening::read(dialect, client.bytes);
    if opening == Opening::Other {
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
    // second reply follows.
    let after = &server.bytes[greeting.text.len()..];
    if greeting.text == b"+OK\r\n" && !after.starts_with(b"+OK") && !after.starts_with(b"-ERR") {
        let hopeless = !b"+OK".starts_with(after) && !b"-ERR".starts_with(after);
        return if hopeless || server.ended { Probe::No } else { Probe::Maybe };
    }
    let named = dialect.name.is_empty() || contains(greeting.text, dialect.name);
    match opening {
        Opening::Characteristic => {}
        Opening::Common | Opening::Partial if named => {}
        _ if client.ended || opening == Opening::Common => return Probe::No,
        _ => return Probe::Maybe,
    }
    Probe::Yes(follow(dialect, client, server, &greeting))
}

fn follow(dialect: &Dialect, client: Prefix<'_>, server: Prefix<'_>, greeting: &Reply<'_>) -> Found {
    let mut found = Found { settled: false, ..Found::plain(dialect.protocol) };
    found.upgrade_offered = contains(greeting.text, dialect.offer);
    let (mut client_at, mut server_at) = (0, greeting.text.len());
    for _ in 0..MOST_COMMANDS {
        let Some((text, next)) = line(&client.bytes[client_at..]) else {
            found.settled |= client.bytes.len() - client_at > LONGEST_LINE;
            return describe(found);
        };
        if next > LONGEST_LINE {
            break;
        }
        client_at += next;
        let Some(command) = (dialect.command)(text) else { break };
        let asks = is_one_of(command, dialect.upgrades);
        if !asks && !is_one_of(command, dialect.neutral) {
            break;
        }
        let Some(reply) = (dialect.reply)(&server.bytes[server_at..], Some(text)) else {
            found.upgrade_offered |= asks;
            found.settled = server.ended;
            return describe(found);
        };
        server_at += reply.text.len();
        found.upgrade_offered |= asks || contains(reply.text, dialect.offer);
        if asks && reply.granted {
            found.upgraded_at = Some((client_at, server_at));
            found.settled = true;
            found.upgrade_refused = false;
            found.detail = dialect.upgrades.first().map(|name| printable(name));
            return found;
        }
        found.upgrade_refused |= asks;
    }
    found.settled = true;
    describe(found)
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

/// The client's first command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// Nothing against it so far.
    Partial,
    /// Only this protocol begins so.
    Characteristic,
    /// Others begin so as well.
    Common,
    Other,
}

impl Opening {
    fn read(dialect: &Dialect, bytes: &[u8]) -> Opening {
        if bytes.is_empty() {
            return Opening::Partial;
        }
        let whole = line(bytes);
        let text = whole.map_or(bytes.strip_suffix(b"\r").unwrap_or(bytes), |(text, _)| text);
        let readable = text.iter().all(|b| !b.is_ascii_control());
        let Some(command) = (dialect.command)(text).filter(|_| readable && text.len() <= LONGEST_LINE) else {
            // IMAP's tag may still be incomplete.
            return if whole.is_none() && readable && text.len() < 32 {
                Opening::Partial
            } else {
                Opening::Other
            };
        };
        let may_become = |words: &[&[u8]]| {
            words.iter().any(|word| {
                let n = word.len().min(command.len());
                command[..n].eq_ignore_ascii_case(&word[..n])
            })
        };
        if whole.is_none() {
            let possible = [dialect.openings, dialect.neutral, dialect.upgrades].into_iter().any(may_become);
            return if possible { Opening::Partial } else { Opening::Other };
        }
        if is_one_of(command, dialect.openings) || is_one_of(command, dialect.upgrades) {
            Opening::Characteristic
        } else if is_one_of(command, dialect.neutral) {
            Opening::Common
        } else {
            Opening::Other
        }
    }
}

fn is_one_of(command: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| {
        starts_with_ignore_case(command, word) && command.get(word.len()).is_none_or(|b| *b == b' ')
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
            return Some(Reply { text: &bytes[..at], granted: code.starts_with(b"2") });
        }
    }
}

/// A command is the whole line.
pub(crate) fn untagged(text: &[u8]) -> Option<&[u8]> {
    Some(text)
}
