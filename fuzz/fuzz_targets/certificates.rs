//! Any bytes for certificates: never a panic, as many as there were and at most eight, and every text of them
//! harmless to a terminal.

#![no_main]

use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::{harmless, texts, turns};

fuzz_target!(|input: &[u8]| {
    let chain: Vec<&[u8]> = turns(input).take(12).map(|(_, piece)| piece).collect();
    let found = dissect::certificates(&chain);
    assert_eq!(found.len(), chain.len().min(8));
    for certificate in &found {
        assert!(texts(certificate).all(harmless), "{certificate:?}");
        assert!(certificate.alternative_names.len() <= 32);
        assert!(certificate.not_before <= certificate.not_after || certificate.not_after != i64::MAX);
    }
    assert_eq!(found, dissect::certificates(&chain));
});
