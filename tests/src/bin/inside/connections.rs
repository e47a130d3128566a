//! Connections as the kernel programs tell them: records of the ring, byte for byte.
//!
//! A fixed mix, the same at every run: seven in ten TLS 1.3, the rest HTTP and PostgreSQL in the
//! clear, every second one IPv6, one in five served by this host. The bytes are those of real
//! clients and servers (`dissect/fixtures`), cut into segments, up to where the flow is settled and
//! the programs stop capturing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dissect::{Hint, Prefix, inspect_stream};
use monitor::event::to_bytes;
use monitor_common::{CaptureHead, FlowEvent, Kind, Owner, Plain, capture_flag, flow_flag};

/// Most bytes of one capture.
const SEGMENT: usize = 1448;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../dissect/fixtures/", $name))
    };
}

/// One capture: who sent it, where it begins, what it holds.
type Piece = (bool, u32, Vec<u8>);

/// How many of what the connections are spread over.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Processes of this host.
    pub processes: usize,
    /// Services that each of them uses.
    pub services: usize,
    /// First port of the services: each has its own; 0: the usual ports.
    pub first_port: u16,
    /// Nothing but HTTP in the clear, with a kilobyte each way, instead of the mix.
    pub web: bool,
}

impl Default for Spread {
    /// 400 streams of clients here, and 100 of clients elsewhere.
    fn default() -> Self {
        Spread { processes: 20, services: 20, first_port: 0, web: false }
    }
}

/// Makes connections, one by one.
pub struct Maker {
    spread: Spread,
    tls: Vec<Piece>,
    postgresql: Vec<Piece>,
    http_response: Vec<u8>,
    web: Vec<Piece>,
    made: u64,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What every event of it has in common.
    event: FlowEvent,
    pieces: Vec<Piece>,
    passive: bool,
}

impl Maker {
    pub fn new(spread: Spread) -> Self {
        Maker {
            spread,
            tls: until_settled(fixture!("tls13.client"), fixture!("tls13.server"), 443),
            postgresql: until_settled(
                fixture!("plain/postgresql_plain.client"),
                fixture!("plain/postgresql_plain.server"),
                5432,
            ),
            http_response: fixture!("http_get.server").to_vec(),
            web: web(),
            made: 0,
        }
    }

    /// The next connection, opened at `at_ns`.
    pub fn next(&mut self, at_ns: u64) -> Connection {
        let number = self.made;
        self.made += 1;
        let n = number as usize;
        let process = n % self.spread.processes;
        let service = n / self.spread.processes % self.spread.services;
        let passive = n % 5 == 4;
        let (usual_port, pieces) = match n % 10 {
            _ if self.spread.web => (80, self.web.clone()),
            0..7 => (443, self.tls.clone()),
            7 | 8 => (80, self.http(n)),
            _ => (5432, self.postgresql.clone()),
        };
        let served = match self.spread.first_port {
            0 => usual_port,
            // In a range of its own, so that every service has a port and a name.
            first => first.wrapping_add(service as u16),
        };
        let v6 = number & 1 == 0;
        // Each address has 50,000 ports: enough of both for a billion connections.
        let ephemeral = 10_000 + (number % 50_000) as u16;
        let block = (number / 50_000) as u16;
        let here = |v6: bool| address(v6, 1, block);
        let there = |v6: bool, n: usize| address(v6, 2, n as u16);
        let (local, local_port, remote, remote_port) = if passive {
            // A hundred clients, however many blocks of ports they go through.
            let client = (n / 5 % 100) as u16 + 100 * block;
            (here(v6), served, address(v6, 3, client), ephemeral)
        } else {
            (here(v6), ephemeral, there(v6, service), served)
        };
        let event = FlowEvent {
            transport: 6,
            flags: if passive { 0 } else { flow_flag::ACTIVE },
            cookie: 1000 + number,
            netns: 1,
            at_ns,
            opened_ns: at_ns,
            local: to_bytes(local),
            remote: to_bytes(remote),
            local_port,
            remote_port,
            rtt_us: 180,
            owner: Owner {
                tgid: 100 + process as u32,
                uid: 1000,
                seen_ns: at_ns,
                cgroup: 1,
                comm: *b"client\0\0\0\0\0\0\0\0\0\0",
            },
            ..FlowEvent::default()
        };
        Connection { event, pieces, passive }
    }

    /// A request for one of 500 paths, and its answer.
    fn http(&self, n: usize) -> Vec<Piece> {
        let request =
            format!("GET /v1/items/{} HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\n\r\n", n % 500);
        until_settled(request.as_bytes(), &self.http_response, 80)
    }
}

