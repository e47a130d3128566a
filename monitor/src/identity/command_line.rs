//! A process's arguments, as they may be shown.
//!
//! In: `/proc/PID/cmdline`. Out: one line. Must never: hand on what is plainly a secret: user info and
//! queries of URLs, values of options and variables whose name says so, credentials in headers. What
//! is hidden stands as `***`; a secret under a harmless name cannot be told from anything else.

const HIDDEN: &str = "***";

/// Bytes of arguments that are shown; `…` stands for the rest.
const LONGEST: usize = 512;

/// Parts of a name that say that the value is a secret.
const SECRET: [&str; 13] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "access-key",
    "cookie",
    "bearer",
    // What is sent: a form, most often.
    "post-data",
    "body-data",
];

/// Headers whose value is one.
const HEADERS: [&str; 5] = ["authorization", "cookie", "x-api-key", "proxy-authorization", "x-auth-token"];

/// Programs whose short option is followed by a secret (a cookie, a form), or has it attached.
const SHORT: [(&str, &str); 23] = [
    ("curl", "-b"),
    ("curl", "-d"),
    ("curl", "-F"),
    ("curl", "--data"),
    ("curl", "--data-raw"),
    ("curl", "--data-binary"),
    ("curl", "--data-urlencode"),
    ("curl", "--json"),
    ("curl", "--form"),
    ("redis-cli", "-a"),
    ("mosquitto_pub", "-P"),
    ("mosquitto_sub", "-P"),
    ("mosquitto_rr", "-P"),
    ("ldapsearch", "-w"),
    ("ldapadd", "-w"),
    ("ldapmodify", "-w"),
    ("ldapdelete", "-w"),
    ("ldapwhoami", "-w"),
    ("sshpass", "-p"),
    ("rabbitmqadmin", "-p"),
    ("mongosh", "-p"),
    ("mongo", "-p"),
    ("kinit", "-w"),
];

/// Programs that take a password only attached: `-psecret`.
const ATTACHED: [&str; 6] = ["mysql", "mariadb", "mysqldump", "mariadb-dump", "mysqladmin", "mariadb-admin"];

/// Arguments joined with spaces, secrets hidden; `None` for a kernel thread, which has none.
pub fn command_line(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut shown: Vec<String> = Vec::new();
    let mut hide_next = Next::Shown;
    let program = text.split('\0').next().unwrap_or("");
    let program = program.rsplit('/').next().unwrap_or(program);
    let is_short = |argument: &str| SHORT.contains(&(program, argument));
    let is_attached = |argument: &str| {
        let option = argument.get(..2).filter(|_| argument.len() > 2 && !argument.starts_with("--"));
        option.is_some_and(|option| is_short(option) || option == "-p" && ATTACHED.contains(&program))
    };
    for argument in text.split('\0') {
        let (show, next) = match hide_next {
            Next::Hidden if !argument.starts_with('-') => (HIDDEN.to_owned(), Next::Shown),
            Next::Hidden if shown.last().is_some_and(|last| is_short(last)) => {
                (HIDDEN.to_owned(), Next::Shown)
            }
            Next::User => (user(argument), Next::Shown),
            _ if is_short(argument) => (argument.to_owned(), Next::Hidden),
            _ if is_attached(argument) => (format!("{}{HIDDEN}", &argument[..2]), Next::Shown),
            _ => one(argument),
        };
        hide_next = next;
        shown.push(show);
    }
    let mut shown = shown.join(" ");
    if shown.len() > LONGEST {
        shown.truncate(shown.floor_char_boundary(LONGEST));
        shown.push('…');
    }
    shown.shrink_to_fit();
    Some(shown)
}

/// What the argument before says of this one.
enum Next {
    Shown,
    Hidden,
    /// `name:password`, as curl and wget have it.
    User,
}

fn one(argument: &str) -> (String, Next) {
    if argument.contains("://") {
        return (url(argument), Next::Shown);
    }
    if let Some((name, value)) = argument.split_once('=') {
        if is_secret(name) && !value.is_empty() {
            return (format!("{name}={HIDDEN}"), Next::Shown);
        }
        // A form: `user=me&password=secret`.
        let part = |part: &str| match part.split_once('=') {
            Some((name, value)) if is_secret(name) && !value.is_empty() => format!("{name}={HIDDEN}"),
            _ => part.to_owned(),
        };
        return (argument.split('&').map(part).collect::<Vec<_>>().join("&"), Next::Shown);
    }
    if let Some((name, _)) = argument.split_once(':')
        && HEADERS.iter().any(|header| header_name(name).eq_ignore_ascii_case(header))
    {
        return (format!("{name}: {HIDDEN}"), Next::Shown);
    }
    let next = match argument {
        "-u" | "--user" | "--proxy-user" => Next::User,
        _ if argument.starts_with('-') && is_secret(argument) => Next::Hidden,
        _ => Next::Shown,
    };
    (argument.to_owned(), next)
}

