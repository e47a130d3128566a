//! Inputs to begin with: what is made of the fixtures, and what once made a target fail.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::inside;
use crate::workspace;

/// Writes them into the corpus of a target.
///
/// # Errors
/// A fixture cannot be read, or the corpus not be written.
pub fn write(target: &str, corpus: &Path) -> Result<()> {
    let fixtures = workspace::root().join("dissect/fixtures");
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    match target {
        "stream" => {
            for folder in ["", "plain", "ssh"] {
                for (name, client, server) in pairs(&fixtures.join(folder), "")? {
                    let turns = [cut(&client, true), cut(&server, false)].concat();
                    seeds.push((format!("{folder}{name}"), [&[0][..], &turns].concat()));
                }
            }
            for (name, client, server) in AGREED {
                let turns = [piece(client, true), piece(server, false)].concat();
                seeds.push((name.to_owned(), [&[0][..], &turns].concat()));
            }
        }
        "datagrams" => {
            for (name, client, server) in pairs(&fixtures, ".datagrams")? {
                // Each is led by its length already; the highest bit says whose it is.
                seeds.push((name, [client, marked(server)].concat()));
            }
        }
        "activity" => seeds.extend(exchanges(&fixtures.join("activity"))?),
        "ring" => seeds
            .extend([1u8, 2, 3, 4].map(|kind| (format!("kind-{kind}"), [&[kind][..], &[0; 300]].concat()))),
        "link" => {
            seeds.extend((0u8..10).map(|kind| (format!("message-{kind}"), [&[kind][..], &[0; 120]].concat())))
        }
        "query" => seeds
            .extend(QUERIES.iter().enumerate().map(|(at, text)| (at.to_string(), text.as_bytes().into()))),
        "tls" => {
            for (name, client, server) in pairs(&fixtures, "")? {
                seeds
                    .push((name, [inside::records(&client, true), inside::records(&server, false)].concat()));
            }
        }
        "dtls" => {
            for (name, client, server) in pairs(&fixtures, ".datagrams")? {
                let [client, server] = [(client, true), (server, false)]
                    .map(|(bytes, from_client)| inside::fragments(&bytes, from_client));
                seeds.push((name, [client, server].concat()));
            }
        }
        "quic" => {
            for (name, client, server) in pairs(&fixtures, "")? {
                let [client, server] = [(client, true), (server, false)]
                    .map(|(bytes, from_client)| inside::crypto(&bytes, from_client));
                // Data of the client's in a 1-RTT packet.
                let data = piece(&[&[6][..], &[0xa5; 40]].concat(), true);
                seeds.push((name, [&[0][..], &client, &server, &data].concat()));
            }
        }
        "ssh" => {
            for (name, client, server) in pairs(&fixtures.join("ssh"), "")? {
                seeds
                    .push((name, [inside::packets(&server, false), inside::packets(&client, true)].concat()));
            }
        }
        "certificates" => {
            for (name, client, server) in pairs(&fixtures, "")? {
                let chain = [inside::certificates(&server), inside::certificates(&client)].concat();
                if !chain.is_empty() {
                    seeds.push((name, chain));
                }
            }
        }
        "proxy" => {
            for (name, client, server) in pairs(&fixtures, "")? {
                for head in 0..4 {
                    let inner = [cut(&client, true), cut(&server, false)].concat();
                    seeds.push((
                        format!("{name}-{head}"),
                        [&[head][..], &piece(&[1, 2], true), &inner].concat(),
                    ));
                }
            }
        }
        "names" => seeds.push(("a".to_owned(), [piece(QUESTION, true), piece(ANSWER, false)].concat())),
        "identity" => {
            let texts = IDENTITIES.iter().enumerate();
            seeds
                .extend(texts.map(|(at, (reader, text))| {
                    (at.to_string(), [&[*reader][..], text.as_bytes()].concat())
                }));
        }
        "request" => seeds
            .extend(REQUESTS.iter().enumerate().map(|(at, text)| (at.to_string(), text.as_bytes().into()))),
        "audit" => {
            for (name, _, server) in pairs(&fixtures, "")? {
                for protocol in 0..8 {
                    seeds.push((format!("{name}-{protocol}"), [&[protocol][..], &server].concat()));
                }
            }
        }
        "state" => seeds.push(("audit".to_owned(), [&[0][..], AUDIT_MEMORY.as_bytes()].concat())),
        "keys" => {
            for (at, (reader, status, body)) in KEYS.iter().enumerate() {
                let [high, low] = (status - 100_u16).to_be_bytes();
                seeds.push((at.to_string(), [&[*reader, high, low][..], body.as_bytes()].concat()));
            }
        }
        "config" => {
            let example = read(&workspace::root().join("deploy/streamwatch.toml"))?;
            // What it names stands in comments; here it is set, hooks in the place of none.
            let text = String::from_utf8_lossy(&example).replace("\nhooks = []\n", "\n");
            let set = text.lines().map(set).collect::<String>();
            seeds.push(("example".to_owned(), example));
            seeds.push(("set".to_owned(), set.into_bytes()));
            seeds.push(("all".to_owned(), SETTINGS.as_bytes().to_owned()));
        }
        _ => seeds.push(("example".to_owned(), read(&workspace::root().join("deploy/policy.example.toml"))?)),
    }
    let regressions = workspace::root().join("fuzz/regressions").join(target);
    if regressions.is_dir() {
        for entry in fs::read_dir(&regressions).with_context(|| format!("{}", regressions.display()))? {
            let path = entry.with_context(|| format!("{}", regressions.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            seeds.push((name, read(&path)?));
        }
    }
    for (name, bytes) in seeds {
        let path = corpus.join(format!("seed-{name}"));
        fs::write(&path, bytes).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

/// What is agreed upon before encryption begins: by whom, what the client asks for, and what it is given.
const AGREED: [(&str, &[u8], &[u8]); 4] = [
    ("socks4", b"\x04\x01\x01\xbb\0\0\0\x01a\0a.example\0", b"\0\x5a\0\0\0\0\0\0"),
    (
        "rdp",
        b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0",
        b"\x03\0\0\x13\x0e\xd0\0\0\0\0\0\x02\0\x08\0\x01\0\0\0",
    ),
    (
        "tds",
        b"\x12\x01\0\x1a\0\0\x01\0\0\0\x0b\0\x06\x01\0\x11\0\x01\xff\x10\0\0\0\0\0\x01\x12\x01\0\x0a\0\0\0\0\x16\x03",
        b"\x04\x01\0\x1a\0\0\x01\0\0\0\x0b\0\x06\x01\0\x11\0\x01\xff\x10\0\0\0\0\0\x01",
    ),
    ("gssenc", b"\0\0\0\x08\x04\xd2\x16\x30\0\0\0\x10\x60aaaaaaaaaaaaaaa", b"G\0\0\0\x10\x60aaaaaaaaaaaaaaa"),
];

const QUERIES: [&str; 3] = [
    "client.process == \"curl\" && encrypted == no\nbytes:desc",
    "bytes > 10MB || (server.port == 5432 && !(client.ip == 10.0.0.0/8))\nserver.port",
    "rule == plaintext && severity >= high",
];

const REQUESTS: [&str; 3] = [
    "filter=client.process+%3D%3D+%22curl%22&sort=bytes%3Adesc&limit=5",
    "follow=true&after=17",
    "key=plaintext%2Fa&for=2h&why=known",
];

/// Number of the reader in `monitor::identity::fuzzing`, and what it reads.
const IDENTITIES: [(u8, &str); 10] = [
    (0, "0::/system.slice/docker-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope\n"),
    (0, "4:memory:/user.slice\n1:name=systemd:/system.slice/nginx.service\n0::/\n"),
    (1, "/kubepods.slice/kubepods-pod1234_5678.slice/cri-containerd-0123456789abcdef.scope"),
    (2, "/usr/bin/mysql\0-uroot\0-psecret\0--password=x\0https://a:b@c/\0"),
    (3, "17 (a (b) c) S 1 17 17 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n"),
    (4, "Name:\tinit\nUid:\t0\t1000\t0\t0\n"),
    (5, "root:x:0:0:root:/root:/bin/sh\n# no:x:1:\n"),
    (6, "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"),
    (8, r#"{"Name":"/web","Config":{"Image":"nginx:1","Labels":{"io.kubernetes.pod.name":"a"}}}"#),
    (8, r#"[{"id":"a","names":["web"],"metadata":"{\"image-name\":\"nginx\"}"}]"#),
];

/// A line of settings, without the mark of a comment where it sets something.
fn set(line: &str) -> String {
    let sets = |text: &&str| text.contains(" = ") || text.starts_with('[');
    let plain = line.strip_prefix("# ").map(str::trim_start).filter(sets).unwrap_or(line);
    format!("{plain}\n")
}

/// What is set in no example.
const SETTINGS: &str = r#"
[kernel]
pin = "/sys/fs/bpf/streamwatch"
[api]
group = "adm"
[[alerts.hooks]]
command = ["/usr/bin/logger", "-t", "streamwatch"]
severity = "high"
[[alerts.hooks]]
webhook = "https://alerts.example.org/a"
queue = 16
[[alerts.hooks]]
log = true
[state]
key = "aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1234"
previous = ["vault-kv:secret/hosts/one", "vault-transit:transit/streamwatch", "credential:a", "file:/etc/key"]
[state.aws]
credentials = "web-identity:/run/token"
role = "arn:aws:iam::111122223333:role/streamwatch"
"#;

/// Number of the reader in `monitor::keys::fuzzing`, status and body as the services' documentation has them.
const KEYS: [(u8, u16, &str); 14] = [
    (0, 200, r#"{"data":{"key":"abcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd"}}"#),
    (
        1,
        200,
        r#"{"data":{"data":{"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","old":"x"},"metadata":{"version":3}}}"#,
    ),
    (1, 403, r#"{"errors":["permission denied"]}"#),
    (1, 503, r#"{"errors":["Vault is sealed"]}"#),
    (2, 200, r#"{"data":{"ciphertext":"vault:v1:QUJD","key_version":1}}"#),
    (3, 200, r#"{"data":{"plaintext":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}"#),
    (
        4,
        200,
        r#"{"CiphertextBlob":"d3JhcHBlZA==","Plaintext":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","KeyId":"arn:aws:kms:eu-central-1:111122223333:key/1234"}"#,
    ),
    (
        5,
        200,
        r#"{"CiphertextBlob":"d3JhcHBlZA==","Plaintext":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","KeyId":"arn:aws:kms:eu-central-1:111122223333:key/5678"}"#,
    ),
    (6, 400, r#"{"__type":"com.amazonaws.kms#AccessDeniedException","message":"no"}"#),
    (
        7,
        200,
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <SessionToken>t</SessionToken><SecretAccessKey>s</SecretAccessKey><AccessKeyId>ASIA</AccessKeyId>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
    ),
    (8, 200, "streamwatch\n"),
    (9, 200, r#"{"Code":"Success","AccessKeyId":"ASIA","SecretAccessKey":"s","Token":"t"}"#),
    (10, 200, "[default]\naws_access_key_id = AKIA\naws_secret_access_key = s\naws_session_token = t\n"),
    (10, 200, "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd\n"),
];

const AUDIT_MEMORY: &str = r#"{"format":1,"services":{}}"#;

/// `a.example.` A, asked and answered with an alias (RFC 1035 section 4).
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";
const ANSWER: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x02\0\0\0\0\x01a\x07example\0\0\x01\0\x01\
    \xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0e\xc0\x27\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01";

/// Name, client's bytes, server's bytes.
type Fixture = (String, Vec<u8>, Vec<u8>);

/// The two sides of each fixture of a folder.
fn pairs(folder: &Path, suffix: &str) -> Result<Vec<Fixture>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(name) = file.strip_suffix(&format!(".client{suffix}")) else { continue };
        let server = folder.join(format!("{name}.server{suffix}"));
        found.push((name.to_owned(), read(&path)?, read(&server)?));
    }
    Ok(found)
}

/// Recorded exchanges, led by the number of their protocol in `fuzz_targets/activity.rs`.
fn exchanges(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    const PROTOCOLS: [&str; 14] = [
        "http",
        "postgresql",
        "mysql",
        "redis",
        "mongodb",
        "kafka",
        "amqp",
        "mqtt",
        "nats",
        "smtp",
        "imap",
        "pop3",
        "ftp",
        "ldap",
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?.flatten() {
        let path = entry.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(name) = name.strip_suffix(".exchange") else { continue };
        let number = PROTOCOLS.iter().position(|protocol| name.starts_with(protocol)).unwrap_or(14);
        let bytes = read(&path)?;
        let (mut rest, mut input) = (&bytes[..], vec![number as u8]);
        // Each piece is led by who sent it, in a byte, and its length in four.
        while let [from, a, b, c, d, after @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let (piece, next) = after.split_at(length.min(after.len()));
            input.extend(cut(piece, *from == b'c'));
            rest = next;
        }
        found.push((name.to_owned(), input));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}", path.display()))
}

/// In pieces as the targets take them: led by a length, whose highest bit is the server's.
fn cut(bytes: &[u8], from_client: bool) -> Vec<u8> {
    let mut pieces = Vec::new();
    for chunk in bytes.chunks(1448) {
        pieces.extend(piece(chunk, from_client));
    }
    pieces
}

pub(super) fn piece(bytes: &[u8], from_client: bool) -> Vec<u8> {
    let [high, low] = (bytes.len() as u16 & 0x7fff).to_be_bytes();
    [&[if from_client { high } else { high | 0x80 }, low], bytes].concat()
}

fn marked(mut datagrams: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some([high, low]) = datagrams.get(at..at + 2).map(|head| [head[0], head[1]]) {
        datagrams[at] |= 0x80;
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    datagrams
}
