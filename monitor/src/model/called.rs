//! What a process calls itself, as it is told to people.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// Our own words for what has no name, or is of more than one.
const OURS: [&str; 6] = ["?", "-", "unknown", "none", "(others)", "(all)"];

/// A name that a process gave itself: in quotes where it could be taken for what somebody else names (an address, a
/// unit, a container, a user), for a word of ours, or for no name at all.
pub fn called(name: &str) -> Cow<'_, str> {
    let is_address = || name.parse::<IpAddr>().is_ok() || name.parse::<SocketAddr>().is_ok();
    let is_taken = name.trim() != name
        || name.is_empty()
        || OURS.contains(&name)
        || name.starts_with(['"', '['])
        || name.starts_with("uid:")
        || name.contains(" (")
        || name.ends_with(".service")
        || name.contains(['@', '→'])
        || is_address();
    if is_taken { Cow::Owned(format!("\"{name}\"")) } else { Cow::Borrowed(name) }
}

#[cfg(test)]
mod tests {
    use super::called;
    use crate::model::Identity;

    #[test]
    fn a_name_that_is_no_process_name_is_in_quotes() {
        for name in [
            "",
            " ",
            "?",
            "-",
            "unknown",
            "(others)",
            "(all)",
            "10.0.0.1",
            "::1",
            "10.0.0.1:80",
            "[::1]:80",
            "uid:0",
            "nginx.service",
            "nginx@0123456789ab",
            "a → b",
            "curl (alice)",
            "\"a\"",
            "nginx ",
            "\u{3164}nginx\u{a0}",
            "\u{a0}",
        ] {
            assert_eq!(called(name), format!("\"{name}\""));
        }
        for name in
            ["nginx", "(sd-pam)", "kworker/0:1", "größe", "x-y", "a b", "unknown1", "Web Content", "\u{3164}"]
        {
            assert_eq!(called(name), name);
        }
        assert_eq!(Identity::default().label(), "?");
        let label = |name: &str, uid, user: Option<&str>| {
            let (name, user) = (Some(name.to_owned()), user.map(str::to_owned));
            Identity { name, user, uid: Some(uid), ..Identity::default() }.label()
        };
        assert_eq!(label("curl", 0, Some("root")), "curl");
        assert_eq!(label("(others)", 0, None), "\"(others)\"");
        let nobodys = Identity { name: Some("curl".to_owned()), ..Identity::default() };
        assert_eq!(nobodys.label(), "curl (uid ?)", "whose it is, is not known: it need not be root's");
        assert_eq!(label("curl", 1000, Some("alice")), "curl (alice)");
        assert_eq!(label("curl (alice)", 1001, Some("mallory")), "\"curl (alice)\" (mallory)");
        assert_eq!(label("curl", 1001, None), "curl (uid 1001)");
    }
}
