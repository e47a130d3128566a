//! How well a flow is encrypted, in the words that people use. Pure.
//!
//! In: [`Facts`]. Out: one short line, and the class of protection that sums are made by. Must never:
//! name what was only offered, or fill in what was not seen.

mod date;
mod level;
mod names;
mod suite;

use dissect::{Cipher, ClientCertificateState, Facts, Plain, Protection, SshAuthenticationState, TlsFacts};

pub use date::date_of;
pub use level::TlsVersion;
pub use names::{common_name, common_name_of_host, is_meant, says_whether_for, shown};
pub use suite::{
    Authentication, Weakness, authentication, cipher, key_exchange as key_exchange_of, weaknesses,
};

/// What was not seen.
pub const UNKNOWN: &str = "unknown";

/// What flows are counted by: how each is protected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    /// `TLS 1.3`, `SSH 2.0`, `plaintext`, `unknown`.
    pub version: String,
    /// `X25519MLKEM768`, `RSA`; `none` of plaintext; `unknown`.
    pub key_exchange: String,
    /// `AES-256-GCM`; `none`, `unknown`.
    pub cipher: String,
    /// `None`: not known.
    pub post_quantum: Option<bool>,
}

impl Class {
    pub fn of(facts: &Facts) -> Class {
        let unknown = || UNKNOWN.to_owned();
        match facts.protection {
            Protection::Plaintext(_) => Class {
                version: "plaintext".into(),
                key_exchange: "none".into(),
                cipher: "none".into(),
                post_quantum: Some(false),
            },
            Protection::Unknown(_) => {
                Class { version: unknown(), key_exchange: unknown(), cipher: unknown(), post_quantum: None }
            }
            Protection::Encrypted(_) => Class {
                version: version(facts).unwrap_or_else(unknown),
                key_exchange: key_exchange(facts).unwrap_or_else(unknown),
                cipher: bulk_cipher(facts).unwrap_or_else(unknown),
                post_quantum: post_quantum(facts),
            },
        }
    }
}

/// Protocol and version of what encrypts the flow: `TLS 1.3`, `QUIC (TLS 1.3)`, `SSH 2.0`.
pub fn version(facts: &Facts) -> Option<String> {
    if let Some(tls) = &facts.tls {
        return Some(tls_version(tls));
    }
    match facts.protection {
        Protection::Encrypted(Cipher::Ssh) => Some(match ssh_protocol(facts) {
            Some(protocol) => format!("SSH {protocol}"),
            None => "SSH".to_owned(),
        }),
        Protection::Encrypted(cipher) => Some(cipher_name(cipher).to_owned()),
        _ => None,
    }
}

/// The version with its protocol: `TLS 1.2`, `SSL 3.0`, `DTLS 1.2`; without a version, the protocol.
pub fn tls_version(tls: &TlsFacts) -> String {
    let name = match tls.version_protocol.as_deref() {
        Some("quic") => "QUIC",
        Some("dtls") => "DTLS",
        Some("ssl") => "SSL",
        _ => "TLS",
    };
    match (&tls.version, name) {
        (Some(version), "QUIC") => format!("QUIC (TLS {version})"),
        (Some(version), _) => format!("{name} {version}"),
        (None, _) => name.to_owned(),
    }
}

fn cipher_name(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Tls => "TLS",
        Cipher::Dtls => "DTLS",
        Cipher::Quic => "QUIC",
        Cipher::Ssh => "SSH",
        Cipher::Wireguard => "WireGuard",
    }
}

/// `2.0` of `SSH-2.0-OpenSSH_9.2` (RFC 4253 section 4.2); the server's word decides.
fn ssh_protocol(facts: &Facts) -> Option<&str> {
    let ssh = facts.ssh.as_ref()?;
    let text = ssh.server_version.as_deref().or(ssh.client_version.as_deref())?;
    let version = text.strip_prefix("SSH-")?.split('-').next()?;
    // A server that speaks both announces 1.99 (section 5.1); who then meets is seen in the key exchange.
    if version == "1.99" && ssh.key_exchange.is_some() { Some("2.0") } else { Some(version) }
}

/// The negotiated group, else the key exchange that the suite names.
pub fn key_exchange(facts: &Facts) -> Option<String> {
    if let Some(tls) = &facts.tls {
        let of_suite = || tls.cipher.as_deref().and_then(suite::key_exchange).map(str::to_owned);
        return tls.group.clone().or_else(of_suite);
    }
    match (&facts.ssh, facts.protection) {
        (Some(ssh), _) => ssh.key_exchange.as_deref().map(without_domain).map(str::to_owned),
        // Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s: there is no other.
        (None, Protection::Encrypted(Cipher::Wireguard)) => Some("x25519".to_owned()),
        _ => None,
    }
}

