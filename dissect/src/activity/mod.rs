//! What goes on inside a connection in the clear: who reads, writes or administers what; log-ins that
//! fail or succeed; credentials that anybody on the way can read.
//!
//! In: the bytes of both directions in order, cut anywhere, for as long as the connection lives
//! ([`Observer::feed`]), and where some are missing, that they are ([`Observer::gap`]). Out: a bounded
//! list of [`Event`]s. One file a protocol; each takes whole messages off the front, so the cuts change
//! nothing.
//!
//! Must never: panic, whatever the bytes; hold more than [`LIMIT`] bytes of a direction; hand on a
//! secret. A secret is turned into a keyed fingerprint where it is found, by the caller's
//! [`Fingerprint`], and forgotten. After a gap a direction is read again only where its bytes begin
//! like a message of the protocol, as far as they are there; else nothing is said of it until the next gap.

mod amqp;
mod behind;
mod event;
mod ftp;
mod http1;
mod http1_framing;
mod http2;
mod imap;
mod kafka;
mod kafka_names;
mod kafka_topics;
mod ldap;
mod lines;
mod machine;
mod mongodb;
mod mqtt;
mod mysql;
mod nats;
mod path;
mod pop3;
mod postgresql;
mod redis;
mod redis_commands;
mod secrets;
mod smtp;
mod socks;
mod sql;
mod sql_kinds;
mod sql_statement;
mod sql_words;
mod token;

use crate::{End, Plain, Protection, Protocol};
use machine::{Aligned, Machine, Sink, Step};

pub use event::{
    Authentication, Before, Credential, CredentialKind, Event, Fingerprint, Operation, Outcome, Token, Verb,
};
pub use kafka_names::{Broker, TopicNames};
pub(crate) use path::{shown, shown_host};
pub(crate) use redis_commands::is_known as is_command_of_redis;

/// Bytes of one direction that are held at most: a message whose beginning is longer is not read.
pub const LIMIT: usize = 16 * 1024;

/// Events that wait for [`Observer::take`] at most; more are counted, and not kept.
pub const EVENTS: usize = 256;

/// Facts of one connection that are told once, however often they show.
const REMEMBERED: usize = 64;

/// Reads one connection.
pub struct Observer {
    machine: Box<dyn Machine>,
    client: Side,
    server: Side,
    memory: Memory,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    held: Vec<u8>,
    /// Bytes still to come of a message that has been read as far as it matters.
    skip: u64,
    /// Bytes of the front that were too few for a message.
    examined: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The next byte begins a message.
    #[default]
    InStep,
    /// The next byte may begin one.
    Unsure,
    /// Nothing can be said until the next gap.
    Lost,
    /// Nothing can be said any more.
    Done,
}

/// What was found, and what was told before.
#[derive(Debug, Default)]
pub(in crate::activity) struct Memory {
    pub events: Vec<Event>,
    pub dropped: u64,
    /// What the client did may not all have been told.
    pub passed_over: bool,
    /// What is read goes before this.
    pub before: Option<Before>,
    /// Who answers, where that is not the flow's server.
    pub at: Option<String>,
    /// Operations are not kept.
    pub no_operations: bool,
    operations: Vec<Operation>,
    credentials: Vec<Credential>,
}

impl std::fmt::Debug for Observer {
    /// Nothing of what is held is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("held", &self.held()).finish_non_exhaustive()
    }
}

impl Observer {
    /// Of a connection from its start. `None`: nothing can be read of what is so protected.
    pub fn new(protection: Protection) -> Option<Observer> {
        let Protection::Plaintext(plain) = protection else { return None };
        let machine: Box<dyn Machine> = match plain {
            Plain::Readable => Box::new(lines::Lines::of_nobody()),
            Plain::Protocol(protocol) => match protocol {
                Protocol::Http => Box::new(http1::Http::default()),
                Protocol::Http2 | Protocol::Grpc => Box::new(http2::Http2::default()),
                Protocol::Postgresql => Box::new(postgresql::Postgresql::default()),
                Protocol::Mysql => Box::new(mysql::Mysql::default()),
                Protocol::Redis => Box::new(redis::Redis::default()),
                Protocol::Mongodb => Box::new(mongodb::Mongodb::default()),
                Protocol::Kafka => Box::new(kafka::Kafka::default()),
                Protocol::Amqp => Box::new(amqp::Amqp::default()),
                Protocol::Mqtt => Box::new(mqtt::Mqtt::default()),
                Protocol::Nats => Box::new(nats::Nats::default()),
                Protocol::Smtp => Box::new(smtp::Smtp::default()),
                Protocol::Imap => Box::new(imap::Imap::default()),
                Protocol::Pop3 => Box::new(pop3::Pop3::default()),
                Protocol::Ftp => Box::new(ftp::Ftp::default()),
                Protocol::Ldap => Box::new(ldap::Ldap::default()),
                Protocol::Socks => Box::new(socks::Socks::default()),
                Protocol::Telnet | Protocol::Stomp | Protocol::Syslog | Protocol::Xmpp => {
                    Box::new(lines::Lines::default())
                }
                _ => return None,
            },
        };
        Some(Observer {
            machine,
            client: Side::default(),
            server: Side::default(),
            memory: Memory::default(),
        })
    }

    /// What one connection tells of the names of topics holds for the others that share them.
    #[must_use]
    pub fn sharing(mut self, names: &TopicNames) -> Observer {
        self.machine.share(names);
        self
    }

