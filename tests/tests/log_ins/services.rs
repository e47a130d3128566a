//! Servers that want a password, and how their usual client presents one.

use std::process::Command;

use anyhow::Result;
use tests::servers::{self, Security, Server, guarded, program, python};
use tests::{Certificates, Lab};

use super::{HOST, PORT};

/// A server that wants a password, and how a client presents one.
pub struct Row {
    pub name: &'static str,
    pub programs: &'static [&'static str],
    pub server: fn(&Lab, u16) -> Result<Server>,
    pub client: fn(&Lab, &str) -> Command,
    /// What stands in the reason of the alert.
    pub code: &'static str,
    /// Whether the password crosses in the clear.
    pub clear: bool,
    pub process: &'static str,
}

pub fn command(lab: &Lab, program: &str, arguments: &[&str]) -> Command {
    let mut command = lab.client().command(program);
    command.args(arguments);
    command
}

fn log_in(lab: &Lab, what: &str, user: &str, password: &str) -> Command {
    let mut command = lab.client().command(python());
    command.arg(program("log_in.py")).args([what, HOST, &PORT.to_string(), user]);
    command.env("PASSWORD", password);
    command
}

/// As no client of its own would.
fn oddly(lab: &Lab, what: &str, password: &str) -> Command {
    let mut command = lab.client().command(python());
    command.arg(program("odd_log_in.py")).args([what, HOST, &PORT.to_string()]).env("PASSWORD", password);
    command
}

