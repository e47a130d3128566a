//! Which messages of a handshake may be in the clear, and in which order (RFC 8446 section 4, RFC 5246 section
//! 7.3).
//!
//! In: the messages of one direction, once the version is known. Out: where the first one is that has no place
//! there. Must never: let a message pass that no stack reads, since whatever passes passes unread.

pub(super) const HELLO_REQUEST: u8 = 0;
pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
pub(super) const NEW_SESSION_TICKET: u8 = 4;
const SERVER_HELLO_DONE: u8 = 14;

/// SupplementalData, Certificate, CertificateStatus, ServerKeyExchange, CertificateRequest, ServerHelloDone,
/// NewSessionTicket.
const SERVER: &[u8] = &[23, 11, 22, 12, 13, SERVER_HELLO_DONE, NEW_SESSION_TICKET];
/// SupplementalData, Certificate, CertificateUrl, ClientKeyExchange, CertificateVerify.
const CLIENT: &[u8] = &[23, 11, 21, 16, 15];

/// The order of one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    hello: u8,
    /// A client that was asked for another hello sends two; so does the server that asks.
    hellos: usize,
    /// Each of them once, behind the hello.
    others: &'static [u8],
}

impl Order {
    /// `hidden`: what follows the hellos is encrypted.
    pub fn of_client(hidden: bool, retried: bool) -> Order {
        let others = if hidden { &[] } else { CLIENT };
        Order { hello: CLIENT_HELLO, hellos: 1 + usize::from(retried), others }
    }

    /// Datagrams get lost, and with them what a server said of a hello: a client may send any number.
    pub fn of_datagrams_of_client(hidden: bool) -> Order {
        Order { hellos: usize::MAX, ..Order::of_client(hidden, false) }
    }

    pub fn of_server(hidden: bool, retried: bool) -> Order {
        let others = if hidden { &[] } else { SERVER };
        Order { hello: SERVER_HELLO, hellos: 1 + usize::from(retried), others }
    }

    /// Where the first message begins that has no place. Of each: its kind, its body as far as it is there, and
    /// whether that is all.
    pub fn first_wrong<'a>(self, messages: impl Iterator<Item = (u8, &'a [u8], bool)>) -> Option<usize> {
        let (mut at, mut hellos, mut others) = (0, 0, self.others);
        for (kind, body, whole) in messages {
            let empty = whole && body.is_empty();
            let right = match others.iter().position(|other| *other == kind) {
                Some(place) => {
                    others = &others[place + 1..];
                    kind != SERVER_HELLO_DONE || empty
                }
                None if kind == self.hello => {
                    hellos += 1;
                    hellos <= self.hellos && others.len() == self.others.len()
                }
                None => kind == HELLO_REQUEST && self.hello == SERVER_HELLO && empty,
            };
            if !right {
                return Some(at);
            }
            at += 4 + body.len();
        }
        None
    }
}
