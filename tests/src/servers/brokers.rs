//! RabbitMQ, Mosquitto, NATS, Kafka.

use std::process::Command;

use anyhow::Result;

use super::{Security, Server, tool};
use crate::{Certificates, Lab};

/// RabbitMQ: AMQP 0-9-1, user and password `guest`.
pub fn rabbitmq(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let listeners = if security == Security::Plain {
        format!("listeners.tcp.default = {port}\n")
    } else {
        format!(
            "listeners.tcp = none\nlisteners.ssl.default = {port}\nssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\nssl_options.keyfile = {}\nssl_options.verify = verify_none\n",
            certificates.authority, certificates.certificate, certificates.key
        )
    };
    rabbitmq_of(lab, port, &listeners, "")
}

/// RabbitMQ with these listeners and plugins.
pub(super) fn rabbitmq_of(lab: &Lab, port: u16, listeners: &str, plugins: &str) -> Result<Server> {
    let directory = lab.directory.directory(&format!("rabbitmq-{port}"), None)?;
    std::fs::write(format!("{directory}/plugins"), format!("[{plugins}].\n"))?;
    let name = format!("rabbitmq-{port}.conf");
    let config = lab.directory.write(&name, &format!("loopback_users = none\n{listeners}"))?;
    // The wrapper in /usr/sbin would change to a user of its own.
    let mut command = lab.server().command("/usr/lib/rabbitmq/bin/rabbitmq-server");
    command
        .env("HOME", &directory)
        .env("RABBITMQ_NODENAME", format!("swt{port}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", config)
        .env("RABBITMQ_MNESIA_BASE", &directory)
        .env("RABBITMQ_LOG_BASE", &directory)
        .env("RABBITMQ_PID_FILE", format!("{directory}/pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{directory}/plugins"))
        .env("RABBITMQ_DIST_PORT", (port + 1).to_string())
        .env("ERL_EPMD_PORT", (port + 2).to_string());
    Server::start(lab, &format!("rabbitmq-{port}"), command, "tcp", port)
}

/// Mosquitto: MQTT, everyone may.
pub fn mosquitto(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let mut config = format!("user root\nlistener {port}\nallow_anonymous true\n");
    if security != Security::Plain {
        config += &format!("certfile {}\nkeyfile {}\n", certificates.certificate, certificates.key);
    }
    let config = lab.directory.write(&format!("mosquitto-{port}.conf"), &config)?;
    let mut command = lab.server().command("mosquitto");
    command.args(["-c", &config]);
    Server::start(lab, &format!("mosquitto-{port}"), command, "tcp", port)
}

/// NATS: everyone may.
pub fn nats(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let mut command = lab.server().command("nats-server");
    command.args(["--addr", "::", "--port", &port.to_string()]);
    if security != Security::Plain {
        command.args(["--tls", "--tlscert", &certificates.certificate, "--tlskey", &certificates.key]);
    }
    Server::start(lab, &format!("nats-{port}"), command, "tcp", port)
}

/// Tansu, a broker of Kafka, for clients in the left namespace: it tells them where it is. It knows no
/// topic yet. TLS is HAProxy's, in front of it.
///
/// # Errors
/// It is not there, or did not start.
pub fn kafka(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Vec<Server>> {
    let inner = if security == Security::Plain { port } else { port + 1 };
    let broker = Server::start(lab, &format!("tansu-{port}"), tansu(lab, inner, port, &[])?, "tcp", inner)?;
    if security == Security::Plain {
        return Ok(vec![broker]);
    }
    let both =
        std::fs::read_to_string(&certificates.certificate)? + &std::fs::read_to_string(&certificates.key)?;
    let both = lab.directory.write(&format!("haproxy-{port}.pem"), &both)?;
    let config = format!(
        "defaults\n timeout connect 30s\n timeout client 60s\n timeout server 60s\n\
         listen kafka\n bind 0.0.0.0:{port} ssl crt {both}\n server a 127.0.0.1:{inner}\n"
    );
    let config = lab.directory.write(&format!("haproxy-{port}.conf"), &config)?;
    let mut command = lab.server().command("haproxy");
    command.args(["-db", "-f", &config]);
    Ok(vec![Server::start(lab, &format!("haproxy-{port}"), command, "tcp", port)?, broker])
}

/// The broker's command: where it listens, and the port by which clients are to find it. What it stores
/// outlives it.
pub(super) fn tansu(lab: &Lab, port: u16, advertised: u16, more: &[&str]) -> Result<Command> {
    let directory = lab.directory.directory(&format!("tansu-{advertised}"), None)?;
    let mut command = lab.server().command(tool("tansu")?);
    command.current_dir(directory).arg("broker").args(more);
    command.args(["--storage-engine", "sqlite://broker.db"]);
    command.args(["--listener-url", &format!("tcp://0.0.0.0:{port}")]);
    command.args(["--advertised-listener-url", &format!("tcp://10.213.0.2:{advertised}")]);
    Ok(command)
}
