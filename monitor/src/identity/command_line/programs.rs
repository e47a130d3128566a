//! Programs whose options are known to take a secret.
//!
//! In: the words of a command line. Out: which of them is, or is followed by, a secret because of the program
//! that it stands behind: the last one that is known, so that `sudo mysql -p…` is one of mysql.

use super::Next;

/// Programs, and their options that are followed by a secret (a cookie, a form), or have it attached.
/// Those without any are known, so that what stands behind them is not taken for an option of one before them.
const OPTIONS: [(&[&str], &[&str]); 11] = [
    (&["curl"], &["--data", "--data-raw", "--data-binary", "--data-urlencode", "--json", "--form"]),
    (&["redis-cli"], &["-a"]),
    (&["mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "ipmitool"], &["-P"]),
    (&["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "kinit"], &["-w"]),
    (&["sshpass", "rabbitmqadmin", "mongosh", "mongo", "mongodump", "mongorestore"], &["-p"]),
    (&["docker", "podman", "nerdctl", "buildah", "skopeo", "helm"], &[]),
    (&["snmp"], &["-A", "-X", "-c"]),
    (&["freerdp"], &["/p:", "/gp:", "/pth:"]),
    (&["mysql", "mariadb", "mysqldump", "mariadb-dump", "mysqladmin", "mariadb-admin"], &[]),
    (&["smbclient", "rpcclient", "smbget", "smbcacls", "smbtree", "net"], &[]),
    (&["lftp", "wget", "psql", "ssh", "iptables", "ping"], &[]),
];

/// Programs with a command `login`, behind which `-p` is a password, and not a port.
const WITH_LOGIN: [&str; 6] = ["docker", "podman", "nerdctl", "buildah", "skopeo", "helm"];

/// Programs that take a password only attached: `-psecret`.
const ATTACHED: [&str; 6] = ["mysql", "mariadb", "mysqldump", "mariadb-dump", "mysqladmin", "mariadb-admin"];

/// Options of curl that take a value, which may follow others without one: `-sSu`.
const OF_CURL: &str = "AbcCdDeEFhHKmoPQrtTuUwxXyYz";

/// The program that the words stand behind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Program<'a> {
    name: &'a str,
    options: &'static [&'static str],
    logs_in: bool,
}

impl<'a> Program<'a> {
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Takes note of a word; whether a secret follows it.
    pub fn sees(&mut self, word: &'a str) -> bool {
        if word.starts_with('-') {
            return false;
        }
        let command = word.rsplit(['|', ';', '&', '(', '`', '{', '!']).next().unwrap_or(word);
        let name = command.rsplit(['/', '\\']).next().unwrap_or(command);
        if let Some((_, options)) = OPTIONS.iter().find(|(programs, _)| is_among(name, programs)) {
            *self = Self { name, options, logs_in: false };
        }
        if word == "login" && WITH_LOGIN.contains(&self.name) {
            self.logs_in = true;
        }
        word == "password" && matches!(self.name, "mysqladmin" | "mariadb-admin")
    }

    /// Of an option that takes a secret: where it ends, and what its value is.
    pub fn short(&self, argument: &str) -> Option<(usize, Next)> {
        if self.name == "curl" && argument.starts_with('-') && !argument.starts_with("--") {
            return of_curl(argument);
        }
        let option = self.options.iter().find(|option| match option.starts_with("--") {
            true => {
                argument.strip_prefix(**option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            }
            false => argument.starts_with(**option),
        });
        if let Some(option) = option {
            let equals = usize::from(argument[option.len()..].starts_with('='));
            return Some((option.len() + equals, Next::Hidden));
        }
        let attached = argument.starts_with("-p") && argument.len() > 2;
        let hides = self.logs_in && argument.starts_with("-p") || attached && ATTACHED.contains(&self.name);
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
