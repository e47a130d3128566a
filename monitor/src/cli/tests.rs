#![allow(clippy::unwrap_used)]

use clap::CommandFactory;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::record::text::Style;
use crate::record::{ecs, is_active, samples};

fn parsed(encode: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = Vec::new();
    encode(&mut out);
    serde_json::from_slice(&out).unwrap()
}

fn stream() -> Value {
    parsed(|out| ecs::encode_stream(&samples::context(), &samples::stream(), samples::at(), out))
}

#[test]
fn the_arguments_are_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn a_stream_is_a_line_that_needs_no_manual() {
    let text = views::streams(&[stream()], false, samples::at()).render(true, None, Style::default());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "CLIENT  SERVICE      PROTO  ENCRYPTED  AUTH     ALLOWED  WATCHED  POSTURE                 FLOWS   BYTES  LAST  WHY"
    );
    assert_eq!(
        lines[1],
        "curl    10.0.0.9:80  http   no         unknown  unknown  yes      http in the clear  3 (1 open)  3.6 MB   now  HTTP in the clear"
    );
}

#[test]
fn wide_gives_every_reason() {
    let text = views::streams(&[stream()], true, samples::at()).render(false, None, Style::default());
    assert!(text.contains("    encrypted: no: HTTP in the clear (first bytes)\n"), "{text}");
    assert!(text.contains("    allowed: unknown: no policy covers the service\n"), "{text}");
}

#[test]
fn wide_tells_all_of_a_handshake() {
    let mutual = crate::model::StreamView { facts: samples::mutual_flow().facts, ..samples::stream() };
    let record = parsed(|out| ecs::encode_stream(&samples::context(), &mutual, samples::at(), out));
    let text = views::streams(&[record], true, samples::at()).render(false, None, Style::default());
    assert!(text.contains("  TLS 1.2 secp256r1 AES-128-GCM mTLS  "), "{text}");
    assert!(text.contains("\n    tls: version 1.2, offered 1.3, suite TLS_ECDHE_ECDSA"), "{text}");
    assert!(text.contains("\n    fingerprints: JA3 771,4865, JA3S"), "{text}");
    assert!(text.contains("\n    server certificate: of CN=api, by CN=Test CA"), "{text}");
    assert!(text.contains("\n    client certificate: of CN=batch"), "{text}");
}

#[test]
fn a_flow_names_who_is_at_each_end() {
    let flow = parsed(|out| ecs::encode_flow(&samples::context(), &samples::tls_flow(), samples::at(), out));
    let text = views::flows(&[flow], samples::at()).render(false, None, Style::default());
    assert!(text.contains("curl[4242] [fd00::1]:50000  nginx[17] [fd00::9]:443"), "{text}");
}

#[test]
fn a_bad_filter_and_a_missing_daemon_have_their_exit_status() {
    let place = crate::api::tests::Place::new();
    let listing = args::ListingArguments { filter: Some("encryptd == no".into()), ..Default::default() };
    let failure = listing::flows(&listing, Some(place.socket())).unwrap_err();
    assert_eq!(failure.code(), 2);
    assert!(failure.to_string().starts_with("--filter: column 1: expected a known field"), "{failure}");
    let failure = listing::flows(&Default::default(), Some(place.socket())).unwrap_err();
    assert_eq!(failure.code(), 3);
    assert!(failure.to_string().contains("streamwatch run"), "{failure}");
}

proptest! {
    #[test]
    fn nothing_from_outside_reaches_the_terminal(text in any::<String>()) {
        for record in samples::hostile_records(&text) {
            let record = parsed(|out| ecs::encode(&samples::context(), &record, out));
            let now: Timestamp = samples::at();
            let records = [record];
            for table in [
                views::streams(&records, true, now),
                views::flows(&records, now),
                views::alerts(&records, now),
            ] {
                for width in [None, Some(80)] {
                    let shown = table.render(true, width, Style::default());
                    prop_assert!(!shown.replace('\n', "").contains(is_active));
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_with_the_arguments_is_one_line_that_names_the_help() {
    let said = |line: &str| in_one_line(&Arguments::try_parse_from(line.split(' ')).unwrap_err());
    assert_eq!(
        said("streamwatch stream"),
        "unrecognized subcommand 'stream'; tip: a similar subcommand exists: 'streams'; see \
         'streamwatch --help'"
    );
    assert_eq!(
        said("streamwatch streams --frobnicate"),
        "unexpected argument '--frobnicate' found; see 'streamwatch streams --help'"
    );
    assert!(said("streamwatch flows --limit x").starts_with("invalid value 'x' for '--limit <N>': "));
    for line in ["streamwatch run --output x", "streamwatch alerts ack", "streamwatch policy diff"] {
        let said = said(line);
        assert!(!said.contains('\n') && said.contains("; see 'streamwatch "), "{line}: {said}");
    }
    let help = Arguments::try_parse_from(["streamwatch", "--help"]).unwrap_err();
    assert!(is_help(&help));
}
