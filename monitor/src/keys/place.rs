//! Names of places where secrets are, as the configuration has them. Anything else, above all a secret
//! itself, is refused without being repeated.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The systemd credential that is looked for first.
pub const DEFAULT_CREDENTIAL: &str = "streamwatch.key";

/// Where the key of the state is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// A credential where there is one, else a file beside the state.
    #[default]
    Auto,
    Credential(String),
    File(PathBuf),
    VaultKv {
        mount: String,
        path: String,
    },
    VaultTransit {
        mount: String,
        name: String,
    },
    AwsKms(String),
}

/// Where another secret is: a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretPlace {
    Credential(String),
    File(PathBuf),
}

/// Who we are to AWS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AwsCredentials {
    /// Of the form of `~/.aws/credentials`, profile `default`.
    In(SecretPlace),
    /// The token of a web identity (IRSA, for example), for which STS gives credentials.
    WebIdentity(PathBuf),
    /// The instance metadata service, version 2.
    Instance,
}

const PLACES: &str = "expected \"auto\", \"credential:NAME\", \"file:/PATH\", \"vault-kv:MOUNT/PATH\", \
                      \"vault-transit:MOUNT/NAME\" or \"aws-kms:ARN\": the place of a key, and never a key";
const SECRETS: &str =
    "expected \"credential:NAME\" or \"file:/PATH\": the place of a secret, and never the secret";
const IDENTITIES: &str = "expected \"credential:NAME\", \"file:/PATH\", \"web-identity:/PATH\" or \
                          \"instance\": the place of credentials, and never the credentials";

impl TryFrom<String> for Place {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = Err(PLACES);
        if text == "auto" {
            return Ok(Place::Auto);
        }
        let Some((kind, rest)) = text.split_once(':') else { return wrong };
        match kind {
            "vault-kv" | "vault-transit" => {
                let Some((mount, path)) = rest.split_once('/') else { return wrong };
                if !rest.split('/').all(is_segment) || kind == "vault-transit" && path.contains('/') {
                    return wrong;
                }
                let (mount, path) = (mount.to_owned(), path.to_owned());
                Ok(match kind {
                    "vault-kv" => Place::VaultKv { mount, path },
                    _ => Place::VaultTransit { mount, name: path },
                })
            }
            "aws-kms" if is_arn(rest) => Ok(Place::AwsKms(rest.to_owned())),
            _ => match SecretPlace::try_from(text) {
                Ok(SecretPlace::Credential(name)) => Ok(Place::Credential(name)),
                Ok(SecretPlace::File(path)) => Ok(Place::File(path)),
                Err(_) => wrong,
            },
        }
    }
}

impl TryFrom<String> for SecretPlace {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some(("credential", name)) if is_segment(name) => Ok(SecretPlace::Credential(name.to_owned())),
            Some(("file", path)) if path.starts_with('/') => Ok(SecretPlace::File(PathBuf::from(path))),
            _ => Err(SECRETS),
        }
    }
}

impl TryFrom<String> for AwsCredentials {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            None if text == "instance" => Ok(AwsCredentials::Instance),
            Some(("web-identity", path)) if path.starts_with('/') => {
                Ok(AwsCredentials::WebIdentity(PathBuf::from(path)))
            }
            _ => SecretPlace::try_from(text).map(AwsCredentials::In).map_err(|_| IDENTITIES),
        }
    }
}

/// A name that is no path and needs no escape in a URL.
fn is_segment(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=128).contains(&text.len()) && text.bytes().all(plain) && text != "." && text != ".."
}

/// `arn:PARTITION:kms:REGION:ACCOUNT:key/ID` or `…:alias/NAME`.
fn is_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, region, account, resource] = parts.as_slice() else { return false };
    let kind = resource
        .split_once('/')
        .is_some_and(|(kind, name)| matches!(kind, "key" | "alias") && name.split('/').all(is_segment));
    *arn == "arn"
        && partition.starts_with("aws")
        && *service == "kms"
        && kind
        && [partition, region, account].into_iter().all(|part| is_segment(part))
}

impl Place {
    /// Asked over a network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Place::VaultKv { .. } | Place::VaultTransit { .. } | Place::AwsKms(_))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Auto => f.write_str("auto"),
            Place::Credential(name) => write!(f, "credential:{name}"),
            Place::File(path) => write!(f, "file:{}", path.display()),
            Place::VaultKv { mount, path } => write!(f, "vault-kv:{mount}/{path}"),
            Place::VaultTransit { mount, name } => write!(f, "vault-transit:{mount}/{name}"),
            Place::AwsKms(arn) => write!(f, "aws-kms:{arn}"),
        }
    }
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretPlace::Credential(name) => write!(f, "credential:{name}"),
            SecretPlace::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl fmt::Display for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AwsCredentials::In(place) => place.fmt(f),
            AwsCredentials::WebIdentity(path) => write!(f, "web-identity:{}", path.display()),
            AwsCredentials::Instance => f.write_str("instance"),
        }
    }
}

impl From<Place> for String {
    fn from(place: Place) -> String {
        place.to_string()
    }
}

impl From<SecretPlace> for String {
    fn from(place: SecretPlace) -> String {
        place.to_string()
    }
}

impl From<AwsCredentials> for String {
    fn from(place: AwsCredentials) -> String {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_shown() {
        for text in [
            "auto",
            "credential:streamwatch.key",
            "file:/etc/streamwatch/state.key",
            "vault-kv:secret/hosts/streamwatch",
            "vault-transit:transit/streamwatch",
            "aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "aws-kms:arn:aws-cn:kms:cn-north-1:111122223333:alias/streamwatch",
        ] {
            assert_eq!(Place::try_from(text.to_owned()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_refused_and_not_repeated() {
        for secret in [
            "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=",
            "hvs.CAESIJlWh2",
            "AKIAIOSFODNN7EXAMPLE",
            "file:relative",
            "file:",
            "credential:../../etc/shadow",
            "credential:..",
            "vault-kv:secret",
            "vault-kv:secret/../../sys",
            "vault-transit:transit/a/b",
            "vault-transit:transit/a?b",
            "aws-kms:arn:aws:s3:::bucket",
            "key:0123456789abcdef0123456789abcdef",
            "",
        ] {
            let told = Place::try_from(secret.to_owned()).unwrap_err();
            assert!(secret.len() < 6 || !told.contains(secret), "{secret}");
            assert!(SecretPlace::try_from(secret.to_owned()).is_err(), "{secret}");
            assert!(AwsCredentials::try_from(secret.to_owned()).is_err(), "{secret}");
        }
    }
}
