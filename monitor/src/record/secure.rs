//! What a handshake told, as the ECS and OCSF records have it.

use dissect::{
    Basis, Certificate, ClientCertificateState, EarlyData, End, Facts, SshAuthenticationState, SshFacts,
    TlsFacts,
};
use serde::Serialize;

use crate::posture;

/// The ECS field set `tls`.
#[derive(Serialize)]
pub(super) struct Tls<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "TlsClient::is_empty")]
    client: TlsClient<'a>,
    #[serde(skip_serializing_if = "TlsServer::is_empty")]
    server: TlsServer<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    established: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
}

#[derive(Serialize)]
struct TlsClient<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja3: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<&'a str>,
    #[serde(flatten)]
    certificate: Option<TlsCertificate<'a>>,
}

impl TlsClient<'_> {
    fn is_empty(&self) -> bool {
        let TlsClient { server_name, ja3, ja4, certificate } = self;
        server_name.is_none() && ja3.is_none() && ja4.is_none() && certificate.is_none()
    }
}

#[derive(Serialize)]
struct TlsServer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ja3s: Option<&'a str>,
    #[serde(flatten)]
    certificate: Option<TlsCertificate<'a>>,
}

impl TlsServer<'_> {
    fn is_empty(&self) -> bool {
        self.ja3s.is_none() && self.certificate.is_none()
    }
}

/// The first certificate of a chain: `tls.server.*` and `tls.client.*` have the same names.
#[derive(Serialize)]
pub(super) struct TlsCertificate<'a> {
    subject: &'a str,
    issuer: &'a str,
    hash: Hash,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    x509: X509<'a>,
}

/// ECS wants certificate hashes in upper case.
#[derive(Serialize)]
struct Hash {
    sha256: String,
}

#[derive(Serialize)]
struct X509<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alternative_names: Vec<&'a str>,
    serial_number: String,
    public_key_algorithm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key_size: Option<u32>,
    signature_algorithm: &'a str,
}

impl<'a> TlsCertificate<'a> {
    pub fn new(certificate: &'a Certificate) -> Self {
        let value = |name: &'a String| name.split_once(':').map_or(name.as_str(), |(_, value)| value);
        TlsCertificate {
            subject: &certificate.subject,
            issuer: &certificate.issuer,
            hash: Hash { sha256: certificate.sha256.to_uppercase() },
            not_before: time(certificate.not_before),
            not_after: time(certificate.not_after),
            x509: X509 {
                alternative_names: certificate.alternative_names.iter().map(value).collect(),
                serial_number: certificate.serial.to_uppercase(),
                public_key_algorithm: &certificate.key_type,
                public_key_size: (certificate.key_bits != 0).then_some(certificate.key_bits),
                signature_algorithm: &certificate.signature_algorithm,
            },
        }
    }
}

/// As all times of a record are.
fn time(seconds: i64) -> Option<String> {
    posture::date_of(seconds).map(|date| format!("{date:.9}Z"))
}

impl<'a> Tls<'a> {
    /// Of a flow of which these are the facts; `None`: they hold no handshake of TLS.
    pub fn of(flow: &'a Facts) -> Option<Self> {
        let facts = flow.tls.as_ref()?;
        Some(Tls {
            version: facts.version.as_deref(),
            version_protocol: facts.version_protocol.as_deref(),
            cipher: facts.cipher.as_deref(),
            curve: facts.group.as_deref(),
            next_protocol: facts.alpn.as_deref(),
            client: TlsClient {
                server_name: facts.server_name.as_deref(),
                ja3: facts.ja3.as_deref(),
                ja4: facts.ja4.as_deref(),
                certificate: facts.client_certificates.first().map(TlsCertificate::new),
            },
            server: TlsServer {
                ja3s: facts.ja3s.as_deref(),
                certificate: facts.server_certificates.first().map(TlsCertificate::new),
            },
            established: flow.is_established(),
            resumed: facts.resumed,
        })
    }
}

/// What ECS has no name for in a TLS handshake: `streamwatch.tls`.
#[derive(Serialize)]
pub(super) struct TlsMore<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_exchange: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_quantum: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_quantum_offered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_offered: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4s: Option<&'a str>,
    client_certificate: ClientCertificate,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    encrypted_client_hello: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retried: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    renegotiated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    early_data: Option<EarlyData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<Alert<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    alpn_offered: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Chain<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Chain<'a>>,
}

#[derive(Serialize)]
struct ClientCertificate {
    state: ClientCertificateState,
    #[serde(skip_serializing_if = "Option::is_none")]
    basis: Option<Basis>,
}

#[derive(Serialize)]
struct Alert<'a> {
    from: End,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

/// What ECS has no name for in a chain.
#[derive(Serialize)]
struct Chain<'a> {
    chain_length: usize,
    /// Each was issued by the next one, as far as that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_order: Option<bool>,
    key_sha256: &'a str,
    self_signed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<&'a str>,
}

impl<'a> Chain<'a> {
    fn new(certificates: &'a [Certificate]) -> Option<Self> {
        let first = certificates.first()?;
        let mut links = certificates.iter().filter_map(|it| it.issued_by_next).peekable();
        let in_order = links.peek().is_some().then(|| links.all(|it| it));
        Some(Chain {
            chain_length: certificates.len(),
            in_order,
            key_sha256: &first.key_sha256,
            self_signed: first.self_signed,
            spiffe_id: first.spiffe_id.as_deref(),
        })
    }
}

impl<'a> TlsMore<'a> {
    pub fn new(facts: &'a TlsFacts) -> Self {
        let of_suite = || facts.cipher.as_deref().and_then(posture::key_exchange_of);
        TlsMore {
            key_exchange: facts.group.as_deref().or_else(of_suite),
            post_quantum: posture::tls_post_quantum(facts),
            post_quantum_offered: facts.post_quantum_offered,
            version_offered: facts.version_offered.as_deref(),
            signature: facts.signature.as_deref(),
            ja4s: facts.ja4s.as_deref(),
            client_certificate: ClientCertificate {
                state: facts.client_certificate.state,
                basis: facts.client_certificate.basis,
            },
            encrypted_client_hello: facts.encrypted_client_hello,
            retried: facts.retried,
            renegotiated: facts.renegotiated,
            early_data: facts.early_data,
            alert: facts
                .alert
                .as_ref()
                .map(|alert| Alert { from: alert.from, description: alert.description.as_deref() }),
            alpn_offered: &facts.alpn_offered,
            server: Chain::new(&facts.server_certificates),
            client: Chain::new(&facts.client_certificates),
        }
    }
}

/// `streamwatch.ssh`.
#[derive(Serialize)]
pub(super) struct Ssh<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_exchange: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_quantum: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_mac: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_mac: Option<&'a str>,
    authentication: SshLogIn,
}

/// Inferred, always: from the lengths and the order of encrypted packets.
#[derive(Serialize)]
struct SshLogIn {
    state: SshAuthenticationState,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
}

impl<'a> Ssh<'a> {
    pub fn new(facts: &'a SshFacts) -> Self {
        Ssh {
            client_version: facts.client_version.as_deref(),
            server_version: facts.server_version.as_deref(),
            key_exchange: facts.key_exchange.as_deref(),
            post_quantum: facts.post_quantum,
            host_key: facts.host_key.as_deref(),
            client_cipher: facts.client_cipher.as_deref(),
            server_cipher: facts.server_cipher.as_deref(),
            client_mac: facts.client_mac.as_deref(),
            server_mac: facts.server_mac.as_deref(),
            authentication: SshLogIn {
                state: facts.authentication.state,
                failures: facts.authentication.failures,
            },
        }
    }
}
