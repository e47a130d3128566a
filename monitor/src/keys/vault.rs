//! HashiCorp Vault, and what speaks its API: a key out of the KV store
//! (<https://developer.hashicorp.com/vault/api-docs/secret/kv>), or a key that never leaves it
//! (<https://developer.hashicorp.com/vault/api-docs/secret/transit>).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Body;
use ureq::http::Response;
use zeroize::Zeroizing;

use super::http::Service;
use super::{Key, KeyError, LONGEST_WRAPPED, SecretPlace, Source, Wrapped, secret};
use crate::config::VaultService;

pub const KIND: &str = "vault-transit";

/// Digits of the number of a key's version.
const LONGEST_VERSION: usize = 20;

pub struct Vault {
    service: Service,
    token: SecretPlace,
    namespace: Option<String>,
    kv_version: u32,
}

impl Vault {
    pub fn new(settings: &VaultService, timeout: Duration) -> Result<Vault, KeyError> {
        let VaultService { address, token, ca, namespace, kv_version } = settings;
        Ok(Vault {
            service: Service::new("state.vault.address", address, ca.as_deref(), timeout)?,
            token: token.clone(),
            namespace: namespace.clone(),
            kv_version: *kv_version,
        })
    }

    /// `GET`, or `POST` with a body. The token is read each time: an agent may have renewed it.
    fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value, KeyError> {
        let token = secret::read_text(&self.token)?;
        let url = format!("{}/v1/{path}", self.service.base);
        let namespace = self.namespace.as_deref();
        let headers = [("X-Vault-Token", Some(token.as_str())), ("X-Vault-Namespace", namespace)];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let answer = match body {
            None => {
                let mut request = self.service.agent.get(&url).header("X-Vault-Request", "true");
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                request.call()
            }
            Some(body) => {
                let mut request = self.service.agent.post(&url).header("X-Vault-Request", "true");
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                let body = Zeroizing::new(body.to_string());
                request.content_type("application/json").send(body.as_str())
            }
        };
        self.heard(answer)
    }

    /// The answer to a question.
    pub(super) fn heard(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, KeyError> {
        self.service.answer(answer, |value| value["errors"][0].as_str().map(str::to_owned))
    }

    /// The keys of a secret: that in the field `key`, and then those in all others.
    pub fn keys(&self, mount: &str, path: &str) -> Result<Vec<Key>, KeyError> {
        let answer = match self.kv_version {
            1 => self.ask(&format!("{mount}/{path}"), None)?,
            _ => self.ask(&format!("{mount}/data/{path}"), None)?,
        };
        self.keys_of(&answer, mount, path)
    }

    pub(super) fn keys_of(&self, answer: &Value, mount: &str, path: &str) -> Result<Vec<Key>, KeyError> {
        let data = if self.kv_version == 1 { "/data" } else { "/data/data" };
        let secret = answer.pointer(data).and_then(Value::as_object);
        let parse = |value: &Value| secret::parse_key(value.as_str()?.as_bytes());
        let Some(current) = secret.and_then(|fields| parse(fields.get("key")?)) else {
            return Err(KeyError::Refused(format!(
                "{}: the secret {mount}/{path} has no field \"key\" with 32 bytes in hex or base64",
                self.service.host()
            )));
        };
        let others = secret.into_iter().flatten().filter(|(name, _)| *name != "key");
        Ok(std::iter::once(current).chain(others.filter_map(|(_, value)| parse(value))).collect())
    }
}

/// `v` and a number: it goes into files and lines.
fn is_version(text: &str) -> bool {
    let number = text.strip_prefix('v').unwrap_or_default();
    (1..=LONGEST_VERSION).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The transit engine.
pub struct Transit {
    vault: Vault,
    mount: String,
    name: String,
}

impl Transit {
    pub fn new(vault: Vault, mount: &str, name: &str) -> Transit {
        Transit { vault, mount: mount.to_owned(), name: name.to_owned() }
    }

    /// What was sealed for us.
    pub(super) fn sealed(&self, answer: &Value) -> Result<Wrapped, KeyError> {
        let sealed = answer["data"]["ciphertext"].as_str().ok_or_else(|| self.wrong("ciphertext"))?;
        // `vault:v3:…`: the version of the key is that of the first two.
        let mut parts = sealed.splitn(3, ':');
        let version = match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(version), Some(_)) if is_version(version) => version,
            _ => return Err(self.wrong("ciphertext of the form vault:vN:…")),
        };
        if sealed.len() > LONGEST_WRAPPED {
            return Err(self.wrong("ciphertext of a key, but a longer one"));
        }
        let key_id = format!("{}/{} {version}", self.mount, self.name);
        Ok(Wrapped { kind: KIND.to_owned(), key_id, blob: sealed.as_bytes().to_vec() })
    }

    pub(super) fn opened(&self, answer: &Value) -> Result<Key, KeyError> {
        let plain = answer["data"]["plaintext"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let plain = Zeroizing::new(plain.ok_or_else(|| self.wrong("plaintext"))?);
        Key::from_bytes(&plain).ok_or_else(|| self.wrong("key of 32 bytes"))
    }

    fn wrong(&self, what: &str) -> KeyError {
        KeyError::Refused(format!("{}: transit gave no {what}", self.vault.service.host()))
    }
}

impl Source for Transit {
    fn new_key(&self) -> Result<(Key, Wrapped), KeyError> {
        let key = Key::random()?;
        let body = json!({ "plaintext": STANDARD.encode(key.bytes()) });
        let answer = self.vault.ask(&format!("{}/encrypt/{}", self.mount, self.name), Some(&body))?;
        Ok((key, self.sealed(&answer)?))
    }

    fn unwrap(&self, wrapped: &Wrapped) -> Result<Key, KeyError> {
        let ours = wrapped.key_id.rsplit_once(' ').map(|(key, _)| key);
        if wrapped.kind != KIND || ours != Some(&format!("{}/{}", self.mount, self.name)) {
            return Err(KeyError::Foreign { kind: wrapped.kind.clone(), key_id: wrapped.key_id.clone() });
        }
        let sealed = std::str::from_utf8(&wrapped.blob).map_err(|_| self.wrong("ciphertext"))?;
        let body = json!({ "ciphertext": sealed });
        let answer = self.vault.ask(&format!("{}/decrypt/{}", self.mount, self.name), Some(&body))?;
        self.opened(&answer)
    }
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn a_version_is_a_number() {
        assert!(is_version("v1") && is_version("v23"));
        for other in ["", "v", "1", "v1\n", "v-1", "v1\u{1b}[2J", &format!("v{}", "1".repeat(21))] {
            assert!(!is_version(other), "{other:?}");
        }
    }
}
