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
    // second reply follows.
    let after = &server.bytes[greeting.text.len()..];
    if greeting.text == b"+OK\r\n" && !after.starts_with(b"+OK") && !after.starts_with(b"-ERR") {
        let hopeless = !b"+OK".starts_with(after) && !b"-ERR".starts_with(after);
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
        found.settled &= for_good || dialect.foreign.is_empty();
        Probe::Yes(describe(found))
    } else if for_good && !may_answer {
        Probe::No
    } else {
        Probe::Maybe
    }
}

/// A refusal behind an empty line is of that or, where the server passes over it without a word, of the next command: in
/// doubt, TLS tells which.
fn follow(dialect: &Dialect, client: Prefix<'_>, server: Prefix<'_>, greeting: &Reply<'_>) -> Found {
    let mut in_doubt = false;
    let found = read(dialect, client, server, greeting, &mut |text| {
        in_doubt |= is_empty(text);
        true
    });
    if !in_doubt || !found.settled || found.upgraded_at.is_some() {
        return found;
    }
    let silent = read(dialect, client, server, greeting, &mut |text| !is_empty(text));
    let settled = match silent.upgraded_at.map(|(_, server_at)| server.bytes.get(server_at)) {
        Some(Some(0x15 | 0x16)) => return silent,
        Some(Some(_)) => true,
        Some(None) if server.ended => return silent,
        Some(None) => false,
        None => silent.settled,
    };
    describe(Found { settled, ..found })
}

/// Whether a refusal is of a line, the reader says.
fn read(
    dialect: &Dialect,
    client: Prefix<'_>,
    server: Prefix<'_>,
    greeting: &Reply<'_>,
    is_refused: &mut dyn FnMut(&[u8]) -> bool,
) -> Found {
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
        let command = (dialect.command)(text).unwrap_or(&[]);
        if logs_in(command, dialect.log_ins) {
            break;
        }
        let asks = is_one_of(command, dialect.upgrades);
        let is_neutral = is_one_of(command, dialect.neutral);
        let Some(reply) = (dialect.reply)(&server.bytes[server_at..], Some(text)) else {
            found.upgrade_offered |= asks;
            found.settled = server.ended;
            return describe(found);
        };
        let goes_on = asks || is_neutral || (reply.refused && is_refused(text));
        if !goes_on {
            // Servers may pass over an empty line without a word: then this answers another.
            if is_empty(text) {
                continue;
            }
            break;
        }
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
        let (mut rest, mut replies) = (client.bytes, &server.bytes[greeting.text.len()..]);
        for _ in 0..if is_bare { 1 } else { MOST_COMMANDS } {
            let Some((text, next)) = line(rest) else {
                return Spoken::Nothing { for_good: client.ended || rest.len() > LONGEST_LINE };
            };
            if next > LONGEST_LINE {
                break;
            }
            rest = &rest[next..];
            let command = (dialect.command)(text).unwrap_or(&[]);
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
            let reply = (dialect.reply)(replies, Some(text));
            match (&reply, says) {
                (None, _) if !server.ended => return Spoken::Nothing { for_good: false },
                // Against a greeting that names the other alone, a refusal tells nothing.
                (Some(Reply { refused: true, .. }) | None, Some(says))
                    if is_only.is_some_and(|it| it != says) => {}
                (Some(reply), Some(says)) if is_known(command, reply) => return says,
                (None, Some(says)) => return says,
                _ => {}
            }
            if let Some(reply) = reply.filter(|reply| reply.refused || !is_empty(text)) {
                replies = &replies[reply.text.len()..];
            }
        }
        Spoken::Nothing { for_good: true }
    }
}

/// Whether a server that answers so knows the command (RFC 5321 section 4.2.1, RFC 959 section 4.2): a log-in may be
/// refused for other reasons.
fn is_known(command: &[u8], reply: &Reply<'_>) -> bool {
    let code = reply.text.get(..3).unwrap_or(&[]);
    match () {
        () if is_one_of(command, &[b"USER", b"PASS", b"ACCT"]) => matches!(code, [b'2' | b'3', ..] | b"530"),
        () if is_one_of(command, &[b"AUTH TLS", b"AUTH SSL", b"AUTH TLS-C"]) => !reply.refused,
        // FTP has no such mechanism, or wants a name and a password first.
        () if is_one_of(command, &[b"AUTH"]) => !matches!(code, b"500" | b"502" | b"503" | b"504" | b"530"),
        () => !reply.refused,
    }
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
