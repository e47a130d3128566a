//! JSON Web Tokens (RFC 7519, RFC 7515 section 7.1): what they say of themselves.
//!
//! In: bytes that may be a token in compact form. Out: algorithm, times, scopes, audience. Must never:
//! hand on the token or any other claim.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::event::Token;
use crate::bytes::printable;

/// A token is no longer than a header may be.
const LONGEST: usize = 8192;
const SCOPES: usize = 16;
const AUDIENCE: usize = 8;

/// Reads a token that begins with the header `{"`: three parts, of which the last may be empty.
pub(super) fn read(token: &[u8]) -> Option<Token> {
    if token.len() > LONGEST || !token.starts_with(b"eyJ") {
        return None;
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let header = object(header)?;
    // What is encrypted (RFC 7516) has five parts and claims that cannot be read.
    let claims = if parts.next().is_some() { Value::Null } else { object(claims)? };
    let algorithm = header.get("alg")?.as_str()?;
    Some(Token {
        algorithm: Some(printable(algorithm.as_bytes())),
        expires_at: seconds(&claims["exp"]),
        issued_at: seconds(&claims["iat"]).or_else(|| seconds(&claims["nbf"])),
        scopes: words(&claims["scope"], SCOPES).or_else(|| words(&claims["scp"], SCOPES)).unwrap_or_default(),
        audience: words(&claims["aud"], AUDIENCE).unwrap_or_default(),
    })
}

fn object(part: &[u8]) -> Option<Value> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok().filter(Value::is_object)
}

fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

/// A list, or words in one string (RFC 8693 section 4.2).
fn words(value: &Value, most: usize) -> Option<Vec<String>> {
    match value {
        Value::String(text) => {
            Some(text.split_ascii_whitespace().take(most).map(|word| printable(word.as_bytes())).collect())
        }
        Value::Array(list) => {
            let words = list.iter().filter_map(Value::as_str).take(most);
            Some(words.map(|word| printable(word.as_bytes())).collect())
        }
        _ => None,
    }
}
