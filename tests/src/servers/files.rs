//! FTP.

use anyhow::Result;

use super::{Security, Server};
use crate::{Certificates, Lab};

/// vsftpd: everyone may log in as `anonymous`; takes AUTH TLS unless `Plain`.
pub fn ftp(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let directory = lab.directory.directory(&format!("ftp-{port}"), None)?;
    let mut config = format!(
        "listen=NO\nlisten_ipv6=YES\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
         no_anon_password=YES\nanon_root={directory}\nsecure_chroot_dir={directory}\n"
    );
    if security != Security::Plain {
        config += &format!(
            "ssl_enable=YES\nallow_anon_ssl=YES\nforce_local_logins_ssl=NO\nforce_local_data_ssl=NO\n\
             ssl_ciphers=HIGH\nrequire_ssl_reuse=NO\nrsa_cert_file={}\nrsa_private_key_file={}\n",
            certificates.certificate, certificates.key
        );
    }
    let config = lab.directory.write(&format!("ftp-{port}.conf"), &config)?;
    let mut command = lab.server().command("vsftpd");
    command.arg(config);
    Server::start(lab, &format!("ftp-{port}"), command, "tcp", port)
}
