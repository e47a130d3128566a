//! AWS KMS: a data key is made there, and unwrapped there
//! (<https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html>).

pub(super) mod credentials;
mod sign;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use ureq::Body;
use ureq::http::Response;
use zeroize::Zeroizing;

use super::http::Service;
use super::{Key, KeyError, LONGEST_WRAPPED, Source, Wrapped};
use crate::config::AwsService;
use credentials::Identity;

pub const KIND: &str = "aws-kms";

/// Bytes of the ARN of a key.
const LONGEST_ARN: usize = 2048;

/// What a wrapped key is bound to; it stands in CloudTrail, and is no secret.
const CONTEXT: (&str, &str) = ("streamwatch", "state");

pub struct Kms {
    service: Service,
    region: String,
    arn: String,
    identity: Identity,
}

impl Kms {
    /// `arn` is one: the configuration was checked.
    pub fn new(arn: &str, settings: &AwsService, timeout: Duration) -> Result<Kms, KeyError> {
        let mut parts = arn.split(':').skip(1);
        let partition = parts.next().unwrap_or_default();
        let region = parts.nth(1).unwrap_or_default().to_owned();
        let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        let usual = |service: &str| format!("https://{service}.{region}.{domain}");
        let url = settings.endpoint.clone().unwrap_or_else(|| usual("kms"));
        let sts = settings.endpoint.clone().unwrap_or_else(|| usual("sts"));
        let ca = settings.ca.as_deref();
        Ok(Kms {
            service: Service::new("state.aws.endpoint", &url, ca, timeout)?,
            identity: Identity::new(settings, &sts, timeout)?,
            region,
            arn: arn.to_owned(),
        })
    }

    fn ask(&self, operation: &str, body: &Value) -> Result<Value, KeyError> {
        let credentials = self.identity.credentials()?;
        let body = Zeroizing::new(body.to_string());
        let target = format!("TrentService.{operation}");
        let host = self.service.host();
        let at = sign::date(Timestamp::now());
        let mut headers = vec![
            ("content-type", "application/x-amz-json-1.1"),
            ("host", host),
            ("x-amz-date", at.as_str()),
            ("x-amz-target", target.as_str()),
        ];
        if let Some(token) = &credentials.token {
            headers.insert(3, ("x-amz-security-token", token.as_str()));
        }
        let scope = sign::Scope { region: &self.region, service: "kms", at: &at };
        let authorization = sign::authorization(&credentials, &scope, &headers, body.as_bytes());
        let mut request = self.service.agent.post(format!("{}/", self.service.base));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.header("authorization", authorization).send(body.as_str());
        self.heard(answer)
    }

    /// The answer to a question.
    pub(super) fn heard(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, KeyError> {
        self.service.answer(answer, |value| {
            let kind = value["__type"].as_str()?;
            let message = value["message"].as_str().or(value["Message"].as_str()).unwrap_or_default();
            Some(format!("{}: {message}", kind.rsplit('#').next().unwrap_or(kind)))
        })
    }

    /// Whether a key may be the one that is configured; it goes into files and lines.
    fn may_be(&self, key_id: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/-_".contains(&byte);
        if self.arn.contains(":alias/") {
            key_id.len() <= LONGEST_ARN && key_id.starts_with("arn:") && key_id.bytes().all(plain)
        } else {
            key_id == self.arn
        }
    }

    /// What was wrapped for us, and the key.
    pub(super) fn made(&self, answer: &Value) -> Result<(Key, Wrapped), KeyError> {
        let refused = |what: &str| KeyError::Refused(format!("{}: KMS {what}", self.service.host()));
        let blob = answer["CiphertextBlob"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let blob = blob.ok_or_else(|| refused("gave no CiphertextBlob"))?;
        if blob.len() > LONGEST_WRAPPED {
            return Err(refused("gave a CiphertextBlob that is longer than that of a key"));
        }
        // What an alias stands for now.
        let key_id = answer["KeyId"].as_str().unwrap_or(&self.arn).to_owned();
        if !self.may_be(&key_id) {
            return Err(refused("used another key"));
        }
        Ok((self.key(answer)?, Wrapped { kind: KIND.to_owned(), key_id, blob }))
    }

    pub(super) fn key(&self, answer: &Value) -> Result<Key, KeyError> {
        let plain = answer["Plaintext"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let plain = plain.map(Zeroizing::new);
        plain
            .and_then(|plain| Key::from_bytes(&plain))
            .ok_or_else(|| KeyError::Refused(format!("{}: KMS gave no key of 32 bytes", self.service.host())))
    }
}

impl Source for Kms {
    fn new_key(&self) -> Result<(Key, Wrapped), KeyError> {
        let (name, value) = CONTEXT;
        let body = json!({
            "KeyId": self.arn,
            "KeySpec": "AES_256",
            "EncryptionContext": { name: value },
        });
        let answer = self.ask("GenerateDataKey", &body)?;
        self.made(&answer)
    }

    fn unwrap(&self, wrapped: &Wrapped) -> Result<Key, KeyError> {
        let foreign = || KeyError::Foreign { kind: wrapped.kind.clone(), key_id: wrapped.key_id.clone() };
        if wrapped.kind != KIND {
            return Err(foreign());
        }
        // An alias may have stood for another key then: the service knows by which one it was wrapped. What
        // the file names is not asked of it, since anybody who writes files may have put it there.
        let alias = self.arn.contains(":alias/");
        if !alias && wrapped.key_id != self.arn {
            return Err(foreign());
        }
        let (name, value) = CONTEXT;
        let mut body = json!({
            "CiphertextBlob": STANDARD.encode(&wrapped.blob),
            "EncryptionContext": { name: value },
        });
        if !alias {
            body["KeyId"] = Value::from(self.arn.as_str());
        }
        self.key(&self.ask("Decrypt", &body)?)
    }
}
