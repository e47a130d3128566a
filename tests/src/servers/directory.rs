//! LDAP.

use anyhow::Result;

use super::{Security, Server};
use crate::{Certificates, Lab};

/// slapd with an empty directory; takes StartTLS unless `Plain`.
pub fn ldap(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let directory = lab.directory.directory(&format!("ldap-{port}"), None)?;
    let mut config = "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\n".to_owned();
    config += &format!("pidfile {directory}/pid\n");
    if security != Security::Plain {
        config += &format!(
            "TLSCACertificateFile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n",
            certificates.authority, certificates.certificate, certificates.key
        );
    }
    config += &format!("database ldif\ndirectory {directory}\nsuffix dc=example,dc=org\n");
    let config = lab.directory.write(&format!("ldap-{port}.conf"), &config)?;
    let mut command = lab.server().command("slapd");
    let everywhere = format!("ldap://0.0.0.0:{port}/ ldap://[::]:{port}/");
    command.args(["-d", "0", "-f", &config, "-h", &everywhere]);
    Server::start(lab, &format!("ldap-{port}"), command, "tcp", port)
}
