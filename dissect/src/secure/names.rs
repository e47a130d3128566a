//! Names of IANA's TLS registries: versions, cipher suites, groups, alerts.

use super::suites::SUITES;

/// `version_protocol` and `version` as ECS has them. DTLS numbers count down from 0xfeff.
pub(crate) fn version(number: u16) -> (&'static str, &'static str) {
    match number {
        0x0002 => ("ssl", "2.0"),
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

/// The profile for media only protects their integrity (RFC 5764 section 4.1.2).
pub(crate) fn srtp_without_encryption(profile: u16) -> bool {
    matches!(profile, 0x0005 | 0x0006)
}

/// The group's name in the registry "TLS Supported Groups", or its number.
pub(crate) fn group(number: u16) -> String {
    match known_group(number) {
        Some((name, _)) => name.into(),
        None => format!("{number:#06x}"),
    }
}

/// Whether a key exchanged in this group stays secret from a quantum computer; `None`: a group that
/// we do not know.
pub(crate) fn post_quantum(group: u16) -> Option<bool> {
    known_group(group).map(|(_, post_quantum)| post_quantum)
}

fn known_group(number: u16) -> Option<(&'static str, bool)> {
    Some(match number {
        0x0001 => ("sect163k1", false),
        0x0002 => ("sect163r1", false),
        0x0003 => ("sect163r2", false),
        0x0004 => ("sect193r1", false),
        0x0005 => ("sect193r2", false),
        0x0006 => ("sect233k1", false),
        0x0007 => ("sect233r1", false),
        0x0008 => ("sect239k1", false),
        0x0009 => ("sect283k1", false),
        0x000a => ("sect283r1", false),
        0x000b => ("sect409k1", false),
        0x000c => ("sect409r1", false),
        0x000d => ("sect571k1", false),
        0x000e => ("sect571r1", false),
        0x000f => ("secp160k1", false),
        0x0010 => ("secp160r1", false),
        0x0011 => ("secp160r2", false),
        0x0012 => ("secp192k1", false),
        0x0013 => ("secp192r1", false),
        0x0014 => ("secp224k1", false),
        0x0015 => ("secp224r1", false),
        0x0016 => ("secp256k1", false),
        0x0017 => ("secp256r1", false),
        0x0018 => ("secp384r1", false),
        0x0019 => ("secp521r1", false),
        0x001a => ("brainpoolP256r1", false),
        0x001b => ("brainpoolP384r1", false),
        0x001c => ("brainpoolP512r1", false),
        0x001d => ("x25519", false),
        0x001e => ("x448", false),
        0x001f => ("brainpoolP256r1tls13", false),
        0x0020 => ("brainpoolP384r1tls13", false),
        0x0021 => ("brainpoolP512r1tls13", false),
        0x0022 => ("GC256A", false),
        0x0023 => ("GC256B", false),
        0x0024 => ("GC256C", false),
        0x0025 => ("GC256D", false),
        0x0026 => ("GC512A", false),
        0x0027 => ("GC512B", false),
        0x0028 => ("GC512C", false),
        0x0029 => ("curveSM2", false),
        0x0100 => ("ffdhe2048", false),
        0x0101 => ("ffdhe3072", false),
        0x0102 => ("ffdhe4096", false),
        0x0103 => ("ffdhe6144", false),
        0x0104 => ("ffdhe8192", false),
        0x0200 => ("MLKEM512", true),
        0x0201 => ("MLKEM768", true),
        0x0202 => ("MLKEM1024", true),
        0x11eb => ("SecP256r1MLKEM768", true),
        0x11ec => ("X25519MLKEM768", true),
        0x11ed => ("SecP384r1MLKEM1024", true),
        0x11ee => ("curveSM2MLKEM768", true),
        0x6399 => ("X25519Kyber768Draft00", true),
        0x639a => ("SecP256r1Kyber768Draft00", true),
        0xfe30 => ("X25519Kyber512Draft00", true),
        0xfe31 => ("X25519Kyber768Draft00Old", true),
        0xff01 => ("arbitrary_explicit_prime_curves", false),
        0xff02 => ("arbitrary_explicit_char2_curves", false),
        _ => return None,
    })
}

/// The name in the registry "TLS SignatureScheme", or the number.
pub(crate) fn signature(number: u16) -> String {
    let known = match number {
        0x0101 => "rsa_pkcs1_md5",
        0x0201 => "rsa_pkcs1_sha1",
        0x0202 => "dsa_sha1",
        0x0203 => "ecdsa_sha1",
        0x0301 => "rsa_pkcs1_sha224",
        0x0302 => "dsa_sha224",
        0x0303 => "ecdsa_sha224",
        0x0401 => "rsa_pkcs1_sha256",
        0x0402 => "dsa_sha256",
        0x0403 => "ecdsa_secp256r1_sha256",
        0x0501 => "rsa_pkcs1_sha384",
        0x0502 => "dsa_sha384",
        0x0503 => "ecdsa_secp384r1_sha384",
        0x0601 => "rsa_pkcs1_sha512",
        0x0602 => "dsa_sha512",
        0x0603 => "ecdsa_secp521r1_sha512",
        0x0708 => "sm2sig_sm3",
        0x0804 => "rsa_pss_rsae_sha256",
        0x0805 => "rsa_pss_rsae_sha384",
        0x0806 => "rsa_pss_rsae_sha512",
        0x0807 => "ed25519",
        0x0808 => "ed448",
        0x0809 => "rsa_pss_pss_sha256",
        0x080a => "rsa_pss_pss_sha384",
        0x080b => "rsa_pss_pss_sha512",
        0x081a => "ecdsa_brainpoolP256r1tls13_sha256",
        0x081b => "ecdsa_brainpoolP384r1tls13_sha384",
        0x081c => "ecdsa_brainpoolP512r1tls13_sha512",
        0x0904 => "mldsa44",
        0x0905 => "mldsa65",
        0x0906 => "mldsa87",
        _ => return format!("{number:#06x}"),
    };
    known.into()
}

/// A value that a client makes up so that servers stay used to unknown ones (RFC 8701).
pub(crate) fn is_made_up(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

/// What `ServerKeyExchange` holds, up to TLS 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// A curve (RFC 8422 section 5.4), signed or not.
    Curve { signed: bool },
    /// A prime (RFC 5246 section 7.4.3).
    Prime { signed: bool },
    /// There is none, or it is of another shape.
    Other,
}

/// By the suite's name.
pub(crate) fn key_exchange(suite: u16) -> KeyExchange {
    let Ok(index) = SUITES.binary_search_by_key(&suite, |(known, _)| *known) else {
        return KeyExchange::Other;
    };
    let name = SUITES[index].1.trim_start_matches("TLS_");
    let starts = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    if starts(&["ECDHE_RSA", "ECDHE_ECDSA"]) {
        KeyExchange::Curve { signed: true }
    } else if starts(&["ECDH_anon"]) {
        KeyExchange::Curve { signed: false }
    } else if starts(&["DHE_RSA", "DHE_DSS"]) {
        KeyExchange::Prime { signed: true }
    } else if starts(&["DH_anon"]) {
        KeyExchange::Prime { signed: false }
    } else {
        KeyExchange::Other
    }
}

/// The key comes from something that a quantum computer solves: all suites up to TLS 1.2 but those
/// whose key is shared beforehand.
pub(crate) fn classical_key_exchange(suite: u16) -> bool {
    SUITES.binary_search_by_key(&suite, |(known, _)| *known).is_ok_and(|index| {
        let name = SUITES[index].1;
        suite != 0 && name.contains("_WITH_") && !name.starts_with("TLS_PSK_") && !name.contains("_SRP_")
    })
}

/// Length of the hash that a TLS 1.3 suite uses, and of its authentication tag, bytes.
pub(crate) fn lengths_of_1_3(suite: u16) -> Option<(u16, u16)> {
    Some(match suite {
        // TLS_AES_128_GCM, CHACHA20_POLY1305, AES_128_CCM, SM4_GCM, SM4_CCM
        0x1301 | 0x1303 | 0x1304 | 0x00c6 | 0x00c7 => (32, 16),
        0x1302 => (48, 16),
        0x1305 => (32, 8),
        _ => return None,
    })
}

/// RFC 8446 section 6, with the older alerts of RFC 5246 section 7.2.
pub(crate) fn alert(number: u8) -> &'static str {
    known_alert(number).unwrap_or("of an unknown kind")
}

/// The same, if IANA knows it.
pub(crate) fn known_alert(number: u8) -> Option<&'static str> {
    Some(match number {
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
        52 => "too_many_cids_requested",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        117 => "general_error",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => return None,
    })
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
