//! PostgreSQL, MariaDB, Redis, memcached.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{PATIENCE, Security, Server};
use crate::{Certificates, Lab};

/// PostgreSQL: user `postgres`, no password. It refuses to run as root.
pub fn postgresql(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let programs = postgresql_programs()?;
    let place = lab.server().as_user("postgres");
    let directory = lab.directory.directory(&format!("postgresql-{port}"), Some("postgres"))?;
    let mut make = place.command(programs.join("initdb"));
    make.args(["--no-sync", "--auth", "trust", "--username", "postgres", "--pgdata", &directory]);
    lab.run(make, PATIENCE)?;
    let mut command = place.command(programs.join("postgres"));
    command.args(["-D", &directory, "-p", &port.to_string(), "-c", "listen_addresses=*", "-c", "fsync=off"]);
    command.args(["-c", &format!("unix_socket_directories={directory}")]);
    let rules = format!("{directory}/pg_hba.conf");
    std::fs::write(&rules, "host all all all trust\n").context(rules)?;
    if security != Security::Plain {
        // Its key may be nobody's but its own to read.
        let key = format!("{directory}/server.key");
        let mut own = place.command("install");
        own.args(["-m", "0600", &certificates.key, &key]);
        lab.run(own, Duration::from_secs(10))?;
        command.args(["-c", "ssl=on", "-c", &format!("ssl_key_file={key}")]);
        command.args(["-c", &format!("ssl_cert_file={}", certificates.certificate)]);
    }
    Server::start(lab, &format!("postgresql-{port}"), command, "tcp", port)
}

/// Debian keeps them off PATH, a directory a version; the newest is taken.
pub(super) fn postgresql_programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let newest = versions.flatten().map(|entry| entry.path().join("bin")).max();
    newest.context("PostgreSQL is not installed")
}

/// MariaDB: user `test`, who may do everything, no password.
pub fn mariadb(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let tls = [
        format!("--ssl-cert={}", certificates.certificate),
        format!("--ssl-key={}", certificates.key),
        format!("--ssl-ca={}", certificates.authority),
    ];
    let tls: &[String] = if security == Security::Plain { &[] } else { &tls };
    mariadb_of(lab, port, "CREATE USER test@'%'; GRANT ALL ON *.* TO test@'%';", tls)
}

/// MariaDB that runs these statements first.
pub(super) fn mariadb_of(lab: &Lab, port: u16, statements: &str, more: &[String]) -> Result<Server> {
    let place = lab.server();
    let directory = lab.directory.directory(&format!("mariadb-{port}"), Some("mysql"))?;
    let mut make = place.command("mariadb-install-db");
    make.args([
        "--no-defaults",
        "--user=mysql",
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
    ]);
    // Each clears away what it finds of temporary tables in a directory that it shares with others.
    make.arg(format!("--datadir={directory}")).env("TMPDIR", &directory);
    lab.run(make, PATIENCE)?;
    // A line each.
    let start = lab.directory.write(&format!("mariadb-{port}.sql"), &statements.replace("; ", ";\n"))?;
    let mut command = place.command("mariadbd");
    command.args(["--no-defaults", "--user=mysql", "--bind-address=*", "--skip-name-resolve"]);
    command.args([format!("--datadir={directory}"), format!("--port={port}")]);
    command.args([format!("--socket={directory}/socket"), format!("--init-file={start}")]);
    command.arg(format!("--pid-file={directory}/pid")).args(more).env("TMPDIR", &directory);
    Server::start(lab, &format!("mariadb-{port}"), command, "tcp", port)
}

/// Redis: no password.
pub fn redis(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let port_text = port.to_string();
    let mut command = lab.server().command("redis-server");
    command.args(["--save", "", "--protected-mode", "no", "--bind", "*", "-::*", "--dir"]);
    command.arg(lab.directory.path());
    if security == Security::Plain {
        command.args(["--port", &port_text]);
    } else {
        command.args(["--port", "0", "--tls-port", &port_text, "--tls-auth-clients", "no"]);
        command.args(["--tls-cert-file", &certificates.certificate, "--tls-key-file", &certificates.key]);
        command.args(["--tls-ca-cert-file", &certificates.authority]);
    }
    Server::start(lab, &format!("redis-{port}"), command, "tcp", port)
}

/// memcached over TCP.
pub fn memcached(lab: &Lab, _: &Certificates, port: u16, _: Security) -> Result<Server> {
    let mut command = lab.server().command("memcached");
    command.args(["-u", "root", "-U", "0", "-p", &port.to_string()]);
    Server::start(lab, &format!("memcached-{port}"), command, "tcp", port)
}
