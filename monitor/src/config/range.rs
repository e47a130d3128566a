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

    fn refuse(&mut self, field: impl Into<Field>, value: impl ToString, allowed: String) {
        if self.first.is_none() {
            self.first = Some(ConfigError::Range { field: field.into(), value: value.to_string(), allowed });
        }
    }
}
