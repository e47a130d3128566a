//! SOCKS 5 (RFC 1928): the password (RFC 1929), and whether the proxy took it.
//!
//! What a client sends where a password may stand is one only if the proxy chose that way to log in: the messages
//! of another (GSSAPI, RFC 1961) begin alike. So it waits, as a fingerprint, for the choice.

use super::event::CredentialKind;
use super::machine::{Aligned, Machine, Sink, Step};
use super::{Token, token};
use crate::End;
use crate::bytes::Reader;

const VERSION: u8 = 5;
const PASSWORD: u8 = 2;
/// Of the message that bears it.
const PASSWORD_VERSION: u8 = 1;

#[derive(Default)]
pub(super) struct Socks {
    client: Turn,
    server: Turn,
    /// Whether a password was among the ways that the client offers.
    is_offered: bool,
    is_chosen: bool,
    /// Seen, and not told so far.
    waits: Option<(u64, Option<Token>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    /// What is offered, and the choice.
    #[default]
    Way,
    /// The password, and whether it is right.
    Password,
    Over,
}

impl Machine for Socks {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let mut reader = Reader::new(rest);
        let found = match from {
            End::Client => self.client(&mut reader, sink),
            End::Server => self.server(&mut reader, sink),
        };
        let length = (rest.len() - reader.rest().len()) as u64;
        match found {
            Some(true) if self.client == Turn::Over && self.server == Turn::Over => Step::Done,
            Some(true) => Step::Take(length),
            Some(false) => Step::Lost,
            None => Step::More,
        }
    }

    fn aligned(&self, _: End, _: &[u8]) -> Aligned {
        Aligned::No
    }

    fn gap(&mut self, _: End) {}
}

impl Socks {
    /// Whether a message was read; none: it is not all there yet.
    fn client(&mut self, reader: &mut Reader<'_>, sink: &mut Sink<'_>) -> Option<bool> {
        let version = reader.u8()?;
        match self.client {
            Turn::Way if version == VERSION => {
                self.is_offered = reader.vector8()?.contains(&PASSWORD);
                self.client = Turn::Password;
            }
            Turn::Password if version == PASSWORD_VERSION && self.is_offered => {
                let (_name, password) = (reader.vector8()?, reader.vector8()?);
                self.client = Turn::Over;
                if !password.is_empty() {
                    self.waits = Some((sink.fingerprint.of(password), token::read(password)));
                    self.tell(sink);
                }
            }
            Turn::Way | Turn::Password | Turn::Over => return Some(false),
        }
        Some(true)
    }

    fn server(&mut self, reader: &mut Reader<'_>, sink: &mut Sink<'_>) -> Option<bool> {
        let (version, said) = (reader.u8()?, reader.u8()?);
        match self.server {
            Turn::Way if version == VERSION && said == PASSWORD => {
                self.server = Turn::Password;
                self.is_chosen = true;
                self.tell(sink);
            }
            // Some say the version of SOCKS here.
            Turn::Password if matches!(version, PASSWORD_VERSION | VERSION) => {
                self.server = Turn::Over;
                match said {
                    0 => sink.succeeded("SOCKS 5 status 0"),
                    status => sink.failed(format!("SOCKS 5 status {status}"), true),
                }
            }
            Turn::Way | Turn::Password | Turn::Over => return Some(false),
        }
        Some(true)
    }

    fn tell(&mut self, sink: &mut Sink<'_>) {
        if self.is_chosen
            && let Some((fingerprint, token)) = self.waits.take()
        {
            let kind = if token.is_some() { CredentialKind::JsonWebToken } else { CredentialKind::Password };
            sink.noted(kind, "SOCKS 5 password (RFC 1929)", fingerprint, token);
        }
    }
}
