//! Who proved who they are?
//!
//! What is seen is a proof of possession: that the server holds the key of the certificate that it
//! showed. Whether the client checked that certificate is on no wire, and is never claimed.

use dissect::{
    Basis, Certificate, Cipher, ClientCertificate, ClientCertificateState, Facts, Plain, Protection,
    Protocol, SshAuthenticationState, SshFacts, TlsFacts,
};

use super::encrypted::failure;
use crate::model::{Answer, Judged};
use crate::posture::{self, Authentication};

pub(super) fn judge(facts: &Facts) -> Judged {
    match facts.protection {
        Protection::Encrypted(cipher) => match (&facts.tls, &facts.ssh, cipher) {
            (Some(tls), _, _) => tls_judged(tls, facts),
            (None, Some(ssh), _) => ssh_judged(ssh, facts),
            (None, None, Cipher::Wireguard) => {
                Judged::new(Answer::Yes, "both ends proved their keys (WireGuard)")
            }
            (None, None, _) => Judged::new(Answer::Unknown, NOT_SEEN),
        },
        Protection::Plaintext(Plain::Protocol(protocol)) if proves_nothing(protocol) => Judged::new(
            Answer::No,
            format!("nothing in {} in the clear proves the server", protocol.as_str()),
        ),
        Protection::Plaintext(Plain::Protocol(protocol)) => {
            Judged::new(Answer::Unknown, format!("authentication within {} is not read", protocol.as_str()))
        }
        Protection::Plaintext(Plain::Readable) => {
            Judged::new(Answer::Unknown, "no handshake that authenticates was seen")
        }
        Protection::Unknown(_) => match failure(facts) {
            Some(failure) => Judged::new(Answer::Unknown, failure),
            None => Judged::new(Answer::Unknown, "cannot be seen on this wire"),
        },
    }
}

const NOT_SEEN: &str = "the handshake was not seen";

/// Protocols in which a server proves nothing, unless something encrypts them. Others have a way (SCRAM,
/// GSSAPI, signatures), which is not read.
fn proves_nothing(protocol: Protocol) -> bool {
    matches!(
        protocol,
        Protocol::Dhcp
            | Protocol::Ftp
            | Protocol::Grpc
            | Protocol::Http
            | Protocol::Http2
            | Protocol::Mdns
            | Protocol::Memcached
            | Protocol::Redis
            | Protocol::Ssdp
            | Protocol::Statsd
            | Protocol::Stomp
            | Protocol::Syslog
            | Protocol::Telnet
            | Protocol::Websocket
    )
}

fn tls_judged(tls: &TlsFacts, facts: &Facts) -> Judged {
    if let Some(failure) = failure(facts) {
        return Judged::new(Answer::Unknown, failure);
    }
    if tls.version.is_none() {
        return Judged::new(Answer::Unknown, NOT_SEEN);
    }
    if posture::is_deprecated(facts) {
        let version = posture::tls_version(tls);
        return Judged::new(Answer::Unknown, format!("{version} is deprecated, and so are its proofs"));
    }
    // TLS 1.3 has no other way, whatever the suite.
    let by_certificate = tls.version.as_deref() == Some("1.3");
    let how = match tls.cipher.as_deref() {
        _ if by_certificate => Authentication::Certificate,
        Some(suite) => posture::authentication(suite),
        None => Authentication::Unknown,
    };
    match how {
        Authentication::Anonymous => {
            Judged::new(Answer::No, "an anonymous key exchange: neither end proved who it is")
        }
        Authentication::Shared => Judged::new(Answer::Yes, "both ends proved that they share a key"),
        Authentication::Unknown => Judged::new(Answer::Unknown, "how the server proves itself is not known"),
        Authentication::Certificate if tls.resumed == Some(true) => Judged::new(
            Answer::Yes,
            "server proved itself in the session that was resumed; what the client proved there is not known",
        ),
        Authentication::Certificate if tls.showed_no_certificate => {
            Judged::new(Answer::Unknown, "the server showed no certificate where its cipher suite needs one")
        }
        Authentication::Certificate => by_certificates(tls),
    }
}

