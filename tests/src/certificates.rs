//! A certificate authority and certificates for both ends, made with the openssl command.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::netns::{LEFT, RIGHT};
use crate::{Directory, finish};

/// Paths of PEM files in a lab's directory.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub authority: String,
    pub certificate: String,
    pub key: String,
    pub client_certificate: String,
    pub client_key: String,
}

impl Certificates {
    /// Makes all of them; every address of a lab and `localhost` are in the server's.
    ///
    /// # Errors
    /// openssl failed.
    pub fn new(directory: &Directory) -> Result<Self> {
        let file = |name: &str| directory.file(name);
        let addresses = [LEFT, RIGHT].concat().iter().map(|ip| format!(",IP:{ip}")).collect::<String>();
        let names = format!("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1{addresses}");
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=streamwatch test authority",
            "-keyout",
            &file("ca.key"),
            "-out",
            &file("ca.pem"),
        ])?;
        for (subject, stem, extra) in
            [("/CN=server", "server", names.as_str()), ("/CN=client", "client", "keyUsage=digitalSignature")]
        {
            openssl(&[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "30",
                "-subj",
                subject,
                "-addext",
                extra,
                // Else it is an authority's, and rustls takes none from a server.
                "-addext",
                "basicConstraints=CA:FALSE",
                "-CA",
                &file("ca.pem"),
                "-CAkey",
                &file("ca.key"),
                "-keyout",
                &file(&format!("{stem}.key")),
                "-out",
                &file(&format!("{stem}.pem")),
            ])?;
        }
        // Servers with a user of their own read their key; it guards nothing.
        let mut readable = Command::new("chmod");
        readable.args(["0644", &file("server.key"), &file("client.key")]);
        finish(readable, Duration::from_secs(10))?.success()?;
        Ok(Certificates {
            authority: file("ca.pem"),
            certificate: file("server.pem"),
            key: file("server.key"),
            client_certificate: file("client.pem"),
            client_key: file("client.key"),
        })
    }
}

fn openssl(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(arguments);
    finish(command, Duration::from_secs(30))?.success().map(drop)
}
