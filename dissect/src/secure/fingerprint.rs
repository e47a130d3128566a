//! JA3, JA3S, JA4 and JA4S: short names for how a hello is composed.
//!
//! In: a hello. Out: its fingerprint, as the tools of others write it. JA3 and JA3S:
//! github.com/salesforce/ja3. JA4 and JA4S: github.com/FoxIO-LLC/ja4, `technical_details`.

use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::hello::{Carrier, ClientHello, ServerHello, extension};
use super::names::is_made_up;

/// More than two digits can count show as this.
const MOST_COUNTED: usize = 99;

/// MD5 of `version,suites,extensions,groups,point formats`, in decimal, lists joined by `-`.
pub(super) fn ja3(hello: &ClientHello) -> String {
    md5(&ja3_text(hello))
}

fn ja3_text(hello: &ClientHello) -> String {
    let mut text = String::with_capacity(256);
    decimal(&mut text, [hello.version]);
    for list in [&hello.suites, &hello.extensions, &hello.groups] {
        text.push(',');
        decimal(&mut text, honest(list));
    }
    text.push(',');
    decimal(&mut text, hello.point_formats.iter().copied().map(u16::from));
    text
}

/// MD5 of `version,suite,extensions`.
pub(super) fn ja3s(hello: &ServerHello) -> String {
    let mut text = format!("{},{},", hello.legacy_version, hello.suite);
    decimal(&mut text, hello.extensions.iter().copied());
    md5(&text)
}

/// `offered`: the highest version in the hello.
pub(super) fn ja4(hello: &ClientHello, offered: u16) -> String {
    let mut suites: Vec<u16> = honest(&hello.suites).collect();
    let mut extensions: Vec<u16> = honest(&hello.extensions).collect();
    let name = if extensions.contains(&extension::SERVER_NAME) { 'd' } else { 'i' };
    let start = format!(
        "{}{}{name}{:02}{:02}{}",
        carrier(hello.carrier),
        version(offered),
        suites.len().min(MOST_COUNTED),
        extensions.len().min(MOST_COUNTED),
        protocol(&hello.first_alpn)
    );
    suites.sort_unstable();
    extensions.retain(|kind| !matches!(*kind, extension::SERVER_NAME | extension::ALPN));
    extensions.sort_unstable();
    let mut text = String::with_capacity(256);
    hexadecimal(&mut text, &suites);
    let suites = sha256_12(&text);
    text.clear();
    hexadecimal(&mut text, &extensions);
    let signatures: Vec<u16> = honest(&hello.signatures).collect();
    if !signatures.is_empty() {
        text.push('_');
        hexadecimal(&mut text, &signatures);
    }
    format!("{start}_{suites}_{}", sha256_12(&text))
}

pub(super) fn ja4s(hello: &ServerHello) -> String {
    let mut extensions = String::with_capacity(64);
    hexadecimal(&mut extensions, &hello.extensions);
    format!(
        "{}{}{:02}{}_{:04x}_{}",
        carrier(hello.carrier),
        version(hello.version),
        hello.extensions.len().min(MOST_COUNTED),
        protocol(&hello.first_alpn),
        hello.suite,
        sha256_12(&extensions)
    )
}

fn carrier(carrier: Carrier) -> char {
    match carrier {
        Carrier::Stream | Carrier::Ssl2 => 't',
        Carrier::Datagram => 'd',
        Carrier::Quic => 'q',
    }
}

fn version(number: u16) -> &'static str {
    match number {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        0xfeff => "d1",
        0xfefd => "d2",
        0xfefc => "d3",
        _ => "00",
    }
}

/// First and last character of the protocol's name, or of its hexadecimal form.
fn protocol(name: &[u8]) -> String {
    let [first, .., last] = name else {
        return match name {
            [one] => protocol(&[*one, *one]),
            _ => "00".into(),
        };
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)].iter().collect();
    }
    format!("{:x}{:x}", first >> 4, last & 0x0f)
}

/// Without the made-up values.
fn honest(values: &[u16]) -> impl Iterator<Item = u16> {
    values.iter().copied().filter(|value| !is_made_up(*value))
}

/// Separated by `-`.
fn decimal(text: &mut String, values: impl IntoIterator<Item = u16>) {
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            text.push('-');
        }
        let mut unit = 10_000;
        while unit > 1 && value < unit {
            unit /= 10;
        }
        while unit > 0 {
            text.push(char::from(b'0' + (value / unit % 10) as u8));
            unit /= 10;
        }
    }
}

/// Four digits each, separated by `,`.
fn hexadecimal(text: &mut String, values: &[u16]) {
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        for byte in value.to_be_bytes() {
            push_hex(text, byte);
        }
    }
}

fn md5(text: &str) -> String {
    hex(&Md5::digest(text.as_bytes()))
}

/// The first 12 digits; zeros for an empty list.
fn sha256_12(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".into();
    }
    hex(&Sha256::digest(text.as_bytes())[..6])
}

