//! A process's arguments, as they may be shown.
//!
//! In: `/proc/PID/cmdline`. Out: one line. Must never: hand on what is plainly a secret: user info and
//! queries of URLs, values of options, variables, fields and headers whose name says so, what a known program
//! takes as one, and tokens of a known shape; in an argument that is itself a command line or a string of
//! settings, too. What is hidden stands as `***`; a secret under a harmless name cannot be told from anything
//! else. In doubt about what names itself a secret, it is hidden.

mod programs;
mod values;

use programs::Programs;
use values::{Named, is_header, is_scheme, named, user};

const HIDDEN: &str = "***";

/// Bytes of arguments that are shown; `…` stands for the rest.
const LONGEST: usize = 512;

/// Command lines within command lines that are looked into; what is deeper is hidden. Each is looked at once, so
/// that the work is at most this often the length.
const DEEPEST: usize = 6;

/// Arguments joined with spaces, secrets hidden; `None` for a kernel thread, which has none.
pub fn command_line(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut line = Line::default();
    let shown: Vec<String> = text.split('\0').map(|argument| line.shown(argument, 0)).collect();
    let mut shown = shown.join(" ");
    if shown.len() > LONGEST {
        shown.truncate(shown.floor_char_boundary(LONGEST));
        shown.push('…');
    }
    shown.shrink_to_fit();
    Some(shown)
}

/// What the argument before says of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Shown,
    Hidden,
    /// As far as a quote that is closed in a later argument.
    HiddenUntil(char),
    /// `name:password`, as curl and wget have it.
    User,
}

/// What is known of the words so far.
#[derive(Debug, Default)]
struct Line {
    programs: Programs,
    next: Next,
}

impl Line {
    /// An argument, or a word of one that is a command line itself.
    fn shown(&mut self, argument: &str, depth: usize) -> String {
        let unquoted = argument.trim_matches(QUOTES);
        match std::mem::take(&mut self.next) {
            Next::Hidden => {
                // `Authorization: Basic …`, and an option that was not the secret may have one behind it.
                let quote = argument.chars().next().filter(|first| QUOTES.contains(first));
                if let Some(quote) = quote.filter(|quote| !argument[1..].contains(*quote)) {
                    self.next = Next::HiddenUntil(quote);
                } else if is_scheme(unquoted) {
                    self.next = Next::Hidden;
                } else if argument.starts_with('-') {
                    self.rest(argument, depth);
                }
                return HIDDEN.to_owned();
            }
            Next::HiddenUntil(quote) => {
                self.next = if argument.contains(quote) { Next::Shown } else { Next::HiddenUntil(quote) };
                return HIDDEN.to_owned();
            }
            Next::User => return user(&self.programs, &values::shown(argument).0),
            Next::Shown => {}
        }
        self.rest(argument, depth)
    }

    fn rest(&mut self, argument: &str, depth: usize) -> String {
        if depth > DEEPEST {
            return HIDDEN.to_owned();
        }
        let unquoted = argument.trim_matches(QUOTES);
        if self.programs.sees(unquoted) {
            self.next = Next::Hidden;
            return argument.to_owned();
        }
        if let Some((option, next)) = self.programs.short(argument) {
            // The value stands in this argument, or is the next one.
            let (option, value) = argument.split_at(option);
            if value.is_empty() {
                self.next = next;
                return option.to_owned();
            }
            return match next {
                Next::User => format!("{option}{}", user(&self.programs, value)),
                Next::Hidden | Next::HiddenUntil(_) => format!("{option}{HIDDEN}"),
                Next::Shown => format!("{option}{}", self.argument(value, depth + 1)),
            };
        }
        self.argument(argument, depth)
    }

    fn argument(&mut self, argument: &str, depth: usize) -> String {
        if depth > DEEPEST {
            return HIDDEN.to_owned();
        }
        match named(argument) {
            Named::Secret { name, value } if value.trim_matches(QUOTES).trim().is_empty() => {
                self.next = Next::Hidden;
                return format!("{name}{value}");
            }
            Named::Secret { name, value } => {
                let space = if value.starts_with(' ') { " " } else { "" };
                return format!("{name}{space}{HIDDEN}");
            }
            Named::User { name, value } => return format!("{name}{}", user(&self.programs, value)),
            Named::Other { name, value } if !value.is_empty() => {
                return format!("{name}{}", self.argument(value, depth + 1));
            }
            Named::Option(next) => {
                self.next = next;
                return argument.to_owned();
            }
            Named::Other { .. } | Named::No => {}
        }
        if let Some(inner) = within_quotes(argument) {
            let quote = &argument[..1];
            return format!("{quote}{}{quote}", self.shown(inner, depth + 1));
        }
        let mut words = Words(argument).peekable();
        let Some((before, first)) = words.next() else { return argument.to_owned() };
        if words.peek().is_none() {
            return self.word(argument);
        }
        let mut shown = String::with_capacity(argument.len());
        for (space, word) in std::iter::once((before, first)).chain(words) {
            shown.push_str(space);
            shown.push_str(&self.shown(word, depth + 1));
        }
        shown
    }

