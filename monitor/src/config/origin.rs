//! From where each setting came, so that what is wrong with one is said with its place: the line of the file, or
//! the flag.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{Judged, offset_of, parse_toml, read_judged, text_of};
use super::{Config, ConfigError, FileError, LARGEST_FILE, Overrides};

/// A setting by its name, and where to look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: String,
    /// In this order; the first that was set is where the fault is shown.
    places: Vec<String>,
}

impl From<&str> for Field {
    fn from(name: &str) -> Self {
        Field::with(name, &[])
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Field {
    /// One whose range others set, too: where it is a default, they are at fault.
    pub fn with(name: &str, others: &[&str]) -> Field {
        // The name that versions before knew.
        let alias = (name == "api.viewers").then_some("api.group");
        let places = [name].into_iter().chain(alias).chain(others.iter().copied());
        Field { name: name.to_owned(), places: places.map(str::to_owned).collect() }
    }

    /// One in an array of tables; where it is a default, the whole table is at fault.
    pub fn of(array: &str, number: usize, key: &str) -> Field {
        let table = format!("{array}.{number}");
        Field { name: format!("{array}.{key}"), places: vec![format!("{table}.{key}"), table] }
    }
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The file and its text.
    file: Option<(PathBuf, String)>,
    /// Settings that a flag, or the environment in its place, has set.
    flags: Vec<(&'static str, &'static str)>,
}

/// It names programs that root runs and files that root writes: whoever can change it has root's powers.
fn read(path: &Path) -> Result<(PathBuf, String), FileError> {
    let Judged { text, others } = read_judged(path, LARGEST_FILE)?;
    let file = path.to_owned();
    match others {
        Ok(()) => Ok((file, text)),
        Err(what) => Err(FileError::Others { file, what }),
    }
}

impl Origin {
    pub(super) fn read(path: Option<&Path>, overrides: &Overrides) -> Result<Origin, FileError> {
        let file = path.map(read).transpose()?;
        Ok(Origin { file, flags: Origin::flags(overrides) })
    }

    /// Of what a file holds.
    pub(super) fn of(path: &Path, bytes: &[u8], overrides: &Overrides) -> Result<Origin, FileError> {
        let file = (path.to_owned(), text_of(path, bytes.to_owned())?);
        Ok(Origin { file: Some(file), flags: Origin::flags(overrides) })
    }

    /// Settings that these have set.
    fn flags(overrides: &Overrides) -> Vec<(&'static str, &'static str)> {
        let Overrides { socket, cgroup, policy, format, interval_s, pin } = overrides;
        let flags = [
            (socket.is_some(), "api.socket", "--socket (or STREAMWATCH_SOCKET)"),
            (cgroup.is_some(), "kernel.cgroup", "--cgroup (or STREAMWATCH_CGROUP)"),
            (policy.is_some(), "policy.file", "--policy (or STREAMWATCH_POLICY)"),
            (format.is_some(), "output.format", "--output (or STREAMWATCH_OUTPUT)"),
            (interval_s.is_some(), "output.interval_s", "--interval (or STREAMWATCH_INTERVAL)"),
            (pin.is_some(), "kernel.pin", "--pin (or STREAMWATCH_PIN)"),
        ];
        flags.into_iter().filter(|(given, ..)| *given).map(|(_, field, flag)| (field, flag)).collect()
    }

    pub(super) fn parse(&self) -> Result<Config, ConfigError> {
        let Some((path, text)) = &self.file else { return Ok(Config::default()) };
        Ok(parse_toml(path, text)?)
    }

    pub(super) fn placed(&self, error: ConfigError) -> ConfigError {
        match &error {
            ConfigError::Range { field, .. } => {
                let what = error.to_string();
                self.find(field, &what).unwrap_or(error)
            }
            _ => error,
        }
    }

    /// What is wrong with a setting, with its place.
    pub fn blame(&self, field: impl Into<Field>, what: impl fmt::Display) -> ConfigError {
        let what = what.to_string();
        self.find(&field.into(), &what).unwrap_or(ConfigError::Wrong(what))
    }

    fn find(&self, field: &Field, what: &str) -> Option<ConfigError> {
        field.places.iter().find_map(|place| {
            if let Some((_, flag)) = self.flags.iter().find(|(set, _)| set == place) {
                return Some(ConfigError::Flag { flag, what: what.to_owned() });
            }
            let (path, text) = self.file.as_ref()?;
            Some(FileError::at(path, text, offset_of(text, place)?, what).into())
        })
    }
}
