//! Services against their documented APIs, where nothing real can be installed: Vault's transit engine, STS
//! and the instance metadata service. Vault's KV store and KMS are asked in `tests/tests/keys.rs`.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

/// A server on loopback that answers by a function, for as long as the process lives.
pub fn serve(answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> (String, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let all = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            let mut headers = HashMap::new();
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header).unwrap_or(0) == 0 || header.trim().is_empty() {
                    break;
                }
                let (name, value) = header.split_once(':').unwrap();
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let request =
                Asked { line: line.trim().to_owned(), headers, body: String::from_utf8(body).unwrap() };
            let (status, body) = answer(&request);
            all.lock().unwrap().push(request);
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    (base, asked)
}

fn secret_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = crate::temporary::directory();
    let path = directory.path().join("secret");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    (directory, path)
}

fn place(text: &str) -> Place {
    Place::try_from(text.to_owned()).unwrap()
}

/// <https://developer.hashicorp.com/vault/api-docs/secret/transit#encrypt-data>. The server keeps the version
/// of its key in the ciphertext, as Vault does.
#[test]
fn transit_wraps_and_unwraps_and_its_rotation_is_seen() {
    let version = Arc::new(Mutex::new(1));
    let now = version.clone();
    let (address, asked) = serve(move |request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        if request.headers.get("x-vault-token").map(String::as_str) != Some("hvs.token") {
            return (403, json!({ "errors": ["permission denied"] }).to_string());
        }
        match request.line.as_str() {
            "POST /v1/transit/encrypt/streamwatch HTTP/1.1" => {
                let plain = body["plaintext"].as_str().unwrap();
                let sealed = format!("vault:v{}:{}", now.lock().unwrap(), STANDARD.encode(plain));
                (200, json!({ "data": { "ciphertext": sealed } }).to_string())
            }
            "POST /v1/transit/decrypt/streamwatch HTTP/1.1" => {
                let sealed = body["ciphertext"].as_str().unwrap().rsplit(':').next().unwrap();
                let plain = String::from_utf8(STANDARD.decode(sealed).unwrap()).unwrap();
                (200, json!({ "data": { "plaintext": plain } }).to_string())
            }
            _ => (404, json!({ "errors": [] }).to_string()),
        }
    });
    let (_directory, token) = secret_file("hvs.token\n");
    let mut settings = State { key: place("vault-transit:transit/streamwatch"), ..State::default() };
    settings.vault.address = address;
    settings.vault.token = SecretPlace::File(token.clone());
    settings.vault.namespace = Some("hosts".into());
    let keys = Keys::new(&settings, Path::new("/nonexistent/state.redb")).unwrap();
    let (key, wrapped) = keys.new_key().unwrap();
    assert_eq!((wrapped.kind.as_str(), wrapped.key_id.as_str()), (vault::KIND, "transit/streamwatch v1"));
    *version.lock().unwrap() = 2;
    assert_eq!(keys.new_key().unwrap().1.key_id, "transit/streamwatch v2");
    assert_eq!(keys.unwrap(&wrapped).unwrap().id(), key.id());
    assert!(asked.lock().unwrap().iter().all(|asked| asked.headers["x-vault-namespace"] == "hosts"));
    // What another key wrapped is not sent there.
    let other = Wrapped { key_id: "transit/other v1".into(), ..wrapped.clone() };
    assert!(matches!(keys.unwrap(&other), Err(KeyError::Foreign { .. })));
    std::fs::write(&token, "hvs.wrong").unwrap();
    let told = keys.unwrap(&wrapped).unwrap_err().to_string();
    assert!(told.ends_with("answers 403 permission denied") && !told.contains("hvs"), "{told}");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
    let told = keys.unwrap(&wrapped).unwrap_err().to_string();
    assert!(told.contains("has mode 0644"), "{told}");
}