fn by_certificates(tls: &TlsFacts) -> Judged {
    let asked = tls.server_name.as_deref();
    let server = match (tls.server_certificates.first(), asked) {
        (Some(certificate), _) => {
            let name = posture::shown(certificate, asked.filter(|_| !tls.encrypted_client_hello));
            format!("server proved `{name}`{}", by_whom(certificate))
        }
        (None, Some(name)) => {
            let outer = if tls.encrypted_client_hello { ", which is the outer name" } else { "" };
            format!("server proved itself when asked for `{name}`{outer}")
        }
        (None, None) => "server proved itself".to_owned(),
    };
    let mut judged = Judged::new(Answer::Yes, format!("{server}, {}", client(tls)));
    judged.evidence = tls
        .server_certificates
        .first()
        .map(|certificate| format!("certificate of {} by {}", certificate.subject, certificate.issuer));
    judged
}

fn by_whom(certificate: &Certificate) -> &'static str {
    if certificate.self_signed { " (self-signed)" } else { "" }
}

fn client(tls: &TlsFacts) -> String {
    let ClientCertificate { state, basis } = tls.client_certificate;
    let basis = match basis {
        Some(Basis::Inferred) => " (inferred)",
        Some(Basis::Seen) | None => "",
    };
    match (state, tls.client_certificates.first()) {
        (ClientCertificateState::Presented, Some(certificate)) => {
            format!("client proved `{}`{}", posture::shown(certificate, None), by_whom(certificate))
        }
        (ClientCertificateState::Presented, None) => format!("client presented a certificate{basis}"),
        (ClientCertificateState::Refused, _) => {
            format!("client was asked for a certificate and sent none{basis}")
        }
        (ClientCertificateState::NotRequested, _) => format!("client was asked for no certificate{basis}"),
        (ClientCertificateState::Unknown, _) if tls.renegotiated => {
            "whether the client did in a later handshake (renegotiation) is hidden".to_owned()
        }
        (ClientCertificateState::Unknown, _) => "whether the client did is not known".to_owned(),
    }
}

fn ssh_judged(ssh: &SshFacts, facts: &Facts) -> Judged {
    let client = match ssh.authentication.state {
        SshAuthenticationState::Succeeded => "client logged in (inferred)",
        SshAuthenticationState::Failed => "client did not log in (inferred)",
        SshAuthenticationState::Begun => "client began to log in; whether it did is not known",
        SshAuthenticationState::Unknown => "whether the client logged in is not known",
    };
    let through_gssapi = ssh.key_exchange.as_deref().is_some_and(|method| method.starts_with("gss-"));
    let host_key = match &ssh.host_key {
        Some(host_key) => host_key,
        None if through_gssapi => {
            return Judged::new(Answer::Yes, format!("server proved itself through GSSAPI, {client}"));
        }
        None => return Judged::new(Answer::Unknown, "the key exchange was not seen"),
    };
    if posture::is_deprecated(facts) {
        return Judged::new(Answer::Unknown, "SSH 1 is deprecated, and so are its proofs");
    }
    Judged::new(Answer::Yes, format!("server proved its host key ({host_key}), {client}"))
}

#[cfg(test)]
mod tests {
    use dissect::{End, SshAuthentication, TlsAlert, UnknownReason};

    use super::*;
    use crate::posture::tests::{ssh, tls};

    fn judged(facts: &Facts) -> (Answer, String) {
        let judged = judge(facts);
        (judged.answer, judged.reason)
    }

    fn change(mut facts: Facts, change: impl FnOnce(&mut TlsFacts)) -> Facts {
        if let Some(tls) = &mut facts.tls {
            change(tls);
        }
        facts
    }

    fn modern() -> Facts {
        tls("1.3", "TLS_AES_256_GCM_SHA384", Some("X25519MLKEM768"))
    }

    fn named(name: &str) -> Certificate {
        Certificate {
            subject: format!("CN={name}"),
            alternative_names: vec![format!("DNS:{name}")],
            ..Certificate::default()
        }
    }

