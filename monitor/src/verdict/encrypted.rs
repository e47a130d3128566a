//! Is it encrypted, and how?

use dissect::{Facts, Plain, Protection, Protocol, UnknownReason, Upgrade};

use super::Seen;
use crate::model::{Answer, Judged};
use crate::posture::{self, Weakness};

pub(super) fn judge(facts: &Facts, seen: Seen) -> Judged {
    match facts.protection {
        Protection::Encrypted(_) => {
            let how = describe(facts);
            match not_encryption(facts) {
                Some(Weakness::Null) => {
                    Judged::new(Answer::No, format!("{how}: the cipher encrypts nothing"))
                }
                Some(weakness) => {
                    let what = weakness.as_str();
                    Judged::new(
                        Answer::Unknown,
                        format!("{how}: {what}, and is no longer taken for encryption"),
                    )
                }
                None if let Some(number) = unknown_suite(facts) => Judged::new(
                    Answer::Unknown,
                    format!("{how}: no cipher suite with the number {number} is known, nor what it encrypts"),
                ),
                None if let Some(name) = unknown_ssh_cipher(facts) => Judged::new(
                    Answer::Unknown,
                    format!("{how}: no SSH cipher called {name} is known, nor what it encrypts"),
                ),
                None if posture::is_deprecated(facts) => Judged::new(
                    Answer::Unknown,
                    format!("{how}: deprecated, and no longer taken for encryption{}", retired_by(facts)),
                ),
                None => Judged::new(Answer::Yes, how),
            }
        }
        Protection::Plaintext(plain) => {
            let mut judged = Judged::new(Answer::No, describe_plaintext(plain, facts));
            judged.evidence.clone_from(&facts.detail);
            judged
        }
        Protection::Unknown(reason) => {
            let reason = if seen.lost_captures > 0 { UnknownReason::FirstBytesLost } else { reason };
            let mut judged = Judged::new(Answer::Unknown, describe_unknown(reason, seen, facts));
            judged.evidence.clone_from(&facts.detail);
            judged
        }
    }
}

/// What makes the suite none that encrypts.
fn not_encryption(facts: &Facts) -> Option<Weakness> {
    if facts.ssh.is_some() {
        // One way in the clear is enough.
        if ssh_ciphers(facts).any(|cipher| cipher == "none") {
            return Some(Weakness::Null);
        }
        let is_obsolete = |cipher| matches!(cipher, "des-cbc" | "des-cbc@ssh.com");
        return ssh_ciphers(facts).any(is_obsolete).then_some(Weakness::Obsolete);
    }
    let suite = facts.tls.as_ref()?.cipher.as_deref()?;
    posture::weaknesses(suite).into_iter().find(|weakness| weakness.is_no_encryption())
}

fn ssh_ciphers(facts: &Facts) -> impl Iterator<Item = &str> {
    facts.ssh.iter().flat_map(|ssh| [&ssh.client_cipher, &ssh.server_cipher]).filter_map(|it| it.as_deref())
}

/// Whoever has a domain may call anything a cipher (RFC 4251 section 6).
fn unknown_ssh_cipher(facts: &Facts) -> Option<&str> {
    ssh_ciphers(facts).find(|cipher| !SSH_CIPHERS.contains(cipher))
}

/// Of IANA's registry (RFC 4253 section 6.3, RFC 4344, RFC 5647), and those of others that are in use.
const SSH_CIPHERS: &[&str] = &[
    "3des-cbc",
    "3des-ctr",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
    "aes128-cbc",
    "aes128-ctr",
    "aes128-gcm@openssh.com",
    "aes192-cbc",
    "aes192-ctr",
    "aes256-cbc",
    "aes256-ctr",
    "aes256-gcm@openssh.com",
    "arcfour",
    "arcfour128",
    "arcfour256",
    "blowfish-cbc",
    "blowfish-ctr",
    "camellia128-cbc",
    "camellia128-ctr",
    "camellia192-cbc",
    "camellia192-ctr",
    "camellia256-cbc",
    "camellia256-ctr",
    "cast128-cbc",
    "cast128-ctr",
    "chacha20-poly1305",
    "chacha20-poly1305@openssh.com",
    "idea-cbc",
    "idea-ctr",
    "rijndael-cbc@lysator.liu.se",
    "seed-cbc@ssh.com",
    "serpent128-cbc",
    "serpent128-ctr",
    "serpent192-cbc",
    "serpent192-ctr",
    "serpent256-cbc",
    "serpent256-ctr",
    "twofish-cbc",
    "twofish128-cbc",
    "twofish128-ctr",
    "twofish192-cbc",
    "twofish192-ctr",
    "twofish256-cbc",
    "twofish256-ctr",
];

