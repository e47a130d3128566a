//! Under which key the state is kept, and who holds it. Places of secrets, never secrets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::keys::{AwsCredentials, Place, SecretPlace};

/// The key of the state, and what happens without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Where the key is.
    pub key: Place,
    /// Where keys were before: what they open is read, and written anew.
    pub previous: Vec<Place>,
    /// Seconds for which the start waits for a key over the network.
    pub wait_s: u32,
    /// Seconds that one question to Vault or AWS may take.
    pub timeout_s: u32,
    /// Seconds after which the source is asked whether the key has changed.
    pub check_every_s: u32,
    /// Bytes of changes that are held while they cannot be written.
    pub memory_bytes: u32,
    pub vault: VaultService,
    pub aws: AwsService,
}

impl Default for State {
    fn default() -> Self {
        State {
            key: Place::Auto,
            previous: Vec::new(),
            wait_s: 3,
            timeout_s: 5,
            check_every_s: 3600,
            memory_bytes: 16 << 20,
            vault: VaultService::default(),
            aws: AwsService::default(),
        }
    }
}

/// A server with Vault's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultService {
    pub address: String,
    pub token: SecretPlace,
    /// Certificates (PEM) by which the server's is verified; `None`: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of the KV store.
    pub kv_version: u32,
}

impl Default for VaultService {
    fn default() -> Self {
        VaultService {
            address: "https://127.0.0.1:8200".to_owned(),
            token: SecretPlace::Credential("vault-token".to_owned()),
            ca: None,
            namespace: None,
            kv_version: 2,
        }
    }
}

/// AWS, as this host is known to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwsService {
    pub credentials: AwsCredentials,
    /// ARN of the role that a web identity takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Another URL than that of the ARN's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Certificates (PEM) by which the server's is verified; `None`: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for AwsService {
    fn default() -> Self {
        AwsService {
            credentials: AwsCredentials::In(SecretPlace::Credential("aws-credentials".to_owned())),
            role: None,
            endpoint: None,
            ca: None,
        }
    }
}