    #[test]
    fn a_server_alone_or_both_ends() {
        let presented =
            ClientCertificate { state: ClientCertificateState::Presented, basis: Some(Basis::Inferred) };
        for (facts, answer, reason) in [
            (
                change(modern(), |tls| tls.client_certificate = presented),
                Answer::Yes,
                "server proved itself when asked for `api.example.org`, client presented a certificate (inferred)",
            ),
            (
                modern(),
                Answer::Yes,
                "server proved itself when asked for `api.example.org`, whether the client did is not known",
            ),
            (
                change(tls("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some("x25519")), |tls| {
                    tls.server_certificates = vec![named("api.example.org")];
                    tls.client_certificates = vec![Certificate { self_signed: true, ..named("batch") }];
                    tls.client_certificate = ClientCertificate {
                        state: ClientCertificateState::Presented,
                        basis: Some(Basis::Seen),
                    };
                }),
                Answer::Yes,
                "server proved `api.example.org`, client proved `batch` (self-signed)",
            ),
            (
                change(tls("1.2", "TLS_RSA_WITH_AES_128_GCM_SHA256", None), |tls| {
                    tls.server_certificates = vec![Certificate { self_signed: true, ..named("box") }];
                    tls.client_certificate = ClientCertificate {
                        state: ClientCertificateState::NotRequested,
                        basis: Some(Basis::Seen),
                    };
                }),
                Answer::Yes,
                "server proved `box` (self-signed), client was asked for no certificate",
            ),
            (
                tls("1.2", "TLS_ECDH_anon_WITH_AES_128_CBC_SHA", None),
                Answer::No,
                "an anonymous key exchange: neither end proved who it is",
            ),
            (
                tls("1.2", "TLS_PSK_WITH_AES_128_CBC_SHA", None),
                Answer::Yes,
                "both ends proved that they share a key",
            ),
        ] {
            assert_eq!(judged(&facts), (answer, reason.to_owned()));
        }
    }

    #[test]
    fn a_server_that_showed_no_certificate_proved_nothing() {
        for (suite, answer) in [
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Answer::Unknown),
            ("TLS_PSK_WITH_AES_128_CBC_SHA", Answer::Yes),
            ("TLS_ECDH_anon_WITH_AES_128_CBC_SHA", Answer::No),
        ] {
            let facts = change(tls("1.2", suite, None), |tls| tls.showed_no_certificate = true);
            assert_eq!(judged(&facts).0, answer, "{suite}");
        }
    }

    #[test]
    fn what_was_resumed_was_proved_before() {
        let (answer, reason) = judged(&change(modern(), |tls| tls.resumed = Some(true)));
        assert_eq!(answer, Answer::Yes);
        assert!(reason.contains("in the session that was resumed"), "{reason}");
    }

    #[test]
    fn what_was_not_seen_is_unknown() {
        let alert = TlsAlert { from: End::Client, description: Some("unknown_ca".into()) };
        for facts in [
            change(modern(), |tls| tls.version = None),
            change(modern(), |tls| tls.alert = Some(alert)),
            tls("1.2", "0x1a2b", None),
            tls("1.0", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
            Facts { ssh: Some(SshFacts::default()), ..ssh() },
            Facts { protection: Protection::Encrypted(Cipher::Tls), ..Facts::unknown(UnknownReason::Silent) },
        ] {
            assert_eq!(judge(&facts).answer, Answer::Unknown, "{facts:?}");
        }
    }

    #[test]
    fn ssh_proves_its_host_key() {
        let mut facts = ssh();
        assert_eq!(
            judged(&facts),
            (
                Answer::Yes,
                "server proved its host key (ssh-ed25519), whether the client logged in is not known".into()
            )
        );
        if let Some(ssh) = &mut facts.ssh {
            ssh.authentication =
                SshAuthentication { state: SshAuthenticationState::Succeeded, failures: Some(0) };
        }
        assert!(judged(&facts).1.ends_with("client logged in (inferred)"));
        // By GSSAPI, without a host key.
        if let Some(ssh) = &mut facts.ssh {
            ssh.host_key = None;
            ssh.key_exchange = Some("gss-curve25519-sha256-toWM5Slw5Ew8Mqkay+al2g==".into());
        }
        let (answer, reason) = judged(&facts);
        assert_eq!(answer, Answer::Yes);
        assert!(reason.starts_with("server proved itself through GSSAPI"), "{reason}");
    }

    #[test]
    fn plaintext_proves_nothing_or_is_not_read() {
        let plain = |protocol| Facts {
            protection: Protection::Plaintext(Plain::Protocol(protocol)),
            ..Facts::unknown(UnknownReason::Silent)
        };
        assert_eq!(judge(&plain(Protocol::Redis)).answer, Answer::No);
        assert_eq!(judge(&plain(Protocol::Postgresql)).answer, Answer::Unknown);
    }
}
