//! SMTP with STARTTLS.

use anyhow::Result;

use super::{Security, Server, program, python};
use crate::{Certificates, Lab};

/// aiosmtpd: takes mail and forgets it; offers STARTTLS unless `Plain`.
pub fn smtp(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let mut command = lab.server().command(python());
    command.arg(program("smtp_server.py")).arg(port.to_string());
    if security != Security::Plain {
        command.args([&certificates.certificate, &certificates.key]);
    }
    Server::start(lab, &format!("smtp-{port}"), command, "tcp", port)
}
