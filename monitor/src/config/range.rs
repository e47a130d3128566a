//! Ranges of settings: keeps the first value that is outside its own.

use std::ops::RangeInclusive;
use std::path::Path;

use super::{ConfigError, Field};

/// Collects until the first failure.
#[derive(Default)]
pub struct Ranges {
    first: Option<ConfigError>,
}

impl Ranges {
    pub fn result(self) -> Result<(), ConfigError> {
        self.first.map_or(Ok(()), Err)
    }

    pub fn within(&mut self, field: impl Into<Field>, value: u32, allowed: RangeInclusive<u32>) {
        if !allowed.contains(&value) {
            self.refuse(field, value, format!("{} to {}", allowed.start(), allowed.end()));
        }
    }

    pub fn power_of_two(&mut self, field: impl Into<Field>, value: u32, least: u32, most: u32) {
        if !value.is_power_of_two() || !(least..=most).contains(&value) {
            self.refuse(field, value, format!("a power of two, {least} (a page) to {most}"));
        }
    }

    /// At most `most` numbers, each smaller than the one before.
    pub fn falling(
        &mut self,
        field: impl Into<Field>,
        values: &[u32],
        allowed: RangeInclusive<u32>,
        most: usize,
    ) {
        let in_range = values.iter().all(|value| allowed.contains(value));
        let falls = values.windows(2).all(|pair| pair[0] > pair[1]);
        if !in_range || !falls || values.len() > most {
            let (least, last) = (allowed.start(), allowed.end());
            let expected = format!("at most {most} numbers of {least} to {last}, the largest first");
            self.refuse(field, format!("{values:?}"), expected);
        }
    }

    pub fn absolute(&mut self, field: impl Into<Field>, value: Option<&Path>) {
        if let Some(path) = value
            && !path.is_absolute()
        {
            self.refuse(field, format!("{path:?}"), "an absolute path".to_owned());
        }
    }

    pub fn shorter(&mut self, field: impl Into<Field>, value: &Path, than: usize) {
        if value.as_os_str().len() >= than {
            self.refuse(field, format!("{value:?}"), format!("a path of fewer than {than} bytes"));
        }
    }

    pub fn not_empty(&mut self, field: impl Into<Field>, value: Option<&str>) {
        if value.is_some_and(str::is_empty) {
            self.refuse(field, "\"\"", "a name".to_owned());
        }
    }

    /// A token of Vault (`hvs.`, `hvb.`, `hvr.`; before version 1.10 `s.`, `b.`, `r.`) is not shown again.
    pub fn no_token(&mut self, field: impl Into<Field>, value: Option<&str>) {
        let is_token = |text: &str| {
            let kind = text.split_once('.').map(|(kind, _)| kind);
            matches!(kind, Some("hvs" | "hvb" | "hvr" | "s" | "b" | "r"))
        };
        if value.is_some_and(is_token) {
            self.refuse(field, "a token", "a name: the place of a token is state.vault.token".to_owned());
        }
    }

    /// A URL with a user, or a password, which is not shown again.
    pub fn no_user(&mut self, field: impl Into<Field>, value: &str) {
        let authority = value.split_once("://").map_or(value, |(_, rest)| rest).split(['/', '?', '#']).next();
        if authority.is_some_and(|authority| authority.contains('@')) {
            self.refuse(field, "a URL with a user", "https://HOST[:PORT]".to_owned());
        }
    }

    fn refuse(&mut self, field: impl Into<Field>, value: impl ToString, allowed: String) {
        if self.first.is_none() {
            self.first = Some(ConfigError::Range { field: field.into(), value: value.to_string(), allowed });
        }
    }
}
