//! The path of a request, as it is told: without what may be secret in it.
//!
//! In: a path as it was sent. Out: the same, with `…` in the place of parts that are long, look random, or
//! stand behind a name that announces a secret, with words and dots between them or none; and without user
//! information. The host of a request, as far as it can be one. What a part is, is judged after percent-decoding (RFC 3986
//! section 2.1), since a server does so; it is told as it was sent.

/// Of a path no more is told.
const LONGEST_PATH: usize = 128;
/// A part of a path that is longer is an identifier or a secret.
const LONGEST_PART: usize = 31;
/// From this length on a part may be random: 16 hexadecimal digits are 64 bits.
const SHORTEST_RANDOM: usize = 16;
/// What is shorter and stands behind a name that announces a secret is left out, and may not be it yet.
const SHORTEST_SECRET: usize = 4;
/// A word of a language is hardly ever longer.
const LONGEST_WORD: usize = 15;
/// Stands for what is left out of a path.
const LEFT_OUT: &[u8] = "…".as_bytes();
/// The same, of what may lead elsewhere: with the slash that stands in it.
const LEFT_OUT_ASTRAY: &[u8] = "…%2F…".as_bytes();

/// Behind these stands a secret, or further words.
const NAMES: [&[u8]; 31] = [
    b"token",
    b"tokens",
    b"key",
    b"apikey",
    b"secret",
    b"reset",
    b"password",
    b"passwd",
    b"passphrase",
    b"pwd",
    b"pass",
    b"auth",
    b"session",
    b"sessions",
    b"sid",
    b"jwt",
    b"bearer",
    b"credential",
    b"otp",
    b"pin",
    b"bot",
    b"invite",
    b"invitation",
    b"verify",
    b"verification",
    b"confirm",
    b"confirmation",
    b"activate",
    b"activation",
    b"unsubscribe",
    b"magic",
];

/// The path alone, without its query; and without the parameters of its parts (RFC 3986 section 3.3: `/a;v=1/b`).
pub(crate) fn shown(path: &[u8]) -> Vec<u8> {
    let path = path.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or(&[]);
    let mut shown = Vec::new();
    let mut announced = false;
    let mut from = 0;
    for (position, part) in path.split(|b| *b == b'/').enumerate() {
        if position > 0 {
            shown.push(b'/');
        }
        if shown.len() > LONGEST_PATH {
            shown.extend_from_slice(left_out(&path[from..]));
            break;
        }
        from += part.len() + 1;
        let (part, parameters) = part.split_at(part.iter().position(|b| *b == b';').unwrap_or(part.len()));
        let decoded = decoded(part);
        // An authority, with user information (RFC 3986 section 3.2.1).
        let is_authority = position == 2 && shown == b"//" && decoded.iter().skip(1).any(|b| *b == b'@');
        let is_secret = may_be_secret(&decoded, &mut announced) || is_authority || has_password(&decoded);
        // To a server that knows no parameters they are a part of the path.
        let is_astray = left_out(parameters) == LEFT_OUT_ASTRAY;
        shown.extend_from_slice(match is_secret {
            _ if is_astray => LEFT_OUT_ASTRAY,
            true => left_out(part),
            false => part,
        });
    }
    shown
}

/// Who judges where a path leads (`..`, slashes that are doubled or encoded, backslashes) sees that what is left out
/// leads elsewhere.
fn left_out(rest: &[u8]) -> &'static [u8] {
    let decoded = decoded(rest);
    let slashes = |text: &[u8]| text.iter().filter(|b| **b == b'/').count();
    let is_astray = slashes(rest) != slashes(&decoded)
        || decoded.iter().any(|b| matches!(b, b'\\' | 0))
        || decoded.windows(2).any(|pair| pair == b"//")
        || decoded.split(|b| matches!(b, b'/' | b';')).any(|part| matches!(part, b"." | b".."));
    if is_astray { LEFT_OUT_ASTRAY } else { LEFT_OUT }
}

