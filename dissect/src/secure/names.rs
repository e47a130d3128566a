//! Names of IANA's TLS registries: versions, cipher suites, groups, alerts.

use super::suites::SUITES;

/// `version_protocol` and `version` as ECS has them. DTLS numbers count down from 0xfeff.
pub(crate) fn version(number: u16) -> (&'static str, &'static str) {
    match number {
        0x0300 => ("ssl", "3.0"),
        0x0301 => ("tls", "1.0"),
        0x0302 => ("tls", "1.1"),
        0x0303 => ("tls", "1.2"),
        0x0304 => ("tls", "1.3"),
        0xfefc => ("dtls", "1.3"),
        0xfefd => ("dtls", "1.2"),
        // OpenSSL's DTLS before the RFC counted from 0x0100.
        _ => ("dtls", "1.0"),
    }
}

/// The suite's name, or its number (`0x1a2b`) when the registry that we know has none.
pub(crate) fn suite(number: u16) -> String {
    match SUITES.binary_search_by_key(&number, |(known, _)| *known) {
        Ok(index) => SUITES[index].1.into(),
        Err(_) => format!("{number:#06x}"),
    }
}

/// The suite only protects integrity: what it carries can be read by anyone.
pub(crate) fn without_encryption(number: u16) -> bool {
    matches!(number, 0xc0b4 | 0xc0b5)
        || SUITES
            .binary_search_by_key(&number, |(known, _)| *known)
            .is_ok_and(|index| SUITES[index].1.contains("_WITH_NULL_"))
}

/// The key exchange sends a `ServerKeyExchange` with a named curve (RFC 8422 section 5.4).
pub(crate) fn names_curve(suite: u16) -> bool {
    SUITES.binary_search_by_key(&suite, |(known, _)| *known).is_ok_and(|index| {
        let name = SUITES[index].1;
        name.starts_with("TLS_ECDHE_RSA") || name.starts_with("TLS_ECDHE_ECDSA") || name.contains("ECDH_anon")
    })
}

/// The group's name in the registry "TLS Supported Groups", or its number.
pub(crate) fn group(number: u16) -> String {
    let known = match number {
        0x0013 => "secp192r1",
        0x0015 => "secp224r1",
        0x0016 => "secp256k1",
        0x0017 => "secp256r1",
        0x0018 => "secp384r1",
        0x0019 => "secp521r1",
        0x001a => "brainpoolP256r1",
        0x001b => "brainpoolP384r1",
        0x001c => "brainpoolP512r1",
        0x001d => "x25519",
        0x001e => "x448",
        0x001f => "brainpoolP256r1tls13",
        0x0020 => "brainpoolP384r1tls13",
        0x0021 => "brainpoolP512r1tls13",
        0x0029 => "curveSM2",
        0x0100 => "ffdhe2048",
        0x0101 => "ffdhe3072",
        0x0102 => "ffdhe4096",
        0x0103 => "ffdhe6144",
        0x0104 => "ffdhe8192",
        0x0200 => "MLKEM512",
        0x0201 => "MLKEM768",
        0x0202 => "MLKEM1024",
        0x11eb => "SecP256r1MLKEM768",
        0x11ec => "X25519MLKEM768",
        0x11ed => "SecP384r1MLKEM1024",
        0x6399 => "X25519Kyber768Draft00",
        0x639a => "SecP256r1Kyber768Draft00",
        _ => return format!("{number:#06x}"),
    };
    known.into()
}

/// RFC 8446 section 6, with the older alerts of RFC 5246 section 7.2.
pub(crate) fn alert(number: u8) -> &'static str {
    match number {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "of an unknown kind",
    }
}

#[cfg(test)]
mod tests {
    use super::{SUITES, suite, without_encryption};

    #[test]
    fn the_table_can_be_searched() {
        assert!(SUITES.is_sorted_by(|(a, _), (b, _)| a < b));
        assert_eq!(suite(0x1302), "TLS_AES_256_GCM_SHA384");
        assert_eq!(suite(0x0a0a), "0x0a0a");
    }

    #[test]
    fn suites_that_only_authenticate_are_known() {
        assert!(without_encryption(0x003b) && without_encryption(0xc0b4));
        assert!(!without_encryption(0x1301) && !without_encryption(0x00ff));
    }
}
