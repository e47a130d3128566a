//! MySQL and MariaDB (MySQL "Client/Server Protocol", MariaDB "Clientserver protocol"): errors 1045 and
//! 1698, passwords of the plugins that send them in the clear, the kinds of statements.
//!
//! A packet's number tells its place: 0 begins a command. MySQL and MariaDB refuse any other there (`net_serv.cc`,
//! "Packets out of order"), but servers and proxies that speak the same may take it: it is read as a command, and what
//! a server makes of it is not known. A client's answer to a switch of plugins may be read before the switch or after
//! it; until then its fingerprint waits.

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, Machine, Sink, Step, whole};
use super::sql::{self, Dialect};
use crate::End;

const PLACE: &str = "MySQL authentication packet";

/// Plugins whose answer is the password itself.
const IN_THE_CLEAR: [&[u8]; 2] = [b"mysql_clear_password", b"dialog"];

const CLIENT_CONNECT_WITH_DB: u32 = 1 << 3;
const CLIENT_COMPRESS: u32 = 1 << 5;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_SECURE_CONNECTION: u32 = 1 << 15;
const CLIENT_PLUGIN_AUTH: u32 = 1 << 19;
const CLIENT_PLUGIN_AUTH_LENENC: u32 = 1 << 21;
const CLIENT_ZSTD_COMPRESSION_ALGORITHM: u32 = 1 << 26;
const CLIENT_QUERY_ATTRIBUTES: u32 = 1 << 27;

#[derive(Default)]
pub(super) struct Mysql {
    greeted: bool,
    /// The client's log-in has been read.
    answered: bool,
    /// The client sent a command: the log-in is over, for it.
    commands: bool,
    /// The server said yes or no.
    decided: bool,
    compressed: bool,
    /// Attributes stand before the text of a query.
    attributes: bool,
    /// Whether the last plugin that the server asked for sends in the clear; `None`: it asked for none.
    asked: Option<bool>,
    waiting: Option<u64>,
    /// The last command asks to log in as somebody else (COM_CHANGE_USER), and was not answered.
    changes: bool,
    /// The client sends a file that the server asked for (LOAD DATA LOCAL), up to an empty packet.
    sends_file: bool,
    /// The number of the next packet, where the last one was so long that its message goes on in that.
    goes_on: Option<u8>,
}

/// By the flags of the protocol since MySQL 4.1, and what is reserved behind them; MariaDB has taken some of that.
fn is_log_in(payload: &[u8]) -> bool {
    const CLIENT_PROTOCOL_41: u8 = 1 << 1;
    payload.get(1).is_some_and(|flags| flags & CLIENT_PROTOCOL_41 != 0)
        && payload.get(9..28).is_some_and(|reserved| reserved.iter().all(|byte| *byte == 0))
}

/// A packet of this length is followed by more of its message.
const FULL: u64 = 0xff_ffff;

