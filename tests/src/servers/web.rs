//! nginx, openssl s_server, gRPC, QUIC.

use anyhow::Result;

use super::{Security, Server, program, python};
use crate::{Certificates, Lab};

/// nginx: answers every request with a short text.
///
/// # Errors
/// It did not start; so for every server.
pub fn nginx(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let flag = if security == Security::Plain { "" } else { " ssl" };
    nginx_with(lab, certificates, port, security, flag)
}

/// The same without TLS, for clients that know that it speaks HTTP/2.
///
/// # Errors
/// See [`nginx`].
pub fn nginx_http2(lab: &Lab, certificates: &Certificates, port: u16) -> Result<Server> {
    nginx_with(lab, certificates, port, Security::Plain, " http2")
}

/// `flag`: of the listening sockets.
fn nginx_with(
    lab: &Lab,
    certificates: &Certificates,
    port: u16,
    security: Security,
    flag: &str,
) -> Result<Server> {
    let tls = match security {
        Security::Plain => String::new(),
        other => format!(
            "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols {};",
            certificates.certificate,
            certificates.key,
            match other {
                Security::Tls12 => "TLSv1.2",
                Security::Tls13 | Security::Mutual => "TLSv1.3",
                Security::Tls | Security::Plain => "TLSv1.2 TLSv1.3",
            }
        ),
    };
    let directory = lab.directory.directory(&format!("nginx-{port}"), None)?;
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
         events {{}}
         http {{
           access_log off;
           client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
           uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
           server {{ listen {port}{flag}; listen [::]:{port}{flag}; {tls} return 200 \"hello\\n\"; }}
         }}"
    );
    let config = lab.directory.write(&format!("nginx-{port}.conf"), &config)?;
    let mut command = lab.server().command("nginx");
    command.args(["-p", &directory, "-c", &config, "-e", &format!("{directory}/error.log")]);
    Server::start(lab, &format!("nginx-{port}"), command, "tcp", port)
}

/// `openssl s_server`: answers HTTP requests with a status page.
pub fn openssl(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-www", "-accept", &port.to_string()]);
    command.args(["-cert", &certificates.certificate, "-key", &certificates.key]);
    match security {
        Security::Tls12 => {
            command.arg("-tls1_2");
        }
        Security::Tls13 => {
            command.arg("-tls1_3");
        }
        Security::Mutual => {
            command.args([
                "-tls1_3",
                "-Verify",
                "2",
                "-verify_return_error",
                "-CAfile",
                &certificates.authority,
            ]);
        }
        Security::Tls | Security::Plain => {}
    }
    Server::start(lab, &format!("openssl-{port}"), command, "tcp", port)
}

/// A gRPC service with one unary method.
pub fn grpc(lab: &Lab, certificates: &Certificates, port: u16, security: Security) -> Result<Server> {
    let mut command = lab.server().command(python());
    command.arg(program("grpc_server.py")).arg(port.to_string());
    if security != Security::Plain {
        command.args([&certificates.certificate, &certificates.key]);
    }
    Server::start(lab, &format!("grpc-{port}"), command, "tcp", port)
}

/// A QUIC server that echoes streams.
pub fn quic(lab: &Lab, certificates: &Certificates, port: u16) -> Result<Server> {
    let mut command = lab.server().command(python());
    command.arg(program("quic_server.py")).arg(port.to_string());
    command.args([&certificates.certificate, &certificates.key]);
    Server::start(lab, &format!("quic-{port}"), command, "udp", port)
}

/// rustls with X25519MLKEM768 before the other groups; echoes what it is sent.
pub fn post_quantum(lab: &Lab, certificates: &Certificates, port: u16, _: Security) -> Result<Server> {
    let mut command = lab.server().command(super::tool("tls-peer")?);
    command.args(["tls", &format!("[::]:{port}"), &certificates.certificate, &certificates.key]);
    Server::start(lab, &format!("tls-peer-{port}"), command, "tcp", port)
}
