//! SMTP, IMAP and POP3 with STARTTLS.

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

/// Dovecot's IMAP; every password does. Offers STARTTLS unless `Plain`.
pub fn imap(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    dovecot(lab, tls(certificates, security), "imap", port, "nopassword=y")
}

/// Dovecot's POP3, in the same way.
pub fn pop3(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    dovecot(lab, tls(certificates, security), "pop3", port, "nopassword=y")
}

fn tls(certificates: &Certificates, security: Security) -> String {
    if security == Security::Plain {
        "ssl = no\n".to_owned()
    } else {
        format!("ssl = yes\nssl_cert = <{}\nssl_key = <{}\n", certificates.certificate, certificates.key)
    }
}

/// Dovecot with what its configuration says of TLS, and what its `static` password database does of
/// passwords. Wrong ones are answered at once.
pub(super) fn dovecot(lab: &Lab, tls: String, protocol: &str, port: u16, passwords: &str) -> Result<Server> {
    let directory = lab.directory.directory(&format!("{protocol}-{port}"), None)?;
    let mail = lab.directory.directory(&format!("{protocol}-{port}-mail"), Some("nobody"))?;
    // Users that are there everywhere; no chroot, which would need what Dovecot's package sets up.
    let config = format!(
        "base_dir = {directory}/run\nstate_dir = {directory}/state\nlog_path = {directory}/log\n\
         protocols = {protocol}\n{tls}disable_plaintext_auth = no\n\
         default_internal_user = nobody\ndefault_login_user = nobody\ndefault_internal_group = nogroup\n\
         mail_location = maildir:{mail}\n\
         service {protocol}-login {{\n  chroot =\n  inet_listener {protocol} {{\n    port = {port}\n  }}\n  \
         inet_listener {protocol}s {{\n    port = 0\n  }}\n}}\n\
         service anvil {{\n  chroot =\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\n\
         auth_failure_delay = 0\n\
         passdb {{\n  driver = static\n  args = {passwords}\n}}\n\
         userdb {{\n  driver = static\n  args = uid=nobody gid=nogroup home={mail}\n}}\n"
    );
    let config = lab.directory.write(&format!("{protocol}-{port}.conf"), &config)?;
    let mut command = lab.server().command("dovecot");
    command.args(["-F", "-c", &config]);
    Server::start(lab, &format!("{protocol}-{port}"), command, "tcp", port)
}
