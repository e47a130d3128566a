//! What the fuzz target `keys` reaches: answers of the services that hold keys, and files with keys, by number.

use std::path::PathBuf;
use std::time::Duration;

use ureq::Body;
use ureq::http::Response;

use super::aws::{Kms, credentials};
use super::http::Service;
use super::vault::{Transit, Vault};
use super::{AwsCredentials, Key, KeyError, LONGEST_WRAPPED, SecretPlace, Wrapped, secret};
use crate::config::{AwsService, VaultService};

/// How many readers there are.
pub const READERS: usize = 11;

const BASE: &str = "http://127.0.0.1";
const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234";
const ALIAS: &str = "arn:aws:kms:eu-central-1:111122223333:alias/streamwatch";

/// Those who read.
pub struct Readers {
    /// By the version of the KV store.
    vaults: [Vault; 2],
    transit: Transit,
    kms: [Kms; 2],
    sts: Service,
}

impl Default for Readers {
    fn default() -> Readers {
        let timeout = Duration::from_secs(1);
        let token = SecretPlace::File(PathBuf::from("/nonexistent"));
        let vault = |kv_version| {
            let (address, token) = (BASE.to_owned(), token.clone());
            let settings = VaultService { address, token, kv_version, ..VaultService::default() };
            Vault::new(&settings, timeout).expect("settings of Vault")
        };
        let settings = AwsService {
            credentials: AwsCredentials::In(token.clone()),
            endpoint: Some(BASE.to_owned()),
            ..AwsService::default()
        };
        let kms = |arn| Kms::new(arn, &settings, timeout).expect("settings of AWS");
        Readers {
            vaults: [vault(1), vault(2)],
            transit: Transit::new(vault(2), "transit", "streamwatch"),
            kms: [kms(ARN), kms(ALIAS)],
            sts: Service::new("state.aws.endpoint", BASE, None, timeout).expect("a service"),
        }
    }
}

impl Readers {
    /// Gives the answer to one of them: every text that came of it and goes into files, lines or addresses; or the line
    /// that says what is wrong.
    ///
    /// # Errors
    /// It is not what was asked for.
    pub fn read(&self, which: usize, status: u16, body: &[u8]) -> Result<Vec<String>, String> {
        self.try_read(which, status, body).map_err(|error| error.to_string())
    }

    fn try_read(&self, which: usize, status: u16, body: &[u8]) -> Result<Vec<String>, KeyError> {
        let text = String::from_utf8_lossy(body);
        let answer = Response::builder().status(status).body(Body::builder().data(body));
        let answer = Ok(answer.expect("a status between 100 and 599"));
        let [first, second] = &self.vaults;
        let [by_arn, by_alias] = &self.kms;
        match which {
            0 => first.keys_of(&first.heard(answer)?, "secret", "streamwatch").map(ids),
            1 => second.keys_of(&second.heard(answer)?, "secret", "streamwatch").map(ids),
            2 => self.transit.sealed(&second.heard(answer)?).map(wrapped),
            3 => self.transit.opened(&second.heard(answer)?).map(|key| ids(vec![key])),
            4 => by_arn.made(&by_arn.heard(answer)?).map(|(_, key)| wrapped(key)),
            5 => by_alias.made(&by_alias.heard(answer)?).map(|(_, key)| wrapped(key)),
            6 => by_arn.key(&by_arn.heard(answer)?).map(|key| ids(vec![key])),
            7 => credentials::of_sts(&self.sts, answer, "arn:aws:iam::111122223333:role/a").map(|_| vec![]),
            8 => credentials::role(&credentials::metadata(answer)?).map(|role| vec![role]),
            9 => credentials::of_instance(&credentials::metadata(answer)?, "role").map(|_| vec![]),
            _ => {
                let _ = credentials::profile(&text);
                Ok(ids(secret::parse_key(body).into_iter().collect()))
            }
        }
    }
}

fn ids(keys: Vec<Key>) -> Vec<String> {
    keys.iter().map(Key::id).collect()
}

fn wrapped(wrapped: Wrapped) -> Vec<String> {
    assert!(wrapped.blob.len() <= LONGEST_WRAPPED, "{} bytes of a wrapped key", wrapped.blob.len());
    vec![wrapped.kind, wrapped.key_id]
}
