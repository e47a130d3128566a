//! Dialogues put together at random out of what both sides may say in them: what was settled stays, wherever the
//! pieces are cut and in whatever order the sides come.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

mod words;

use std::path::Path;

use dissect::{Hint, Inspection, Prefix, Protection, inspect_stream};
use proptest::collection::vec;
use proptest::prelude::*;
use words::{OTHERS, OUTSIDE, WORDS, Words};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

/// `tls`: a side's part of a handshake, as a word, bare or in packets of TDS.
fn said(words: &'static [&'static [u8]], tls: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        12 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        2 => prop::sample::select(OTHERS).prop_map(<[u8]>::to_vec),
        1 => (prop::sample::select(words), any::<prop::sample::Index>())
            .prop_map(|(word, at)| word[..at.index(word.len() + 1)].to_vec()),
        1 => prop::sample::select(tls),
    ];
    // Most begin as they should.
    (any::<bool>(), vec(word, 0..8))
        .prop_map(move |(begins, said)| [if begins { words[0] } else { &[] }, &said.concat()].concat())
}

/// A side's part of a handshake, and the same in a packet of TDS.
fn tls(name: &str, kind: u8) -> Vec<Vec<u8>> {
    let bare = fixture(name);
    let length = (bare.len() as u16 + 8).to_be_bytes();
    let wrapped = [&[kind, 1][..], &length, &[0; 4], &bare].concat();
    vec![bare, wrapped]
}

/// Headers and tunnels, most of both sides, a few of one alone.
fn outside() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let one = (prop::sample::select(OUTSIDE), 0..8).prop_map(|((client, server), which)| match which {
        0 => (client, &b""[..]),
        1 => (&b""[..], server),
        _ => (client, server),
    });
    prop_oneof![6 => Just(Vec::new()), 4 => vec(one, 1..5)].prop_map(|all| {
        let (client, server): (Vec<&[u8]>, Vec<&[u8]>) = all.into_iter().unzip();
        (client.concat(), server.concat())
    })
}

fn dialogue() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let inside = (0..WORDS.len()).prop_flat_map(|index| {
        let Words { client, server, .. } = &WORDS[index];
        (said(client, tls("tls13.client", 0x12)), said(server, tls("tls13.server", 0x04)))
    });
    (outside(), inside)
        .prop_map(|(outside, inside)| ([outside.0, inside.0].concat(), [outside.1, inside.1].concat()))
}

fn look(client: &[u8], server: &[u8], ended: bool) -> Inspection {
    let [client, server] = [client, server].map(|bytes| Prefix { bytes, ended, ..Prefix::default() });
    inspect_stream(client, server, Hint::default())
}

fn is_yes(inspection: &Inspection) -> bool {
    matches!(inspection.facts.protection, Protection::Encrypted(_))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, ..ProptestConfig::default() })]

    #[test]
    fn settled_answers_stay_whatever_is_said(
        (client, server) in dialogue(),
        cuts in vec((any::<bool>(), 1usize..60), 0..30),
    ) {
        let (mut c, mut s) = (0, 0);
        let mut settled: Option<Inspection> = None;
        for (from_client, n) in cuts.into_iter().chain([(true, 1 << 16), (false, 1 << 16)]) {
            if from_client { c = client.len().min(c + n) } else { s = server.len().min(s + n) }
            let now = look(&client[..c], &server[..s], false);
            match &settled {
                Some(before) if is_yes(before) && !is_yes(&now) => return Ok(()),
                Some(before) => prop_assert_eq!(&before.facts, &now.facts),
                None if now.settled => settled = Some(now),
                None => {}
            }
        }
        if let Some(settled) = settled {
            let whole = look(&client, &server, true);
            prop_assert!(settled.facts == whole.facts || is_yes(&settled) && !is_yes(&whole), "{whole:?}");
        }
    }
}
