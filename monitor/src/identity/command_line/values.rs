//! Values that are secret because of their name, their place in a URL, or their shape.

use super::programs::Programs;
use super::{HIDDEN, Next, QUOTES};

/// Parts of a name that say that the value is a secret.
const SECRET: [&str; 14] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "access-key",
    "access_key",
    "cookie",
    "bearer",
    // What is sent: a form, most often.
    "post-data",
    "body-data",
];

/// Words that say so as the last one of a name: `--proxy-auth`, `REDISCLI_AUTH`, `-pw`.
const LAST: [&str; 8] = ["auth", "masterauth", "psk", "otp", "totp", "pw", "pin", "passphrase"];

/// Words that say so before a colon, where many other things stand.
const BEFORE_COLON: [&str; 12] = [
    "password",
    "passwd",
    "pass",
    "pwd",
    "passphrase",
    "token",
    "secret",
    "apikey",
    "key",
    "bearer",
    "cookie",
    "psk",
];

/// Headers whose value is one.
const HEADERS: [&str; 6] =
    ["authorization", "cookie", "set-cookie", "x-api-key", "proxy-authorization", "x-auth-token"];

/// What stands before what is presented, in a header (RFC 9110 section 11.1).
const SCHEMES: [&str; 6] = ["basic", "bearer", "token", "digest", "negotiate", "apikey"];

/// Names in front of `:name@host` that are schemes, and no names of users.
const ADDRESSES: [&str; 5] = ["mailto", "sip", "sips", "xmpp", "acct"];

/// Schemes where a name without a password is a token.
const TOKEN_SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

/// How tokens begin, as their issuers publish it.
const SHAPES: [&str; 30] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "glrt-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxr-",
    "xoxs-",
    "xoxe-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "hvs.",
    "hvb.",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "sk-ant-",
    "eyJ",
    "npm_",
    "dop_v1_",
    "SG.",
    "shpat_",
    "hf_",
];

/// As many bytes behind it make a token of what begins like one.
const SHORTEST_TOKEN: usize = 16;

/// A longer name is judged by its end.
const LONGEST_NAME: usize = 64;

/// What an argument is by its name. `name` includes what parts it from the value.
pub(super) enum Named<'a> {
    Secret {
        name: &'a str,
        value: &'a str,
    },
    User {
        name: &'a str,
        value: &'a str,
    },
    Other {
        name: &'a str,
        value: &'a str,
    },
    /// Without a value: what the next argument is.
    Option(Next),
    No,
}

pub(super) fn named(argument: &str) -> Named<'_> {
    let is_option = argument.starts_with('-');
    let Some(at) = argument.find(['=', ':']) else {
        return match argument {
            "-u" | "-U" | "--user" | "--proxy-user" => Named::Option(Next::User),
            _ if is_option && !argument.contains(char::is_whitespace) && is_secret(argument) => {
                Named::Option(Next::Hidden)
            }
            _ => Named::No,
        };
    };
    let (name, value) = argument.split_at(at + 1);
    let plain = &argument[..at];
    // Of a URL and of a command line the name is no name.
    if value.starts_with("//")
        || plain.contains(char::is_whitespace)
        || plain.contains(['&', ';', '{', ',', '|'])
    {
        return Named::No;
    }
    let is_equal = name.ends_with('=');
    match plain {
        _ if is_equal && is_secret(plain) || !is_equal && is_secret_before_colon(plain) => {
            Named::Secret { name, value }
        }
        "--user" | "--proxy-user" | "-u" if is_equal => Named::User { name, value },
        _ if is_option && is_equal => Named::Other { name, value },
        _ => Named::No,
    }
}

pub(super) fn is_header(name: &str) -> bool {
    let name = name.trim_matches(QUOTES);
    let name = name.strip_prefix("-H").unwrap_or(name).trim();
    HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header))
}

pub(super) fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// `name:password`, `name%password` as Samba has it, `name,password` as lftp has it.
pub(super) fn user(programs: &Programs, text: &str) -> String {
    let (colon, percent, comma) = (text.find(':'), text.find('%'), text.find(','));
    let at = [colon, percent, comma.filter(|_| programs.part_users_at_commas())].into_iter().flatten().min();
    let Some(at) = at else { return text.to_owned() };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A user and a group, by their ids.
    if programs.may_take_ids() && is_number(&text[..at]) && is_number(&text[at + 1..]) {
        return text.to_owned();
    }
    format!("{}{HIDDEN}", &text[..=at])
}

fn is_secret(name: &str) -> bool {
    let name = end_of(name).to_ascii_lowercase();
    let name = name.trim_matches(['-', '\'', '"', '\\', ' ']);
    let says_not = ["no-", "without-", "skip-"].iter().any(|not| name.starts_with(not))
        || ["less", "-stdin", "-prompt"].iter().any(|not| name.ends_with(not));
    !says_not && (SECRET.iter().any(|part| name.contains(part)) || LAST.contains(&last_word(name)))
}

fn is_secret_before_colon(name: &str) -> bool {
    let name = end_of(name);
    if is_header(name) {
        return true;
    }
    let name = name.trim_matches(['-', '\'', '"', '\\', ' ']).to_ascii_lowercase();
    let name = name.strip_prefix('/').unwrap_or(&name);
    !name.contains('/') && (BEFORE_COLON.contains(&last_word(name)) || LAST.contains(&last_word(name)))
}

