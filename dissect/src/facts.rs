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
    Redis,
    Rsync,
    Smtp,
    Ssh,
    Ssdp,
    Statsd,
    Stomp,
    Syslog,
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
            Protocol::Redis => "redis",
            Protocol::Rsync => "rsync",
            Protocol::Smtp => "smtp",
            Protocol::Ssh => "ssh",
            Protocol::Ssdp => "ssdp",
            Protocol::Statsd => "statsd",
            Protocol::Stomp => "stomp",
            Protocol::Syslog => "syslog",
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
        matches!(self, Protocol::Dns | Protocol::Ntp | Protocol::Dhcp | Protocol::Mdns | Protocol::Ssdp)
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
    /// The first bytes were lost.
    FirstBytesLost,
    /// Opened before we started, and the bytes since then decide nothing.
    OpenedBefore,
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
}

/// An SSH identification exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SshFacts {
    /// The client's identification string, without line end.
    pub client_version: Option<String>,
    /// The server's.
    pub server_version: Option<String>,
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
}
