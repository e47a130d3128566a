//! SOCKS 4, 4a (their papers) and 5 (RFC 1928, RFC 1929): what begins after the proxy's answer.
//!
//! In: both directions. Out: where the tunnel begins in each, and to whom; or that there is none. Must
//! never: enter a tunnel that the proxy did not grant; show who logged in, or with what.
//!
//! Evidence: what the client offers, and a choice among it; a request of version 4, and one of its four
//! answers. Neither end's word alone is enough.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Prefix;
use crate::bytes::{Reader, position, printable};

const VERSION_4: u8 = 4;
const VERSION_5: u8 = 5;
/// A name or a host of version 4, without its zero.
const LONGEST_TEXT: usize = 255;

const CONNECT: u8 = 1;
const BIND: u8 = 2;
const UDP_ASSOCIATE: u8 = 3;
/// Tor's: a name is asked for, and answered.
const RESOLVE: u8 = 0xf0;
const RESOLVE_BACK: u8 = 0xf1;

const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NOTHING_ACCEPTABLE: u8 = 0xff;

pub(crate) enum Socks {
    No,
    /// Not against it so far.
    Maybe,
    /// Nothing goes through it: refused, for datagrams, or (if not `settled`) not granted so far.
    Alone {
        detail: String,
        settled: bool,
    },
    /// What follows may be encrypted in a way that is not read here.
    Hidden {
        detail: String,
    },
    /// What begins here is judged by itself. `through` is none where it is not what was agreed upon.
    Tunnel {
        client_at: usize,
        server_at: usize,
        through: Option<Through>,
    },
}

/// How a tunnel was asked for, and to whom it leads.
pub(crate) struct Through {
    pub how: &'static str,
    pub to: String,
}

impl std::fmt::Display for Through {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} to {}", self.how, self.to)
    }
}

pub(crate) fn look(client: Prefix<'_>, server: Prefix<'_>) -> Socks {
    let exchange = Exchange {
        client: Reader::new(client.bytes),
        server: Reader::new(server.bytes),
        lengths: (client.bytes.len(), server.bytes.len()),
    };
    // The first byte of an answer to version 4 is none.
    let answers = |version: u8| server.bytes.first().is_none_or(|first| *first == version);
    let found = match client.bytes.first() {
        None if !client.ended && (answers(0) || answers(VERSION_5)) => Err(Socks::Maybe),
        Some(&VERSION_4) if answers(0) => exchange.version_4(),
        Some(&VERSION_5) if answers(VERSION_5) => exchange.version_5(),
        _ => Err(Socks::No),
    };
    match found {
        Err(Socks::Maybe) if client.ended && server.ended => Socks::No,
        Err(socks) | Ok(socks) => socks,
    }
}

#[derive(Clone, Copy)]
struct Exchange<'a> {
    client: Reader<'a>,
    server: Reader<'a>,
    /// Of both directions.
    lengths: (usize, usize),
}

