//! One connection, one hello, one answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use dissect::{Hint, Prefix, TlsFacts, inspect_stream};

use super::flight::Flight;
use super::hello::Offer;
use super::starttls::{Refused, Starttls};

/// Bytes of an answer that are read: a flight with ten certificates fits.
const LONGEST: usize = 128 << 10;

/// How long a server is given to greet before the client speaks.
const GREETING: Duration = Duration::from_millis(600);

/// Where a service is, and how TLS begins there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub starttls: Option<Starttls>,
    /// A DNS name to ask for.
    pub server_name: Option<String>,
    /// For connecting, and for every answer.
    pub timeout: Duration,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub flight: Flight,
    /// As the dissectors read it; `None`: no TLS.
    pub facts: Option<TlsFacts>,
    /// Why it is not known whether the server speaks TLS: it neither took the offer nor refused it.
    pub unclear: Option<&'static str>,
}

impl Answer {
    /// The server took the offer.
    pub fn accepted(&self) -> bool {
        self.flight.chosen.is_some()
    }
}

impl Endpoint {
    /// A connection on which TLS may begin.
    pub fn connect(&self) -> Result<TcpStream, Refused> {
        let mut stream = self.connect_plain()?;
        if let Some(protocol) = self.starttls {
            protocol.upgrade(&mut Deadline::new(&mut stream, self.timeout))?;
        }
        Ok(stream)
    }

    fn connect_plain(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// What the server says before the client does; empty: nothing.
    pub fn greeting(&self) -> io::Result<Vec<u8>> {
        let mut stream = self.connect_plain()?;
        let mut stream = Deadline::new(&mut stream, GREETING.min(self.timeout));
        let mut greeting = Vec::new();
        let mut buffer = [0; 512];
        // One that comes in pieces is still one.
        while !greeting.contains(&b'\n') && greeting.len() < buffer.len() {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => greeting.extend_from_slice(&buffer[..length]),
                Err(error) if is_silence(&error) || !greeting.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(greeting)
    }

    /// Offers, and reads the answer up to where it becomes unreadable.
    pub fn ask(&self, offer: &Offer, random: &[u8; 64]) -> Result<Answer, Refused> {
        let mut stream = self.connect()?;
        let hello = offer.encode(random);
        let mut stream = Deadline::new(&mut stream, self.timeout);
        // A server that refuses may have closed already: then its reason is still to be read.
        let _ = stream.write_all(&hello);
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        let mut answer = Answer::default();
        let (mut ended, mut silent) = (false, false);
        while !(ended || answer.flight.is_complete() || bytes.len() > LONGEST) {
            match stream.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(length) => bytes.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => (ended, silent) = (true, is_silence(&error)),
            }
            answer.flight = Flight::read(&bytes);
        }
        answer.unclear = unclear(&answer.flight, &bytes, silent);
        if answer.flight.chosen.is_some() || answer.flight.alert.is_some() {
            let prefix = |bytes| Prefix { bytes, ended: true, midstream: false, ..Prefix::default() };
            let hint = Hint { server_port: self.address.port() };
            answer.facts = inspect_stream(prefix(&hello), prefix(&bytes), hint).facts.tls;
        }
        Ok(answer)
    }
}

/// Why such an answer tells nothing; `None`: it does. Who closes without a word has refused.
fn unclear(flight: &Flight, bytes: &[u8], silent: bool) -> Option<&'static str> {
    let is_stranger = flight.foreign && !is_record(bytes);
    if flight.chosen.is_some() || flight.alert.is_some() || is_stranger {
        None
    } else if silent {
        Some("it did not answer in time")
    } else {
        (!bytes.is_empty()).then_some("it answered with records of TLS, and no handshake")
    }
}

/// Whether these bytes begin as a record does.
fn is_record(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|kind| (20..=23).contains(kind)) && bytes.get(1).is_none_or(|major| *major == 3)
}

/// Whether a wait came to its end.
pub(super) fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A stream on which everything together may take so long: a server that sends a byte a second does not
/// hold the audit up.
pub struct Deadline<'a> {
    stream: &'a mut TcpStream,
    until: Instant,
}

impl<'a> Deadline<'a> {
    pub fn new(stream: &'a mut TcpStream, time: Duration) -> Self {
        Deadline { stream, until: Instant::now() + time }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Deadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Deadline<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