#[test]
fn a_service_that_is_sealed_slow_or_gone_is_to_be_asked_again() {
    let (_directory, token) = secret_file("hvs.token");
    let mut settings = State { key: place("vault-kv:secret/host"), timeout_s: 1, ..State::default() };
    settings.vault.token = SecretPlace::File(token.clone());
    let told = |address: String| {
        let mut settings = settings.clone();
        settings.vault.address = address;
        let error = Keys::new(&settings, Path::new("/x/state.redb")).unwrap().new_key().unwrap_err();
        assert!(matches!(error, KeyError::Unreachable(_)), "{error}");
        error.to_string()
    };
    let (sealed, _) = serve(|_| (503, json!({ "errors": ["Vault is sealed\u{1b}[31m"] }).to_string()));
    assert!(told(sealed).ends_with("answers 503 Vault is sealed[31m"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    assert!(told(silent.clone()).contains("timeout"), "an answer that does not come");
    drop(listener);
    assert!(told(silent).contains("127.0.0.1"));
}

/// Fields of a secret in version 2 of the store, and an answer that is too long.
#[test]
fn a_secret_of_the_kv_store_has_the_key_and_older_ones() {
    let (_directory, token) = secret_file("hvs.token");
    let older: [u8; 32] = std::array::from_fn(|at| at as u8);
    let (new, old) = ("abcd".repeat(16), STANDARD.encode(older));
    let fields = json!({ "old-1": old, "key": new, "note": "by hand" });
    let answer = json!({ "data": { "data": fields, "metadata": { "version": 3 } } }).to_string();
    // JSON all the same.
    let too_long = format!("{answer}{}", " ".repeat(1 << 20));
    let (address, asked) = serve(move |_| (200, answer.clone()));
    let mut settings = State { key: place("vault-kv:secret/hosts/one"), ..State::default() };
    settings.vault.address = address;
    settings.vault.token = SecretPlace::File(token.clone());
    let keys = Keys::new(&settings, Path::new("/x/state.redb")).unwrap();
    let id = |bytes: [u8; 32]| Key::from_bytes(&bytes).unwrap().id();
    let (_, wrapped) = keys.new_key().unwrap();
    assert_eq!(wrapped.key_id, id(std::array::from_fn(|at| [0xab, 0xcd][at % 2])));
    assert_eq!(asked.lock().unwrap()[0].line, "GET /v1/secret/data/hosts/one HTTP/1.1");
    // Wrapped when the older one was in force.
    let blob = seal(&Key::from_bytes(&older).unwrap().derive("wrap"), b"streamwatch file key", &[9; 32]);
    let wrapped = Wrapped { kind: local::KIND.into(), key_id: id(older), blob: blob.unwrap() };
    assert_eq!(keys.unwrap(&wrapped).unwrap().id(), id([9; 32]));
    // Of the same key, by another service's word.
    let others = Wrapped { kind: vault::KIND.into(), ..wrapped };
    assert!(matches!(keys.unwrap(&others), Err(KeyError::Foreign { .. })));
    let (long, _) = serve(move |_| (200, too_long.clone()));
    settings.vault.address = long;
    assert!(Keys::new(&settings, Path::new("/x/state.redb")).unwrap().new_key().is_err());
}

/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>, and KMS with
/// what it gave.
#[test]
fn a_web_identity_takes_its_role_and_kms_is_asked_with_it() {
    let (endpoint, asked) = serve(|request| {
        if request.body.starts_with("Action=AssumeRoleWithWebIdentity&") {
            let xml = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                       <SessionToken>session</SessionToken><SecretAccessKey>secret</SecretAccessKey>\
                       <AccessKeyId>ASIA</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
                       </AssumeRoleWithWebIdentityResponse>";
            return (200, xml.to_owned());
        }
        let blob = STANDARD.encode("wrapped");
        let plain = STANDARD.encode([5; 32]);
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234";
        (200, json!({ "CiphertextBlob": blob, "Plaintext": plain, "KeyId": arn }).to_string())
    });
    let (_directory, token) = secret_file("ey.token\n");
    let mut settings =
        State { key: place("aws-kms:arn:aws:kms:eu-central-1:111122223333:key/1234"), ..State::default() };
    settings.aws.endpoint = Some(endpoint);
    settings.aws.credentials = AwsCredentials::WebIdentity(token.clone());
    assert!(Keys::new(&settings, Path::new("/x/state.redb")).is_err(), "no role");
    settings.aws.role = Some("arn:aws:iam::111122223333:role/streamwatch".into());
    let keys = Keys::new(&settings, Path::new("/x/state.redb")).unwrap();
    let (key, wrapped) = keys.new_key().unwrap();
    assert_eq!(
        (key.id(), wrapped.blob.as_slice()),
        (Key::from_bytes(&[5; 32]).unwrap().id(), &b"wrapped"[..])
    );
    assert_eq!(keys.unwrap(&wrapped).unwrap().id(), key.id());
    // What another key wrapped is not sent there.
    let other = Wrapped { key_id: "arn:aws:kms:eu-central-1:111122223333:key/other".into(), ..wrapped };
    assert!(matches!(keys.unwrap(&other), Err(KeyError::Foreign { .. })));
    let asked = asked.lock().unwrap();
    assert!(asked[0].body.ends_with("&WebIdentityToken=ey.token"), "{}", asked[0].body);
    assert_eq!(asked[1].headers["x-amz-target"], "TrentService.GenerateDataKey");
    assert_eq!(asked[1].headers["x-amz-security-token"], "session");
    let signed = &asked[1].headers["authorization"];
    assert!(
        signed.starts_with("AWS4-HMAC-SHA256 Credential=ASIA/") && signed.contains("x-amz-security-token")
    );
    let body: Value = serde_json::from_str(&asked[3].body).unwrap();
    assert_eq!(body["EncryptionContext"], json!({ "streamwatch": "state" }));
}

#[test]
fn what_the_environment_holds_is_not_read() {
    let settings = State { key: place("credential:none"), ..State::default() };
    let keys = Keys::new(&settings, Path::new("/x/state.redb")).unwrap();
    let told = keys.new_key().unwrap_err().to_string();
    assert!(told.contains("CREDENTIALS_DIRECTORY"), "{told}");
    // No source names a variable with a secret in it.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keys");
    let mut left = vec![sources];
    let mut read = 0;
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            read += text.matches("env::var").count();
        }
    }
    assert_eq!(read, 1, "CREDENTIALS_DIRECTORY, and nothing else");
}

