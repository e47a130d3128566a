//! Where the key of the state comes from, and how it wraps the keys of files.
//!
//! In: places that the configuration names ([`Place`]). Out: file keys, new or unwrapped. A source that is
//! not there is an error to be tried again, never a reason to do without. Must never: show a key, take
//! one out of the configuration, an argument or the environment, or wait longer than its timeout.

mod aws;
mod crypt;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod local;
mod place;
mod secret;
mod vault;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crypt::{Key, Tag, open, seal};
pub use place::{AwsCredentials, Place, SecretPlace};

use crate::config::State;

/// Bytes of a wrapped key: of KMS's `CiphertextBlob` there are so many at most; transit gives some hundred.
const LONGEST_WRAPPED: usize = 6144;

/// A file key as it stands on disk, wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Kind of the source: `local`, `vault-transit` or `aws-kms`.
    pub kind: String,
    /// Which key wrapped it, as its source names it; no secret.
    pub key_id: String,
    pub blob: Vec<u8>,
}

/// Why there is no key. One line, without any secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Nobody answers, or an answer comes too late.
    #[error("{0}")]
    Unreachable(String),
    /// It is missing, not as it should be, or we may not have it.
    #[error("{0}")]
    Refused(String),
    /// The setting of this name cannot be what is wanted.
    #[error("{field}: {what}")]
    Setting { field: &'static str, what: String },
    /// It was wrapped by a key that this source does not have.
    #[error("wrapped by the key {key_id} of another place ({kind}): name it in state.previous")]
    Foreign { kind: String, key_id: String },
}

/// Something that wraps file keys.
trait Source: Send {
    /// Makes what is made at the first start, where there is nothing yet.
    fn prepare(&self) -> Result<(), KeyError> {
        Ok(())
    }

    /// A file key, new, and the same as it may stand on disk.
    fn new_key(&self) -> Result<(Key, Wrapped), KeyError>;

    fn unwrap(&self, wrapped: &Wrapped) -> Result<Key, KeyError>;
}

/// All sources that are configured.
pub struct Keys {
    current: Box<dyn Source>,
    previous: Vec<Box<dyn Source>>,
    /// As people call the current one.
    pub name: String,
    /// Whether it is asked over a network.
    pub remote: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Keys {
    /// As the configuration says; `beside` is the state file, next to which the default key file is.
    /// Nothing is read or asked yet, except whether there is a credential.
    ///
    /// # Errors
    /// What Vault or AWS want is not configured.
    pub fn new(settings: &State, beside: &Path) -> Result<Keys, KeyError> {
        let default_file = beside.with_file_name("state.key");
        let mut previous = Vec::new();
        let current = match &settings.key {
            Place::Auto if secret::credential(place::DEFAULT_CREDENTIAL).is_ok_and(|path| path.exists()) => {
                // The file that was made before there was a credential.
                previous.push(Place::File(default_file));
                Place::Credential(place::DEFAULT_CREDENTIAL.to_owned())
            }
            Place::Auto => Place::File(default_file),
            other => other.clone(),
        };
        let made = matches!(settings.key, Place::Auto);
        previous.extend(settings.previous.iter().cloned());
        Ok(Keys {
            current: source(&current, settings, made)?,
            previous: previous
                .iter()
                .map(|place| source(place, settings, false))
                .collect::<Result<Vec<_>, _>>()?,
            name: current.to_string(),
            remote: current.is_remote(),
        })
    }

    /// A new file key, for files that do not exist yet: the default key file is made where there is none.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn first_key(&self) -> Result<(Key, Wrapped), KeyError> {
        self.current.prepare()?;
        self.new_key()
    }

    /// A new file key under what wraps keys now, which was seen to unwrap it: what is sealed by a key that nobody
    /// gives again is lost.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new_key(&self) -> Result<(Key, Wrapped), KeyError> {
        let (key, wrapped) = self.current.new_key()?;
        if self.current.unwrap(&wrapped)?.id() != key.id() {
            let what = format!("{} answers with another key than it wrapped", self.name);
            return Err(KeyError::Refused(what));
        }
        Ok((key, wrapped))
    }

    /// Unwraps a file key: by the current source, or by one of those before.
    ///
    /// # Errors
    /// See [`KeyError`]; that of the current source, where none of the others helps.
    pub fn unwrap(&self, wrapped: &Wrapped) -> Result<Key, KeyError> {
        let first = match self.current.unwrap(wrapped) {
            Ok(key) => return Ok(key),
            Err(error) => error,
        };
        let mut told = first;
        for source in &self.previous {
            match source.unwrap(wrapped) {
                Ok(key) => return Ok(key),
                // What is not there is worth telling rather than that another one does not fit.
                Err(error) if matches!(told, KeyError::Foreign { .. }) => told = error,
                Err(_) => {}
            }
        }
        Err(told)
    }
}

fn source(place: &Place, settings: &State, made: bool) -> Result<Box<dyn Source>, KeyError> {
    let timeout = Duration::from_secs(u64::from(settings.timeout_s));
    Ok(match place {
        Place::Auto => {
            let what = "\"auto\" names no place".to_owned();
            return Err(KeyError::Setting { field: "state.previous", what });
        }
        Place::Credential(name) => Box::new(local::Local::credential(name.clone())),
        Place::File(path) => Box::new(local::Local::file(path.clone(), made)),
        Place::VaultKv { mount, path } => {
            Box::new(local::Local::vault(vault::Vault::new(&settings.vault, timeout)?, mount, path))
        }
        Place::VaultTransit { mount, name } => {
            Box::new(vault::Transit::new(vault::Vault::new(&settings.vault, timeout)?, mount, name))
        }
        Place::AwsKms(arn) => Box::new(aws::Kms::new(arn, &settings.aws, timeout)?),
    })
}

/// The default key file of a state file.
pub fn default_file(state: &Path) -> PathBuf {
    state.with_file_name("state.key")
}

#[cfg(test)]
pub(crate) mod tests;
