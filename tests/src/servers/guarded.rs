//! Servers that want a password: user `alice`, password [`RIGHT`].

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::brokers::{rabbitmq_of, tansu};
use super::databases::{mariadb_of, postgresql_programs};
use super::mail::dovecot;
use super::remote::sshd_of;
use super::web::nginx as nginx_of;
use super::{PATIENCE, Security, Server, program, python, tool};
use crate::{Certificates, Lab, finish};

/// The password that lets in.
pub const RIGHT: &str = "opensesame-7";

/// nginx with Basic authentication on everything below `/`; nobody may see what is below `/forbidden`.
///
/// # Errors
/// It did not start; so for every server.
pub fn nginx(lab: &Lab, port: u16) -> Result<Server> {
    let directory = lab.directory.directory(&format!("guarded-nginx-{port}"), None)?;
    // `{PLAIN}` is a scheme of nginx's own.
    let users = lab.directory.write("htpasswd", &format!("alice:{{PLAIN}}{RIGHT}\n"))?;
    fs::create_dir_all(format!("{directory}/www"))?;
    fs::write(format!("{directory}/www/index.html"), "hello\n")?;
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
         events {{}}
         http {{
           access_log off; keepalive_requests 100000;
           client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
           uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
           server {{
             listen {port}; listen [::]:{port}; root {directory}/www;
             location / {{ auth_basic x; auth_basic_user_file {users}; }}
             location /forbidden {{ auth_basic x; auth_basic_user_file {users}; deny all; }}
           }}
         }}"
    );
    let config = lab.directory.write(&format!("guarded-nginx-{port}.conf"), &config)?;
    let mut command = lab.server().command("nginx");
    command.args(["-p", &directory, "-c", &config, "-e", &format!("{directory}/error.log")]);
    Server::start(lab, &format!("nginx-{port}"), command, "tcp", port)
}

/// PostgreSQL that asks for the password in the clear in the database `postgres`, and by SCRAM in others.
///
/// # Errors
/// See [`nginx`].
pub fn postgresql(lab: &Lab, port: u16) -> Result<Server> {
    let programs = postgresql_programs()?;
    let place = lab.server().as_user("postgres");
    let directory = lab.directory.directory(&format!("guarded-postgresql-{port}"), Some("postgres"))?;
    let password = lab.directory.write("postgresql-password", RIGHT)?;
    let mut make = place.command(programs.join("initdb"));
    make.args(["--no-sync", "--auth", "scram-sha-256", "--username", "alice", "--pgdata", &directory]);
    make.arg(format!("--pwfile={password}"));
    lab.run(make, PATIENCE)?;
    let rules = format!("{directory}/pg_hba.conf");
    fs::write(&rules, "host postgres all all password\nhost all all all scram-sha-256\n").context(rules)?;
    let mut command = place.command(programs.join("postgres"));
    command.args(["-D", &directory, "-p", &port.to_string(), "-c", "listen_addresses=*", "-c", "fsync=off"]);
    command.args(["-c", &format!("unix_socket_directories={directory}")]);
    Server::start(lab, &format!("postgresql-{port}"), command, "tcp", port)
}

/// MariaDB.
///
/// # Errors
/// See [`nginx`].
pub fn mariadb(lab: &Lab, port: u16) -> Result<Server> {
    mariadb_of(lab, port, &format!("CREATE USER alice@'%' IDENTIFIED BY '{RIGHT}';"), &[])
}

/// Redis.
///
/// # Errors
/// See [`nginx`].
pub fn redis(lab: &Lab, port: u16) -> Result<Server> {
    let mut command = lab.server().command("redis-server");
    command.args(["--save", "", "--protected-mode", "no", "--bind", "*", "-::*", "--dir"]);
    command.arg(lab.directory.path()).args(["--port", &port.to_string(), "--requirepass", RIGHT]);
    Server::start(lab, &format!("redis-{port}"), command, "tcp", port)
}

/// Mosquitto.
///
/// # Errors
/// See [`nginx`].
pub fn mosquitto(lab: &Lab, port: u16) -> Result<Server> {
    let users = lab.directory.file("mosquitto-users");
    let mut make = lab.server().command("mosquitto_passwd");
    make.args(["-b", "-c", &users, "alice", RIGHT]);
    lab.run(make, Duration::from_secs(10))?;
    let config = format!("user root\nlistener {port}\nallow_anonymous false\npassword_file {users}\n");
    let config = lab.directory.write(&format!("guarded-mosquitto-{port}.conf"), &config)?;
    let mut command = lab.server().command("mosquitto");
    command.args(["-c", &config]);
    Server::start(lab, &format!("mosquitto-{port}"), command, "tcp", port)
}

