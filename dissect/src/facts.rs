//! What a dissector can say. Strings are capped at 255 bytes and hold no control characters.

use serde::Serialize;

/// An application or security protocol, recognised by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Amqp,
    Amqp1,
    Bgp,
    Cassandra,
    Dhcp,
    Dns,
    Dtls,
    Ftp,
    Git,
    Grpc,
    Http,
    Http2,
    Imap,
    Kafka,
    Ldap,
    Mdns,
    Memcached,
    Mongodb,
    Mqtt,
    Mysql,
    Nats,
    Ntp,
    Pop3,
    Postgresql,
    Quic,
    Rdp,
    Redis,
    Rsync,
    Smtp,
    Socks,
    Ssh,
    Ssdp,
    Statsd,
    Stomp,
    Stun,
    Syslog,
    Tds,
    Telnet,
    Tls,
    Websocket,
    Wireguard,
    Xmpp,
    Zookeeper,
}

impl Protocol {
    /// The name used in records: the ECS `network.protocol` value, lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Amqp => "amqp",
            Protocol::Amqp1 => "amqp1",
            Protocol::Bgp => "bgp",
            Protocol::Cassandra => "cassandra",
            Protocol::Dhcp => "dhcp",
            Protocol::Dns => "dns",
            Protocol::Dtls => "dtls",
            Protocol::Ftp => "ftp",
            Protocol::Git => "git",
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
            Protocol::Http2 => "http2",
            Protocol::Imap => "imap",
            Protocol::Kafka => "kafka",
            Protocol::Ldap => "ldap",
            Protocol::Mdns => "mdns",
            Protocol::Memcached => "memcached",
            Protocol::Mongodb => "mongodb",
            Protocol::Mqtt => "mqtt",
            Protocol::Mysql => "mysql",
            Protocol::Nats => "nats",
            Protocol::Ntp => "ntp",
            Protocol::Pop3 => "pop3",
            Protocol::Postgresql => "postgresql",
            Protocol::Quic => "quic",
            Protocol::Rdp => "rdp",
            Protocol::Redis => "redis",
            Protocol::Rsync => "rsync",
            Protocol::Smtp => "smtp",
            Protocol::Socks => "socks",
            Protocol::Ssh => "ssh",
            Protocol::Ssdp => "ssdp",
            Protocol::Statsd => "statsd",
            Protocol::Stomp => "stomp",
            Protocol::Stun => "stun",
            Protocol::Syslog => "syslog",
            Protocol::Tds => "tds",
            Protocol::Telnet => "telnet",
            Protocol::Tls => "tls",
            Protocol::Websocket => "websocket",
            Protocol::Wireguard => "wireguard",
            Protocol::Xmpp => "xmpp",
            Protocol::Zookeeper => "zookeeper",
        }
    }

    /// In the clear by design, on every host: shown, never alerted.
    pub fn clear_by_design(self) -> bool {
        matches!(
            self,
            Protocol::Dns | Protocol::Ntp | Protocol::Dhcp | Protocol::Mdns | Protocol::Ssdp | Protocol::Stun
        )
    }
}

/// What encrypts a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cipher {
    Tls,
    Dtls,
    Quic,
    Ssh,
    Wireguard,
}

/// Plaintext, as far as it could be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plain {
    /// A recognised protocol.
    Protocol(Protocol),
    /// Text or low entropy, of no known name.
    Readable,
}

/// Why nothing can be said. Never rounded up to "yes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownReason {
    /// No payload yet.
    Silent,
    /// Bytes are there, too few to decide.
    TooFew,
    /// A handshake has begun and is not through (or was never answered).
    Handshake,
    /// High entropy, no known protocol.
    Opaque,
    /// A known protocol that may encrypt what follows in a way that is not read.
    NotRead,
    /// The first bytes were lost.
    FirstBytesLost,
    /// Opened before we started, and the bytes since then decide nothing.
    OpenedBefore,
    /// Bytes came twice with different content, and which of them was taken decides.
    Contradictory,
}

/// The answer to "encrypted?", as the bytes alone give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    Encrypted(Cipher),
    Plaintext(Plain),
    Unknown(UnknownReason),
}

/// An in-band upgrade to TLS (STARTTLS and its kin).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Upgrade {
    /// Asked for, granted, and a TLS handshake followed.
    Taken,
    /// The server offered it or the client asked, and the flow went on in the clear.
    NotTaken,
    /// The client asked and the server said no; the flow went on in the clear.
    Refused,
}

