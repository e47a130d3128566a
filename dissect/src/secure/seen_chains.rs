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
    known: Known,
}

/// What was asked of a message so far.
#[derive(Default)]
struct Known {
    /// `None` within: it holds no chain.
    chain: Option<Option<Vec<Certificate>>>,
    holds_others: Option<bool>,
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
    of(message, |known| known.chain.get_or_insert_with(|| read(message)).clone())
}

/// Whether a message holds anything but certificates, as `judge` sees it.
pub(super) fn holds_others(message: &[u8], judge: impl FnOnce(&[u8]) -> bool) -> bool {
    of(message, |known| *known.holds_others.get_or_insert_with(|| judge(message)))
}

fn of<T>(message: &[u8], ask: impl FnOnce(&mut Known) -> T) -> T {
    if message.len() > LARGEST {
        return ask(&mut Known::default());
    }
    SEEN.with_borrow_mut(|seen| {
        let known = seen.iter().position(|known| *known.message == *message).and_then(|at| seen.remove(at));
        let mut it = known.unwrap_or_else(|| Seen { message: message.into(), known: Known::default() });
        let answer = ask(&mut it.known);
        seen.truncate(PLACES - 1);
        seen.push_front(it);
        answer
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
        assert_eq!(chain(&[0xff], |_| panic!("it is remembered")), None);
        assert!(holds_others(b"11", |message| message == b"11"));
        assert!(holds_others(b"11", |_| panic!("it is remembered")));
        assert!(!holds_others(b"1", |message| message == b"11"), "the beginning of others");
        assert_eq!(chain(b"11", |_| panic!("it is remembered, too")), read(b"11"));
        SEEN.with_borrow(|seen| assert_eq!(seen.len(), PLACES));
    }

    #[test]
    fn a_huge_chain_is_not_kept() {
        let message = vec![b'x'; LARGEST + 1];
        assert_eq!(chain(&message, read), read(&message));
        SEEN.with_borrow(|seen| assert!(seen.is_empty()));
    }
}