fn last_word(name: &str) -> &str {
    name.rsplit(['-', '_', '.']).next().unwrap_or(name)
}

fn end_of(name: &str) -> &str {
    &name[name.ceil_char_boundary(name.len().saturating_sub(LONGEST_NAME))..]
}

/// A word without the secrets in it, and whether the next one is one.
pub(super) fn shown(word: &str) -> (String, bool) {
    let word = match word.contains("://") {
        true => urls(word),
        false => without_password(word),
    };
    let (word, is_open) = fields(&word);
    (tokens(&word), is_open)
}

/// `name:password@host`, without a scheme.
fn without_password(word: &str) -> String {
    match (word.find(':'), word.rfind('@')) {
        (Some(colon), Some(at)) if colon + 1 < at => {
            let is_address = ADDRESSES.iter().any(|scheme| word[..colon].eq_ignore_ascii_case(scheme));
            let is_digest = word[at..].starts_with("@sha256:") || word[at..].starts_with("@sha512:");
            if is_address || is_digest {
                return word.to_owned();
            }
            format!("{}:{HIDDEN}{}", &word[..colon], &word[at..])
        }
        _ => word.to_owned(),
    }
}

/// URLs without password, query and fragment.
fn urls(word: &str) -> String {
    let mut shown = String::with_capacity(word.len());
    let last_at = word.rfind('@');
    let mut rest = word;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let scheme = before[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let place = &after[..end];
        rest = &after[end..];
        let port = place.rsplit([':', ']']).next().unwrap_or("");
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        if !place.contains('@') && place.contains(':') && !is_port {
            // A password with a slash or a question mark in it.
            let name = place.find(':').unwrap_or(0);
            shown.push_str(&place[..=name]);
            shown.push_str(HIDDEN);
            let from = word.len() - rest.len();
            rest = &word[last_at.filter(|at| *at >= from).unwrap_or(from)..];
        } else if let Some((info, host)) = place.rsplit_once('@') {
            match info.split_once(':') {
                Some((name, _)) => shown.extend([name, ":", HIDDEN]),
                None if TOKEN_SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
                    shown.push_str(HIDDEN);
                }
                None => shown.push_str(info),
            }
            shown.push('@');
            shown.push_str(host);
        } else {
            shown.push_str(place);
        }
        let next = rest.find("://").unwrap_or(rest.len());
        if let Some(query) = rest[..next].find(['?', '#']) {
            shown.push_str(&rest[..query]);
            shown.push_str("?***");
            return shown;
        }
    }
    shown.push_str(rest);
    shown
}

/// `a=1&password=…`, `Server=h;Password=…`, `{"password":"…"}`: without what is named as a secret. Behind `&` and
/// `;` a value ends before the next of them, else with the word.
fn fields(word: &str) -> (String, bool) {
    let mut shown = String::with_capacity(word.len());
    let (mut told, mut name, mut separator) = (0, 0, None);
    let bytes = word.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'=' | b':' => {
                let plain = &word[name..at];
                let found = if *byte == b'=' { is_secret(plain) } else { is_secret_before_colon(plain) };
                name = at + 1;
                if found {
                    let ends = |b: &u8| separator == Some(*b);
                    let value = bytes[name..].iter().position(ends).map_or(bytes.len(), |end| name + end);
                    shown.push_str(&word[told..name]);
                    // Words may follow, in a string of settings.
                    let is_open = value == bytes.len() && (separator == Some(b';') || value == name);
                    if value > name {
                        shown.push_str(HIDDEN);
                    }
                    if value == bytes.len() {
                        return (shown, is_open);
                    }
                    (told, at) = (value, value);
                    continue;
                }
            }
            b'&' | b';' => (name, separator) = (at + 1, Some(*byte)),
            b',' | b'{' | b'[' | b'(' | b'|' | b'?' | b'#' | b'<' | b'>' => {
                (name, separator) = (at + 1, None)
            }
            _ => {}
        }
        at += 1;
    }
    shown.push_str(&word[told..]);
    (shown, false)
}

/// Without tokens that are known by their shape.
fn tokens(word: &str) -> String {
    let mut shown = String::with_capacity(word.len());
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric();
    let (mut told, mut at) = (0, 0);
    while at < word.len() {
        let begins = at == 0 || !is_letter(word.as_bytes()[at - 1]);
        let shape = SHAPES.iter().find(|shape| begins && word.as_bytes()[at..].starts_with(shape.as_bytes()));
        let Some(shape) = shape else {
            at += 1;
            continue;
        };
        let from = at + shape.len();
        let parted = !matches!(*shape, "npm_" | "hf_");
        let within = |byte: &&u8| is_letter(**byte) || parted && matches!(**byte, b'-' | b'_' | b'.');
        let length = word.as_bytes()[from..].iter().take_while(within).count();
        if length >= SHORTEST_TOKEN {
            shown.push_str(&word[told..at]);
            shown.push_str(HIDDEN);
            told = from + length;
        }
        // What was looked at is not looked at again.
        at = from + length;
    }
    shown.push_str(&word[told..]);
    shown
}
