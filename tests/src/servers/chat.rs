//! XMPP.

use anyhow::Result;

use super::{Security, Server};
use crate::{Certificates, Lab};

/// Prosody for the domain `localhost`; offers STARTTLS unless `Plain`.
pub fn xmpp(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let directory = lab.directory.directory(&format!("xmpp-{port}"), None)?;
    let (module, tls) = if security == Security::Plain {
        ("", String::new())
    } else {
        let (certificate, key) = (&certificates.certificate, &certificates.key);
        ("\"tls\", ", format!("ssl = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n"))
    };
    let config = format!(
        "run_as_root = true\npidfile = \"{directory}/pid\"\ndata_path = \"{directory}\"\n\
         modules_enabled = {{ {module}\"saslauth\", \"disco\" }}\nmodules_disabled = {{ \"s2s\" }}\n\
         c2s_ports = {{ {port} }}\nc2s_require_encryption = false\n{tls}\
         log = {{ info = \"*console\" }}\nVirtualHost \"localhost\"\n"
    );
    let config = lab.directory.write(&format!("xmpp-{port}.lua"), &config)?;
    let mut command = lab.server().command("prosody");
    command.args(["-F", "--config", &config]);
    Server::start(lab, &format!("xmpp-{port}"), command, "tcp", port)
}