/// A TLS, DTLS or QUIC handshake, as negotiated (not as offered).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TlsFacts {
    /// `1.3`, `1.2`, … as ECS `tls.version`; SSL 3 is `3.0` with `version_protocol` `ssl`.
    pub version: Option<String>,
    /// `tls`, `ssl`, `dtls` or `quic`.
    pub version_protocol: Option<String>,
    /// IANA name, e.g. `TLS_AES_256_GCM_SHA384`.
    pub cipher: Option<String>,
    /// IANA name of the negotiated group, where the ServerHello shows it.
    pub group: Option<String>,
    /// Server name indication.
    pub server_name: Option<String>,
    /// Negotiated ALPN, where the ServerHello shows it (TLS 1.2 and earlier).
    pub alpn: Option<String>,
    /// Offered ALPN, in order, at most 8.
    pub alpn_offered: Vec<String>,
    /// A ServerHello answered the ClientHello, and records of encrypted data followed.
    pub established: bool,
    /// Abbreviated handshake, where the wire shows it.
    pub resumed: Option<bool>,
    /// Highest version that the client offered, written as [`TlsFacts::version`] is.
    pub version_offered: Option<String>,
    /// Whether the key exchange withstands a quantum computer: by [`TlsFacts::group`], or up to TLS 1.2 by
    /// the suite; `None`: neither tells.
    pub post_quantum: Option<bool>,
    /// Whether the client offered a key share or group that does.
    pub post_quantum_offered: Option<bool>,
    /// IANA name of the signature scheme by which the server proved itself, where it is in the clear
    /// (ServerKeyExchange of TLS 1.2, and its kin).
    pub signature: Option<String>,
    /// JA3 of the ClientHello: MD5, lower-case hex.
    pub ja3: Option<String>,
    /// JA3S of the ServerHello.
    pub ja3s: Option<String>,
    /// JA4 of the ClientHello, e.g. `t13d1516h2_8daaf6152771_e5627efa2ab1`.
    pub ja4: Option<String>,
    /// JA4S of the ServerHello.
    pub ja4s: Option<String>,
    /// Encrypted Client Hello was offered: [`TlsFacts::server_name`] is the outer name, not the real one.
    pub encrypted_client_hello: bool,
    /// The server asked for another ClientHello (HelloRetryRequest; HelloVerifyRequest of DTLS; Retry of
    /// QUIC).
    pub retried: bool,
    /// 0-RTT, as far as the wire shows it.
    pub early_data: Option<EarlyData>,
    /// A second handshake within the first one was seen (TLS 1.2 and earlier).
    pub renegotiated: bool,
    /// The alert that ended the handshake.
    pub alert: Option<TlsAlert>,
    /// The server's chain as sent, its own first, where the wire shows it (TLS 1.2 and earlier); at most 8.
    pub server_certificates: Vec<Certificate>,
    /// The client's, likewise.
    pub client_certificates: Vec<Certificate>,
    /// The server's flight was seen whole, and there was neither a certificate in it nor a bare key (TLS 1.2
    /// and earlier, without a session that goes on).
    pub showed_no_certificate: bool,
    /// Whether the client proved who it is.
    pub client_certificate: ClientCertificate,
}

/// What became of data that the client sent with its first flight (RFC 8446 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyData {
    /// Offered; whether it was taken is hidden.
    Offered,
    /// Offered, and the server did not take up the session.
    Rejected,
}

/// Which end of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    Client,
    Server,
}

/// An alert that ended a handshake (RFC 8446 section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsAlert {
    pub from: End,
    /// IANA name, e.g. `bad_certificate`; `None`: encrypted, told by its length and place.
    pub description: Option<String>,
}

/// Whether the client presented a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ClientCertificate {
    pub state: ClientCertificateState,
    /// `None` with [`ClientCertificateState::Unknown`].
    pub basis: Option<Basis>,
}

/// See [`ClientCertificate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificateState {
    /// The evidence does not decide.
    #[default]
    Unknown,
    /// The server did not ask for one.
    NotRequested,
    /// It was asked for one and sent none.
    Refused,
    /// It sent one, and the handshake went through.
    Presented,
}

/// How a thing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// In the clear on the wire.
    Seen,
    /// Concluded from the lengths and the order of encrypted records.
    Inferred,
}