/// `announced`: whether a part before announces a secret that has not stood there yet, and then whether it is so
/// behind this one. Words may stand between them: `/reset/confirm/…`, or an id, as Django has it.
fn may_be_secret(part: &[u8], announced: &mut bool) -> bool {
    let mut found = part.len() > LONGEST_PART || is_random(part);
    // What was escaped may have parts of its own: `reset%2F…`, `a%3Ftoken=…`, `token:…`.
    for piece in part.split(|b| matches!(b, b'/' | b'\\' | b'?' | b'&' | b'=' | b':' | b';')) {
        // Of `reset//…` and `reset/./…` a server may make `reset/…`.
        if piece.iter().all(|b| matches!(b, b'.' | b' ')) {
            continue;
        }
        let is_left_out = *announced && !is_ordinary(piece);
        found |= is_left_out;
        *announced = announces(piece) || *announced && !(is_left_out && piece.len() >= SHORTEST_SECRET);
        // Telegram: `/bot123456:…`, and any other number behind it.
        found |= piece.strip_prefix(b"bot").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit));
    }
    found
}

/// `name:password@`.
fn has_password(part: &[u8]) -> bool {
    let at = part.iter().rposition(|b| *b == b'@');
    at.is_some_and(|at| part[..at].iter().skip(1).any(|b| *b == b':'))
}

/// A host, and its port, without user information and from the first byte on that stands in none (RFC 9110 section
/// 7.2, RFC 3986 section 3.2). A name with `;`, `=` and the like, which the grammar lets pass, is of no host either.
pub(crate) fn shown_host(authority: &[u8]) -> Vec<u8> {
    let in_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%');
    let in_address = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'[' | b']');
    let ends = |text: &[u8], within: &dyn Fn(&u8) -> bool| text.iter().take_while(|b| within(b)).count();
    let is_other = |b: &u8| matches!(b, b'/' | b'?' | b'#' | b'\\' | b' ');
    let place = authority.split(is_other).next().unwrap_or(&[]);
    if authority[place.len()..].contains(&b'@') {
        return LEFT_OUT.to_vec();
    }
    let host = place.rsplit(|b| *b == b'@').next().unwrap_or(&[]);
    let name = if host.starts_with(b"[") { ends(host, &in_address) } else { ends(host, &in_name) };
    let port = match host.get(name) {
        Some(b':') => 1 + ends(&host[name + 1..], &u8::is_ascii_digit),
        _ => 0,
    };
    let mut shown = host[..name + port].to_vec();
    if name + port < host.len() || place.len() < authority.len() {
        shown.extend_from_slice(LEFT_OUT);
    }
    shown
}

/// `token`, `reset-password`, `access_token`, `resetPassword`.
fn announces(part: &[u8]) -> bool {
    let last = part.rsplit(|b| matches!(b, b'-' | b'_' | b'.')).next().unwrap_or(part);
    let from = last.iter().rposition(u8::is_ascii_uppercase).unwrap_or(0);
    NAMES.iter().any(|name| last.eq_ignore_ascii_case(name) || last[from..].eq_ignore_ascii_case(name))
}

/// Words, or a version: `login`, `forgot-password`, `openid-connect`, `userInfo`, `v2`.
fn is_ordinary(part: &[u8]) -> bool {
    let is_version =
        part.first() == Some(&b'v') && part.len() <= 3 && part[1..].iter().all(u8::is_ascii_digit);
    let is_separator = |b: &u8| matches!(b, b'-' | b'_' | b'.');
    let is_words = part.iter().all(|b| b.is_ascii_alphabetic() || is_separator(b))
        && part.split(is_separator).all(|word| word.len() <= LONGEST_WORD)
        && changes(part) * 4 <= part.len();
    is_version || is_words
}

/// Whether letters and digits, or large and small letters, change as often as they do by chance and in no
/// name that people give: measured, of random base64url and hexadecimal digits all but one in 15 of 16
/// bytes and one in 50 of 20 are found (of base32, which has few digits, only three in four); of 21,000 names of
/// files in /usr, one in 300 looks random, and most of these hold a hash.
fn is_random(part: &[u8]) -> bool {
    // The letters of base64, with its padding, and of base64url.
    let is_letter =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'/' | b'=' | b'~');
    part.split(|b| !is_letter(b)).any(|run| run.len() >= SHORTEST_RANDOM && changes(run) * 5 >= run.len())
}

