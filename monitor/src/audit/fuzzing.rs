//! What the fuzz target `audit` reaches: what a server answers.

use std::io::{self, Cursor, Read, Write};

use super::Starttls;
use super::flight::Flight;

/// Its first flight.
pub fn flight(bytes: &[u8]) {
    let whole = Flight::read(bytes);
    // What is there already stays when more comes, but for what makes no sense of it.
    let half = Flight::read(&bytes[..bytes.len() / 2]);
    if half.is_complete() && !half.foreign && half.alert.is_none() {
        assert_eq!(half.chosen, whole.chosen);
    }
}

/// Its part of the talk until TLS may begin; `which`: in which protocol.
pub fn talk(which: usize, bytes: &[u8]) {
    const PROTOCOLS: [Starttls; 8] = [
        Starttls::Smtp,
        Starttls::Imap,
        Starttls::Pop3,
        Starttls::Ftp,
        Starttls::Ldap,
        Starttls::Postgresql,
        Starttls::Mysql,
        Starttls::Xmpp,
    ];
    let _ = Starttls::of_greeting(bytes);
    let mut server = Server { says: Cursor::new(bytes), heard: 0 };
    let _ = PROTOCOLS[which % PROTOCOLS.len()].upgrade(&mut server);
    assert!(server.heard <= 4096, "{} bytes said to a server", server.heard);
}

struct Server<'a> {
    says: Cursor<&'a [u8]>,
    heard: usize,
}

impl Read for Server<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.says.read(buffer)
    }
}

impl Write for Server<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