pub const ROWS: &[Row] = &[
    Row {
        name: "nginx with Basic authentication",
        programs: &["nginx"],
        server: guarded::nginx,
        client: |lab, password| {
            let url = format!("http://{HOST}:{PORT}/index.html");
            command(lab, "curl", &["-sSf", "-m", "20", "-u", &format!("alice:{password}"), &url])
        },
        code: "HTTP 401",
        clear: true,
        process: "curl",
    },
    Row {
        name: "nginx, behind an empty line",
        programs: &["nginx"],
        server: guarded::nginx,
        client: |lab, password| log_in(lab, "http-late", "alice", password),
        code: "HTTP 401",
        clear: true,
        process: "python",
    },
    Row {
        name: "PostgreSQL by its password message",
        programs: &["psql", "setpriv"],
        server: guarded::postgresql,
        client: |lab, password| psql(lab, "postgres", password),
        code: "PostgreSQL 28P01",
        clear: true,
        process: "psql",
    },
    Row {
        name: "PostgreSQL by SCRAM",
        programs: &["psql", "setpriv"],
        server: guarded::postgresql,
        client: |lab, password| psql(lab, "template1", password),
        code: "PostgreSQL 28P01",
        clear: false,
        process: "psql",
    },
    Row {
        name: "MariaDB",
        programs: &["mariadb", "mariadbd"],
        server: guarded::mariadb,
        client: |lab, password| {
            let password = format!("-p{password}");
            let port = PORT.to_string();
            command(lab, "mariadb", &["-h", HOST, "-P", &port, "-u", "alice", &password, "-e", "select 1"])
        },
        code: "MySQL 1045",
        clear: false,
        process: "mariadb",
    },
    Row {
        name: "Redis",
        programs: &["redis-server", "redis-cli"],
        server: guarded::redis,
        client: |lab, password| {
            let port = PORT.to_string();
            command(
                lab,
                "redis-cli",
                &["-h", HOST, "-p", &port, "-e", "--no-auth-warning", "-a", password, "get", "a"],
            )
        },
        code: "Redis WRONGPASS",
        clear: true,
        process: "redis-cli",
    },
    Row {
        name: "RabbitMQ",
        programs: &["rabbitmq-server"],
        server: |lab, port| {
            servers::rabbitmq(lab, &Certificates::new(&lab.directory)?, port, Security::Plain)
        },
        client: |lab, password| {
            log_in(lab, "amqp", "guest", if password == guarded::RIGHT { "guest" } else { password })
        },
        code: "AMQP 403",
        clear: true,
        process: "python",
    },
    Row {
        name: "Mosquitto",
        programs: &["mosquitto", "mosquitto_pub"],
        server: guarded::mosquitto,
        client: |lab, password| {
            let port = PORT.to_string();
            let who = ["-h", HOST, "-p", &port, "-u", "alice", "-P", password];
            command(lab, "mosquitto_pub", &[&who[..], &["-t", "payments/in", "-m", "x"]].concat())
        },
        code: "MQTT CONNACK 5",
        clear: true,
        process: "mosquitto_pub",
    },
    Row {
        name: "Mosquitto, MQTT 5",
        programs: &["mosquitto", "mosquitto_pub"],
        server: guarded::mosquitto,
        client: |lab, password| {
            let port = PORT.to_string();
            let who = ["-V", "5", "-h", HOST, "-p", &port, "-u", "alice", "-P", password];
            command(lab, "mosquitto_pub", &[&who[..], &["-t", "payments/in", "-m", "x"]].concat())
        },
        code: "MQTT CONNACK 0x87",
        clear: true,
        process: "mosquitto_pub",
    },
    Row {
        name: "NATS",
        programs: &["nats-server"],
        server: guarded::nats,
        client: |lab, password| log_in(lab, "nats", "alice", password),
        code: "NATS Authorization Violation",
        clear: true,
        process: "python",
    },
    Row {
        name: "SMTP",
        programs: &[],
        server: guarded::smtp,
        client: |lab, password| log_in(lab, "smtp", "alice", password),
        code: "SMTP 535",
        clear: true,
        process: "python",
    },
    Row {
        name: "IMAP",
        programs: &["dovecot"],
        server: guarded::imap,
        client: |lab, password| log_in(lab, "imap", "alice", password),
        code: "IMAP NO",
        clear: true,
        process: "python",
    },
    Row {
        name: "POP3",
        programs: &["dovecot"],
        server: guarded::pop3,
        client: |lab, password| log_in(lab, "pop3", "alice", password),
        code: "POP3 -ERR",
        clear: true,
        process: "python",
    },
    Row {
        name: "IMAP, behind a line that is no command",
        programs: &["dovecot"],
        server: guarded::imap,
        client: |lab, password| log_in(lab, "imap-late", "alice", password),
        code: "IMAP NO",
        clear: true,
        process: "python",
    },
    Row {
        name: "POP3, behind a line that is no command",
        programs: &["dovecot"],
        server: guarded::pop3,
        client: |lab, password| log_in(lab, "pop3-late", "alice", password),
        code: "POP3 -ERR",
        clear: true,
        process: "python",
    },
    Row {
        name: "SSH, by keys, with AES-GCM",
        programs: &["sshd", "ssh", "ssh-keygen"],
        server: |lab, port| servers::sshd(lab, &Certificates::new(&lab.directory)?, port, Security::Plain),
        client: |lab, password| {
            let known = if password == guarded::RIGHT { "ssh-client" } else { "ssh-host" };
            let key = ["-i", &lab.directory.file(known), "-o", "BatchMode=yes"];
            ssh(command(lab, "ssh", &key), "aes256-gcm@openssh.com")
        },
        code: "SSH, by the pattern",
        clear: false,
        process: "ssh",
    },
    Row {
        name: "SSH, by keys, with ChaCha20",
        programs: &["sshd", "ssh", "ssh-keygen"],
        server: |lab, port| servers::sshd(lab, &Certificates::new(&lab.directory)?, port, Security::Plain),
        client: |lab, password| {
            let known = if password == guarded::RIGHT { "ssh-client" } else { "ssh-host" };
            let key = ["-i", &lab.directory.file(known), "-o", "BatchMode=yes"];
            ssh(command(lab, "ssh", &key), CHACHA20)
        },
        code: "SSH, by the pattern",
        clear: false,
        process: "ssh",
    },
    Row {
        name: "SSH, by passwords, with ChaCha20",
        programs: &["sshd", "ssh", "ssh-keygen", "sshpass"],
        server: guarded::sshd,
        client: |lab, password| {
            let mut command = command(lab, "sshpass", &["-e", "ssh"]);
            command.env("SSHPASS", password);
            command.args(["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]);
            ssh(command, CHACHA20)
        },
        code: "SSH, by the pattern",
        clear: false,
        process: "ssh",
    },
    Row {
        name: "SSH, by passwords and paramiko",
        programs: &["sshd", "ssh-keygen"],
        server: guarded::sshd,
        client: |lab, password| log_in(lab, "ssh", "root", password),
        code: "SSH, by the pattern",
        clear: false,
        process: "python",
    },
    Row {
        name: "FTP",
        programs: &["vsftpd", "curl"],
        server: guarded::ftp,
        client: |lab, password| {
            let url = format!("ftp://{HOST}:{PORT}/");
            command(lab, "curl", &["-sS", "-m", "20", "-u", &format!("root:{password}"), &url])
        },
        code: "FTP 530",
        clear: true,
        process: "curl",
    },
    Row {
        name: "a web proxy",
        programs: &["haproxy", "nginx", "curl"],
        server: guarded::proxy,
        client: |lab, password| {
            let proxy = format!("http://alice:{password}@{HOST}:{PORT}");
            let url = format!("http://{HOST}:{}/", PORT + 1);
            command(lab, "curl", &["-sSf", "-m", "20", "-x", &proxy, &url])
        },
        code: "HTTP 407",
        clear: true,
        process: "curl",
    },
    Row {
        name: "RabbitMQ, MQTT 3.1.1",
        programs: &["rabbitmq-server", "mosquitto_pub"],
        server: guarded::rabbitmq_mqtt,
        client: |lab, password| {
            let password = if password == guarded::RIGHT { "guest" } else { password };
            let port = PORT.to_string();
            let who = ["-V", "311", "-h", HOST, "-p", &port, "-u", "guest", "-P", password];
            command(lab, "mosquitto_pub", &[&who[..], &["-t", "payments/in", "-m", "x"]].concat())
        },
        code: "MQTT CONNACK 4",
        clear: true,
        process: "mosquitto_pub",
    },
    Row {
        name: "LDAP",
        programs: &["slapd", "ldapwhoami"],
        server: guarded::ldap,
        client: |lab, password| {
            let url = format!("ldap://{HOST}:{PORT}");
            command(lab, "ldapwhoami", &["-x", "-H", &url, "-D", "cn=alice,dc=example", "-w", password])
        },
        code: "LDAP 49",
        clear: true,
        process: "ldapwhoami",
    },
    Row {
        name: "Redis, in quotes behind what is no command",
        programs: &["redis-server"],
        server: guarded::redis,
        client: |lab, password| oddly(lab, "redis", password),
        code: "Redis WRONGPASS",
        clear: true,
        process: "python",
    },
    Row {
        name: "PostgreSQL, by a version that it does not have",
        programs: &["psql", "setpriv"],
        server: guarded::postgresql,
        client: |lab, password| oddly(lab, "postgresql", password),
        code: "PostgreSQL 28P01",
        clear: true,
        process: "python",
    },
    Row {
        name: "LDAP, with long lengths",
        programs: &["slapd"],
        server: guarded::ldap,
        client: |lab, password| oddly(lab, "ldap", password),
        code: "LDAP 49",
        clear: true,
        process: "python",
    },
    Row {
        name: "NATS, with escapes",
        programs: &["nats-server"],
        server: guarded::nats,
        client: |lab, password| oddly(lab, "nats", password),
        code: "NATS Authorization Violation",
        clear: true,
        process: "python",
    },
];

/// OpenSSH's first choice, which encrypts the lengths of packets as well.
const CHACHA20: &str = "chacha20-poly1305@openssh.com";

fn ssh(mut command: Command, cipher: &str) -> Command {
    for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"] {
        command.args(["-o", option]);
    }
    command.args(["-F", "none", "-c", cipher, "-p", &PORT.to_string(), &format!("root@{HOST}"), "true"]);
    command
}

fn psql(lab: &Lab, database: &str, password: &str) -> Command {
    let mut command = command(lab, "psql", &["-h", HOST, "-p", &PORT.to_string(), "-U", "alice"]);
    command.args(["-d", database, "-c", "select 1"]).env("PGPASSWORD", password);
    command
}

/// A server that refuses, whatever it is presented.
pub struct Refusal {
    pub name: &'static str,
    pub programs: &'static [&'static str],
    pub server: fn(&Lab, u16) -> Result<Server>,
    pub client: fn(&Lab) -> Command,
    /// What stands in the reason of the alert.
    pub code: &'static str,
    pub says: &'static str,
    pub severity: u64,
}

pub const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "what nobody may see, of nginx",
        programs: &["nginx", "curl"],
        server: guarded::nginx,
        client: |lab| {
            let url = format!("http://{HOST}:{PORT}/forbidden/x");
            command(lab, "curl", &["-sSf", "-m", "20", "-u", &format!("alice:{}", guarded::RIGHT), &url])
        },
        code: "HTTP 403",
        says: "is forbidden what it asks of",
        severity: 2,
    },
    Refusal {
        name: "a user of MariaDB who is known by his process alone",
        programs: &["mariadb", "mariadbd"],
        server: guarded::mariadb_by_socket,
        client: |lab| {
            let port = PORT.to_string();
            command(lab, "mariadb", &["-h", HOST, "-P", &port, "-u", "alice", "-e", "select 1"])
        },
        code: "MySQL 1698",
        says: "fails to log in at",
        severity: 3,
    },
    Refusal {
        name: "commands to Redis without a log-in",
        programs: &["redis-server", "redis-cli"],
        server: guarded::redis,
        client: |lab| command(lab, "redis-cli", &["-h", HOST, "-p", &PORT.to_string(), "-e", "get", "a"]),
        code: "Redis NOAUTH",
        says: "presenting nothing",
        severity: 1,
    },
];
