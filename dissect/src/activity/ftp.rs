//! FTP (RFC 959): USER and PASS, 530 and 230, and what is stored and fetched.

use super::event::{CredentialKind, Verb};
use super::machine::{Aligned, LOOK, Machine, Sink, Step, begins_with_word, line};
use super::smtp::reply_begins;
use crate::End;

const COMMANDS: [&str; 18] = [
    "USER", "PASS", "RETR", "STOR", "APPE", "DELE", "LIST", "NLST", "CWD", "PASV", "EPSV", "PORT", "TYPE",
    "SIZE", "QUIT", "MKD", "SYST", "PWD",
];

#[derive(Default)]
pub(super) struct Ftp {
    anonymous: bool,
    presented: bool,
}

impl Machine for Ftp {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let Some((text, next)) = line(&rest[..rest.len().min(LOOK)]) else {
            return if rest.len() >= LOOK { Step::Lost } else { Step::More };
        };
        match from {
            End::Client => self.client(text, sink),
            End::Server if text.get(3) == Some(&b'-') => {}
            End::Server => match text.get(..3) {
                Some(b"530") => sink.failed("FTP 530", self.presented),
                Some(b"230") if self.presented && !self.anonymous => sink.succeeded("FTP 230"),
                _ => {}
            },
        }
        Step::Take(next)
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        match from {
            End::Client => begins_with_word(rest, &COMMANDS),
            End::Server => reply_begins(rest),
        }
    }

    fn gap(&mut self, _: End) {}
}

impl Ftp {
    fn client(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        let space = text.iter().position(|b| *b == b' ').unwrap_or(text.len());
        let argument = text.get(space + 1..).unwrap_or(&[]);
        let verb = match text[..space].to_ascii_uppercase().as_slice() {
            b"USER" => {
                self.anonymous =
                    argument.eq_ignore_ascii_case(b"anonymous") || argument.eq_ignore_ascii_case(b"ftp");
                return;
            }
            b"PASS" => {
                self.presented = true;
                // An anonymous one is an address, by custom (RFC 1635).
                if !self.anonymous {
                    sink.credential(CredentialKind::Password, "FTP PASS", argument);
                }
                return;
            }
            b"RETR" | b"LIST" | b"NLST" | b"MLSD" | b"MLST" => Verb::Read,
            b"STOR" | b"STOU" | b"APPE" | b"DELE" | b"MKD" | b"RMD" | b"RNTO" => Verb::Write,
            b"SITE" => {
                // Its argument is a command of the server's own, and may change a password.
                sink.operation(Verb::Admin, "file", None);
                return;
            }
            _ => return,
        };
        sink.operation(verb, "file", Some(argument));
    }
}
