//! From plaintext to TLS within a protocol, as a client of it asks for that.
//!
//! Must never: log in, or send anything that changes something at the server.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::probe::is_silence;

/// A protocol with an upgrade to TLS. Where each is specified is no help to who chooses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Starttls {
    // RFC 3207.
    Smtp,
    // RFC 9051 section 6.2.1.
    Imap,
    // RFC 2595 section 4.
    Pop3,
    // RFC 4217.
    Ftp,
    // RFC 4511 section 4.14.
    Ldap,
    // <https://www.postgresql.org/docs/current/protocol-flow.html>, "SSL Session Encryption".
    Postgresql,
    // <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>.
    Mysql,
    // RFC 6120 section 5.
    Xmpp,
}

impl fmt::Display for Starttls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Starttls::Smtp => "smtp",
            Starttls::Imap => "imap",
            Starttls::Pop3 => "pop3",
            Starttls::Ftp => "ftp",
            Starttls::Ldap => "ldap",
            Starttls::Postgresql => "postgresql",
            Starttls::Mysql => "mysql",
            Starttls::Xmpp => "xmpp",
        })
    }
}

/// Bytes of a dialogue that are read.
const LONGEST: usize = 16 << 10;

/// What stands in the way of the upgrade.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The server does not offer TLS.
    #[error("the server does not offer STARTTLS")]
    NotOffered,
    /// It speaks something else.
    #[error("the server does not speak {0}")]
    Stranger(Starttls),
    /// Whether it speaks TLS is not known; why.
    #[error("{0}")]
    Unclear(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Refused {
    /// It took the connection, and did not answer in time.
    pub fn is_silence(&self) -> bool {
        match self {
            Refused::Unclear(_) => true,
            Refused::Io(error) => is_silence(error),
            Refused::NotOffered | Refused::Stranger(_) => false,
        }
    }
}

impl Starttls {
    /// By the port that the protocol is registered for.
    pub fn of_port(port: u16) -> Option<Starttls> {
        Some(match port {
            25 | 587 | 2525 => Starttls::Smtp,
            143 => Starttls::Imap,
            110 => Starttls::Pop3,
            21 => Starttls::Ftp,
            389 => Starttls::Ldap,
            5432 => Starttls::Postgresql,
            3306 => Starttls::Mysql,
            5222 | 5269 => Starttls::Xmpp,
            _ => return None,
        })
    }

    /// By the name of the process that serves, for protocols in which the client speaks first.
    pub fn of_process(name: &str) -> Option<Starttls> {
        Some(match name {
            "postgres" | "pgbouncer" => Starttls::Postgresql,
            "slapd" | "ns-slapd" => Starttls::Ldap,
            "prosody" | "ejabberd" => Starttls::Xmpp,
            "mysqld" | "mariadbd" => Starttls::Mysql,
            _ => return None,
        })
    }

    /// By what a server says first.
    pub fn of_greeting(greeting: &[u8]) -> Option<Starttls> {
        let text = String::from_utf8_lossy(greeting).to_ascii_uppercase();
        match () {
            () if text.starts_with("220") && text.contains("FTP") => Some(Starttls::Ftp),
            () if text.starts_with("220") && (text.contains("SMTP") || text.contains("MAIL")) => {
                Some(Starttls::Smtp)
            }
            () if text.starts_with("* OK") => Some(Starttls::Imap),
            () if text.starts_with("+OK") => Some(Starttls::Pop3),
            () if is_mysql(greeting) => Some(Starttls::Mysql),
            () => None,
        }
    }

    /// Talks until TLS may begin.
    pub fn upgrade(self, stream: &mut (impl Read + Write)) -> Result<(), Refused> {
        match self {
            Starttls::Smtp => {
                self.wants(line_reply(stream)?.starts_with("220"))?;
                stream.write_all(b"EHLO streamwatch.invalid\r\n")?;
                let offers = line_reply(stream)?;
                self.wants(offers.starts_with("250"))?;
                self.offers(offers.to_ascii_uppercase().contains("STARTTLS"))?;
                stream.write_all(b"STARTTLS\r\n")?;
                self.offers(line_reply(stream)?.starts_with("220"))
            }
            Starttls::Ftp => {
                self.wants(line_reply(stream)?.starts_with("220"))?;
                stream.write_all(b"AUTH TLS\r\n")?;
                self.offers(line_reply(stream)?.starts_with("234"))
            }
            Starttls::Imap => {
                self.wants(line(stream)?.starts_with("* OK"))?;
                stream.write_all(b"a STARTTLS\r\n")?;
                loop {
                    let answer = line(stream)?;
                    if !answer.starts_with('*') {
                        return self.offers(answer.to_ascii_uppercase().starts_with("A OK"));
                    }
                }
            }
            Starttls::Pop3 => {
                self.wants(line(stream)?.starts_with("+OK"))?;
                stream.write_all(b"STLS\r\n")?;
                self.offers(line(stream)?.starts_with("+OK"))
            }
            Starttls::Ldap => {
                // LDAPMessage 1, ExtendedRequest, requestName 1.3.6.1.4.1.1466.20037.
                let mut request = vec![0x30, 0x1d, 0x02, 0x01, 0x01, 0x77, 0x18, 0x80, 0x16];
                request.extend_from_slice(b"1.3.6.1.4.1.1466.20037");
                stream.write_all(&request)?;
                let answer = ber(stream)?;
                self.offers(ldap_success(&answer))
            }
            Starttls::Postgresql => {
                // SSLRequest: its length, and 1234 and 5679.
                stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])?;
                let mut answer = [0];
                stream.read_exact(&mut answer)?;
                self.wants(matches!(answer[0], b'S' | b'N'))?;
                self.offers(answer[0] == b'S')
            }
            Starttls::Mysql => mysql(stream),
            Starttls::Xmpp => {
                stream.write_all(
                    b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xml:lang='en' \
                      xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
                )?;
                let features = until(stream, &["</stream:features>", "</stream:stream>", "/>\n"])?;
                self.wants(features.contains("stream"))?;
                self.offers(features.contains("urn:ietf:params:xml:ns:xmpp-tls"))?;
                stream.write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
                let answer = until(stream, &[">"])?;
                self.offers(answer.contains("<proceed"))
            }
        }
    }

    fn wants(self, is: bool) -> Result<(), Refused> {
        if is { Ok(()) } else { Err(Refused::Stranger(self)) }
    }

    fn offers(self, does: bool) -> Result<(), Refused> {
        if does { Ok(()) } else { Err(Refused::NotOffered) }
    }
}

