//! Fingerprints of hellos that were seen lately: a program composes its hello in the same way each time,
//! and a handshake is looked at more than once while it comes in.
//!
//! In: a hello. Out: what [`fingerprint::ja3`] and [`fingerprint::ja4`] make of it. Must never: answer
//! for another hello (all that goes into them is compared), or hold more than [`PLACES`] of them, none
//! larger than [`LARGEST`].

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::fingerprint;
use super::hello::{Carrier, ClientHello};

/// A hello has one place, by its hash; another one that falls there takes it.
const PLACES: usize = 256;

/// Values in the lists of a hello that is remembered.
const LARGEST: usize = 256;

/// All that the fingerprints are made of.
#[derive(PartialEq, Eq, Hash)]
struct Composition<'a> {
    carrier: Carrier,
    version: u16,
    offered: u16,
    suites: &'a [u16],
    extensions: &'a [u16],
    groups: &'a [u16],
    signatures: &'a [u16],
    point_formats: &'a [u8],
    first_alpn: &'a [u8],
}

struct Seen {
    hello: ClientHello,
    offered: u16,
    ja3: String,
    ja4: String,
}

thread_local! {
    static SEEN: RefCell<Vec<Option<Box<Seen>>>> = const { RefCell::new(Vec::new()) };
}

/// JA3 and JA4. `offered`: the highest version in the hello.
pub(super) fn fingerprints(hello: &ClientHello, offered: u16) -> (String, String) {
    let composition = composition(hello, offered);
    if composition.len() > LARGEST {
        return (fingerprint::ja3(hello), fingerprint::ja4(hello, offered));
    }
    let mut hasher = DefaultHasher::new();
    composition.hash(&mut hasher);
    SEEN.with_borrow_mut(|seen| {
        seen.resize_with(PLACES, || None);
        let place = &mut seen[hasher.finish() as usize % PLACES];
        if let Some(known) = place
            && self::composition(&known.hello, known.offered) == composition
        {
            return (known.ja3.clone(), known.ja4.clone());
        }
        let (ja3, ja4) = (fingerprint::ja3(hello), fingerprint::ja4(hello, offered));
        *place = Some(Box::new(Seen {
            hello: hello.composition_only(),
            offered,
            ja3: ja3.clone(),
            ja4: ja4.clone(),
        }));
        (ja3, ja4)
    })
}

fn composition(hello: &ClientHello, offered: u16) -> Composition<'_> {
    Composition {
        carrier: hello.carrier,
        version: hello.version,
        offered,
        suites: &hello.suites,
        extensions: &hello.extensions,
        groups: &hello.groups,
        signatures: &hello.signatures,
        point_formats: &hello.point_formats,
        first_alpn: &hello.first_alpn,
    }
}

impl Composition<'_> {
    fn len(&self) -> usize {
        let words = [self.suites, self.extensions, self.groups, self.signatures];
        let bytes = [self.point_formats, self.first_alpn];
        words.map(<[u16]>::len).iter().sum::<usize>() + bytes.map(<[u8]>::len).iter().sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        /// Short lists of few values, so that hellos meet again.
        fn hellos()(
            version in 0x0303..0x0305_u16,
            lists in prop::array::uniform4(prop::collection::vec(0..3_u16, 0..3)),
            formats in prop::collection::vec(0..2_u8, 0..2),
            alpn in prop::collection::vec(b'a'..b'c', 0..3),
        ) -> ClientHello {
            let [suites, extensions, groups, signatures] = lists;
            ClientHello {
                version, suites, extensions, groups, signatures,
                point_formats: formats,
                first_alpn: alpn,
                ..ClientHello::default()
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_would_be_computed(hellos in prop::collection::vec(hellos(), 1..60)) {
            for (at, hello) in hellos.iter().enumerate() {
                let offered = if at % 2 == 0 { 0x0304 } else { 0x0303 };
                let expected = (fingerprint::ja3(hello), fingerprint::ja4(hello, offered));
                prop_assert_eq!(fingerprints(hello, offered), expected);
            }
        }
    }

    #[test]
    fn a_huge_hello_is_not_kept() {
        let hello = ClientHello { suites: vec![0x1301; LARGEST + 1], ..ClientHello::default() };
        let expected = (fingerprint::ja3(&hello), fingerprint::ja4(&hello, 0x0303));
        assert_eq!(fingerprints(&hello, 0x0303), expected);
        assert!(SEEN.with_borrow(|seen| seen.iter().flatten().all(|known| known.hello.suites.is_empty())));
    }
}
