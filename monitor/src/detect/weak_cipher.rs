//! `weak-cipher`: a suite, an SSH algorithm, a key or a signature that is weak.
//!
//! Of a chain every certificate is looked at, but the signature of a root, which nobody relies on.
//! False positives: none; all of it is as negotiated.

use dissect::{Certificate, Plain, Protection, Protocol, SshFacts, TlsFacts};

use super::posture::{Fault, Sight};
use crate::model::{Rule, Severity};
use crate::posture::{Weakness, shown, weaknesses};

const SUITE: &str = "Have the server offer ECDHE suites with AES-GCM or ChaCha20-Poly1305 only, and the client accept \
                     no others.";
const CERTIFICATE: &str = "Have the certificate issued anew, with an ECDSA P-256 or RSA 2048 key or better, signed with \
                           SHA-256 or better.";
const SSH: &str = "Take the algorithm out of sshd_config, or update the older of the two ends.";

pub(super) fn fault(sight: &Sight<'_>) -> Option<Fault> {
    let mut fault = Fault::new(Rule::WeakCipher);
    // TLS whose suite encrypts nothing is plaintext, and the worst of suites.
    let null = Protection::Plaintext(Plain::Protocol(Protocol::Tls));
    let null_datagrams = Protection::Plaintext(Plain::Protocol(Protocol::Dtls));
    let protection = &sight.facts.protection;
    if matches!(protection, Protection::Encrypted(_)) || [null, null_datagrams].contains(protection) {
        if let Some(tls) = &sight.facts.tls {
            suite(&mut fault, tls, sight);
            let ends = [("server", &tls.server_certificates), ("client", &tls.client_certificates)];
            for (end, chain) in ends {
                for (at, certificate) in chain.iter().enumerate() {
                    weak_certificate(&mut fault, end, at, certificate, sight);
                }
            }
        }
        if let Some(ssh) = &sight.facts.ssh {
            weak_ssh(&mut fault, ssh);
        }
    }
    fault.add_breaches(sight, Severity::High, SUITE);
    fault.found()
}

fn suite(fault: &mut Fault, tls: &TlsFacts, sight: &Sight<'_>) {
    let settings = &sight.settings.weak_cipher;
    if let Some(name) = &tls.cipher {
        for weakness in weaknesses(name) {
            let severity = match weakness {
                Weakness::Null | Weakness::Anonymous | Weakness::Export | Weakness::Obsolete => {
                    Severity::Critical
                }
                Weakness::Rc4 | Weakness::TripleDes | Weakness::Md5 => Severity::High,
                Weakness::StaticKey if settings.static_keys => Severity::Medium,
                Weakness::CbcSha1 if settings.cbc_sha1 => Severity::Low,
                Weakness::StaticKey | Weakness::CbcSha1 => continue,
            };
            fault.add(severity, format!("uses {name}, which {}", weakness.as_str()), SUITE);
        }
    }
    if let Some(scheme) = tls.signature.as_deref().filter(|it| it.contains("sha1") || it.contains("md5")) {
        fault.add(Severity::Medium, format!("has a handshake that is signed by {scheme}"), SUITE);
    }
}

/// Also used on certificates that an audit finds.
pub(crate) fn weak_key(certificate: &Certificate, rsa_bits: u32) -> Option<String> {
    let Certificate { key_type, key_bits, .. } = certificate;
    if key_type.starts_with("RSA") && *key_bits != 0 && *key_bits < rsa_bits {
        return Some(format!("an {key_type} key of {key_bits} bits"));
    }
    let short_curve = key_type.starts_with("EC") && *key_bits != 0 && *key_bits < 224;
    (key_type == "DSA" || short_curve).then(|| format!("a {key_type} key"))
}

/// See [`weak_key`]. Collisions of MD5 and SHA-1 have been used to forge certificates.
pub(crate) fn weak_signature(certificate: &Certificate) -> Option<&str> {
    let name = certificate.signature_algorithm.as_str();
    let lower = name.to_ascii_lowercase();
    ["sha1", "md5", "md2"].iter().any(|hash| lower.contains(hash)).then_some(name)
}

fn weak_certificate(fault: &mut Fault, end: &str, at: usize, certificate: &Certificate, sight: &Sight<'_>) {
    let whose = || format!("has a {end} certificate of `{}`", shown(certificate, None));
    if let Some(key) = weak_key(certificate, sight.settings.weak_cipher.rsa_bits) {
        fault.add(Severity::High, format!("{} with {key}", whose()), CERTIFICATE);
    }
    let is_root = at > 0 && certificate.self_signed;
    if !is_root && let Some(name) = weak_signature(certificate) {
        fault.add(Severity::High, format!("{} that is signed with {name}", whose()), CERTIFICATE);
    }
}

