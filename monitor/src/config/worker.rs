//! Settings of the process that reads what comes from outside.

use serde::{Deserialize, Serialize};

/// The process that reads what comes from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// Its user, by name or number, never root; `None`: `streamwatch`, or a number that nobody has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How far it is ahead of others where processors are short (nice value, 0 to 20); so is the loader.
    pub priority_boost: u8,
}

impl Default for Worker {
    fn default() -> Self {
        Worker { user: None, priority_boost: 4 }
    }
}
