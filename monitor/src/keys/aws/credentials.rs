//! Who we are to AWS: credentials out of a checked file, of a web identity, or of the instance. Never out
//! of the environment: `AWS_SECRET_ACCESS_KEY` is not read.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use super::sign::Credentials;
use crate::config::AwsService;
use crate::https;
use crate::keys::http::Service;
use crate::keys::{AwsCredentials, KeyError, SecretPlace, secret};
use crate::regular;

/// Bytes of a token at most.
const LONGEST_TOKEN: u64 = 64 << 10;

/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>: characters of a role's name.
const LONGEST_ROLE: usize = 64;

/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>: link-local, in
/// the clear by its design.
const INSTANCE: &str = "http://169.254.169.254";

/// Where credentials come from, each time anew.
pub enum Identity {
    In(SecretPlace),
    Web { sts: Service, token: PathBuf, role: String },
    Instance { agent: Agent, base: String },
}

impl Identity {
    pub fn new(settings: &AwsService, sts: &str, timeout: Duration) -> Result<Identity, KeyError> {
        Ok(match &settings.credentials {
            AwsCredentials::In(place) => Identity::In(place.clone()),
            AwsCredentials::WebIdentity(token) => Identity::Web {
                sts: Service::new("state.aws.endpoint", sts, settings.ca.as_deref(), timeout)?,
                token: token.clone(),
                role: settings.role.clone().ok_or_else(|| KeyError::Setting {
                    field: "state.aws.role",
                    what: "a web identity needs the ARN of a role".to_owned(),
                })?,
            },
            AwsCredentials::Instance => Identity::Instance {
                agent: https::agent(false, None, timeout).map_err(KeyError::Refused)?,
                base: INSTANCE.to_owned(),
            },
        })
    }

    pub fn credentials(&self) -> Result<Credentials, KeyError> {
        match self {
            Identity::In(place) => from_file(place),
            Identity::Web { sts, token, role } => from_sts(sts, token, role),
            Identity::Instance { agent, base } => from_instance(agent, base),
        }
    }
}

/// The profile `default` of a file of the form of `~/.aws/credentials`.
fn from_file(place: &SecretPlace) -> Result<Credentials, KeyError> {
    profile(&secret::read_text(place)?).ok_or_else(|| {
        KeyError::Refused(format!("{place}: no aws_access_key_id and aws_secret_access_key under [default]"))
    })
}

pub(in super::super) fn profile(text: &str) -> Option<Credentials> {
    let (mut id, mut secret, mut token) = (None, None, None);
    let mut ours = true;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            ours = section.trim_end_matches(']').trim() == "default";
        } else if let Some((name, value)) = line.split_once('=').filter(|_| ours) {
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(Zeroizing::new(value)),
                "aws_session_token" => token = Some(Zeroizing::new(value)),
                _ => {}
            }
        }
    }
    Some(Credentials { id: id?, secret: secret?, token })
}

/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>.
fn from_sts(sts: &Service, token: &std::path::Path, role: &str) -> Result<Credentials, KeyError> {
    // Projected into the pod by Kubernetes with a symbolic link, for which the checks of keys are too strict;
    // it expires within hours.
    let token = regular::read(token, LONGEST_TOKEN)
        .and_then(|token| String::from_utf8(token).map_err(io::Error::other))
        .map(Zeroizing::new)
        .map_err(|error| KeyError::Refused(format!("{}: can't be read: {error}", token.display())))?;
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", role)
        .append_pair("RoleSessionName", "streamwatch")
        .append_pair("WebIdentityToken", token.trim())
        .finish();
    let body = Zeroizing::new(body);
    let answer = sts
        .agent
        .post(format!("{}/", sts.base))
        .content_type("application/x-www-form-urlencoded")
        .send(body.as_str());
    of_sts(sts, answer, role)
}