impl Connection {
    /// Records of its beginning: it opens, comes up, and its first bytes are captured.
    pub fn begin(&self, record: &mut impl FnMut(&[u8])) {
        let up = FlowEvent { established_ns: self.event.at_ns + 200_000, ..self.event };
        if self.passive {
            record(FlowEvent { kind: Kind::Open as u8, ..up }.as_bytes());
        } else {
            record(FlowEvent { kind: Kind::Open as u8, ..self.event }.as_bytes());
            record(FlowEvent { kind: Kind::Established as u8, ..up }.as_bytes());
        }
        let mut buffer = Vec::new();
        for (client, offset, bytes) in &self.pieces {
            self.capture(*client, *offset, bytes, &mut buffer);
            record(&buffer);
        }
    }

    /// The same with another name, of the same length, in what the client sends; `None`: it has none.
    pub fn named(&self, old: &str, new: &str) -> Option<Connection> {
        let mut named = self.clone();
        let (_, _, bytes) = named.pieces.iter_mut().find(|(client, ..)| *client)?;
        let at = bytes.windows(old.len()).position(|window| window == old.as_bytes())?;
        bytes.get_mut(at..at + new.len())?.copy_from_slice(new.as_bytes());
        Some(named)
    }

    /// A progress event, the `nth`.
    pub fn progress(&self, nth: u64, at_ns: u64) -> FlowEvent {
        FlowEvent { kind: Kind::Progress as u8, ..self.totals(nth, at_ns) }
    }

    /// Its end, after `nth` progress events.
    pub fn close(&self, nth: u64, at_ns: u64) -> FlowEvent {
        FlowEvent { kind: Kind::Close as u8, detail: 1, ..self.totals(nth + 1, at_ns) }
    }

    fn totals(&self, nth: u64, at_ns: u64) -> FlowEvent {
        let (sent, received) = (nth * 1_000 + 517, nth * 90_000 + 4_000);
        FlowEvent {
            at_ns,
            established_ns: self.event.at_ns + 200_000,
            first_sent_ns: self.event.at_ns + 250_000,
            first_received_ns: self.event.at_ns + 600_000,
            sent_bytes: sent,
            received_bytes: received,
            sent_packets: sent / 500,
            received_packets: received / 1400,
            ..self.event
        }
    }

    /// Written as the programs do: into a record of the smallest size that fits.
    fn capture(&self, client: bool, offset: u32, bytes: &[u8], record: &mut Vec<u8>) {
        let sent = client != self.passive;
        let mut flags = if sent { capture_flag::SENT } else { 0 };
        if !self.passive {
            flags |= capture_flag::ACTIVE;
        }
        let head = CaptureHead {
            kind: Kind::Capture as u8,
            transport: 6,
            flags,
            len: bytes.len() as u32,
            cookie: self.event.cookie,
            netns: self.event.netns,
            at_ns: self.event.at_ns + 300_000,
            offset,
            payload_len: bytes.len() as u32,
            local_port: self.event.local_port,
            remote_port: self.event.remote_port,
            local: self.event.local,
            remote: self.event.remote,
            ..CaptureHead::default()
        };
        record.clear();
        record.extend_from_slice(head.as_bytes());
        record.extend_from_slice(bytes);
        let room = monitor_common::CAPTURE_SIZES.into_iter().find(|size| *size >= bytes.len());
        record.resize(size_of::<CaptureHead>() + room.unwrap_or(bytes.len()), 0);
    }
}

/// A kilobyte of padding each way, as the benchmark of short connections has it.
fn web() -> Vec<Piece> {
    let padding = "x".repeat(850);
    let client = format!(
        "GET / HTTP/1.0\r\nX-Padding: {padding}\r\nHost: 10.213.0.2:8080\r\nUser-Agent: ApacheBench/2.3\r\n\
         Accept: */*\r\n\r\n"
    );
    let server = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: 850\r\nConnection: close\r\n\r\n{padding}"
    );
    vec![(true, 0, client.into_bytes()), (false, 0, server.into_bytes())]
}

fn address(v6: bool, network: u8, host: u16) -> IpAddr {
    let [high, low] = host.to_be_bytes();
    if v6 {
        Ipv6Addr::new(0xfd00, 0, 0, u16::from(network), 0, 0, 0, host + 1).into()
    } else {
        Ipv4Addr::new(10, network, high, low.wrapping_add(1)).into()
    }
}

/// An exchange cut into segments, the client's first flight first, up to where it is settled.
fn until_settled(client: &[u8], server: &[u8], server_port: u16) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut asked, mut answered) = (0, 0);
    let mut clients_turn = true;
    while asked < client.len() || answered < server.len() {
        let (bytes, at) = if clients_turn { (client, &mut asked) } else { (server, &mut answered) };
        let end = bytes.len().min(*at + if clients_turn { 600 } else { SEGMENT });
        if *at < end {
            pieces.push((clients_turn, *at as u32, bytes[*at..end].to_vec()));
            *at = end;
        }
        clients_turn = !clients_turn;
        let prefix = |bytes| Prefix { bytes, ended: false, midstream: false, ..Prefix::default() };
        let hint = Hint { server_port };
        if inspect_stream(prefix(&client[..asked]), prefix(&server[..answered]), hint).settled {
            break;
        }
    }
    pieces
}