    fn word(&mut self, word: &str) -> String {
        let (shown, is_open) = values::shown(word);
        if is_open || is_header(word.strip_suffix(':').unwrap_or("")) {
            self.next = Next::Hidden;
        }
        shown
    }
}

const QUOTES: [char; 2] = ['\'', '"'];

/// `'…'` or `"…"`, as a whole.
fn within_quotes(word: &str) -> Option<&str> {
    let inner = QUOTES.iter().find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote))?;
    (!inner.is_empty()).then_some(inner)
}

/// The words of a command line with the space before each, as a shell would part them. A quote that is not closed
/// holds the rest.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = self.0.as_bytes();
        let mut start = 0;
        loop {
            match (bytes.get(start), bytes.get(start + 1)) {
                (Some(byte), _) if byte.is_ascii_whitespace() => start += 1,
                // A line that goes on.
                (Some(b'\\'), Some(b'\n')) => start += 2,
                _ => break,
            }
        }
        let mut end = start;
        let mut quote = None;
        while let Some(byte) = bytes.get(end) {
            match (quote, byte) {
                (Some(b'"') | None, b'\\') if bytes.get(end + 1) == Some(&b'\n') => break,
                (Some(b'"') | None, b'\\') => end += 1,
                (Some(open), close) if open == *close => quote = None,
                (None, b'\'' | b'"') => quote = Some(*byte),
                (None, byte) if byte.is_ascii_whitespace() => break,
                _ => {}
            }
            end += 1;
        }
        let end = self.0.ceil_char_boundary(end.min(bytes.len()));
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(taken.split_at(start))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// `§` stands for the secret.
    const FORMS: [&[&str]; 76] = [
        &["sh", "-c", "curl -u user:§ http://h"],
        &["sh", "-c", "cd /x; curl -H 'Authorization: Bearer §' http://h/a"],
        &["bash", "-c", "sh -c \"mysql -p§ -h db\""],
        &["sh", "-c", "curl \\\n -u \\\n user:§ \\\n http://h"],
        &["sh", "-c", "echo $(docker login -u a -p §)|sshpass -p§ ssh h"],
        &["sh", "-c", "wget http://h/x --password § --no-check"],
        &["sh", "-c", "x http://a:§@h http://b:§@h/x?§"],
        &["curl", "-uuser:§"],
        &["curl", "-su", "user:§"],
        &["curl", "-sSuuser:§"],
        &["curl", "--user=user:§"],
        &["curl", "--header=Authorization: Bearer §"],
        &["curl", "-sHAuthorization: Bearer §"],
        &["x", "Authorization:", "Basic", "§"],
        &["psql", "host=h password=§ user=b"],
        &["psql", "host=h password='§ §' user=b"],
        &["x", "Server=h;User=a;Password=§;"],
        &["x", "Server=h;User=a;Password=a §;Timeout=5"],
        &["x", "{\"password\":\"§\"}"],
        &["x", "{\"a\": [1, {\"password\": \"a §\", \"b\": 1}]}"],
        &["x", "{'password': '§'}"],
        &["x", "--x={\"token\": \"§\"}"],
        &["x", "--password=", "§"],
        &["x", "--password", "--§"],
        &["x", "--password", "-u", "user:§"],
        &["x", "--password", "\"§", "§\""],
        &["sh", "-c", "sshpass -p§ ssh h"],
        &["sshpass", "-p", "§"],
        &["docker", "login", "-p", "§"],
        &["docker", "login", "-u", "a", "-p§"],
        &["smbclient", "-U", "u%§"],
        &["smbclient", "-Uu%§"],
        &["smbclient", "--user=u%§"],
        &["mysqladmin", "password", "§"],
        &["mysqladmin", "-u", "root", "password", "§"],
        &["xfreerdp", "/u:x", "/p:§"],
        &["xfreerdp3", "/u:x", "/password:§"],
        &["x", "--auth", "§"],
        &["redis-server", "--masterauth", "§"],
        &["x", "--psk", "§"],
        &["x", "--proxy-auth", "u:§"],
        &["env", "REDISCLI_AUTH=§", "redis-cli"],
        &["curl", "http://§@h/"],
        &["git", "clone", "--depth=1", "https://§@h/x.git"],
        &["x", "ghp_§"],
        &["x", "github_pat_§"],
        &["x", "--x=glpat-§"],
        &["x", "a,xoxb-§"],
        &["x", "AKIA§"],
        &["x", "ASIA§"],
        &["x", "hvs.§"],
        &["x", "sk_live_§"],
        &["x", "eyJ§.§.§"],
        &["x", "AIza§"],
        &["x", "npm_§"],
        &["x", "dop_v1_§"],
        &["x", "SG.§.§"],
        &["snmpget", "-A", "§", "-X", "§", "-c", "§", "h"],
        &["snmpwalk", "-c§", "h"],
        &["x", "token:§"],
        &["x", "pass:§"],
        &["x", "X-Api-Key: §"],
        &["openssl", "-passin", "pass:§"],
        &["x", "user:§@h"],
        &["x", "--db-url", "mysql://u:p@ss@§@h"],
        &["x", "mysql://u:p/§@h/x"],
        &["x", "--db=mysql://u:§?x@h"],
        &["x", "jdbc:oracle:thin:scott/§@h"],
        &["lftp", "-u", "x,§", "h"],
        &["plink", "-pw", "§", "h"],
        &["sudo", "mysql", "-uroot", "-p§"],
        &["mysqladmin", "ping", "-h", "localhost", "-uroot", "-p§"],
        &["redis-cli", "-h", "net", "-a", "§"],
        &["curl", "https://h/api/ping", "-b", "session=§"],
        &["curl", "-o", "snmp.txt", "-d", "§"],
        &["x", "a=1;b=2&token=§&c=3"],
    ];

    #[test]
    fn no_form_of_a_secret_is_shown() {
        let secret = "ZQ7ZQ7ZQ7ZQ7ZQ7ZQ7ZQ7";
        let mut leaks = Vec::new();
        for form in FORMS {
            let arguments: Vec<String> = form.iter().map(|argument| argument.replace('§', secret)).collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let line = shown(&arguments);
            if line.contains("ZQ7") || !line.contains(HIDDEN) {
                leaks.push(line);
            }
        }
        assert!(leaks.is_empty(), "{leaks:#?}");
    }

    proptest! {
        /// Whatever stands around it.
        #[test]
        fn no_form_of_a_secret_is_shown_among_others(
            form in 0..FORMS.len(),
            before in prop::collection::vec("[a-z/.-]{1,12}", 0..4),
            after in prop::collection::vec("[ -~]{0,24}", 0..4),
            secret in "ZQ7[A-Z0-9]{17,30}",
        ) {
            let form = FORMS[form].iter().map(|argument| argument.replace('§', &secret));
            // An option before it might have taken the first of its words.
            let before = before.into_iter().map(|word| word.trim_start_matches('-').to_owned());
            let arguments: Vec<String> = before.chain(form).chain(after).collect();
            let line = command_line(arguments.join("\0").as_bytes()).unwrap_or_default();
            prop_assert!(!line.contains("ZQ7"), "{line}");
        }

        #[test]
        fn any_bytes_are_one_short_line(bytes in prop::collection::vec(any::<u8>(), 0..600), text in "[-'\"\\\\ =:;&@/?#{}(%a-cupS\0\n…]{0,300}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let line = command_line(bytes).unwrap_or_default();
                prop_assert!(line.len() <= LONGEST + '…'.len_utf8());
            }
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
        for line in [
            "nginx: master process /usr/sbin/nginx",
            "ssh -p 22 host",
            "python3 -m http.server 8123",
            "x -p 8080",
            "docker run -p 80:80 --user 1000:1000 -u 1000:1000 nginx:1.27 login",
            "iptables -A INPUT -p tcp -j DROP",
            "ping -c 5 h",
            "psql -U postgres -d x -p 5432",
            "psql host=h dbname=x",
            "mysqld --user=root --port=3306",
            "cat /etc/passwd /a/token/b",
            "docker run -v /etc/passwd:/etc/passwd:ro registry/token-service:latest",
            "curl -sSL -o x https://h:8443/a/b",
            "git clone ssh://git@h/x",
            "git clone git@h:x/y.git",
            "rsync -a a b@h:/c",
            "x {\"name\":\"x\"}",
            "x --auth-mode tls",
            "x --no-password db",
            "x --passwordless db",
            "x --password-stdin db",
            "x name@example.org mailto:name@example.org",
            "docker pull x:1@sha256:0123",
            "node npm_config_registry=http://h/",
            "x it's a [::1]:80 http://[::1]:80/x",
            "java -Xmx1g -cp /a:/b Main",
            "x C:\\a\\b",
        ] {
            assert_eq!(shown(&line.split(' ').collect::<Vec<_>>()), line);
        }
    }
}