/// NATS.
///
/// # Errors
/// See [`nginx`].
pub fn nats(lab: &Lab, port: u16) -> Result<Server> {
    let mut command = lab.server().command("nats-server");
    let users = format!("authorization {{ user: alice, password: \"{RIGHT}\" }}\n");
    let config = lab.directory.write(&format!("guarded-nats-{port}.conf"), &users)?;
    command.args(["--addr", "::", "--port", &port.to_string(), "--config", &config]);
    Server::start(lab, &format!("nats-{port}"), command, "tcp", port)
}

/// aiosmtpd that takes mail from those who log in.
///
/// # Errors
/// See [`nginx`].
pub fn smtp(lab: &Lab, port: u16) -> Result<Server> {
    let mut command = lab.server().command(python());
    command.arg(program("guarded_smtp_server.py")).arg(port.to_string()).env("PASSWORD", RIGHT);
    Server::start(lab, &format!("smtp-{port}"), command, "tcp", port)
}

/// slapd; `cn=alice,dc=example` is its administrator.
///
/// # Errors
/// See [`nginx`].
pub fn ldap(lab: &Lab, port: u16) -> Result<Server> {
    let directory = lab.directory.directory(&format!("guarded-ldap-{port}"), None)?;
    let config = format!(
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
         pidfile {directory}/pid\ndatabase mdb\nsuffix dc=example\nrootdn cn=alice,dc=example\n\
         rootpw {RIGHT}\ndirectory {directory}\n"
    );
    let config = lab.directory.write(&format!("guarded-ldap-{port}.conf"), &config)?;
    let mut command = lab.server().command(PathBuf::from("slapd"));
    command.args(["-h", &format!("ldap://0.0.0.0:{port}"), "-f", &config, "-d", "0"]);
    Server::start(lab, &format!("ldap-{port}"), command, "tcp", port)
}

/// Tansu, which knows SCRAM alone. See [`super::kafka`].
///
/// # Errors
/// It is not there, or did not start.
pub fn kafka(lab: &Lab, port: u16) -> Result<Server> {
    let open = Server::start(lab, &format!("open-tansu-{port}"), tansu(lab, port, port, &[])?, "tcp", port)?;
    let mut make = lab.server().command(tool("tansu")?);
    make.args(["user", "create", "--mechanism", "scram256", "--broker", &format!("tcp://127.0.0.1:{port}")]);
    make.args(["alice", RIGHT]);
    lab.run(make, PATIENCE)?;
    drop(open);
    let command = tansu(lab, port, port, &["--authentication"])?;
    Server::start(lab, &format!("tansu-{port}"), command, "tcp", port)
}

/// A broker that knows SASL PLAIN alone: our own program.
///
/// # Errors
/// It did not start.
pub fn kafka_plain(lab: &Lab, port: u16) -> Result<Server> {
    let mut command = lab.server().command(python());
    command.arg(program("guarded_kafka_server.py")).args(["10.213.0.2", &port.to_string()]);
    command.env("PASSWORD", RIGHT);
    Server::start(lab, &format!("kafka-plain-{port}"), command, "tcp", port)
}

/// Dovecot's IMAP.
///
/// # Errors
/// See [`nginx`].
pub fn imap(lab: &Lab, port: u16) -> Result<Server> {
    dovecot(lab, "ssl = no\n".into(), "imap", port, &format!("password={RIGHT}"))
}

/// Dovecot's POP3.
///
/// # Errors
/// See [`nginx`].
pub fn pop3(lab: &Lab, port: u16) -> Result<Server> {
    dovecot(lab, "ssl = no\n".into(), "pop3", port, &format!("password={RIGHT}"))
}

/// HAProxy as a web proxy, and a web server that is reached through it, at the next port.
///
/// # Errors
/// See [`nginx`].
pub fn proxy(lab: &Lab, port: u16) -> Result<Server> {
    let behind = nginx_of(lab, &Certificates::new(&lab.directory)?, port + 1, Security::Plain)?;
    let config = format!(
        "userlist users\n user alice insecure-password {RIGHT}\n\
         defaults\n mode http\n timeout connect 30s\n timeout client 60s\n timeout server 60s\n\
         listen proxy\n bind 0.0.0.0:{port}\n option http-use-proxy-header\n\
         http-request auth realm x unless {{ http_auth(users) }}\n server a 127.0.0.1:{}\n",
        port + 1
    );
    let config = lab.directory.write(&format!("guarded-proxy-{port}.conf"), &config)?;
    let mut command = lab.server().command("haproxy");
    command.args(["-db", "-f", &config]);
    Ok(Server::start(lab, &format!("proxy-{port}"), command, "tcp", port)?.in_front_of(behind))
}

