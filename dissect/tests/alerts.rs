//! Alerts of TLS in the clear: what a stack may send is still TLS, that failed or was done; what hides behind
//! one is seen.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

mod exchange;

use dissect::{End, Facts, Protection, Protocol, TlsAlert, UnknownReason};
use exchange::{ALERT, APPLICATION_DATA, Exchange, VERSIONS, Version, is_no, is_yes, look, record, sealed};

const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// Pairs that stacks end a handshake with (RFC 8446 section 6.1, RFC 5246 section 7.2).
const PAIRS: [[u8; 4]; 4] = [
    [WARNING, USER_CANCELED, WARNING, CLOSE_NOTIFY],
    [FATAL, 48, WARNING, CLOSE_NOTIFY],
    [FATAL, 40, FATAL, 40],
    [WARNING, CLOSE_NOTIFY, WARNING, CLOSE_NOTIFY],
];

/// Two alerts, in two records, and in one.
fn told_apart_and_together(pair: [u8; 4]) -> [Vec<u8>; 2] {
    [[record(ALERT, &pair[..2]), record(ALERT, &pair[2..])].concat(), record(ALERT, &pair)]
}

fn failed(facts: &Facts, from: End) -> bool {
    let alert = facts.tls.as_ref().and_then(|tls| tls.alert.as_ref());
    let named = matches!(alert, Some(TlsAlert { from: by, description: Some(_) }) if *by == from);
    named
        && facts.protocol == Some(Protocol::Tls)
        && facts.protection == Protection::Unknown(UnknownReason::Handshake)
}

#[test]
fn two_alerts_in_the_clear_are_still_tls() {
    for pair in PAIRS {
        for alerts in told_apart_and_together(pair) {
            // Instead of the server's hello.
            let mut refused = Exchange::hellos(Version::Tls12);
            refused.server = vec![alerts.clone()];
            assert!(failed(&refused.facts(), End::Server), "{pair:?}");
            for version in VERSIONS {
                // Instead of the client's answer.
                let cancelled = Exchange::offered(version).with(&alerts, &[]);
                assert!(failed(&cancelled.facts(), End::Client), "{version:?} {pair:?}");
                // Of the server that has just said hello.
                let failing = Exchange::hellos(version).with(&[], &alerts);
                assert!(failed(&failing.facts(), End::Server), "{version:?} {pair:?}");
            }
        }
    }
}

/// Behind its early data a client may have no key for an alert yet.
#[test]
fn two_alerts_in_the_clear_behind_early_data_are_still_tls() {
    for pair in PAIRS {
        for alerts in told_apart_and_together(pair) {
            let mut early = Exchange::offered(Version::Tls13);
            early.client = vec![with_early_data(&early.client[0])];
            early.client.extend([sealed(APPLICATION_DATA, 90), sealed(APPLICATION_DATA, 91)]);
            assert!(is_yes(&early.facts()));
            let facts = early.with(&alerts, &[]).facts();
            assert!(failed(&facts, End::Client), "{pair:?}: {facts:?}");
        }
    }
}