/// A greeting of protocol version 10: three bytes of length, a number, 10, a version.
fn is_mysql(greeting: &[u8]) -> bool {
    greeting.len() > 5 && greeting[3] == 0 && greeting[4] == 10 && greeting[5].is_ascii_digit()
}

fn mysql(stream: &mut (impl Read + Write)) -> Result<(), Refused> {
    /// `CLIENT_PROTOCOL_41 | CLIENT_SSL | CLIENT_SECURE_CONNECTION`.
    const CAPABILITIES: u32 = 0x0200 | 0x0800 | 0x8000;
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if length > LONGEST {
        return Err(Refused::Stranger(Starttls::Mysql));
    }
    let mut greeting = vec![0; length];
    stream.read_exact(&mut greeting)?;
    if greeting.first() != Some(&10) {
        return Err(Refused::Stranger(Starttls::Mysql));
    }
    // Version up to a NUL, thread id (4), salt (8), a filler, then the lower half of the capabilities.
    let after = greeting.iter().position(|byte| *byte == 0).map_or(greeting.len(), |nul| nul + 1 + 13);
    let low = greeting.get(after..after + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]));
    if u32::from(low) & 0x0800 == 0 {
        return Err(Refused::NotOffered);
    }
    let mut request = vec![32, 0, 0, head[3].wrapping_add(1)];
    request.extend_from_slice(&CAPABILITIES.to_le_bytes());
    request.extend_from_slice(&(16_u32 << 20).to_le_bytes());
    // utf8mb3, and 23 bytes that are kept for later.
    request.push(33);
    request.extend_from_slice(&[0; 23]);
    stream.write_all(&request)?;
    Ok(())
}

/// One line, without its end.
fn line(stream: &mut impl Read) -> io::Result<String> {
    let text = until(stream, &["\n"])?;
    Ok(text.trim_end().to_owned())
}

/// A reply of numbered lines, up to the last (`250 ` after `250-`).
fn line_reply(stream: &mut impl Read) -> io::Result<String> {
    let mut all = String::new();
    loop {
        let line = line(stream)?;
        let bytes = line.as_bytes();
        let more = bytes.get(3) == Some(&b'-') && bytes[..3].iter().all(u8::is_ascii_digit);
        all.push_str(&line);
        all.push('\n');
        if !more {
            return Ok(all);
        }
        if all.len() > LONGEST {
            return Err(too_long());
        }
    }
}