/// Tinyproxy, to anywhere.
///
/// # Errors
/// See [`nginx`].
pub fn tinyproxy(lab: &Lab, port: u16) -> Result<Server> {
    let config = format!("Port {port}\nListen 0.0.0.0\nTimeout 60\nMaxClients 20\nBasicAuth alice {RIGHT}\n");
    let config = lab.directory.write(&format!("tinyproxy-{port}.conf"), &config)?;
    let mut command = lab.server().command("tinyproxy");
    command.args(["-d", "-c", &config]);
    Server::start(lab, &format!("tinyproxy-{port}"), command, "tcp", port)
}

/// Microsocks, to anywhere.
///
/// # Errors
/// See [`nginx`].
pub fn microsocks(lab: &Lab, port: u16) -> Result<Server> {
    let mut command = lab.server().command("microsocks");
    command.args(["-i", "0.0.0.0", "-p", &port.to_string(), "-u", "alice", "-P", RIGHT]);
    Server::start(lab, &format!("microsocks-{port}"), command, "tcp", port)
}

/// vsftpd for root, by the password of [`with_password`].
///
/// # Errors
/// See [`nginx`].
pub fn ftp(lab: &Lab, port: u16) -> Result<Server> {
    let directory = lab.directory.directory(&format!("guarded-ftp-{port}"), None)?;
    let config = format!(
        "listen=NO\nlisten_ipv6=YES\nlisten_port={port}\nbackground=NO\nanonymous_enable=NO\n\
         local_enable=YES\nlocal_root={directory}\nsecure_chroot_dir={directory}\npam_service_name=other\n"
    );
    let config = lab.directory.write(&format!("guarded-ftp-{port}.conf"), &config)?;
    let mut command = with_password(lab)?;
    command.args(["vsftpd", &config]);
    Server::start(lab, &format!("ftp-{port}"), command, "tcp", port)
}

/// MariaDB whose user is taken for the user of his process: nobody is over TCP.
///
/// # Errors
/// See [`nginx`].
pub fn mariadb_by_socket(lab: &Lab, port: u16) -> Result<Server> {
    mariadb_of(lab, port, "CREATE USER alice@'%' IDENTIFIED VIA unix_socket;", &[])
}

/// RabbitMQ's MQTT: user and password `guest`.
///
/// # Errors
/// See [`nginx`].
pub fn rabbitmq_mqtt(lab: &Lab, port: u16) -> Result<Server> {
    let listeners =
        format!("listeners.tcp = none\nmqtt.listeners.tcp.default = {port}\nmqtt.allow_anonymous = false\n");
    rabbitmq_of(lab, port, &listeners, "rabbitmq_mqtt")
}

/// OpenSSH: root logs in with the key `ssh-client`, or by the password of [`with_password`].
///
/// # Errors
/// See [`nginx`].
pub fn sshd(lab: &Lab, port: u16) -> Result<Server> {
    sshd_of(lab, port, with_password(lab)?)
}

/// Runs a command that finds the password [`RIGHT`] for root, and nobody else's: it has a `/etc/shadow` of its
/// own.
fn with_password(lab: &Lab) -> Result<Command> {
    let mut hash = Command::new("openssl");
    hash.args(["passwd", "-6", RIGHT]);
    let hash = finish(hash, Duration::from_secs(10))?.success()?.stdout;
    let shadow = lab.directory.write("shadow", &format!("root:{}:20000:0:99999:7:::\n", hash.trim()))?;
    let mut command = lab.server().command("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/shadow && exec \"$@\"", &shadow]);
    Ok(command)
}

/// `openssl s_server` that wants a certificate of the client, and answers HTTP requests with a status page.
///
/// # Errors
/// See [`nginx`].
pub fn openssl(lab: &Lab, certificates: &Certificates, port: u16) -> Result<Server> {
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-www", "-accept", &port.to_string(), "-Verify", "2", "-verify_return_error"]);
    command.args(["-cert", &certificates.certificate, "-key", &certificates.key]);
    command.args(["-CAfile", &certificates.authority]);
    Server::start(lab, &format!("openssl-{port}"), command, "tcp", port)
}