/// SHA-256, lower-case hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        push_hex(&mut text, *byte);
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extensions(kinds: &[u16], hello: ClientHello) -> ClientHello {
        ClientHello { extensions: kinds.to_vec(), ..hello }
    }

    /// The two examples of the README of github.com/salesforce/ja3.
    #[test]
    fn ja3_as_published() {
        let suites = vec![47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4];
        let hello = ClientHello {
            version: 769,
            suites,
            groups: vec![23, 24, 25],
            point_formats: vec![0],
            ..ClientHello::default()
        };
        assert_eq!(ja3(&extensions(&[0, 10, 11], hello)), "ada70206e40642a3e4461f35503241d5");
        let bare = ClientHello {
            version: 769,
            suites: vec![4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99],
            ..ClientHello::default()
        };
        assert_eq!(ja3_text(&bare), "769,4-5-10-9-100-98-3-6-19-18-99,,,");
        assert_eq!(ja3(&bare), "de350869b8c85de67a350c8d186f11e6");
    }

    const CHROME_SUITES: [u16; 16] = [
        0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014,
        0x009c, 0x009d, 0x002f, 0x0035,
    ];
    const CHROME_SIGNATURES: [u16; 8] = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];

    fn chrome(kinds: &[u16]) -> ClientHello {
        ClientHello {
            version: 0x0303,
            suites: CHROME_SUITES.to_vec(),
            extensions: kinds.to_vec(),
            versions: vec![0xdada, 0x0304, 0x0303],
            groups: vec![0x1a1a, 4588, 29, 23, 24],
            point_formats: vec![0],
            signatures: CHROME_SIGNATURES.to_vec(),
            first_alpn: b"h2".to_vec(),
            ..ClientHello::default()
        }
    }

    /// The example of `technical_details/JA4.md` of github.com/FoxIO-LLC/ja4, with the made-up values
    /// that it says to leave out.
    #[test]
    fn ja4_as_published() {
        let kinds = [
            0x4a4a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012,
            0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0x5a5a,
        ];
        assert_eq!(ja4(&chrome(&kinds), 0x0304), "t13d1516h2_8daaf6152771_e5627efa2ab1");
        // "If there are no signature algorithms … the string ends without an underscore".
        let unsigned = ClientHello { signatures: Vec::new(), ..chrome(&kinds) };
        assert!(ja4(&unsigned, 0x0304).ends_with("_6d807ffa2a79"));
        let quic = ClientHello { carrier: Carrier::Quic, ..chrome(&kinds) };
        assert!(ja4(&quic, 0x0304).starts_with("q13d1516h2_"));
    }

    /// What tls.browserleaks.com said of Chrome 143: JA3 and JA4 of one and the same hello, as kept in
    /// `tls.md` of github.com/service0427/v2_cp_app.
    #[test]
    fn ja3_and_ja4_of_a_browser() {
        let kinds = [45, 51, 16, 65037, 23, 17613, 0, 11, 10, 43, 65281, 35, 18, 5, 13, 27];
        let hello = chrome(&kinds);
        assert_eq!(ja3(&hello), "98487aa16281980e7d1120d399efb6a4");
        assert_eq!(ja4(&hello, 0x0304), "t13d1516h2_8daaf6152771_d8a2da3f94cd");
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        let values = [0, 9, 10, 99, 100, 999, 1000, 9999, 10_000, u16::MAX];
        let mut text = String::new();
        decimal(&mut text, values);
        assert_eq!(text, values.map(|value| value.to_string()).join("-"));
        text.clear();
        hexadecimal(&mut text, &values);
        assert_eq!(text, values.map(|value| format!("{value:04x}")).join(","));
    }

    /// The list of `technical_details/JA4.md`, "ALPN Extension Value".
    #[test]
    fn names_of_protocols_as_published() {
        let cases: [(&[u8], &str); 9] = [
            (b"h2", "h2"),
            (b"http/1.1", "h1"),
            (b"", "00"),
            (b"x", "xx"),
            (&[0xab], "ab"),
            (&[0xab, 0xcd], "ad"),
            (&[0x30, 0xab], "3b"),
            (&[0x30, 0x31, 0xab, 0xcd], "3d"),
            (&[0x30, 0xab, 0xcd, 0x31], "01"),
        ];
        for (name, shown) in cases {
            assert_eq!(protocol(name), shown, "{name:?}");
        }
    }

    /// The example of `technical_details/JA4S.md` of github.com/FoxIO-LLC/ja4, and what the authors' own
    /// program gives with its raw form (`JA4S`, `JA4S_r`) in `python/test/testdata` there, of
    /// `browsers-x509.pcapng.json` and `chrome-cloudflare-quic-with-secrets.pcapng.json`.
    #[test]
    fn ja4s_as_published() {
        let cases: [(u16, &[u16], &str); 4] = [
            (0xc030, &[0x0005, 0x0017, 0xff01, 0x0000], "t120400_c030_4e8089b08790"),
            (0xc02b, &[0xff01, 0x0000, 0x000b, 0x0023, 0x0005, 0x0010, 0x0017], "t1207h2_c02b_cf25e267ce22"),
            (0xc02f, &[0x0000, 0xff01, 0x000b, 0x0023, 0x0010], "t1205h2_c02f_845f7282a956"),
            (0x1301, &[0x0033, 0x002b], "t130200_1301_234ea6891581"),
        ];
        for (suite, kinds, published) in cases {
            let extension = |kind: &u16| {
                let content: &[u8] = match kind {
                    0x0010 => &[0, 3, 2, b'h', b'2'],
                    0x002b => &[3, 4],
                    0x0033 => &[0, 29, 0, 1, 9],
                    _ => &[],
                };
                [&kind.to_be_bytes()[..], &[0, content.len() as u8], content].concat()
            };
            let listed: Vec<u8> = kinds.iter().flat_map(extension).collect();
            let [high, low] = suite.to_be_bytes();
            let rest = [0, high, low, 0, 0, listed.len() as u8];
            let body = [&[3, 3][..], &[7; 32], &rest, &listed].concat();
            let Some(hello) = ServerHello::parse(&body, false) else { panic!("a hello") };
            assert_eq!(ja4s(&hello), published);
        }
    }
}