/// What a service answers goes into files, lines and addresses: as much of it as can be meant.
#[test]
fn what_services_name_is_short_and_plain_or_refused() {
    let of = |status: u16, body: &str| {
        let body = ureq::Body::builder().data(body.as_bytes());
        Ok(ureq::http::Response::builder().status(status).body(body).unwrap())
    };
    let role = |names: &str| aws::credentials::role(names).map_err(|error| error.to_string());
    assert_eq!(role("stream_watch+=,.@-1\nother\n"), Ok("stream_watch+=,.@-1".to_owned()));
    let most = "r".repeat(64);
    assert_eq!(role(&most), Ok(most.clone()));
    for wrong in ["", "\n", "a/../b", "a?b", "a b", "\u{202e}", &format!("{most}r")] {
        assert_eq!(role(wrong), Err("instance metadata: the instance has no role".to_owned()), "{wrong:?}");
    }

    let mut settings = State::default();
    (settings.vault.address, settings.aws.endpoint) =
        ("http://127.0.0.1".into(), Some("http://127.0.0.1".into()));
    settings.aws.credentials = AwsCredentials::Instance;
    let timeout = Duration::from_secs(1);
    let vault = || vault::Vault::new(&settings.vault, timeout).unwrap();
    let transit = vault::Transit::new(vault(), "transit", "streamwatch");
    let sealed = |length: usize| {
        let answer = json!({ "data": { "ciphertext": format!("vault:v1:{}", "A".repeat(length - 9)) } });
        transit.sealed(&answer).map(|wrapped| wrapped.blob.len()).map_err(|error| error.to_string())
    };
    assert_eq!(sealed(LONGEST_WRAPPED), Ok(LONGEST_WRAPPED));
    assert!(sealed(LONGEST_WRAPPED + 1).unwrap_err().contains("but a longer one"));

    let alias = "arn:aws:kms:eu-central-1:111122223333:alias/streamwatch";
    let kms = aws::Kms::new(alias, &settings.aws, timeout).unwrap();
    let made = |key_id: &str, blob: usize| {
        let (blob, plain) = (STANDARD.encode(vec![1; blob]), STANDARD.encode([5; 32]));
        let answer = json!({ "CiphertextBlob": blob, "Plaintext": plain, "KeyId": key_id });
        kms.made(&answer).map(drop).map_err(|error| error.to_string())
    };
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234";
    assert_eq!(made(arn, LONGEST_WRAPPED), Ok(()));
    assert!(made(arn, LONGEST_WRAPPED + 1).unwrap_err().contains("longer than that of a key"));
    assert!(made(&format!("{arn}{}", "1".repeat(2048)), 60).unwrap_err().ends_with("KMS used another key"));

    // The service's own word for it does nothing to a terminal.
    let told = vault().heard(of(403, "{\"errors\":[\"no\u{202e}\\u001b[31m\u{2028}\"]}")).unwrap_err();
    assert_eq!(told.to_string(), "127.0.0.1 answers 403 no[31m");
}