/// The cipher of the payload, as people call it.
pub fn bulk_cipher(facts: &Facts) -> Option<String> {
    if let Some(tls) = &facts.tls {
        return tls.cipher.as_deref().map(suite::cipher);
    }
    match (&facts.ssh, facts.protection) {
        (Some(ssh), _) => {
            let (client, server) = (ssh.client_cipher.as_deref(), ssh.server_cipher.as_deref());
            client.or(server).map(without_domain).map(str::to_owned)
        }
        (None, Protection::Encrypted(Cipher::Wireguard)) => Some("CHACHA20-POLY1305".to_owned()),
        _ => None,
    }
}

/// Whether a recording of the flow withstands a quantum computer. Before TLS 1.3 there is no key
/// exchange that does; WireGuard's may be strengthened by a shared key, which cannot be seen.
pub fn post_quantum(facts: &Facts) -> Option<bool> {
    if let Some(tls) = &facts.tls {
        return tls_post_quantum(tls);
    }
    facts.ssh.as_ref().and_then(|ssh| ssh.post_quantum)
}

/// See [`post_quantum`].
pub fn tls_post_quantum(tls: &TlsFacts) -> Option<bool> {
    let by_group = || tls.group.as_deref().map(is_post_quantum_group);
    let classical = matches!(
        (tls.version_protocol.as_deref(), tls.version.as_deref()),
        (Some("ssl"), _) | (_, Some("1.0" | "1.1" | "1.2"))
    );
    tls.post_quantum.or_else(by_group).or_else(|| classical.then_some(false))
}

/// The ML-KEM groups and hybrids of the IANA registry (draft-ietf-tls-ecdhe-mlkem), and their Kyber
/// drafts.
pub fn is_post_quantum_group(group: &str) -> bool {
    group.contains("MLKEM") || group.contains("Kyber")
}

/// TLS 1.1 and earlier, DTLS 1.0, SSL (RFC 8996), SSH 1.
pub fn is_deprecated(facts: &Facts) -> bool {
    let tls = facts.tls.as_ref().is_some_and(|tls| {
        tls.version_protocol.as_deref() == Some("ssl")
            || matches!(tls.version.as_deref(), Some("1.0" | "1.1"))
    });
    tls || ssh_protocol(facts).is_some_and(|version| version.starts_with("1."))
}

/// How bad it is, the worst first: what a stream shows of its flows. What is not known says nothing of
/// the others, and ranks last.
pub fn rank(facts: &Facts) -> u8 {
    match facts.protection {
        Protection::Plaintext(_) => 0,
        Protection::Encrypted(_) => {
            let tls = facts.tls.as_ref();
            let weak =
                tls.and_then(|tls| tls.cipher.as_deref()).is_some_and(|suite| !weaknesses(suite).is_empty());
            match tls.map(|tls| (tls.version_protocol.as_deref(), tls.version.as_deref())) {
                Some((Some("ssl"), _)) => 1,
                Some((_, Some("1.0"))) => 2,
                Some((_, Some("1.1"))) => 3,
                _ if is_deprecated(facts) => 3,
                _ if weak => 4,
                Some((_, Some("1.2"))) => 5,
                _ if post_quantum(facts) == Some(true) => 7,
                _ => 6,
            }
        }
        Protection::Unknown(_) if facts.tls.is_some() => 8,
        Protection::Unknown(_) => 9,
    }
}

/// `TLS 1.3 X25519MLKEM768 AES-256-GCM mTLS`, `http in the clear`; `None`: nothing is known.
pub fn line(facts: &Facts) -> Option<String> {
    match facts.protection {
        Protection::Plaintext(Plain::Protocol(protocol)) => {
            return Some(format!("{} in the clear", protocol.as_str()));
        }
        Protection::Plaintext(Plain::Readable) => return Some("in the clear".to_owned()),
        Protection::Unknown(_) => {
            let tls = facts.tls.as_ref()?;
            let alert = tls.alert.as_ref()?;
            let what = alert.description.as_deref().unwrap_or("an encrypted alert");
            return Some(format!("{} failed: {what}", tls_version(tls)));
        }
        Protection::Encrypted(_) => {}
    }
    let mut parts = vec![version(facts)?];
    parts.extend(key_exchange(facts));
    parts.extend(bulk_cipher(facts));
    if let Some(tls) = &facts.tls
        && tls.client_certificate.state == ClientCertificateState::Presented
    {
        parts.push("mTLS".to_owned());
    }
    if let Some(ssh) = &facts.ssh
        && ssh.authentication.state == SshAuthenticationState::Succeeded
    {
        parts.push("logged-in".to_owned());
    }
    Some(parts.join(" "))
}

