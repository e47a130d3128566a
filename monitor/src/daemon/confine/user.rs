//! The worker's own user: one by the configured name, or a number that nobody has.

use std::io;
use std::path::Path;

use crate::regular;

/// A user and its group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub id: u32,
    pub group: u32,
}

/// Why there is no such user. One line.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("cannot read /etc/passwd: {0}")]
    Unreadable(io::Error),
    #[error("worker.user: there is no user {0:?} in /etc/passwd; make one, or give a number")]
    Unknown(String),
    #[error("worker.user: {0:?} is root: what reads traffic must not be")]
    Root(String),
}

/// The name that is used where none is configured.
pub const USUAL: &str = "streamwatch";

/// Where that user does not exist: in the range of numbers that systemd gives to services for a time
/// (61184 to 65519), and so nobody's on other hosts.
const NOBODYS: u32 = 64_917;

impl User {
    /// The user by name or number; `None`: the usual one, or a number that nobody has.
    ///
    /// # Errors
    /// There is none of this name, or it is root.
    pub fn of(wanted: Option<&str>) -> Result<User, UserError> {
        let text = match regular::read(Path::new("/etc/passwd"), regular::LARGEST) {
            // A host without users: a number will do.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(UserError::Unreadable)?,
        };
        User::found(&String::from_utf8_lossy(&text), wanted)
    }

    fn found(passwd: &str, wanted: Option<&str>) -> Result<User, UserError> {
        let name = wanted.unwrap_or(USUAL);
        let user = match (name.parse(), entry(passwd, name)) {
            (Ok(id), _) => User { id, group: group_of(passwd, id).unwrap_or(id) },
            (_, Some(user)) => user,
            _ if wanted.is_none() => User { id: NOBODYS, group: NOBODYS },
            _ => return Err(UserError::Unknown(name.to_owned())),
        };
        if user.id == 0 || user.group == 0 {
            return Err(UserError::Root(name.to_owned()));
        }
        Ok(user)
    }
}

/// `name:password:user:group:…`, see passwd(5).
fn fields(line: &str) -> Option<(&str, User)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let id = fields.nth(1)?.parse().ok()?;
    Some((name, User { id, group: fields.next()?.parse().ok()? }))
}

fn entry(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().filter_map(fields).find(|(found, _)| *found == name).map(|(_, user)| user)
}

fn group_of(passwd: &str, id: u32) -> Option<u32> {
    passwd.lines().filter_map(fields).find(|(_, user)| user.id == id).map(|(_, user)| user.group)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn by_name_by_number_or_nobodys() {
        let passwd = "root:x:0:0::/:/bin/sh\nbroken\nwatch:x:990:980::/:/bin/false\n";
        let found = |wanted| User::found(passwd, wanted);
        assert_eq!(found(Some("watch")).unwrap(), User { id: 990, group: 980 });
        assert_eq!(found(Some("990")).unwrap(), User { id: 990, group: 980 });
        assert_eq!(found(Some("1234")).unwrap(), User { id: 1234, group: 1234 });
        assert_eq!(found(None).unwrap(), User { id: NOBODYS, group: NOBODYS });
        for refused in ["root", "0", "nobody at all"] {
            let error = found(Some(refused)).unwrap_err().to_string();
            assert!(error.starts_with("worker.user: "), "{error}");
        }
    }
}
