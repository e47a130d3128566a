//! Fingerprints of hellos that were seen lately: a program composes its hello in the same way each time,
//! and a handshake is looked at more than once while it comes in.
//!
//! In: a hello of either end. Out: what [`fingerprint`] makes of it. Must never: answer for another hello (all that goes
//! into a fingerprint is compared), or hold more than [`PLACES`] of them, none larger than [`LARGEST`].

use std::cell::RefCell;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use super::fingerprint;
use super::hello::{Carrier, ClientHello, ServerHello};

/// A hello has one place, by its hash; another one that falls there takes it.
const PLACES: usize = 256;

/// Values in a hello that is remembered.
const LARGEST: usize = 256;

type Fingerprints = (String, String);

#[derive(Default)]
struct Memory {
    /// All that the fingerprints of one are made of, and they.
    places: Vec<Option<(Box<[u16]>, Fingerprints)>>,
    /// What is asked for, as long as it is.
    asked: Composition,
}

/// All that goes into the fingerprints of a hello, in numbers; no two hellos that differ in that have the same.
#[derive(Default)]
struct Composition(Vec<u16>);

thread_local! {
    static SEEN: RefCell<Memory> = RefCell::default();
}

/// JA3 and JA4. `offered`: the highest version in the hello.
pub(super) fn of_client(hello: &ClientHello, offered: u16) -> Fingerprints {
    let compose = |composition: &mut Composition| {
        composition.begin(b'c', hello.carrier, [hello.version, offered]);
        for list in [&hello.suites, &hello.extensions, &hello.groups, &hello.signatures] {
            composition.list(list.iter().copied());
        }
        for bytes in [&hello.point_formats, &hello.first_alpn] {
            composition.list(bytes.iter().map(|byte| u16::from(*byte)));
        }
    };
    fingerprints(compose, || (fingerprint::ja3(hello), fingerprint::ja4(hello, offered)))
}

/// JA3S and JA4S.
pub(super) fn of_server(hello: &ServerHello) -> Fingerprints {
    let compose = |composition: &mut Composition| {
        let version = [hello.legacy_version, hello.version, hello.suite];
        composition.begin(b's', hello.carrier, version);
        composition.list(hello.extensions.iter().copied());
        composition.list(hello.first_alpn.iter().map(|byte| u16::from(*byte)));
    };
    fingerprints(compose, || (fingerprint::ja3s(hello), fingerprint::ja4s(hello)))
}

fn fingerprints(compose: impl FnOnce(&mut Composition), make: impl FnOnce() -> Fingerprints) -> Fingerprints {
    SEEN.with_borrow_mut(|memory| {
        let Memory { places, asked } = memory;
        asked.0.clear();
        compose(asked);
        if asked.0.len() > LARGEST {
            asked.0 = Vec::new();
            return make();
        }
        places.resize_with(PLACES, || None);
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&asked.0);
        let place = &mut places[hash as usize % PLACES];
        match place {
            Some((composition, known)) if **composition == *asked.0 => known.clone(),
            _ => {
                let made = make();
                *place = Some((asked.0.as_slice().into(), made.clone()));
                made
            }
        }
    })
}

impl Composition {
    fn begin(&mut self, end: u8, carrier: Carrier, versions: impl IntoIterator<Item = u16>) {
        self.0.extend([u16::from(end), carrier as u16]);
        self.0.extend(versions);
    }

    /// Led by its length, as far as that can be told apart from that of any list that is remembered.
    fn list(&mut self, values: impl ExactSizeIterator<Item = u16>) {
        self.0.push(u16::try_from(values.len()).unwrap_or(u16::MAX));
        self.0.extend(values);
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

    prop_compose! {
        fn answers()(
            version in 0x0303..0x0305_u16,
            suite in 0..2_u16,
            extensions in prop::collection::vec(0..3_u16, 0..3),
            first_alpn in prop::collection::vec(b'a'..b'c', 0..3),
        ) -> ServerHello {
            ServerHello { legacy_version: 0x0303, version, suite, extensions, first_alpn, ..ServerHello::default() }
        }
    }

    proptest! {
        #[test]
        fn what_is_remembered_of_servers_is_what_would_be_computed(hellos in prop::collection::vec(answers(), 1..60)) {
            for hello in &hellos {
                prop_assert_eq!(of_server(hello), (fingerprint::ja3s(hello), fingerprint::ja4s(hello)));
            }
        }

        #[test]
        fn what_is_remembered_is_what_would_be_computed(hellos in prop::collection::vec(hellos(), 1..60)) {
            for (at, hello) in hellos.iter().enumerate() {
                let offered = if at % 2 == 0 { 0x0304 } else { 0x0303 };
                let expected = (fingerprint::ja3(hello), fingerprint::ja4(hello, offered));
                prop_assert_eq!(of_client(hello, offered), expected);
            }
        }
    }

    #[test]
    fn a_huge_hello_is_not_kept() {
        let hello = ClientHello { suites: vec![0x1301; LARGEST + 1], ..ClientHello::default() };
        let expected = (fingerprint::ja3(&hello), fingerprint::ja4(&hello, 0x0303));
        assert_eq!(of_client(&hello, 0x0303), expected);
        assert!(SEEN.with_borrow(|memory| memory.places.is_empty() && memory.asked.0.capacity() == 0));
    }
}
