//! OpenSSH, iperf3.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Security, Server};
use crate::{Certificates, Lab};

/// OpenSSH with a host key of its own; root logs in with the key `ssh-client`.
pub fn sshd(lab: &Lab, _: &Certificates, port: u16, _: Security) -> Result<Server> {
    sshd_of(lab, port, lab.server().command("env"))
}

/// The same, started by a program that takes a command.
pub(super) fn sshd_of(lab: &Lab, port: u16, mut command: Command) -> Result<Server> {
    for name in ["ssh-host", "ssh-client"] {
        let mut make = lab.server().command("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f", &lab.directory.file(name)]);
        lab.run(make, Duration::from_secs(10))?;
    }
    // Compiled in; the service unit would make it.
    std::fs::create_dir_all("/run/sshd").context("/run/sshd")?;
    let config = format!(
        "Port {port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
         PermitRootLogin yes\n",
        lab.directory.file("ssh-host"),
        lab.directory.file("ssh-client.pub"),
    );
    let config = lab.directory.write(&format!("sshd-{port}.conf"), &config)?;
    // It runs itself again by its full path.
    command.args(["/usr/sbin/sshd", "-D", "-e", "-f", &config]);
    Server::start(lab, &format!("sshd-{port}"), command, "tcp", port)
}

/// iperf3.
pub fn iperf3(lab: &Lab, _: &Certificates, port: u16, _: Security) -> Result<Server> {
    let mut command = lab.server().command("iperf3");
    command.args(["--server", "--port", &port.to_string()]);
    Server::start(lab, &format!("iperf3-{port}"), command, "tcp", port)
}