impl Machine for Mysql {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let [a, b, c, number, ..] = rest else { return Step::More };
        let length = u64::from(*a) | u64::from(*b) << 8 | u64::from(*c) << 16;
        let total = length + 4;
        let Some(packet) = whole(rest, total) else { return Step::More };
        let payload = packet.get(4..).unwrap_or(&[]);
        let done = match from {
            End::Client => {
                let goes_on = self.goes_on.take() == Some(*number);
                if length == FULL {
                    self.goes_on = Some(number.wrapping_add(1));
                }
                !goes_on && self.client(*number, payload, packet.len() as u64 != total, sink)
            }
            End::Server => self.server(*number, payload, sink),
        };
        if done { Step::Done } else { Step::Take(total) }
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        let [a, b, c, number, first, ..] = rest else { return Aligned::More };
        let length = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let fits = match from {
            End::Client => *number == 0 && (1..=0x1f).contains(first),
            End::Server => *number == 1,
        };
        // The packet ends where the bytes do, or the next one is numbered.
        let next = rest.get(4 + length..);
        let follows = match (from, next) {
            (_, Some([])) => true,
            (End::Client, Some(next)) => next.get(3).is_none_or(|number| *number == 0),
            (End::Server, Some(next)) => next.get(3).is_none_or(|number| matches!(number, 1 | 2)),
            (_, None) => rest.len() > 64,
        };
        match (fits && length > 0, follows, next) {
            (false, ..) => Aligned::No,
            (true, true, _) => Aligned::Yes,
            (true, false, None) => Aligned::More,
            (true, false, Some(_)) => Aligned::No,
        }
    }

    fn gap(&mut self, _: End) {
        *self = Mysql {
            greeted: true,
            answered: true,
            commands: true,
            decided: true,
            asked: Some(false),
            ..Mysql::default()
        };
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Mysql {
    /// True where nothing more can be read.
    fn client(&mut self, number: u8, payload: &[u8], is_cut: bool, sink: &mut Sink<'_>) -> bool {
        if !self.answered && (number != 0 || is_log_in(payload)) {
            self.answered = true;
            return self.log_in(payload, sink);
        }
        let is_file = std::mem::take(&mut self.sends_file) && number != 0;
        if number == 0 {
            self.commands = true;
            self.command(payload, is_cut, sink);
        } else if self.changes || !self.commands && !self.decided {
            let password = payload.strip_suffix(b"\0").unwrap_or(payload);
            match self.asked {
                Some(true) => sink.credential(CredentialKind::Password, PLACE, password),
                None if !password.is_empty() => self.waiting = Some(sink.fingerprint.of(password)),
                _ => {}
            }
        } else if is_file {
            self.sends_file = !payload.is_empty();
        } else if !payload.is_empty() {
            self.command(payload, is_cut, sink);
            sink.passed_over();
        }
        false
    }

    /// HandshakeResponse41, or SSLRequest.
    fn log_in(&mut self, payload: &[u8], sink: &mut Sink<'_>) -> bool {
        let Some((flags, _)) = payload.split_first_chunk::<4>() else { return false };
        let flags = u32::from_le_bytes(*flags);
        if flags & CLIENT_SSL != 0 && payload.len() <= 32 {
            return true;
        }
        self.compressed = flags & (CLIENT_COMPRESS | CLIENT_ZSTD_COMPRESSION_ALGORITHM) != 0;
        self.attributes = flags & CLIENT_QUERY_ATTRIBUTES != 0;
        let Some(rest) = payload.get(32..) else { return false };
        let user = rest.iter().position(|b| *b == 0).map_or(rest.len(), |nul| nul + 1);
        let rest = &rest[user..];
        let (answer, rest) = if flags & (CLIENT_PLUGIN_AUTH_LENENC | CLIENT_SECURE_CONNECTION) != 0 {
            // Answers are short: their length is one byte in either encoding.
            let length = usize::from(rest.first().copied().unwrap_or(0)).min(rest.len().saturating_sub(1));
            rest.get(1..).unwrap_or(&[]).split_at(length)
        } else {
            let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
            (&rest[..end], rest.get(end + 1..).unwrap_or(&[]))
        };
        let mut names = rest.split(|b| *b == 0);
        if flags & CLIENT_CONNECT_WITH_DB != 0 {
            names.next();
        }
        if flags & CLIENT_PLUGIN_AUTH != 0
            && names.next().is_some_and(|plugin| IN_THE_CLEAR.contains(&plugin))
        {
            let password = answer.strip_suffix(b"\0").unwrap_or(answer);
            sink.credential(CredentialKind::Password, PLACE, password);
        }
        false
    }

    fn server(&mut self, number: u8, payload: &[u8], sink: &mut Sink<'_>) -> bool {
        match payload {
            [0xff, low, high, state @ ..] => {
                let code = u16::from_le_bytes([*low, *high]);
                // In mid-stream the state has to agree: a row may begin with this byte.
                let is_refusal = state.starts_with(b"#28000");
                let certain = !self.decided || (number == 1 || self.changes) && is_refusal;
                if matches!(code, 1045 | 1698) && certain {
                    sink.failed(format!("MySQL {code}"), true);
                }
                self.decided = true;
                self.greeted = true;
                self.changes = false;
            }
            [10, ..] if !self.greeted => self.greeted = true,
            [0, ..] if !self.decided => {
                self.decided = true;
                sink.succeeded("MySQL OK");
                return self.compressed;
            }
            [0, ..] if std::mem::take(&mut self.changes) => sink.succeeded("MySQL OK"),
            [0xfb, _, ..] if number == 1 && self.decided => self.sends_file = true,
            [0xfe, plugin @ ..] if self.changes || !self.decided => {
                let plugin = plugin.split(|b| *b == 0).next().unwrap_or(&[]);
                let clear = IN_THE_CLEAR.contains(&plugin);
                if clear && let Some(fingerprint) = self.waiting {
                    sink.noted(CredentialKind::Password, PLACE, fingerprint, None);
                }
                self.waiting = None;
                self.asked = Some(clear);
            }
            _ => {}
        }
        false
    }

    fn command(&mut self, payload: &[u8], is_cut: bool, sink: &mut Sink<'_>) {
        let Some((command, rest)) = payload.split_first() else { return };
        self.changes = false;
        match command {
            0x11 => self.change_user(rest, sink),
            // COM_QUERY: with attributes, first how many there are, and how many sets of them: one.
            0x03 => {
                let text = match rest {
                    [0, 1, text @ ..] if self.attributes => text,
                    _ if self.attributes => {
                        sink.passed_over();
                        let skipped = rest.iter().take_while(|b| **b < b' ' && !b.is_ascii_whitespace());
                        &rest[skipped.count()..]
                    }
                    _ => rest,
                };
                sql::statements(text, Dialect::Mysql, is_cut, sink);
            }
            // COM_STMT_PREPARE
            0x16 => sql::statements(rest, Dialect::Mysql, is_cut, sink),
            0x05 => sink.operation(Verb::Admin, "statement", Some(b"CREATE")),
            0x06 => sink.operation(Verb::Admin, "statement", Some(b"DROP")),
            0x07 => sink.operation(Verb::Admin, "statement", Some(b"FLUSH")),
            0x08 => sink.operation(Verb::Admin, "statement", Some(b"SHUTDOWN")),
            0x0c => sink.operation(Verb::Admin, "statement", Some(b"KILL")),
            0x12 | 0x1e => sink.operation(Verb::Read, "command", Some(b"BINLOG_DUMP")),
            // Of the session, or of statements that were prepared, and told then.
            0x01 | 0x02 | 0x04 | 0x09 | 0x0a | 0x0e | 0x17..=0x1c | 0x1f | 0xfa => {}
            _ => sink.passed_over(),
        }
    }

    /// COM_CHANGE_USER: a user, an answer led by its length, a database, two bytes of a character set, a plugin.
    fn change_user(&mut self, rest: &[u8], sink: &mut Sink<'_>) {
        (self.changes, self.asked, self.waiting) = (true, None, None);
        let mut parts = rest.splitn(2, |b| *b == 0);
        let Some([length, rest @ ..]) = parts.nth(1) else { return };
        let Some((answer, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
        let Some([_, _, plugin @ ..]) = rest.splitn(2, |b| *b == 0).nth(1) else { return };
        let plugin = plugin.split(|b| *b == 0).next().unwrap_or(&[]);
        if IN_THE_CLEAR.contains(&plugin) {
            let password = answer.strip_suffix(b"\0").unwrap_or(answer);
            sink.credential(CredentialKind::Password, PLACE, password);
        }
    }
}
