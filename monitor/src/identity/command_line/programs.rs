//! Programs whose options are known to take a secret.
//!
//! In: the words of a command line. Out: whether one is, or is followed by, a secret because of a program that stands
//! before it: any of them, since a word that is called like a program need not be one (`mysqladmin ping -p…`), and
//! `sudo mysql -p…` is one of mysql.

use super::Next;

/// Programs, and their options that are followed by a secret (a cookie, a form), or have it attached.
const OPTIONS: [(&[&str], &[&str]); 7] = [
    (&["curl"], &["--data", "--data-raw", "--data-binary", "--data-urlencode", "--json", "--form"]),
    (&["redis-cli"], &["-a"]),
    (&["mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "ipmitool"], &["-P"]),
    (&["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "kinit"], &["-w"]),
    (&["sshpass", "rabbitmqadmin", "mongosh", "mongo", "mongodump", "mongorestore"], &["-p"]),
    (&["snmp"], &["-A", "-X", "-c"]),
    (&["freerdp"], &["/p:", "/gp:", "/pth:"]),
];

/// Programs with a command `login`, behind which `-p` is a password, and not a port.
const WITH_LOGIN: [&str; 6] = ["docker", "podman", "nerdctl", "buildah", "skopeo", "helm"];

/// Programs that take a password only attached: `-psecret`.
const ATTACHED: [&str; 6] = ["mysql", "mariadb", "mysqldump", "mariadb-dump", "mysqladmin", "mariadb-admin"];

/// Options of curl that take a value, which may follow others without one: `-sSu`.
const OF_CURL: &str = "AbcCdDeEFhHKmoPQrtTuUwxXyYz";

/// Programs that take the password they are to set behind the word `password`.
const SETTING: [&str; 2] = ["mysqladmin", "mariadb-admin"];

/// The programs that the words stand behind, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Programs {
    /// Those of [`OPTIONS`], a bit each.
    with_options: u8,
    curl: bool,
    lftp: bool,
    attach: bool,
    set: bool,
    may_log_in: bool,
    logs_in: bool,
}

impl Programs {
    /// `1000:1000` is a user and a group by their ids, and no password.
    pub fn may_take_ids(&self) -> bool {
        !self.curl
    }

    /// `name,password`.
    pub fn part_users_at_commas(&self) -> bool {
        self.lftp
    }

    /// Takes note of a word; whether a secret follows it.
    pub fn sees(&mut self, word: &str) -> bool {
        if word.starts_with('-') {
            return false;
        }
        let command = word.rsplit(['|', ';', '&', '(', '`', '{', '!']).next().unwrap_or(word);
        let name = command.rsplit(['/', '\\']).next().unwrap_or(command);
        for (at, (programs, _)) in OPTIONS.iter().enumerate() {
            self.with_options |= u8::from(is_among(name, programs)) << at;
        }
        self.curl |= name == "curl";
        self.lftp |= name == "lftp";
        self.attach |= ATTACHED.contains(&name);
        self.set |= SETTING.contains(&name);
        self.may_log_in |= WITH_LOGIN.contains(&name);
        self.logs_in |= word == "login" && self.may_log_in;
        word == "password" && self.set
    }

    fn options(&self) -> impl Iterator<Item = &'static str> {
        let with_options = self.with_options;
        let known = OPTIONS.iter().enumerate().filter(move |(at, _)| with_options & 1 << at != 0);
        known.flat_map(|(_, (_, options))| options.iter().copied())
    }

    /// Of an option that takes a secret: where it ends, and what its value is.
    pub fn short(&self, argument: &str) -> Option<(usize, Next)> {
        if self.curl
            && argument.starts_with('-')
            && !argument.starts_with("--")
            && let Some(found) = of_curl(argument)
        {
            return Some(found);
        }
        let option = self.options().find(|option| match option.starts_with("--") {
            true => {
                argument.strip_prefix(*option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            }
            false => argument.starts_with(*option),
        });
        if let Some(option) = option {
            let equals = usize::from(argument[option.len()..].starts_with('='));
            return Some((option.len() + equals, Next::Hidden));
        }
        let attached = argument.starts_with("-p") && argument.len() > 2;
        let hides = self.logs_in && argument.starts_with("-p") || attached && self.attach;
        if hides {
            return Some((2, Next::Hidden));
        }
        // `-Uname%password`, `-uname:password`, of any program.
        if argument.starts_with("-U") && argument.contains('%') {
            return Some((2, Next::User));
        }
        let value = argument.strip_prefix("-u")?;
        (!value.is_empty() && value.contains(':') && !value.contains("://")).then_some((2, Next::User))
    }
}

/// snmpget and its like, and xfreerdp and its, are known by a part of their names.
fn is_among(name: &str, programs: &[&str]) -> bool {
    programs.iter().any(|program| match *program {
        "snmp" => name.starts_with("snmp"),
        "freerdp" => name.contains("freerdp"),
        program => name == program,
    })
}

fn of_curl(argument: &str) -> Option<(usize, Next)> {
    let at = argument.bytes().position(|byte| OF_CURL.contains(char::from(byte)))?;
    let next = match argument.as_bytes()[at] {
        b'u' | b'U' | b'E' => Next::User,
        b'b' | b'd' | b'F' => Next::Hidden,
        _ if at + 1 == argument.len() => return None,
        // A header, a proxy: as any argument.
        _ => Next::Shown,
    };
    Some((at + 1, next))
}