/// Byte by byte: nothing of what follows may be taken away.
fn until(stream: &mut impl Read, ends: &[&str]) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut one = [0];
    while bytes.len() < LONGEST {
        stream.read_exact(&mut one)?;
        bytes.push(one[0]);
        if ends.iter().any(|end| bytes.ends_with(end.as_bytes())) {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Err(too_long())
}

/// One BER element with a length of up to two bytes.
fn ber(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let length = match head[1] {
        short @ 0..=0x7f => usize::from(short),
        0x81 => {
            let mut more = [0; 1];
            stream.read_exact(&mut more)?;
            usize::from(more[0])
        }
        0x82 => {
            let mut more = [0; 2];
            stream.read_exact(&mut more)?;
            usize::from(u16::from_be_bytes(more))
        }
        0x84 => {
            let mut more = [0; 4];
            stream.read_exact(&mut more)?;
            usize::try_from(u32::from_be_bytes(more)).unwrap_or(usize::MAX)
        }
        _ => return Err(too_long()),
    };
    if length > LONGEST {
        return Err(too_long());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// messageID, then an ExtendedResponse (application 24) whose resultCode is success.
fn ldap_success(body: &[u8]) -> bool {
    let Some(at) = body.iter().position(|byte| *byte == 0x78) else { return false };
    let skip = match body.get(at + 1) {
        Some(0x81) => 3,
        Some(0x82) => 4,
        Some(0x84) => 6,
        _ => 2,
    };
    body.get(at + skip..at + skip + 3) == Some(&[0x0a, 0x01, 0x00])
}

fn too_long() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the server's answer makes no sense")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// A server that says all of this, whatever it is told.
    struct Server {
        says: Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Server {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.says.read(buffer)
        }
    }

    impl Write for Server {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn talk(protocol: Starttls, says: &[u8]) -> (Result<(), Refused>, Vec<u8>, u64) {
        let mut server = Server { says: Cursor::new(says.to_vec()), heard: Vec::new() };
        let result = protocol.upgrade(&mut server);
        let position = server.says.position();
        (result, server.heard, position)
    }

    #[test]
    fn nothing_of_the_handshake_is_swallowed() {
        let ldap = [&[0x30, 0x0c, 0x02, 1, 1, 0x78, 7, 0x0a, 1, 0, 4, 0, 4, 0][..], b"TLS"].concat();
        for (protocol, says) in [
            (Starttls::Smtp, b"220 a ESMTP\r\n250-a\r\n250-STARTTLS\r\n250 HELP\r\n220 go\r\nTLS".to_vec()),
            (Starttls::Imap, b"* OK x\r\n* CAPABILITY x\r\na OK go\r\nTLS".to_vec()),
            (Starttls::Pop3, b"+OK x\r\n+OK go\r\nTLS".to_vec()),
            (Starttls::Ftp, b"220-hello\r\n220 FTP\r\n234 go\r\nTLS".to_vec()),
            (Starttls::Postgresql, b"STLS".to_vec()),
            (Starttls::Ldap, ldap),
            (
                Starttls::Xmpp,
                b"<stream:stream><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
                  </stream:features><proceed/>TLS"
                    .to_vec(),
            ),
        ] {
            let (result, _, position) = talk(protocol, &says);
            assert!(result.is_ok(), "{protocol}: {result:?}");
            assert_eq!(position, says.len() as u64 - 3, "{protocol}");
        }
    }

    #[test]
    fn mysql_says_whether_it_can() {
        let greeting = |capabilities: u16| {
            let mut body = b"\x0a8.0.1\0".to_vec();
            body.extend_from_slice(&[0; 13]);
            body.extend_from_slice(&capabilities.to_le_bytes());
            let mut packet = vec![body.len() as u8, 0, 0, 0];
            packet.extend_from_slice(&body);
            packet
        };
        let (result, heard, _) = talk(Starttls::Mysql, &greeting(0xffff));
        assert!(result.is_ok());
        assert_eq!(heard.len(), 36);
        assert!(matches!(talk(Starttls::Mysql, &greeting(0)).0, Err(Refused::NotOffered)));
        assert_eq!(Starttls::of_greeting(&greeting(0)), Some(Starttls::Mysql));
    }

    #[test]
    fn a_server_without_tls_is_told_from_another_one() {
        assert!(matches!(talk(Starttls::Postgresql, b"N").0, Err(Refused::NotOffered)));
        assert!(matches!(talk(Starttls::Postgresql, b"HTTP").0, Err(Refused::Stranger(_))));
        assert!(matches!(talk(Starttls::Smtp, b"220 a\r\n250 a\r\n").0, Err(Refused::NotOffered)));
        assert!(matches!(talk(Starttls::Smtp, b"SSH-2.0-a\r\n").0, Err(Refused::Stranger(_))));
    }

    #[test]
    fn greetings_name_their_protocol() {
        for (greeting, protocol) in [
            ("220 mail.example ESMTP Postfix", Some(Starttls::Smtp)),
            ("220 (vsFTPd 3.0.3)", Some(Starttls::Ftp)),
            ("* OK [CAPABILITY IMAP4rev1] ready", Some(Starttls::Imap)),
            ("+OK ready", Some(Starttls::Pop3)),
            ("SSH-2.0-OpenSSH", None),
            ("", None),
        ] {
            assert_eq!(Starttls::of_greeting(greeting.as_bytes()), protocol, "{greeting}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_ends_the_talk(says in proptest::collection::vec(any::<u8>(), 0..200)) {
            for protocol in Starttls::value_variants() {
                let _ = talk(*protocol, &says);
                let _ = Starttls::of_greeting(&says);
            }
        }
    }
}