pub(in super::super) fn of_sts(
    sts: &Service,
    answer: Result<Response<Body>, ureq::Error>,
    role: &str,
) -> Result<Credentials, KeyError> {
    let (status, xml) = sts.body(answer)?;
    let xml = std::str::from_utf8(&xml).unwrap_or_default();
    match (element(xml, "AccessKeyId"), element(xml, "SecretAccessKey"), element(xml, "SessionToken")) {
        (Some(id), Some(secret), Some(token)) if status == 200 => Ok(credentials(id, secret, token)),
        _ => Err(KeyError::Refused(format!("{} answers {status}: no credentials for {role}", sts.host()))),
    }
}

/// The text of an XML element that holds no other. Keys of AWS need no escapes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

fn credentials(id: &str, secret: &str, token: &str) -> Credentials {
    Credentials {
        id: id.to_owned(),
        secret: Zeroizing::new(secret.to_owned()),
        token: Some(Zeroizing::new(token.to_owned())),
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-roles-for-amazon-ec2.html>, with a session of version 2.
fn from_instance(agent: &Agent, base: &str) -> Result<Credentials, KeyError> {
    let session = metadata(
        agent
            .put(format!("{base}/latest/api/token"))
            .header("X-aws-ec2-metadata-token-ttl-seconds", "60")
            .send_empty(),
    )?;
    let get = |path: &str| {
        let url = format!("{base}/latest/meta-data/iam/security-credentials/{path}");
        metadata(agent.get(&url).header("X-aws-ec2-metadata-token", session.trim()).call())
    };
    let role = role(&get("")?)?;
    of_instance(&get(&role)?, &role)
}

fn failed(what: impl std::fmt::Display) -> KeyError {
    KeyError::Unreachable(format!("instance metadata: {what}"))
}

/// What the service says.
pub(in super::super) fn metadata(
    answer: Result<Response<Body>, ureq::Error>,
) -> Result<Zeroizing<String>, KeyError> {
    let mut answer = answer.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(failed(format!("answers {}", answer.status())));
    }
    let text = answer.body_mut().with_config().limit(64 << 10).read_to_string();
    text.map(Zeroizing::new).map_err(failed)
}

/// The first of the names of roles; IAM gives none that is longer, nor one with other characters, and it becomes a part
/// of a URL.
pub(in super::super) fn role(names: &str) -> Result<String, KeyError> {
    let name = names.lines().next().unwrap_or_default().trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    match (1..=LONGEST_ROLE).contains(&name.len()) && name.bytes().all(plain) {
        true => Ok(name.to_owned()),
        false => Err(failed("the instance has no role")),
    }
}

pub(in super::super) fn of_instance(text: &str, role: &str) -> Result<Credentials, KeyError> {
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let field = |name: &str| value[name].as_str();
    match (field("AccessKeyId"), field("SecretAccessKey"), field("Token")) {
        (Some(id), Some(secret), Some(token)) => Ok(credentials(id, secret, token)),
        _ => Err(failed(format!("no credentials of the role {role}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::keys::tests::serve;

    #[test]
    fn an_instance_has_a_role_and_a_session_gives_its_credentials() {
        let (base, asked) = serve(|request| {
            let session = request.headers.get("x-aws-ec2-metadata-token").map(String::as_str);
            match (request.line.as_str(), session) {
                ("PUT /latest/api/token HTTP/1.1", _) => (200, "session".to_owned()),
                ("GET /latest/meta-data/iam/security-credentials/ HTTP/1.1", Some("session")) => {
                    (200, "streamwatch\n".to_owned())
                }
                ("GET /latest/meta-data/iam/security-credentials/streamwatch HTTP/1.1", Some("session")) => {
                    let text = r#"{"Code":"Success","AccessKeyId":"ASIA","SecretAccessKey":"s","Token":"t"}"#;
                    (200, text.to_owned())
                }
                _ => (401, String::new()),
            }
        });
        let agent = https::agent(false, None, Duration::from_secs(2)).unwrap();
        let got = Identity::Instance { agent, base }.credentials().unwrap();
        assert_eq!((got.id.as_str(), got.secret.as_str()), ("ASIA", "s"));
        assert_eq!(got.token.unwrap().as_str(), "t");
        assert_eq!(asked.lock().unwrap().len(), 3);
    }
}