    /// The same from somewhere in the middle.
    pub fn midstream(protection: Protection) -> Option<Observer> {
        let mut observer = Observer::new(protection)?;
        observer.gap(End::Client);
        observer.gap(End::Server);
        Some(observer)
    }

    /// The next bytes of the direction that begins at `from`.
    pub fn feed(&mut self, from: End, mut bytes: &[u8], fingerprint: &dyn Fingerprint) {
        while !bytes.is_empty() {
            let side = self.side(from);
            if matches!(side.state, State::Lost | State::Done) {
                return;
            }
            let skipped = usize::try_from(side.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
            side.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(LIMIT - side.held.len());
            side.held.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.advance(from, fingerprint);
        }
    }

    /// Bytes of this direction are missing, or its start is.
    pub fn gap(&mut self, from: End) {
        let side = self.side(from);
        if side.state != State::Done {
            *side = Side { state: State::Unsure, ..Side::default() };
            self.machine.gap(from);
        }
    }

    /// The connection has ended. Nothing is made of that where some of it was not read.
    pub fn end(&mut self) {
        let Observer { machine, client, server, memory } = self;
        let is_whole = |side: &Side| side.state == State::InStep && side.skip == 0 && side.held.is_empty();
        if is_whole(client) && is_whole(server) {
            let nothing = |_: &[u8]| 0;
            machine.ended(&mut Sink { memory, examined: 0, fingerprint: &nothing });
        }
    }

    /// Whether anything more can come of it.
    pub fn is_done(&self) -> bool {
        self.client.state == State::Done && self.server.state == State::Done
    }

    /// Whether every message so far was read as one, and all that it asked for was told.
    pub fn is_in_step(&self) -> bool {
        self.client.state == State::InStep
            && self.server.state == State::InStep
            && self.machine.tells_all()
            && !self.memory.passed_over
            && self.memory.dropped == 0
    }

    /// Whether [`Observer::take`] would give anything.
    pub fn has_found(&self) -> bool {
        !self.memory.events.is_empty()
    }

    /// What was found since the last time.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.memory.events)
    }

    /// Events that were not kept, ever.
    pub fn dropped(&self) -> u64 {
        self.memory.dropped
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.client.held.len() + self.server.held.len() + self.machine.held()
    }

    fn side(&mut self, from: End) -> &mut Side {
        match from {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        }
    }

    /// Takes whole messages off the front for as long as there are any.
    fn advance(&mut self, from: End, fingerprint: &dyn Fingerprint) {
        let Observer { machine, client, server, memory } = self;
        let (side, other) = match from {
            End::Client => (client, server),
            End::Server => (server, client),
        };
        let mut at = 0;
        loop {
            let rest = &side.held[at..];
            if rest.is_empty() {
                break;
            }
            if side.state == State::Unsure {
                match machine.aligned(from, rest) {
                    Aligned::Yes => side.state = State::InStep,
                    Aligned::No => side.state = State::Lost,
                    Aligned::More if rest.len() >= LIMIT => side.state = State::Lost,
                    Aligned::More => break,
                }
                if side.state == State::Lost {
                    break;
                }
            }
            let examined = std::mem::take(&mut side.examined);
            match machine.step(from, rest, &mut Sink { memory, examined, fingerprint }) {
                Step::Take(length) => {
                    // A machine that takes nothing would go round for ever.
                    let length = length.max(1);
                    let there = usize::try_from(length).map_or(rest.len(), |n| n.min(rest.len()));
                    at += there;
                    side.skip = length - there as u64;
                    if side.skip > 0 {
                        break;
                    }
                }
                Step::More if rest.len() >= LIMIT => {
                    side.state = State::Lost;
                    break;
                }
                Step::More => {
                    side.examined = rest.len();
                    break;
                }
                Step::Lost => {
                    side.state = State::Lost;
                    break;
                }
                Step::Done => {
                    side.state = State::Done;
                    other.state = State::Done;
                    other.held = Vec::new();
                    break;
                }
            }
        }
        if matches!(side.state, State::Lost | State::Done) {
            side.held = Vec::new();
        } else {
            side.held.drain(..at);
            // Many flows are quiet for long: they hold nothing, not even room.
            if side.held.is_empty() {
                side.held = Vec::new();
            }
        }
    }
}

impl Memory {
    fn add(&mut self, event: Event) {
        if self.no_operations && matches!(event, Event::Operation(_)) {
            return;
        }
        if self.events.len() < EVENTS {
            self.events.push(event);
        } else {
            self.dropped += 1;
        }
    }

    /// An operation, the first time that it shows.
    fn operation(&mut self, operation: Operation) {
        if !self.operations.contains(&operation) {
            if self.operations.len() >= REMEMBERED {
                self.operations.remove(0);
            }
            // Most connections do one thing only, and there are many of them.
            self.operations.reserve_exact(usize::from(self.operations.is_empty()));
            self.operations.push(operation.clone());
            self.add(Event::Operation(operation));
        }
    }

    /// A credential, likewise.
    fn credential(&mut self, credential: Credential) {
        if !self.credentials.contains(&credential) {
            if self.credentials.len() >= REMEMBERED {
                self.credentials.remove(0);
            }
            self.credentials.push(credential.clone());
            self.add(Event::Credential(credential));
        }
    }
}
