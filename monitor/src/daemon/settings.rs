//! What settings name on this host: users, groups, hooks, keys. Looked at before anything is loaded, so that what
//! is wrong is said with the line that says it.

use std::sync::Arc;

use super::confine::User;
use super::start::RunError;
use super::state;
use crate::api::{self, SocketError};
use crate::config::{Config, Field, Origin};
use crate::hook::{HookError, Ready};
use crate::keys::{KeyError, Keys};

/// The worker's user and the hooks, where all that is named is there.
///
/// # Errors
/// The first that is not, with its place.
pub fn check(config: &Config, origin: &Origin) -> Result<(User, Vec<Arc<Ready>>), RunError> {
    let user = User::of(config.worker.user.as_deref()).map_err(|error| origin.blame("worker.user", error))?;
    match api::check_groups(config.api.viewers.as_deref(), config.api.operators.as_deref()) {
        Err(error @ SocketError::NoGroup { key, .. }) => return Err(origin.blame(key, error).into()),
        Err(error) => return Err(RunError::Api(error.to_string())),
        Ok(()) => {}
    }
    let mut hooks = Vec::new();
    for (number, wanted) in config.alerts.hooks.iter().enumerate() {
        let ready = Ready::new(wanted).map_err(|error| {
            let key = if let HookError::Settings { key, .. } = &error { key } else { "" };
            origin.blame(Field::of("alerts.hooks", number, key), &error)
        })?;
        hooks.push(Arc::new(ready));
    }
    Keys::new(&config.state, &state::path(config)).map_err(|error| {
        let field = if let KeyError::Setting { field, .. } = &error { field } else { "" };
        origin.blame(Field::with(field, &["state.key", "state.previous"]), &error)
    })?;
    Ok((user, hooks))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Overrides;

    #[test]
    fn what_is_not_on_this_host_is_said_with_its_place_and_is_a_bad_file() {
        let directory = crate::temporary::directory();
        let path = directory.path().join("streamwatch.toml");
        for (text, expected) in [
            ("[api]\nviewers = \"no such group\"\n", ":2:11: api.viewers: there is no group"),
            ("[api]\ngroup = \"no such group\"\n", ":2:9: api.viewers: there is no group"),
            ("[api]\noperators = \"no such group\"\n", ":2:13: api.operators: there is no group"),
            ("[worker]\nuser = \"nobody at all\"\n", ":2:8: worker.user: there is no user"),
            ("[worker]\nuser = \"root\"\n", ":2:8: worker.user: \"root\" is root"),
            (
                "[[alerts.hooks]]\nlog = true\n[[alerts.hooks]]\nqueue = 1\n",
                ":3:1: alerts.hooks: a hook has exactly",
            ),
            ("[[alerts.hooks]]\nwebhook = \"ftp://a\"\n", ":2:11: alerts.hooks: webhook: expected https"),
            (
                "[[alerts.hooks]]\nwebhook = \"https://a\"\nca = \"/nonexistent.pem\"\n",
                ":3:6: alerts.hooks: ca: /nonexistent.pem: ",
            ),
            (
                "[state]\nkey = \"vault-kv:a/b\"\n[state.vault]\naddress = \"http://192.0.2.1\"\n",
                ":4:11: state.vault.address",
            ),
            ("[state]\nprevious = [\"auto\"]\n", ":2:12: state.previous: \"auto\" names no place"),
        ] {
            std::fs::write(&path, text).unwrap();
            let (config, origin) = Config::read(Some(&path), Overrides::default()).unwrap();
            let error = check(&config, &origin).map(drop).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            let place = format!("{}{expected}", path.display());
            assert!(error.to_string().starts_with(&place), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