/// A hello with the extension `early_data` at its end.
fn with_early_data(hello: &[u8]) -> Vec<u8> {
    let mut hello = [hello, &[0, 42, 0, 0]].concat();
    let session = 43 + 1 + usize::from(hello[43]);
    let suites = session + 2 + usize::from(u16::from_be_bytes([hello[session], hello[session + 1]]));
    let extensions = suites + 1 + usize::from(hello[suites]);
    for at in [3, 7, extensions] {
        let length = u16::from_be_bytes([hello[at], hello[at + 1]]) + 4;
        hello[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    hello
}

/// What is no alert, or too many of them, is none of TLS.
#[test]
fn what_only_looks_like_alerts_is_no_end_of_tls() {
    for version in VERSIONS {
        let done = Exchange::used(version);
        assert!(is_yes(&done.facts()), "{:?}", done.facts());
        for payload in [&[0, 0][..], &[3, 40], b"hi", &[1, 0, 3, 0], &[1], &[1, 0, 1], &[], &[2, 200]] {
            let facts = done.with(&record(ALERT, payload), &[]).facts();
            assert!(!is_yes(&facts), "{version:?} {payload:?}");
        }
        let many = record(ALERT, &[WARNING, CLOSE_NOTIFY]).repeat(30);
        assert!(!is_yes(&done.with(&many, &[]).facts()), "{version:?}");
    }
}

/// Whoever gives up in the clear, once both have gone on behind the handshake, takes nothing back.
#[test]
fn a_finished_exchange_stays_finished_whatever_alert_ends_it() {
    for version in VERSIONS {
        let done = Exchange::used(version);
        for alert in [[FATAL, 20], [WARNING, CLOSE_NOTIFY], [FATAL, 80]] {
            let alert = record(ALERT, &alert);
            for (client, server) in [(&alert[..], &[][..]), (&[], &alert), (&alert, &alert)] {
                let facts = done.with(client, server).facts();
                assert!(is_yes(&facts), "{version:?}: {facts:?}");
                let tls = facts.tls.unwrap();
                assert!(tls.established && tls.alert.is_none());
            }
        }
    }
}

/// A client has finished with its Finished, if the server goes on.
#[test]
fn an_alert_right_behind_the_clients_finished_takes_nothing_back() {
    for version in VERSIONS {
        let mut done = Exchange::finished(version);
        done.server.push(sealed(APPLICATION_DATA, 120));
        let facts = done.with(&record(ALERT, &[WARNING, CLOSE_NOTIFY]), &[]).facts();
        assert!(is_yes(&facts), "{version:?}: {facts:?}");
    }
}

/// Wherever the capture ends within an alert: nothing is said of one that was not seen, least of all that it was
/// encrypted.
#[test]
fn an_alert_that_is_cut_short_is_not_told() {
    let alert = record(ALERT, &[FATAL, 20]);
    let mut shown = Vec::new();
    for version in VERSIONS {
        let exchanges = [Exchange::offered(version), Exchange::finished(version), Exchange::used(version)];
        for exchange in exchanges {
            for cut in 0..alert.len() {
                for (client, server) in [(&alert[..cut], &[][..]), (&[], &alert[..cut])] {
                    shown.extend(exchange.with(client, server).told());
                }
            }
        }
    }
    for found in shown {
        let facts = found.facts;
        assert!(!is_no(&facts), "{facts:?}");
        assert!(!facts.detail.as_deref().unwrap_or_default().contains("alert"), "{facts:?}");
        assert!(facts.tls.unwrap().alert.is_none());
    }
}

/// An alert ends TLS: what comes behind it is judged by what it is.
#[test]
fn plaintext_behind_an_alert_is_plaintext() {
    let text = b"and now for something in the clear, behind an alert ".repeat(20);
    let framed = record(APPLICATION_DATA, &text);
    for pair in PAIRS {
        for alerts in told_apart_and_together(pair) {
            for text in [&text, &framed] {
                let behind = [&alerts[..], text].concat();
                for version in VERSIONS {
                    let done = Exchange::used(version);
                    for exchange in [done.with(&behind, &[]), done.with(&[], &behind)] {
                        assert!(is_no(&exchange.facts()), "{version:?} {:?}", exchange.facts());
                    }
                    let cancelled = Exchange::offered(version).with(&behind, &[]);
                    assert!(is_no(&cancelled.facts()), "{version:?} {:?}", cancelled.facts());
                }
                let mut refused = Exchange::hellos(Version::Tls13);
                refused.server = vec![behind.clone()];
                assert!(is_no(&refused.facts()));
                // The one that was refused goes on as if nothing was.
                refused.server = vec![alerts.clone()];
                assert!(is_no(&refused.with(&text[..], &[]).facts()), "{:?}", refused.facts());
            }
        }
    }
}

/// However it is cut, what was settled stays, but for a yes.
#[test]
fn settled_answers_stay_whatever_alert_comes() {
    let text = b"and now for something in the clear, behind an alert ".repeat(20);
    for version in VERSIONS {
        for (alerts, behind) in PAIRS
            .into_iter()
            .flat_map(told_apart_and_together)
            .flat_map(|alerts| [(alerts.clone(), Vec::new()), (alerts, text.clone())])
        {
            let behind = [alerts, behind].concat();
            let (client, server) = Exchange::offered(version).with(&behind, &[]).bytes();
            let refusal = &behind;
            for (client, server) in [(&client, &server), (&client, refusal)] {
                let mut settled: Option<Facts> = None;
                for cut in (0..=client.len().max(server.len())).step_by(3) {
                    let (c, s) = (cut.min(client.len()), cut.min(server.len()));
                    let now = look(&client[..c], &server[..s], false);
                    if let Some(before) = &settled {
                        assert!(*before == now.facts || is_yes(before), "{before:?} {:?}", now.facts);
                    }
                    settled = now.settled.then_some(now.facts);
                }
            }
        }
    }
}