/// The number of a suite that has no name.
fn unknown_suite(facts: &Facts) -> Option<&str> {
    facts.tls.as_ref()?.cipher.as_deref().filter(|suite| suite.starts_with("0x"))
}

fn retired_by(facts: &Facts) -> &'static str {
    let Some(tls) = &facts.tls else { return "" };
    match (tls.version_protocol.as_deref(), tls.version.as_deref()) {
        (Some("ssl"), Some("3.0")) => " (RFC 7568)",
        (Some("ssl"), _) => " (RFC 6176)",
        _ => " (RFC 8996)",
    }
}

/// `TLS 1.3, X25519MLKEM768, AES-256-GCM, for api.example.org`.
fn describe(facts: &Facts) -> String {
    let mut parts = vec![posture::version(facts).unwrap_or_else(|| "encrypted".to_owned())];
    parts.extend(posture::key_exchange(facts));
    parts.extend(posture::bulk_cipher(facts));
    if let Some(tls) = &facts.tls
        && let Some(server_name) = &tls.server_name
    {
        let outer = if tls.encrypted_client_hello { " (the outer name of an encrypted hello)" } else { "" };
        parts.push(format!("for {server_name}{outer}"));
    }
    if facts.upgrade == Some(Upgrade::Taken)
        && let Some(protocol) = facts.protocol
        && protocol != Protocol::Tls
    {
        parts.push(format!("negotiated within {}", protocol.as_str()));
    }
    if parts.len() == 1 {
        parts.extend(facts.detail.clone());
    }
    parts.join(", ")
}

fn describe_plaintext(plain: Plain, facts: &Facts) -> String {
    let name = match plain {
        Plain::Protocol(protocol) => format!("{} in the clear", protocol.as_str()),
        Plain::Readable => "readable bytes of no known protocol".to_owned(),
    };
    match facts.upgrade {
        Some(Upgrade::NotTaken) => format!("{name}: TLS was offered and not used"),
        Some(Upgrade::Refused) => format!("{name}: the client asked for TLS and the server refused"),
        _ => match plain {
            Plain::Protocol(protocol) if protocol.clear_by_design() => format!("{name}, by design"),
            _ => name,
        },
    }
}

fn describe_unknown(reason: UnknownReason, seen: Seen, facts: &Facts) -> String {
    match reason {
        UnknownReason::Silent if seen.before_start => "opened before we started, and silent since".to_owned(),
        UnknownReason::Silent if seen.never_up => "the connection never came up".to_owned(),
        UnknownReason::Silent => "no payload yet".to_owned(),
        UnknownReason::TooFew => "too few bytes to tell".to_owned(),
        UnknownReason::Handshake => match failure(facts) {
            Some(failure) => failure,
            None => "a handshake that was not completed".to_owned(),
        },
        UnknownReason::Opaque => "high-entropy bytes of no known protocol".to_owned(),
        UnknownReason::NotRead => match &facts.detail {
            Some(detail) => format!("{detail}: what follows is not read"),
            None => "a protocol that may encrypt in its own way, which is not read".to_owned(),
        },
        UnknownReason::FirstBytesLost => match seen.lost_captures {
            0 if facts.tls.is_some() => "not all of its handshake was seen".to_owned(),
            0 => "the first bytes were not seen".to_owned(),
            lost => format!(
                "first bytes lost: {} found the ring full, or came among too many before the connection was \
                 accepted",
                captures(lost)
            ),
        },
        UnknownReason::OpenedBefore => "opened before we started".to_owned(),
        UnknownReason::Contradictory => "its first bytes came twice, with different content".to_owned(),
    }
}

/// `1 capture`, `2 captures`.
pub(super) fn captures(lost: u32) -> String {
    format!("{lost} capture{}", if lost == 1 { "" } else { "s" })
}

/// How a handshake failed: `a handshake that failed: the server's alert handshake_failure`.
pub(super) fn failure(facts: &Facts) -> Option<String> {
    let alert = facts.tls.as_ref()?.alert.as_ref()?;
    let whose = match alert.from {
        dissect::End::Client => "the client's",
        dissect::End::Server => "the server's",
    };
    Some(match &alert.description {
        Some(description) => format!("a handshake that failed: {whose} alert {description}"),
        None => format!("a handshake that failed: {whose} alert, which is encrypted"),
    })
}

#[cfg(test)]
mod tests {
    use dissect::{Cipher, End, TlsAlert, TlsFacts};

    use super::*;
    use crate::posture::tests::{ssh, tls};

    fn judged(facts: &Facts) -> (Answer, String) {
        let judged = judge(facts, Seen::default());
        (judged.answer, judged.reason)
    }

