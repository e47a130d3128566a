//! Signature Version 4 of one kind of request: `POST /` without a query
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
//!
//! By hand: `aws-sigv4` brings forty crates of an SDK for these three HMACs. AWS's own test vector is
//! below, and a server that checks signatures is asked in `tests/tests/keys.rs`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use hmac::{Hmac, Mac};

/// Who we are.
pub struct Credentials {
    pub id: String,
    pub secret: Zeroizing<String>,
    pub token: Option<Zeroizing<String>>,
}

/// What a signature is for.
pub struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
    /// As [`date`] gives it.
    pub at: &'a str,
}

/// `20150830T123600Z`.
pub fn date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The header `authorization`. The headers are in the order of their names, which are in lower case.
pub fn authorization(
    credentials: &Credentials,
    scope: &Scope<'_>,
    headers: &[(&str, &str)],
    body: &[u8],
) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", hex(&Sha256::digest(body)));
    let Scope { region, service, at } = scope;
    let day = at.get(..8).unwrap_or(at);
    let place = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{place}\n{}", hex(&Sha256::digest(canonical)));
    let mut key = Zeroizing::new(format!("AWS4{}", *credentials.secret).into_bytes());
    for part in [day, *region, *service, "aws4_request"] {
        key = Zeroizing::new(hmac(&key, part.as_bytes()));
    }
    let signature = hex(&hmac(&key, to_sign.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{place}, SignedHeaders={names}, Signature={signature}",
        credentials.id
    )
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length: this cannot fail.
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(key) else { return Vec::new() };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Credentials {
        Credentials {
            id: "AKIDEXAMPLE".to_owned(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            token: None,
        }
    }

    /// `post-vanilla` and `post-x-www-form-urlencoded` of AWS's Signature Version 4 test suite.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        let scope = Scope { region: "us-east-1", service: "service", at: "20150830T123600Z" };
        let host = ("host", "example.amazonaws.com");
        let at = ("x-amz-date", "20150830T123600Z");
        let signed = authorization(&example(), &scope, &[host, at], b"");
        assert_eq!(
            signed,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        let form = ("content-type", "application/x-www-form-urlencoded");
        let signed = authorization(&example(), &scope, &[form, host, at], b"Param1=value1");
        assert!(
            signed.ends_with("Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
            "{signed}"
        );
    }

    #[test]
    fn a_date_is_in_utc() {
        let at: Timestamp = "2015-08-30T14:36:00+02:00".parse().expect("a time");
        assert_eq!(date(at), "20150830T123600Z");
    }
}
