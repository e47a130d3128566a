//! Promises that hold for any bytes, however they come.

use super::{STREAMS, ask, fixture, yes};
use crate::plain::{DATAGRAM, STREAM};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix};
use proptest::prelude::*;

/// The answers of each probe along one way from nothing to everything.
fn check_way(
    client: &[u8],
    server: &[u8],
    steps: &[(bool, usize)],
    midstream: bool,
) -> Result<(), TestCaseError> {
    let mut at = (0_usize, 0_usize);
    let mut before: Vec<Probe> = vec![Probe::Maybe; STREAM.len()];
    let ends = [(true, usize::MAX), (false, usize::MAX)];
    for (from_client, step) in steps.iter().chain(&ends) {
        let (position, whole) = if *from_client { (&mut at.0, client) } else { (&mut at.1, server) };
        *position = position.saturating_add(*step).min(whole.len());
        let part = |bytes, ended| Prefix { bytes, ended, midstream, ..Prefix::default() };
        let now = ask(part(&client[..at.0], false), part(&server[..at.1], false));
        check_step(&before, &now)?;
        before = now;
    }
    for (client_ended, server_ended) in [(true, false), (true, true)] {
        let now = ask(
            Prefix { bytes: client, ended: client_ended, midstream, ..Prefix::default() },
            Prefix { bytes: server, ended: server_ended, midstream, ..Prefix::default() },
        );
        check_step(&before, &now)?;
        before = now;
    }
    Ok(())
}

fn check_step(before: &[Probe], now: &[Probe]) -> Result<(), TestCaseError> {
    for (index, (before, now)) in before.iter().zip(now).enumerate() {
        match (before, now) {
            (Probe::Maybe, _) | (Probe::No, Probe::No) => {}
            (Probe::Yes(before), Probe::Yes(now)) if !before.settled => {
                prop_assert_eq!(before.protocol, now.protocol, "probe {}", index);
            }
            (Probe::Yes(before), Probe::Yes(now)) => prop_assert_eq!(before, now, "probe {}", index),
            _ => prop_assert!(false, "probe {index} went from {before:?} to {now:?}"),
        }
    }
    Ok(())
}

fn any_fixture() -> impl Strategy<Value = &'static str> {
    (0..STREAMS.len()).prop_map(|index| STREAMS[index].name)
}

fn steps() -> impl Strategy<Value = Vec<(bool, usize)>> {
    proptest::collection::vec((any::<bool>(), prop_oneof![1usize..8, 1usize..200]), 0..60)
}

/// Real bytes with a few of them changed: close to every condition.
fn damaged(name: &str, side: &str, damage: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = fixture(name, side);
    for (at, value) in damage {
        let length = bytes.len();
        if let Some(byte) = bytes.get_mut(at % length.clamp(1, 80)) {
            *byte = *value;
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_answer_stands_however_the_bytes_come(
        client in any_fixture(), server in any_fixture(), same in any::<bool>(), steps in steps(), midstream in any::<bool>(),
    ) {
        let server = if same { client } else { server };
        check_way(&fixture(client, "client"), &fixture(server, "server"), &steps, midstream)?;
    }

    #[test]
    fn an_answer_stands_for_damaged_bytes_too(
        name in any_fixture(),
        damage in proptest::collection::vec((0usize..80, any::<u8>()), 0..4),
        damage_of_server in proptest::collection::vec((0usize..80, any::<u8>()), 0..4),
        steps in steps(), midstream in any::<bool>(),
    ) {
        let (client, server) = (damaged(name, "client", &damage), damaged(name, "server", &damage_of_server));
        check_way(&client, &server, &steps, midstream)?;
    }

    #[test]
    fn an_answer_stands_for_any_bytes(
        client in proptest::collection::vec(any::<u8>(), 0..300),
        server in proptest::collection::vec(any::<u8>(), 0..300),
        steps in steps(), midstream in any::<bool>(),
    ) {
        check_way(&client, &server, &steps, midstream)?;
    }

    #[test]
    fn any_datagrams_do_no_harm(
        client in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..3),
        server in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..3),
    ) {
        let client: Vec<&[u8]> = client.iter().map(Vec::as_slice).collect();
        let server: Vec<&[u8]> = server.iter().map(Vec::as_slice).collect();
        for probe in DATAGRAM {
            probe(&client, &server, Hint::default());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn random_bytes_are_no_protocol(
        client in proptest::collection::vec(any::<u8>(), 0..120),
        server in proptest::collection::vec(any::<u8>(), 0..120),
        midstream in any::<bool>(),
    ) {
        let part = |bytes| Prefix { bytes, ended: true, midstream, ..Prefix::default() };
        let answers = ask(part(&client), part(&server));
        prop_assert_eq!(yes(&answers), Vec::<&Found>::new());
        for probe in DATAGRAM {
            prop_assert!(!matches!(probe(&[&client], &[&server], Hint::default()), Probe::Yes(_)));
        }
    }

    #[test]
    fn random_text_is_no_protocol(client in "[ -~\r\n]{0,120}", server in "[ -~\r\n]{0,120}", midstream in any::<bool>()) {
        let part = |text| Prefix { bytes: str::as_bytes(text), ended: true, midstream, ..Prefix::default() };
        let answers = ask(part(&client), part(&server));
        prop_assert_eq!(yes(&answers), Vec::<&Found>::new());
        for probe in DATAGRAM {
            let answer = probe(&[client.as_bytes()], &[server.as_bytes()], Hint::default());
            prop_assert!(!matches!(answer, Probe::Yes(_)));
        }
    }
}