/// A header may stand right behind its option: `-HAuthorization`.
fn header_name(name: &str) -> &str {
    name.strip_prefix("-H").unwrap_or(name).trim()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

fn user(argument: &str) -> String {
    match argument.split_once(':') {
        Some((name, _)) => format!("{name}:{HIDDEN}"),
        None => argument.to_owned(),
    }
}

/// Without password, query and fragment.
fn url(argument: &str) -> String {
    let (before, after) = argument.split_once("://").unwrap_or((argument, ""));
    let (place, query) = match after.find(['?', '#']) {
        Some(at) => (&after[..at], true),
        None => (after, false),
    };
    let (authority, path) = match place.find('/') {
        Some(at) => place.split_at(at),
        None => (place, ""),
    };
    let authority = match authority.rsplit_once('@') {
        Some((info, host)) => format!("{}@{host}", user(info)),
        None => authority.to_owned(),
    };
    let query = if query { "?***" } else { "" };
    format!("{before}://{authority}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(arguments: &[&str]) -> String {
        command_line(arguments.join("\0").as_bytes()).unwrap_or_default()
    }

    #[test]
    fn cookies_and_forms_are_hidden() {
        for (arguments, expected) in [
            (&["curl", "-b", "session=Zq7", "http://h/"][..], "curl -b *** http://h/"),
            (&["curl", "-bsession=Zq7", "-d", "-Zq7"], "curl -b*** -d ***"),
            (&["/usr/bin/curl", "--cookie", "session=Zq7"], "/usr/bin/curl --cookie ***"),
            (&["curl", "--data-raw", "Zq7", "--data", "Zq7"], "curl --data-raw *** --data ***"),
            (&["wget", "--post-data=a=1&b=Zq7"], "wget --post-data=***"),
            (&["script", "user=me&password=Zq7&x=1"], "script user=me&password=***&x=1"),
            (&["curl", "--oauth2-bearer", "Zq7"], "curl --oauth2-bearer ***"),
        ] {
            assert_eq!(shown(arguments), expected);
        }
    }

    #[test]
    fn arguments_are_joined() {
        assert_eq!(command_line(b"curl\0-s\0http://x\0").as_deref(), Some("curl -s http://x"));
        assert_eq!(command_line(b"\0\0"), None);
        assert_eq!(command_line(b""), None);
    }

    #[test]
    fn what_is_plainly_a_secret_is_hidden() {
        for (arguments, expected) in [
            (&["curl", "http://a:hunter2@h/p?token=hunter2#x"][..], "curl http://a:***@h/p?***"),
            (&["curl", "-u", "me:hunter2", "https://h/"], "curl -u me:*** https://h/"),
            (&["mysql", "--password=hunter2"], "mysql --password=***"),
            (&["redis-cli", "--pass", "hunter2", "get", "x"], "redis-cli --pass *** get x"),
            (&["env", "API_TOKEN=hunter2", "run"], "env API_TOKEN=*** run"),
            (&["curl", "-H", "Authorization: Bearer hunter2"], "curl -H Authorization: ***"),
            (&["redis-cli", "-a", "hunter2", "get", "x"], "redis-cli -a *** get x"),
            (&["redis-cli", "-a", "-hunter2", "get", "x"], "redis-cli -a *** get x"),
            (&["/usr/bin/mosquitto_pub", "-Phunter2", "-t", "x"], "/usr/bin/mosquitto_pub -P*** -t x"),
            (&["mysql", "-phunter2", "-P", "3306"], "mysql -p*** -P 3306"),
            (&["psql", "postgres://u:hunter2@db/x"], "psql postgres://u:***@db/x"),
        ] {
            assert_eq!(shown(arguments), expected);
        }
    }

    #[test]
    fn many_arguments_are_cut_after_their_secrets_are_hidden() {
        let line = shown(&["curl", &"é".repeat(2000), "--password=hunter2"]);
        assert!(line.starts_with("curl éé") && line.ends_with("é…"), "{line}");
        // What is no UTF-8 grows threefold.
        for bytes in [[0xff; 4096], [b'a'; 4096], [b'"'; 4096]] {
            let line = command_line(&bytes).expect("arguments");
            assert!(line.len() <= LONGEST + '…'.len_utf8() && line.capacity() <= LONGEST + 64);
        }
        let at_the_edge = format!("--token={}", "x".repeat(LONGEST));
        assert_eq!(shown(&["a", &at_the_edge]), "a --token=***");
    }

    #[test]
    fn the_rest_is_left_alone() {
        for line in ["nginx: master process /usr/sbin/nginx", "ssh -p 22 host", "python3 -m http.server 8123"]
        {
            assert_eq!(shown(&line.split(' ').collect::<Vec<_>>()), line);
        }
    }
}