/// RFC 8758, RFC 9142, RFC 8270; OpenSSH's own list of what is off by default.
fn weak_ssh(fault: &mut Fault, ssh: &SshFacts) {
    if ssh.server_version.as_deref().is_some_and(|it| it.starts_with("SSH-1.") && !it.starts_with("SSH-1.99"))
    {
        fault.add(Severity::Critical, "uses SSH 1, which is broken", SSH);
    }
    for cipher in [&ssh.client_cipher, &ssh.server_cipher].into_iter().flatten() {
        let broken = ["arcfour", "des-cbc", "3des", "blowfish", "cast128", "none"];
        if broken.iter().any(|name| cipher.starts_with(name)) {
            fault.add(Severity::High, format!("uses the SSH cipher {cipher}"), SSH);
        }
    }
    for mac in [&ssh.client_mac, &ssh.server_mac].into_iter().flatten() {
        if mac == "none" || mac.starts_with("hmac-md5") || mac.starts_with("hmac-sha1-96") {
            fault.add(Severity::Medium, format!("uses the SSH MAC {mac}"), SSH);
        }
    }
    if let Some(key_exchange) = ssh.key_exchange.as_deref().filter(|it| it.ends_with("-sha1")) {
        let severity = if key_exchange.contains("group1-") { Severity::High } else { Severity::Medium };
        fault.add(severity, format!("exchanges keys by {key_exchange}"), SSH);
    }
    if let Some(host_key) = ssh.host_key.as_deref().filter(|it| matches!(*it, "ssh-dss" | "ssh-rsa")) {
        let severity = if host_key == "ssh-dss" { Severity::High } else { Severity::Medium };
        fault.add(severity, format!("has a host key that signs with SHA-1 ({host_key})"), SSH);
    }
}

#[cfg(test)]
mod tests {
    use super::super::posture::tests::looked;
    use super::*;
    use crate::config::Detect;
    use crate::posture::tests::{ssh, tls};

    fn severity(suite: &str, settings: &Detect) -> Option<Severity> {
        looked(fault, &tls("1.2", suite, None), settings, 0).map(|found| found.0)
    }

    #[test]
    fn suites_by_how_weak_they_are() {
        let mut settings = Detect::default();
        for (suite, expected) in [
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", None),
            ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
            ("TLS_RSA_WITH_AES_128_GCM_SHA256", Some(Severity::Medium)),
            ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", Some(Severity::High)),
            ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", Some(Severity::High)),
            ("TLS_ECDHE_RSA_WITH_NULL_SHA", Some(Severity::Critical)),
            ("TLS_DH_anon_WITH_AES_128_GCM_SHA256", Some(Severity::Critical)),
            ("TLS_RSA_EXPORT_WITH_RC4_40_MD5", Some(Severity::Critical)),
        ] {
            assert_eq!(severity(suite, &settings), expected, "{suite}");
        }
        settings.weak_cipher.cbc_sha1 = true;
        settings.weak_cipher.static_keys = false;
        assert_eq!(severity("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", &settings), Some(Severity::Low));
        assert_eq!(severity("TLS_RSA_WITH_AES_128_GCM_SHA256", &settings), None);
    }

    /// As the dissectors say it: a suite without encryption is no encryption.
    #[test]
    fn a_suite_that_encrypts_nothing_is_told_though_it_is_plaintext() {
        for protocol in [Protocol::Tls, Protocol::Dtls] {
            let mut facts = tls("1.2", "TLS_RSA_WITH_NULL_SHA256", None);
            facts.protection = Protection::Plaintext(Plain::Protocol(protocol));
            let found = looked(fault, &facts, &Detect::default(), 0);
            assert_eq!(found.map(|found| found.0), Some(Severity::Critical), "{protocol:?}");
        }
    }

    #[test]
    fn keys_and_signatures_of_certificates() {
        let with = |certificates: Vec<Certificate>| {
            let mut facts = tls("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", None);
            if let Some(tls) = &mut facts.tls {
                tls.server_certificates = certificates;
            }
            looked(fault, &facts, &Detect::default(), 0)
        };
        let good = Certificate {
            subject: "CN=a".into(),
            key_type: "RSA".into(),
            key_bits: 2048,
            signature_algorithm: "sha256WithRSAEncryption".into(),
            ..Certificate::default()
        };
        assert_eq!(with(vec![good.clone()]), None);
        let short = Certificate { key_bits: 1024, ..good.clone() };
        let (severity, what) = with(vec![short]).expect("found");
        assert_eq!(severity, Severity::High);
        assert_eq!(what, "has a server certificate of `a` with an RSA key of 1024 bits");
        let sha1 = Certificate { signature_algorithm: "sha1WithRSAEncryption".into(), ..good.clone() };
        assert!(with(vec![sha1.clone()]).is_some());
        let root = Certificate { self_signed: true, ..sha1 };
        assert_eq!(with(vec![good.clone(), root]), None);
        let unread = Certificate { sha256: "00".into(), ..Certificate::default() };
        assert_eq!(with(vec![unread]), None);
    }

    #[test]
    fn ssh_algorithms() {
        let settings = Detect::default();
        let mut facts = ssh();
        assert_eq!(looked(fault, &facts, &settings, 0), None);
        if let Some(ssh) = &mut facts.ssh {
            ssh.key_exchange = Some("diffie-hellman-group1-sha1".into());
            ssh.server_cipher = Some("3des-cbc".into());
        }
        let (severity, what) = looked(fault, &facts, &settings, 0).expect("found");
        assert_eq!(severity, Severity::High);
        assert_eq!(what, "uses the SSH cipher 3des-cbc, and exchanges keys by diffie-hellman-group1-sha1");
    }
}
