//! Keys that are here in the clear while they are used: in a file, in a credential, or fetched from
//! Vault's KV store. They wrap file keys by themselves, with AES-256-GCM.

use std::path::PathBuf;

use super::vault::Vault;
use super::{Key, KeyError, SecretPlace, Source, Wrapped, open, seal, secret};

pub const KIND: &str = "local";

/// What is bound to a wrapped key.
const CONTEXT: &[u8] = b"streamwatch file key";

pub struct Local {
    from: From,
}

enum From {
    Secret { place: SecretPlace, made: bool },
    Vault { vault: Vault, mount: String, path: String },
}

impl Local {
    pub fn credential(name: String) -> Local {
        Local { from: From::Secret { place: SecretPlace::Credential(name), made: false } }
    }

    /// With `made`, the file is made where there is none yet.
    pub fn file(path: PathBuf, made: bool) -> Local {
        Local { from: From::Secret { place: SecretPlace::File(path), made } }
    }

    pub fn vault(vault: Vault, mount: &str, path: &str) -> Local {
        Local { from: From::Vault { vault, mount: mount.to_owned(), path: path.to_owned() } }
    }

    /// The key in force, and older ones.
    fn keys(&self) -> Result<Vec<Key>, KeyError> {
        match &self.from {
            From::Vault { vault, mount, path } => vault.keys(mount, path),
            From::Secret { place, .. } => {
                let key = secret::parse_key(&secret::read(place)?).ok_or_else(|| {
                    KeyError::Refused(format!(
                        "{place}: is no key: expected 32 bytes (not all alike), or their hex or base64"
                    ))
                })?;
                Ok(vec![key])
            }
        }
    }
}

impl Source for Local {
    fn prepare(&self) -> Result<(), KeyError> {
        match &self.from {
            From::Secret { place: SecretPlace::File(path), made: true } => secret::make(path),
            _ => Ok(()),
        }
    }

    fn new_key(&self) -> Result<(Key, Wrapped), KeyError> {
        let keys = self.keys()?;
        let Some(current) = keys.first() else { return Err(KeyError::Refused("no key".to_owned())) };
        let key = Key::random()?;
        let blob = seal(&current.derive("wrap"), CONTEXT, key.bytes())?;
        Ok((key, Wrapped { kind: KIND.to_owned(), key_id: current.id(), blob }))
    }

    fn unwrap(&self, wrapped: &Wrapped) -> Result<Key, KeyError> {
        let foreign = || KeyError::Foreign { kind: wrapped.kind.clone(), key_id: wrapped.key_id.clone() };
        if wrapped.kind != KIND {
            return Err(foreign());
        }
        let keys = self.keys()?;
        let by = keys.iter().find(|key| key.id() == wrapped.key_id).ok_or_else(foreign)?;
        open(&by.derive("wrap"), CONTEXT, &wrapped.blob)
            .and_then(|plain| Key::from_bytes(&plain))
            .ok_or_else(|| KeyError::Refused("the wrapped key is damaged".to_owned()))
    }
}
