//! What building and testing need, and which of it is not there. Looks only, changes nothing.

use std::fmt;
use std::path::Path;

use crate::setup::Scope;
use crate::toolchain::{self, DistributionGap};
use crate::tools::{self, Tool};
use crate::{bpf_linker, python, step};

/// What is not there.
#[derive(Default)]
pub struct Missing {
    /// Debian packages, and what each is for.
    pub packages: Vec<(&'static str, &'static str)>,
    /// bpf-linker, to be built for this toolchain.
    pub bpf_linker: Option<bpf_linker::For>,
    /// The Python environment of the test servers.
    pub python: bool,
    /// Programs from crates.io.
    pub tools: Vec<&'static Tool>,
}

/// A Debian package of the tests, recognised by a program that it brings.
struct Package {
    name: &'static str,
    program: &'static str,
    purpose: &'static str,
}

const fn package(name: &'static str, program: &'static str, purpose: &'static str) -> Package {
    Package { name, program, purpose }
}

/// To add a server to the tests: its package here, its guard in `tests/src/servers/`.
const TEST_PACKAGES: &[Package] = &[
    package("bind9-dnsutils", "dig", "DNS client"),
    package("curl", "curl", "web client"),
    package("dnsmasq-base", "dnsmasq", "DNS server"),
    package("dovecot-imapd", "/usr/lib/dovecot/imap", "IMAP server"),
    package("dovecot-pop3d", "/usr/lib/dovecot/pop3", "POP3 server"),
    package("dropbear-bin", "dropbear", "another SSH server and client"),
    package("gnutls-bin", "gnutls-serv", "GnuTLS server and client"),
    package("golang-go", "go", "TLS server and client of Go"),
    package("haproxy", "haproxy", "proxy that says for whom it connects"),
    package("iperf3", "iperf3", "load"),
    package("iproute2", "ip", "network namespaces"),
    package("libnss3-tools", "selfserv", "NSS server and client"),
    package("ldap-utils", "ldapwhoami", "LDAP client"),
    package("mariadb-client", "mariadb", "MariaDB client"),
    package("mariadb-server", "mariadbd", "MariaDB server"),
    package("memcached", "memcached", "memcached server"),
    package("microsocks", "microsocks", "SOCKS proxy that wants a password"),
    package("mosquitto", "mosquitto", "MQTT broker"),
    package("mosquitto-clients", "mosquitto_pub", "MQTT client"),
    package("nats-server", "nats-server", "NATS server"),
    package("nginx-light", "nginx", "web server"),
    package("nftables", "nft", "address translation"),
    package("nmap", "nmap", "scans"),
    package("openjdk-17-jdk-headless", "javac", "TLS server and client of Java"),
    package("openssh-client", "ssh", "SSH client"),
    package("openssh-server", "sshd", "SSH server"),
    package("openssl", "openssl", "TLS server and client, certificates"),
    package("postgresql-client", "psql", "PostgreSQL client"),
    package("prosody", "prosody", "XMPP server"),
    package("rabbitmq-server", "rabbitmq-server", "AMQP broker"),
    package("redis-server", "redis-server", "Redis server"),
    package("redis-tools", "redis-cli", "Redis client"),
    package("slapd", "slapd", "LDAP server"),
    package("sshpass", "sshpass", "passwords for the SSH client"),
    package("tinyproxy-bin", "tinyproxy", "HTTP proxy that wants a password"),
    package("tshark", "tshark", "another opinion on captured handshakes"),
    package("util-linux", "setpriv", "servers that refuse to run as root"),
    package("vsftpd", "vsftpd", "FTP server"),
    package("wireguard-tools", "wg", "keys of WireGuard"),
];

/// What other kernels are booted with.
const KERNEL_PACKAGES: &[Package] =
    &[package("cpio", "cpio", "initial file systems"), package("xz-utils", "xz", "modules of other kernels")];

/// What makes the load of the benchmarks, and what they stand side by side with.
const BENCH_PACKAGES: &[Package] = &[
    package("apache2-utils", "ab", "short connections"),
    package("curl", "curl", "web client"),
    package("iperf3", "iperf3", "load"),
    package("iproute2", "ip", "network namespaces"),
    package("nginx-light", "nginx", "web server"),
    package("openssl", "openssl", "certificates"),
    package("pmacct", "pmacctd", "comparison"),
    package("softflowd", "softflowd", "comparison"),
    package("tcpdump", "tcpdump", "comparison"),
    package("util-linux", "nsenter", "network namespaces"),
];

/// What `scope` needs and this machine lacks.
pub fn missing(scope: Scope) -> Missing {
    let mut missing = Missing::default();
    let of_cargo = match scope {
        Scope::Fuzz => Some("cargo-fuzz"),
        Scope::Deny => Some("cargo-deny"),
        _ => None,
    };
    if let Some(name) = of_cargo {
        missing.tools.extend(tools::TOOLS.iter().filter(|tool| tool.name == name && !tool.is_there()));
        return missing;
    }
    kernel_toolchain(&mut missing);
    match scope {
        Scope::Build | Scope::Fuzz | Scope::Deny => {}
        Scope::Test => {
            test_servers(&mut missing);
            packages(KERNEL_PACKAGES, &mut missing);
        }
        Scope::Bench => packages(BENCH_PACKAGES, &mut missing),
        Scope::Kernels => packages(KERNEL_PACKAGES, &mut missing),
    }
    missing
}

fn kernel_toolchain(missing: &mut Missing) {
    let Err(gap) = toolchain::find() else { return };
    let DistributionGap { packages, linker } = gap;
    missing.packages.extend(packages);
    missing.bpf_linker = linker;
}

fn packages(wanted: &[Package], missing: &mut Missing) {
    for package in wanted {
        if step::find_program(package.program).is_none() {
            missing.packages.push((package.name, package.purpose));
        }
    }
}

fn test_servers(missing: &mut Missing) {
    packages(TEST_PACKAGES, missing);
    // Debian keeps PostgreSQL's server programs off PATH, a directory a version.
    if !postgresql_server() {
        missing.packages.push(("postgresql", "PostgreSQL server"));
    }
    if !python::can_make_environment() {
        missing.packages.push(("python3-venv", "Python environment of the test servers"));
    }
    missing.python = !python::is_there();
    missing.tools.extend(tools::TOOLS.iter().filter(|tool| !tool.is_there()));
}

fn postgresql_server() -> bool {
    let Ok(versions) = Path::new("/usr/lib/postgresql").read_dir() else { return false };
    versions.flatten().any(|version| version.path().join("bin/postgres").exists())
}

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.bpf_linker.is_none() && !self.python && self.tools.is_empty()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        for (name, purpose) in &self.packages {
            lines.push(format!("  {name:<18} Debian package: {purpose}"));
        }
        if let Some(kind) = self.bpf_linker {
            lines.push(format!("  {:<18} {}", "bpf-linker", bpf_linker::describe(kind)));
        }
        if self.python {
            lines.push(format!("  {:<18} {}", python::DIRECTORY, python::describe()));
        }
        for tool in &self.tools {
            lines.push(format!("  {:<18} {}", tools::DIRECTORY, tool.describe()));
        }
        f.write_str(&lines.join("\n"))
    }
}
