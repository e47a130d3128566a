//! Chains of certificates that were read lately: a server shows the same one in each handshake.
//!
//! In: a Certificate message. Out: what reading it gives. Must never: answer for another message (all of it is
//! compared), or hold more than [`PLACES`] of them, none longer than [`LARGEST`].

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::Certificate;

const PLACES: usize = 16;

/// Bytes of a message that is remembered.
const LARGEST: usize = 8192;

struct Seen {
    message: Box<[u8]>,
    chain: Vec<Certificate>,
}

thread_local! {
    /// The latest use in front.
    static SEEN: RefCell<VecDeque<Seen>> = const { RefCell::new(VecDeque::new()) };
}

/// What `read` makes of a message; none where it makes nothing of it.
pub(super) fn chain(
    message: &[u8],
    read: impl FnOnce(&[u8]) -> Option<Vec<Certificate>>,
) -> Option<Vec<Certificate>> {
    if message.len() > LARGEST {
        return read(message);
    }
    SEEN.with_borrow_mut(|seen| {
        let known = match seen.iter().position(|known| *known.message == *message) {
            Some(at) => seen.remove(at)?,
            None => Seen { message: message.into(), chain: read(message)? },
        };
        let chain = known.chain.clone();
        seen.truncate(PLACES - 1);
        seen.push_front(known);
        Some(chain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Option<Vec<Certificate>> {
        let serial = String::from_utf8(message.to_vec()).ok()?;
        Some(vec![Certificate { serial, ..Certificate::default() }])
    }

    #[test]
    fn what_is_remembered_is_what_would_be_read() {
        // Round after round, forwards and backwards, more than there are places.
        for number in (0..40).chain((0..40).rev()).chain([7; 3]).chain(0..12).chain(0..12) {
            let message = format!("{number}").into_bytes();
            assert_eq!(chain(&message, read), read(&message));
        }
        assert_eq!(chain(b"11", |_| panic!("it is remembered")), read(b"11"));
        assert_eq!(chain(b"1", read), read(b"1"), "the beginning of others");
        assert_eq!(chain(&[0xff], read), None);
        SEEN.with_borrow(|seen| assert_eq!(seen.len(), PLACES));
    }

    #[test]
    fn a_huge_chain_is_not_kept() {
        let message = vec![b'x'; LARGEST + 1];
        assert_eq!(chain(&message, read), read(&message));
        SEEN.with_borrow(|seen| assert!(seen.is_empty()));
    }
}
