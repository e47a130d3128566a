//! DNS.

use anyhow::Result;

use super::{Security, Server};
use crate::{Certificates, Lab};

/// dnsmasq: knows `example.test`, over UDP and TCP.
pub fn dns(lab: &Lab, _: &Certificates, port: u16, _: Security) -> Result<Server> {
    let mut command = lab.server().command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--conf-file=/dev/null",
    ]);
    command.args(["--pid-file=", "--address=/example.test/192.0.2.1"]).arg(format!("--port={port}"));
    Server::start(lab, &format!("dns-{port}"), command, "udp", port)
}
