//! SSH whose lengths of packets are encrypted: whether the client logged in, by the sizes of segments. `fixtures/ssh/README.md` says what happened in each session.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use dissect::SshAuthenticationState::{self as State, Begun, Failed, Succeeded};
use dissect::{Hint, Inspection, Prefix, Segments, SshAuthentication, inspect_stream};
use proptest::prelude::*;
use std::path::Path;

/// Name, how the log-in ended, and attempts that were turned down, where they can be told.
const SESSIONS: [(&str, State, Option<u32>); 22] = [
    ("chacha20_asyncssh", Succeeded, None),
    ("chacha20_asyncssh_refused", Failed, None),
    // What comes with the banner is not told apart from it.
    ("chacha20_banner", Succeeded, None),
    ("chacha20_banner_refused", Failed, None),
    ("chacha20_dropbear_client", Succeeded, Some(0)),
    // Passwords, which could be answers to questions.
    ("chacha20_dropbear_client_refused", Failed, None),
    ("chacha20_dropbear_server", Failed, Some(1)),
    ("chacha20_go", Succeeded, Some(0)),
    ("chacha20_go_refused", Failed, Some(1)),
    ("chacha20_key", Succeeded, Some(0)),
    ("chacha20_keyboard_interactive", Failed, None),
    ("chacha20_libssh", Failed, None),
    ("chacha20_no_session", Succeeded, None),
    ("chacha20_refused_key", Failed, Some(1)),
    ("chacha20_third_key", Succeeded, Some(2)),
    ("chacha20_too_many_attempts", Failed, None),
    ("chacha20_wrong_passwords", Failed, None),
    // A request is as long as what follows a success.
    ("encrypt_and_mac_key", Succeeded, None),
    ("encrypt_and_mac_libssh2", Failed, None),
    ("encrypt_and_mac_paramiko", Succeeded, None),
    ("encrypt_and_mac_paramiko_refused", Failed, None),
    ("encrypt_and_mac_refused_keys", Failed, Some(2)),
];

/// One direction: its bytes, and where its segments end.
struct Side {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

fn session(name: &str) -> [Side; 2] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ssh");
    let sizes = std::fs::read_to_string(folder.join(format!("{name}.segments"))).unwrap();
    let mut sizes = sizes.lines();
    ["client", "server"].map(|side| {
        let bytes = std::fs::read(folder.join(format!("{name}.{side}"))).unwrap();
        let ends: Vec<u32> = sizes
            .next()
            .unwrap()
            .split(' ')
            .scan(0, |end, size| {
                *end += size.parse::<u32>().unwrap();
                Some(*end)
            })
            .collect();
        assert_eq!(*ends.last().unwrap() as usize, bytes.len(), "{name}.{side}");
        Side { bytes, ends }
    })
}

/// What is told of the first segments of each side.
fn look(sides: &[Side; 2], segments: [usize; 2], ended: bool) -> Inspection {
    let [client, server] = [0, 1].map(|side| {
        let Side { bytes, ends } = &sides[side];
        let ends = &ends[..segments[side].min(ends.len())];
        let bytes = &bytes[..ends.last().copied().unwrap_or(0) as usize];
        Prefix { bytes, ended, midstream: false, segments: Segments::new(ends), ..Prefix::default() }
    });
    inspect_stream(client, server, Hint::default())
}

const ALL: [usize; 2] = [usize::MAX, usize::MAX];

fn log_in(inspection: &Inspection) -> SshAuthentication {
    inspection.facts.ssh.as_ref().map(|ssh| ssh.authentication).unwrap_or_default()
}

#[test]
fn how_the_log_in_ended() {
    for (name, state, failures) in SESSIONS {
        let sides = session(name);
        let ssh = look(&sides, ALL, true).facts.ssh.unwrap();
        let algorithms = (ssh.server_cipher.as_deref(), ssh.server_mac.as_deref());
        let hidden = matches!(
            algorithms,
            (Some("chacha20-poly1305@openssh.com"), None)
                | (Some("aes256-ctr" | "aes128-ctr"), Some("hmac-sha2-256"))
        );
        assert!(hidden, "{name}: {algorithms:?}");
        let found = ssh.authentication;
        assert_eq!((found.state, found.failures), (state, failures), "{name}");
    }
}

#[test]
fn what_goes_on_has_not_failed() {
    for (name, state, _) in SESSIONS {
        let found = log_in(&look(&session(name), ALL, false)).state;
        assert_eq!(found, if state == Failed { Begun } else { state }, "{name}");
    }
}

/// Without the sizes nothing is told.
#[test]
fn bytes_alone_do_not_tell() {
    for (name, ..) in SESSIONS {
        let [client, server] =
            session(name).map(|side| Side { ends: vec![side.bytes.len() as u32], bytes: side.bytes });
        let found = log_in(&look(&[client, server], ALL, true)).state;
        assert!(matches!(found, Begun | State::Unknown), "{name}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// In whatever order the segments of both sides come: what was settled stays, and is what all of
    /// them say.
    #[test]
    fn settled_answers_stay(order in proptest::collection::vec(any::<bool>(), 60)) {
        for (name, ..) in SESSIONS {
            let sides = session(name);
            let last = look(&sides, ALL, true);
            let (mut seen, mut settled) = ([0, 0], None::<Inspection>);
            for from_client in order.iter().copied().chain([true; 20]).chain([false; 20]) {
                seen[usize::from(!from_client)] += 1;
                let now = look(&sides, seen, false);
                if let Some(before) = &settled {
                    prop_assert_eq!(before, &now, "{}", name);
                } else if now.settled {
                    settled = Some(now);
                }
            }
            if let Some(settled) = settled {
                prop_assert_eq!(&settled.facts, &last.facts, "{}", name);
            }
        }
    }

    /// Segments that the network puts together hide what happened, at most.
    #[test]
    fn segments_put_together_never_turn_the_answer_round(
        kept in proptest::collection::vec(proptest::bool::weighted(0.8), 40),
    ) {
        for (name, state, _) in SESSIONS {
            let sides = session(name).map(|mut side| {
                let end = *side.ends.last().unwrap();
                let mut kept = kept.iter();
                side.ends.retain(|at| *kept.next().unwrap() || *at == end);
                side
            });
            let found = log_in(&look(&sides, ALL, true)).state;
            prop_assert!(
                found == state || !matches!(found, Succeeded | Failed),
                "{}: {:?} with {:?} and {:?}", name, found, sides[0].ends, sides[1].ends
            );
        }
    }

    /// Ended anywhere: never a success of a session that had none, and no failure of one that goes on
    /// behind its success.
    #[test]
    fn a_part_of_a_session_claims_nothing_else(client in 0usize..20, server in 0usize..20) {
        for (name, state, _) in SESSIONS {
            let sides = session(name);
            let found = log_in(&look(&sides, [client, server], true)).state;
            prop_assert!(found != Succeeded || state == Succeeded, "{}", name);
            let success = sides[1].ends.windows(2).position(|ends| [28, 48].contains(&(ends[1] - ends[0])));
            prop_assert!(found != Failed || success.is_none_or(|at| server < at + 2), "{}", name);
        }
    }
}