/// How often a letter follows a digit, a digit a letter, a capital a small letter. The other way round is
/// how words begin.
fn changes(text: &[u8]) -> usize {
    let changes = |pair: &&[u8]| match (pair[0], pair[1]) {
        (b'0'..=b'9', second) => second.is_ascii_alphabetic(),
        (first, b'0'..=b'9') => first.is_ascii_alphabetic(),
        (first, second) => first.is_ascii_lowercase() && second.is_ascii_uppercase(),
    };
    text.windows(2).filter(changes).count()
}

/// Percent-decoded once; what is no escape stays as it is.
fn decoded(part: &[u8]) -> Vec<u8> {
    let digit = |at: usize| part.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut decoded = Vec::with_capacity(part.len());
    let mut at = 0;
    while let Some(byte) = part.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(path: &str) -> String {
        String::from_utf8_lossy(&shown(path.as_bytes())).into_owned()
    }

    #[test]
    fn ordinary_paths_are_told_as_they_are() {
        for path in [
            "/",
            "*",
            "/api/v1/users/12345",
            "/health",
            "/static/app.js",
            "/static/main.8d3f2a1b9c.chunk.js",
            "/assets/jquery-3.6.0.min.js",
            "/indices/logs-2026.11.28",
            "/filebeat-8.11.1-2026.11.28/_search",
            "/photos/IMG_20261128_123456.jpg",
            "/at/2026-11-28T19:43:36Z",
            "/snowflakes/1234567890123456789",
            "/rpc/getUserAccountInformation2",
            "/.well-known/openid-configuration",
            "/auth/login",
            "/auth/realms/master/protocol/openid-connect/token",
            "/auth/v2/userInfo",
            "/password/forgot",
            "/oauth/token/refresh",
            "/v1/secret/data/billing",
            "/api/v1/namespaces/default/secrets/db-1",
            "/monkey/7",
            "/robots.txt",
            "/botany/2",
            "/wiki/%D0%9A%D0%BE%D1%88%D0%BA%D0%B0",
            "/projects/group%2Fproject/issues",
            "/100%/a%zz",
            "/@scope/package",
            "/auth/./login",
            "/users/me@example.org/7",
            "//host/7",
        ] {
            assert_eq!(told(path), path);
        }
    }

    #[test]
    fn parts_that_may_be_secret_are_left_out() {
        for (path, expected) in [
            ("/d/9f86d081884c7d65/a", "/d/…/a"),
            ("/d/dQw4w9WgXcQ_bcX-YZ12k", "/d/…"),
            ("/services/T00000000/B00000000/x9Kq2mVb7LpWz4Tn8RfYc1Ds", "/services/T00000000/B00000000/…"),
            ("/token/hunter2", "/token/…"),
            ("/reset/123456", "/reset/…"),
            ("/reset-password/aB3", "/reset-password/…"),
            ("/resetPassword/aB3/x", "/resetPassword/…/x"),
            ("/access_token/abc1;v=2", "/access_token/…"),
            ("/session/abcdefghijklmnopqrst", "/session/…"),
            ("/key/aBcDeF", "/key/…"),
            ("/bot123456:AAF-abc/send", "/…/send"),
            ("/a/token=abc1/b", "/a/…/b"),
            ("/a/token:abc1", "/a/…"),
            // Written with escapes, as a whole or in part.
            ("/%74oken/hunter2", "/%74oken/…"),
            ("/token/%68unter2", "/token/…"),
            ("/reset%2Fhunter2", "/…%2F…"),
            ("/a%3Ftoken=hunter2", "/…"),
            ("/d/%39f86d081884c7d6%35", "/d/…"),
            ("/d/9f86d08188%2F4c7d65", "/d/…%2F…"),
            ("/reset%2F/hunter2", "/reset%2F/…"),
            ("/reset//hunter2", "/reset//…"),
            // What is announced stands behind empty segments, dots, and further words.
            ("/token/./Zk7SEKR3T9qW", "/token/./…"),
            ("/token/%2e/Zk7SEKR3T9qW", "/token/%2e/…"),
            ("/token/../Zk7SEKR3T9qW", "/token/../…"),
            ("/token/a/Zk7SEKR3T9qW", "/token/a/…"),
            ("/token/1/Zk7SEKR3T9qW/x", "/token/…/…/x"),
            ("/token/verify/a/Zk7SEKR3T9qW/7", "/token/verify/a/…/7"),
            // A server may take a backslash for a slash.
            ("/token\\Zk7SEKR3T9qW", "/…%2F…"),
            ("/token%5CZk7SEKR3T9qW", "/…%2F…"),
            // User information.
            ("//bob:Zk7SEKR3T9qW@h/x", "//…/x"),
            ("//Zk7SEKR3T9qW@h/x", "//…/x"),
            ("/proxy/http://bob:Zk7SEKR3@h/x", "/proxy/http://…/x"),
            ("/a/bob%3AZk7SEKR3%40h/x", "/a/…/x"),
        ] {
            assert_eq!(told(path), expected);
        }
    }

    #[test]
    fn what_is_left_out_and_leads_elsewhere_is_marked() {
        let long = "a/".repeat(64);
        for (rest, expected) in [
            ("token/x1%2F..%2F..%2Fadmin", "token/…%2F…".to_owned()),
            ("token/x1%5C..%5Cadmin", "token/…%2F…".to_owned()),
            (&format!("{long}../../admin"), format!("{long}…%2F…")),
            (&format!("{long}%2e%2E;a/admin"), format!("{long}…%2F…")),
            (&format!("{long}a//admin"), format!("{long}…%2F…")),
            (&format!("{long}a/..admin"), format!("{long}…")),
        ] {
            assert_eq!(told(&format!("/{rest}")), format!("/{expected}"));
        }
    }

    #[test]
    fn parameters_that_lead_elsewhere_are_marked() {
        for (path, expected) in [
            ("/public;v=1/a;b", "/public/a"),
            ("/public;%2f..%2fsecret", "/…%2F…"),
            ("/public;x%5c..%5csecret", "/…%2F…"),
            ("/public;/../secret", "/public/../secret"),
        ] {
            assert_eq!(told(path), expected);
        }
    }

    #[test]
    fn a_part_is_measured_as_it_is_decoded() {
        for length in [31, 32] {
            let plain = "a".repeat(length);
            let escaped: String = plain.bytes().map(|byte| format!("%{byte:02x}")).collect();
            assert_eq!(told(&format!("/{plain}")) == "/…", length > LONGEST_PART);
            assert_eq!(told(&format!("/{escaped}")) == "/…", length > LONGEST_PART, "{escaped}");
        }
    }

    #[test]
    fn a_host_is_told_up_to_what_is_none() {
        for (host, expected) in [
            ("example.org", "example.org"),
            ("example.org:8080", "example.org:8080"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("bob:Zk7SEKR3@h:80", "h:80"),
            ("h?token=Zk7SEKR3", "h…"),
            ("h/Zk7SEKR3", "h…"),
            ("h/@Zk7SEKR3", "…"),
            ("h:80;Zk7SEKR3", "h:80…"),
            ("h:Zk7SEKR3", "h:…"),
            ("h&token=Zk7SEKR3", "h…"),
            ("h Zk7SEKR3", "h…"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&shown_host(host.as_bytes())), expected);
        }
    }

    proptest! {
        /// However it is escaped, the same is left out, and little more than the longest is told. What stands behind
        /// a `%` stays as it is: escaped itself, it would be an escape no longer.
        #[test]
        fn escapes_change_nothing(text in "/(token/|a/)?[a-zA-Z0-9_-]{0,40}(/[ -~]{0,40}){0,9}", escape in any::<u64>()) {
            let reserved = |byte: u8| matches!(byte, b'/' | b'?' | b'#' | b';' | b'%');
            let of_escape = |at: usize| text.as_bytes()[at.saturating_sub(2)..at].contains(&b'%');
            let escaped: String = text
                .bytes()
                .enumerate()
                .map(|(at, byte)| match escape >> (at % 64) & 1 == 1 && !reserved(byte) && !of_escape(at) {
                    true => format!("%{byte:02X}"),
                    false => char::from(byte).to_string(),
                })
                .collect();
            let parts = |path: &str| -> Vec<bool> { told(path).split('/').map(|part| part.starts_with('…')).collect() };
            let (plain, escaped) = (parts(&text), parts(&escaped));
            let most = plain.len().min(escaped.len()).saturating_sub(1);
            prop_assert_eq!(&plain[..most], &escaped[..most]);
            prop_assert!(told(&text).len() <= LONGEST_PATH + 2 + LONGEST_PART + LEFT_OUT_ASTRAY.len());
        }
    }
}
