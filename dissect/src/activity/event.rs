//! What can be said of a connection in the clear. Strings are capped and printable; none is a secret.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Told once a connection.
    Operation(Operation),
    /// Told each time.
    Authentication(Authentication),
    /// Told once a connection.
    Credential(Credential),
}

/// What a client does with a thing, or may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Read,
    Write,
    Admin,
}

impl Verb {
    pub const ALL: [Verb; 3] = [Verb::Read, Verb::Write, Verb::Admin];

    /// What a request of HTTP does, by its method in upper case (RFC 9110 section 9.2.1: safe methods
    /// read; RFC 3253, 4918 and 5323 for those of WebDAV).
    pub fn of_http_method(method: &[u8]) -> Verb {
        match method {
            b"GET" | b"HEAD" | b"OPTIONS" | b"PROPFIND" | b"REPORT" | b"SEARCH" | b"TRACE" => Verb::Read,
            _ => Verb::Write,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Admin => "admin",
        }
    }
}

/// The client asked for this; whether it was done is the server's to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Operation {
    pub verb: Verb,
    /// `topic`, `queue`, `exchange`, `subject`, `path`, `statement`, `command`, `directory`, `file`,
    /// `mailbox`, `mail`.
    pub kind: &'static str,
    /// Which one, at most 255 characters; `None`: its name could not be read. A statement is its kind
    /// (`SELECT`), a command its name. A path stands behind its method (`GET /a/b`) and is without its
    /// query; `…` stands for a part that was left out, or for its end.
    pub object: Option<String>,
}

impl fmt::Display for Operation {
    /// `write topic payments`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.kind)?;
        match &self.object {
            Some(object) => write!(f, " {}", object.escape_debug()),
            None => Ok(()),
        }
    }
}

/// How a log-in went, by the server's own answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authentication {
    pub outcome: Outcome,
    /// The protocol's name and the server's code, e.g. `HTTP 401`, `PostgreSQL 28P01`.
    pub code: String,
    /// Whether the client had presented anything to be judged; a refusal without is, as a rule, the
    /// first half of a log-in. `true` where that was not seen.
    pub presented: bool,
    /// Who answered, where that is not the server of the flow but whom its client asked it for a tunnel to, e.g.
    /// `a.example:3128`.
    pub at: Option<String>,
}

/// See [`Authentication`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Failed,
    Succeeded,
}

/// A secret that crossed the connection in the clear: what kind and where, never which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Credential {
    pub kind: CredentialKind,
    /// Where it stood, e.g. `HTTP Authorization header (Basic)`.
    pub place: &'static str,
    /// By the caller's key: tells two secrets apart, and says nothing about either.
    pub fingerprint: u64,
    /// Of a JSON Web Token.
    pub token: Option<Token>,
    /// What it went before, on the same connection: the answers of the flow are about that.
    pub before: Option<Before>,
}

/// See [`Credential`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Before {
    /// A proxy's tunnel, which the client asked for with it.
    Tunnel,
    /// Another protocol, that both ends agreed to go on with.
    Upgrade,
}

/// Kinds of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    Password,
    BearerToken,
    JsonWebToken,
    ApiKey,
    SessionCookie,
    AwsKey,
    GcpKey,
    GithubToken,
    SlackToken,
    PrivateKey,
}

impl CredentialKind {
    pub fn as_str(self) -> &'static str {
        match self {
            CredentialKind::Password => "password",
            CredentialKind::BearerToken => "bearer-token",
            CredentialKind::JsonWebToken => "json-web-token",
            CredentialKind::ApiKey => "api-key",
            CredentialKind::SessionCookie => "session-cookie",
            CredentialKind::AwsKey => "aws-key",
            CredentialKind::GcpKey => "gcp-key",
            CredentialKind::GithubToken => "github-token",
            CredentialKind::SlackToken => "slack-token",
            CredentialKind::PrivateKey => "private-key",
        }
    }

    /// For people, with its article.
    pub fn describe(self) -> &'static str {
        match self {
            CredentialKind::Password => "a password",
            CredentialKind::BearerToken => "a bearer token",
            CredentialKind::JsonWebToken => "a JSON Web Token",
            CredentialKind::ApiKey => "an API key",
            CredentialKind::SessionCookie => "a session cookie",
            CredentialKind::AwsKey => "an AWS key",
            CredentialKind::GcpKey => "a Google Cloud key",
            CredentialKind::GithubToken => "a GitHub token",
            CredentialKind::SlackToken => "a Slack token",
            CredentialKind::PrivateKey => "a private key",
        }
    }
}

/// What a JSON Web Token says of itself (RFC 7519). Nothing of it is verified; times are seconds since
/// 1970-01-01 UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Token {
    /// `alg` of the header, as it stands there.
    pub algorithm: Option<String>,
    pub expires_at: Option<i64>,
    pub issued_at: Option<i64>,
    /// At most 16.
    pub scopes: Vec<String>,
    /// At most 8.
    pub audience: Vec<String>,
}

/// Turns a secret into a number that tells it from another one: a keyed hash.
pub trait Fingerprint {
    fn of(&self, secret: &[u8]) -> u64;
}

impl<F: Fn(&[u8]) -> u64> Fingerprint for F {
    fn of(&self, secret: &[u8]) -> u64 {
        self(secret)
    }
}