    #[test]
    fn the_reason_says_how() {
        let facts = tls("1.3", "TLS_AES_256_GCM_SHA384", Some("X25519MLKEM768"));
        let expected = "TLS 1.3, X25519MLKEM768, AES-256-GCM, for api.example.org";
        assert_eq!(judged(&facts), (Answer::Yes, expected.to_owned()));
        let expected = "SSH 2.0, sntrup761x25519-sha512, chacha20-poly1305";
        assert_eq!(judged(&ssh()), (Answer::Yes, expected.to_owned()));
    }

    /// The kernel counts both limits as one.
    #[test]
    fn lost_first_bytes_say_what_may_have_refused_them() {
        for (lost_captures, many) in [(1, "1 capture found"), (2, "2 captures found")] {
            let seen = Seen { lost_captures, ..Seen::default() };
            let judged = judge(&Facts::unknown(UnknownReason::Silent), seen);
            let expected = format!(
                "first bytes lost: {many} the ring full, or came among too many before the connection was \
                 accepted"
            );
            assert_eq!((judged.answer, judged.reason), (Answer::Unknown, expected));
        }
    }

    #[test]
    fn old_versions_are_no_yes() {
        for (protocol, version, answer) in [
            ("tls", "1.3", Answer::Yes),
            ("tls", "1.2", Answer::Yes),
            ("tls", "1.1", Answer::Unknown),
            ("tls", "1.0", Answer::Unknown),
            ("ssl", "3.0", Answer::Unknown),
            ("ssl", "2.0", Answer::Unknown),
            ("dtls", "1.2", Answer::Yes),
            ("dtls", "1.0", Answer::Unknown),
        ] {
            let facts = Facts {
                protection: Protection::Encrypted(Cipher::Tls),
                tls: Some(TlsFacts {
                    version: Some(version.into()),
                    version_protocol: Some(protocol.into()),
                    ..TlsFacts::default()
                }),
                ..Facts::unknown(UnknownReason::Silent)
            };
            assert_eq!(judged(&facts).0, answer, "{protocol} {version}");
        }
    }

    #[test]
    fn an_ssh_cipher_that_nobody_knows_is_no_yes() {
        for (cipher, answer) in [
            ("chacha20-poly1305@openssh.com", Answer::Yes),
            ("aes256-ctr", Answer::Yes),
            ("none", Answer::No),
            ("des-cbc@ssh.com", Answer::Unknown),
            ("rot13@evil.example", Answer::Unknown),
            ("aes256-ctr@evil.example", Answer::Unknown),
        ] {
            let mut facts = ssh();
            if let Some(ssh) = &mut facts.ssh {
                ssh.server_cipher = Some(cipher.into());
            }
            assert_eq!(judged(&facts).0, answer, "{cipher}");
        }
        for (client, server) in [("des-cbc", "none"), ("none", "des-cbc"), ("none", "rot13@evil.example")] {
            let mut facts = ssh();
            if let Some(ssh) = &mut facts.ssh {
                (ssh.client_cipher, ssh.server_cipher) = (Some(client.into()), Some(server.into()));
            }
            assert_eq!(judged(&facts).0, Answer::No, "{client} and {server}");
        }
    }

    #[test]
    fn suites_that_do_not_encrypt_are_no_yes() {
        for (suite, answer) in [
            ("TLS_ECDHE_RSA_WITH_NULL_SHA", Answer::No),
            ("TLS_RSA_EXPORT_WITH_RC4_40_MD5", Answer::Unknown),
            ("TLS_RSA_WITH_DES_CBC_SHA", Answer::Unknown),
            ("TLS_RSA_WITH_RC4_128_SHA", Answer::Yes),
            ("TLS_DH_anon_WITH_AES_128_GCM_SHA256", Answer::Yes),
            // Nobody knows what it does.
            ("0x1a2b", Answer::Unknown),
        ] {
            assert_eq!(judged(&tls("1.2", suite, None)).0, answer, "{suite}");
        }
        assert_eq!(judged(&tls("1.3", "TLS_SHA256_SHA256", None)).0, Answer::No);
    }

    #[test]
    fn a_failed_handshake_says_whose_alert_it_was() {
        let facts = Facts {
            tls: Some(TlsFacts {
                alert: Some(TlsAlert { from: End::Server, description: Some("handshake_failure".into()) }),
                ..TlsFacts::default()
            }),
            ..Facts::unknown(UnknownReason::Handshake)
        };
        let expected = "a handshake that failed: the server's alert handshake_failure";
        assert_eq!(judged(&facts), (Answer::Unknown, expected.to_owned()));
    }
}
