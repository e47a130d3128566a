//! What can be said of a connection in the clear. Strings are capped and printable; none is a secret.

use serde::Serialize;

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

/// What a client may do with a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    Read,
    Write,
    Admin,
}

impl Verb {
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
    /// Which one, at most 255 characters; a path is without its query, a statement is its kind
    /// (`SELECT`), a command its name.
    pub object: Option<String>,
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