/// `chacha20-poly1305` of `chacha20-poly1305@openssh.com` (RFC 4251 section 6).
fn without_domain(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

#[cfg(test)]
pub(crate) mod tests {
    use dissect::{ClientCertificate, Protocol, SshFacts, UnknownReason};

    use super::*;

    /// An established TLS flow.
    pub(crate) fn tls(version: &str, cipher: &str, group: Option<&str>) -> Facts {
        Facts {
            protocol: Some(Protocol::Tls),
            protection: Protection::Encrypted(Cipher::Tls),
            tls: Some(TlsFacts {
                version: Some(version.into()),
                version_protocol: Some(if version == "3.0" { "ssl" } else { "tls" }.into()),
                cipher: Some(cipher.into()),
                group: group.map(Into::into),
                server_name: Some("api.example.org".into()),
                established: true,
                ..TlsFacts::default()
            }),
            ..Facts::unknown(UnknownReason::Silent)
        }
    }

    /// An SSH flow after its key exchange.
    pub(crate) fn ssh() -> Facts {
        Facts {
            protocol: Some(Protocol::Ssh),
            protection: Protection::Encrypted(Cipher::Ssh),
            ssh: Some(SshFacts {
                client_version: Some("SSH-2.0-OpenSSH_9.2p1".into()),
                server_version: Some("SSH-2.0-OpenSSH_9.2p1".into()),
                key_exchange: Some("sntrup761x25519-sha512@openssh.com".into()),
                post_quantum: Some(true),
                host_key: Some("ssh-ed25519".into()),
                client_cipher: Some("chacha20-poly1305@openssh.com".into()),
                server_cipher: Some("chacha20-poly1305@openssh.com".into()),
                ..SshFacts::default()
            }),
            ..Facts::unknown(UnknownReason::Silent)
        }
    }

    #[test]
    fn one_short_line() {
        let mut facts = tls("1.3", "TLS_AES_256_GCM_SHA384", Some("X25519MLKEM768"));
        assert_eq!(line(&facts).as_deref(), Some("TLS 1.3 X25519MLKEM768 AES-256-GCM"));
        if let Some(tls) = &mut facts.tls {
            tls.client_certificate =
                ClientCertificate { state: ClientCertificateState::Presented, basis: None };
        }
        assert_eq!(line(&facts).as_deref(), Some("TLS 1.3 X25519MLKEM768 AES-256-GCM mTLS"));
        assert_eq!(
            line(&tls("3.0", "TLS_RSA_WITH_RC4_128_SHA", None)).as_deref(),
            Some("SSL 3.0 RSA RC4-128-SHA")
        );
        assert_eq!(line(&ssh()).as_deref(), Some("SSH 2.0 sntrup761x25519-sha512 chacha20-poly1305"));
        assert_eq!(line(&Facts::unknown(UnknownReason::Opaque)), None);
    }

    #[test]
    fn post_quantum_is_known_or_not() {
        assert_eq!(post_quantum(&tls("1.3", "TLS_AES_256_GCM_SHA384", Some("X25519MLKEM768"))), Some(true));
        assert_eq!(post_quantum(&tls("1.3", "TLS_AES_256_GCM_SHA384", Some("x25519"))), Some(false));
        assert_eq!(post_quantum(&tls("1.3", "TLS_AES_256_GCM_SHA384", None)), None);
        assert_eq!(post_quantum(&tls("1.2", "TLS_RSA_WITH_AES_128_CBC_SHA", None)), Some(false));
        assert_eq!(post_quantum(&ssh()), Some(true));
    }

    #[test]
    fn classes_never_fill_in() {
        let class = Class::of(&Facts::unknown(UnknownReason::Opaque));
        assert_eq!((class.version.as_str(), class.post_quantum), ("unknown", None));
        let bare = Facts {
            protection: Protection::Encrypted(Cipher::Quic),
            ..Facts::unknown(UnknownReason::Silent)
        };
        let class = Class::of(&bare);
        assert_eq!((class.version.as_str(), class.key_exchange.as_str()), ("QUIC", "unknown"));
    }
}