/// An X.509 certificate as a handshake showed it. Nothing of it is verified but what
/// [`Certificate::self_signed`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// RFC 4514, at most 255 bytes.
    pub subject: String,
    pub issuer: String,
    /// Names and addresses of the subjectAltName, as `DNS:a.example`, `IP:10.0.0.1`, `URI:…`,
    /// `email:…`; at most 32.
    pub alternative_names: Vec<String>,
    /// It has more of them, or they cannot be told: two extensions hold them, which RFC 5280 section 4.2 forbids, and
    /// whose readers differ.
    pub names_cut: bool,
    /// The first `spiffe://` URI.
    pub spiffe_id: Option<String>,
    /// Lower-case hex.
    pub serial: String,
    /// Of the whole certificate, lower-case hex.
    pub sha256: String,
    /// Of the SubjectPublicKeyInfo, lower-case hex: the same after a renewal that kept the key.
    pub key_sha256: String,
    /// `RSA`, `EC P-256`, `Ed25519`, …
    pub key_type: String,
    /// Bits; 0: not known.
    pub key_bits: u32,
    /// E.g. `sha256WithRSAEncryption`, `ecdsa-with-SHA384`.
    pub signature_algorithm: String,
    /// Seconds since 1970-01-01 UTC.
    pub not_before: i64,
    pub not_after: i64,
    /// Subject and issuer are the same name.
    pub self_signed: bool,
    /// Issued by the next one of the chain, by name; `None`: it is the last.
    pub issued_by_next: Option<bool>,
}

/// An SSH identification exchange, and what its key exchange negotiated (RFC 4253 section 7.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SshFacts {
    /// The client's identification string, without line end.
    pub client_version: Option<String>,
    /// The server's.
    pub server_version: Option<String>,
    /// Key exchange method, e.g. `sntrup761x25519-sha512@openssh.com`.
    pub key_exchange: Option<String>,
    /// Whether that withstands a quantum computer; `None`: it is not known.
    pub post_quantum: Option<bool>,
    /// Host key algorithm: how the server proved itself.
    pub host_key: Option<String>,
    /// Client to server.
    pub client_cipher: Option<String>,
    /// Server to client.
    pub server_cipher: Option<String>,
    /// `None` with ciphers that authenticate by themselves.
    pub client_mac: Option<String>,
    pub server_mac: Option<String>,
    /// Whether the client logged in.
    pub authentication: SshAuthentication,
}

/// A log-in as the lengths and the order of encrypted packets show it; inferred, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct SshAuthentication {
    pub state: SshAuthenticationState,
    /// Attempts that the server turned down, as far as they can be told; `None`: they cannot.
    pub failures: Option<u32>,
}

/// See [`SshAuthentication`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SshAuthenticationState {
    #[default]
    Unknown,
    /// The service was asked for, and what followed does not decide.
    Begun,
    /// The client went on to use the connection.
    Succeeded,
    /// The connection ended before.
    Failed,
}

/// Everything that the first bytes told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The application protocol, where known; `Tls`, `Quic`, … when only the outside is.
    pub protocol: Option<Protocol>,
    pub protection: Protection,
    pub tls: Option<TlsFacts>,
    pub ssh: Option<SshFacts>,
    pub upgrade: Option<Upgrade>,
    /// One short phrase for people, e.g. `GET /health to example.org`, never a secret: method and
    /// path without query, software versions, database or user names are not included.
    pub detail: Option<String>,
}

impl Facts {
    /// Whether its handshake of TLS went through; `None`: there is none, or not enough of it was seen to say.
    pub fn is_established(&self) -> Option<bool> {
        let established = self.tls.as_ref()?.established;
        let seen = !matches!(
            self.protection,
            Protection::Unknown(
                UnknownReason::FirstBytesLost | UnknownReason::OpenedBefore | UnknownReason::Contradictory
            )
        );
        (established || seen).then_some(established)
    }

    /// Nothing known, for this reason.
    pub fn unknown(reason: UnknownReason) -> Self {
        Facts {
            protocol: None,
            protection: Protection::Unknown(reason),
            tls: None,
            ssh: None,
            upgrade: None,
            detail: None,
        }
    }

    /// The same, once a later look at a connection of TLS 1.2 or earlier saw another handshake. Who asked
    /// for what there is hidden: that no certificate was asked for, or none was sent, no longer holds.
    /// `None`: this was known, or is none of those versions, or `seen` says no.
    pub fn renegotiated(&self, seen: impl FnOnce() -> bool) -> Option<Self> {
        let tls = self.tls.as_ref().filter(|tls| {
            let older = matches!(tls.version.as_deref(), Some("3.0" | "1.0" | "1.1" | "1.2"));
            older && tls.established && !tls.renegotiated
        })?;
        if !seen() {
            return None;
        }
        let mut tls = tls.clone();
        tls.renegotiated = true;
        if tls.client_certificate.state != ClientCertificateState::Presented {
            tls.client_certificate = ClientCertificate::default();
        }
        Some(Facts { tls: Some(tls), ..self.clone() })
    }
}
