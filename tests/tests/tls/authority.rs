//! Certificates of every kind that the tests need, made with the openssl command.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tests::{Directory, finish};

/// Key types of end certificates.
pub const KINDS: [&str; 3] = ["rsa", "ecdsa", "ed25519"];
pub const LONGEST: usize = 4;

/// An authority, three others below it in a row, and end certificates at each depth.
pub struct Authority {
    directory: Directory,
}

/// An end certificate with its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    /// The end certificate alone, and with those above it but the root.
    pub leaf: String,
    pub chain: String,
    /// Those above it but the root, if there are any.
    pub above: Option<String>,
    pub key: String,
    /// Both, password `changeit`.
    pub archive: String,
}

impl Authority {
    /// # Errors
    /// openssl failed.
    pub fn new() -> Result<Self> {
        let authority = Authority { directory: Directory::new()? };
        authority.root("root")?;
        authority.root("other")?;
        for (name, above) in [("a1", "root"), ("a2", "a1"), ("a3", "a2")] {
            authority.below(name, above)?;
        }
        for kind in KINDS {
            for length in 1..=LONGEST {
                let above = if length == 1 { "root".to_owned() } else { format!("a{}", length - 1) };
                authority.end(&format!("{kind}{length}"), kind, &above, length)?;
            }
            authority.end(&format!("{kind}0"), kind, "other", 1)?;
        }
        Ok(authority)
    }

    pub fn file(&self, name: &str) -> String {
        self.directory.file(name)
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub fn root_file(&self) -> String {
        self.file("root.pem")
    }

    /// `length` 0: nobody trusts it.
    pub fn identity(&self, kind: &str, length: usize) -> Identity {
        let name = format!("{kind}{length}");
        let file = |suffix: &str| self.file(&format!("{name}.{suffix}"));
        Identity {
            leaf: file("leaf"),
            above: (length > 1).then(|| file("above")),
            chain: file("pem"),
            key: file("key"),
            archive: file("p12"),
            name,
        }
    }

    fn root(&self, name: &str) -> Result<()> {
        let subject = format!("/O=streamwatch tests/CN={name}");
        self.openssl(
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout {name}.key \
             -out {name}.pem -addext basicConstraints=critical,CA:TRUE -subj"
            ),
            &[&subject],
        )
    }

    fn below(&self, name: &str, above: &str) -> Result<()> {
        self.request(name, "-newkey ec -pkeyopt ec_paramgen_curve:P-256")?;
        self.sign(name, above, "pem", "basicConstraints=critical,CA:TRUE\n")
    }

    fn end(&self, name: &str, kind: &str, above: &str, length: usize) -> Result<()> {
        let key = match kind {
            "rsa" => "-newkey rsa:2048",
            "ecdsa" => "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
            _ => "-newkey ed25519",
        };
        self.request(name, key)?;
        let names = format!("subjectAltName=DNS:localhost,IP:127.0.0.1,URI:spiffe://example.org/{name}\n");
        self.sign(name, above, "leaf", &names)?;
        let leaf = fs::read_to_string(self.file(&format!("{name}.leaf")))?;
        let mut above = String::new();
        for depth in (1..length).rev() {
            above += &fs::read_to_string(self.file(&format!("a{depth}.pem")))?;
        }
        fs::write(self.file(&format!("{name}.pem")), leaf + &above)?;
        fs::write(self.file(&format!("{name}.above")), above)?;
        self.openssl(&format!(
            "pkcs12 -export -in {name}.pem -inkey {name}.key -name {name} -passout pass:changeit -out {name}.p12"
        ), &[])
    }

    fn request(&self, name: &str, key: &str) -> Result<()> {
        let subject = format!("/O=streamwatch tests/CN={name}");
        self.openssl(&format!("req -new {key} -nodes -keyout {name}.key -out {name}.csr -subj"), &[&subject])
    }

    fn sign(&self, name: &str, above: &str, suffix: &str, extensions: &str) -> Result<()> {
        fs::write(self.file("extensions"), extensions)?;
        self.openssl(
            &format!(
                "x509 -req -in {name}.csr -CA {above}.pem -CAkey {above}.key -CAcreateserial -days 30 \
             -extfile extensions -out {name}.{suffix}"
            ),
            &[],
        )
    }

    fn openssl(&self, arguments: &str, more: &[&str]) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).args(more).current_dir(self.directory.path());
        finish(command, Duration::from_secs(60))?.success().map(drop)
    }
}