impl Exchange<'_> {
    /// All ends but the last are errors.
    fn version_4(mut self) -> Result<Socks, Socks> {
        let open = || Socks::Maybe;
        self.client.u8();
        let command = self.client.u8().ok_or_else(open)?;
        if !matches!(command, CONNECT | BIND) {
            return Err(Socks::No);
        }
        let port = self.client.u16().ok_or_else(open)?;
        let address = self.client.u32().ok_or_else(open)?;
        text(&mut self.client)?;
        // 4a: the proxy looks the name up.
        let host = match address {
            1..=255 => printable(text(&mut self.client)?),
            _ => Ipv4Addr::from(address).to_string(),
        };
        self.server.u8().ok_or_else(open)?;
        let through = Through { how: "SOCKS 4", to: format!("{host}:{port}") };
        let to = through.to_string();
        match self.server.u8().ok_or_else(open)? {
            0x5a => {}
            0x5b..=0x5d => return Err(refused(&to)),
            _ => return Err(Socks::No),
        }
        self.server.take(6).ok_or_else(|| begun(&to))?;
        if command == BIND {
            return Err(bind(&to));
        }
        Ok(self.tunnel(Some(through)))
    }

    fn version_5(mut self) -> Result<Socks, Socks> {
        self.client.u8();
        self.server.u8();
        let methods = self.client.vector8().ok_or(Socks::Maybe)?;
        if methods.is_empty() {
            return Err(Socks::No);
        }
        let method = self.server.u8().ok_or(Socks::Maybe)?;
        match method {
            NOTHING_ACCEPTABLE => return Err(refused("SOCKS 5")),
            method if !methods.contains(&method) => return Err(Socks::No),
            NO_AUTHENTICATION | PASSWORD => {}
            // GSSAPI (RFC 1961) may encrypt all that follows, and so may others.
            method => {
                let detail = format!("SOCKS 5 with authentication of kind {method}");
                return Err(Socks::Hidden { detail });
            }
        }
        let mut how = "SOCKS 5";
        if method == PASSWORD {
            how = "SOCKS 5 with a password in the clear";
            self.password(how)?;
        }
        let Some((command, to)) = self.request(how)? else { return Err(self.off_track()) };
        let through = Through { how, to };
        let to = through.to_string();
        let before = self.server;
        match self.server.u8() {
            None => return Err(begun(&to)),
            Some(VERSION_5) => {}
            Some(_) => return Err(Exchange { server: before, ..self }.off_track()),
        }
        match self.server.u8() {
            None => return Err(begun(&to)),
            Some(0) => {}
            Some(_) => return Err(refused(&to)),
        }
        self.server.u8().ok_or_else(|| begun(&to))?;
        match address(&mut self.server) {
            Address::Of(_) => {}
            Address::Open => return Err(begun(&to)),
            Address::None => return Err(Exchange { server: before, ..self }.off_track()),
        }
        match command {
            CONNECT => Ok(self.tunnel(Some(through))),
            BIND => Err(bind(&to)),
            UDP_ASSOCIATE => Err(Socks::Alone { detail: format!("{how}, for datagrams"), settled: true }),
            _ => Err(Socks::Alone { detail: format!("{how}, to look a name up"), settled: true }),
        }
    }

    /// RFC 1929.
    fn password(&mut self, how: &str) -> Result<(), Socks> {
        let before = *self;
        match self.client.u8() {
            None => return Err(begun(how)),
            Some(1) => {}
            Some(_) => return Err(before.off_track()),
        }
        let both = self.client.vector8().and_then(|_| self.client.vector8());
        both.ok_or_else(|| begun(how))?;
        let before = self.server;
        match self.server.u8() {
            None => return Err(begun(how)),
            // Some say the version of SOCKS here.
            Some(1 | VERSION_5) => {}
            Some(_) => return Err(Exchange { server: before, ..*self }.off_track()),
        }
        match self.server.u8() {
            None => Err(begun(how)),
            Some(0) => Ok(()),
            Some(_) => Err(refused(how)),
        }
    }

    /// What is asked for; none where it is no request, of which then nothing is taken.
    fn request(&mut self, how: &str) -> Result<Option<(u8, String)>, Socks> {
        let open = || begun(how);
        let mut reader = self.client;
        if reader.u8().ok_or_else(open)? != VERSION_5 {
            return Ok(None);
        }
        let command = reader.u8().ok_or_else(open)?;
        if !matches!(command, CONNECT | BIND | UDP_ASSOCIATE | RESOLVE | RESOLVE_BACK) {
            return Ok(None);
        }
        reader.u8().ok_or_else(open)?;
        match address(&mut reader) {
            Address::Of(to) => {
                self.client = reader;
                Ok(Some((command, to)))
            }
            Address::Open => Err(open()),
            Address::None => Ok(None),
        }
    }

    fn off_track(self) -> Socks {
        self.tunnel(None)
    }

    fn tunnel(self, through: Option<Through>) -> Socks {
        let client_at = self.lengths.0 - self.client.rest().len();
        let server_at = self.lengths.1 - self.server.rest().len();
        Socks::Tunnel { client_at, server_at, through }
    }
}

enum Address {
    Of(String),
    Open,
    None,
}

/// RFC 1928 section 5, with the port.
fn address(reader: &mut Reader<'_>) -> Address {
    let host = match reader.u8() {
        Some(1) => reader.u32().map(|address| Ipv4Addr::from(address).to_string()),
        Some(3) => reader.vector8().map(printable),
        Some(4) => reader
            .take(16)
            .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
            .map(|bytes| format!("[{}]", Ipv6Addr::from(bytes))),
        Some(_) => return Address::None,
        None => None,
    };
    match host.zip(reader.u16()) {
        Some((host, port)) => Address::Of(format!("{host}:{port}")),
        None => Address::Open,
    }
}

/// Up to a zero.
fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Socks> {
    let rest = reader.rest();
    match position(&rest[..rest.len().min(LONGEST_TEXT + 1)], 0) {
        Some(end) => {
            reader.take(end + 1);
            Ok(&rest[..end])
        }
        None if rest.len() > LONGEST_TEXT => Err(Socks::No),
        None => Err(Socks::Maybe),
    }
}

fn begun(to: &str) -> Socks {
    Socks::Alone { detail: format!("{to}, not granted so far"), settled: false }
}

fn refused(to: &str) -> Socks {
    Socks::Alone { detail: format!("{to}, refused"), settled: true }
}

/// Whoever connects to the proxy then speaks first, or does not.
fn bind(to: &str) -> Socks {
    Socks::Hidden { detail: format!("{to}, which connects back") }
}
