//! Hand-made ClientHellos: what no library offers any more has to be offered to find out who still takes
//! it. RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2, RFC 6101 section 5.6.1.2.

/// A version on the wire.
pub const SSL_3: u16 = 0x0300;
pub const TLS_1_0: u16 = 0x0301;
pub const TLS_1_1: u16 = 0x0302;
pub const TLS_1_2: u16 = 0x0303;
pub const TLS_1_3: u16 = 0x0304;

/// The suites of TLS 1.3 (RFC 8446 appendix B.4; RFC 9150 for the two that do not encrypt).
pub const SUITES_1_3: &[u16] = &[0x1301, 0x1302, 0x1303, 0x1304, 0x1305, 0xc0b4, 0xc0b5];

/// Ranges of IANA's registry that hold suites of TLS 1.2 and before, with what is unassigned in them.
const RANGES: &[(u16, u16)] = &[
    (0x0001, 0x001b),
    (0x002c, 0x0046),
    (0x0067, 0x006d),
    (0x0084, 0x00c5),
    (0xc001, 0xc0af),
    (0xcca8, 0xccae),
    (0xd001, 0xd005),
];

/// Those that a server is likely to take, first: one that reads only so many sees them.
const COMMON: &[u16] = &[
    0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc009, 0xc013, 0xc00a, 0xc014, 0x009c, 0x009d, 0x002f,
    0x0035, 0x000a, 0x0005, 0x0004,
];

/// Every suite of TLS 1.2 and before.
pub fn old_suites() -> Vec<u16> {
    let all = RANGES.iter().flat_map(|(first, last)| *first..=*last);
    let rest = all.filter(|suite| !COMMON.contains(suite));
    COMMON.iter().copied().chain(rest).collect()
}

/// Groups by number and name, those that withstand a quantum computer first.
pub const GROUPS: &[(u16, &str)] = &[
    (0x11ec, "X25519MLKEM768"),
    (0x11eb, "SecP256r1MLKEM768"),
    (0x11ed, "SecP384r1MLKEM1024"),
    (0x0201, "MLKEM768"),
    (0x0202, "MLKEM1024"),
    (0x0200, "MLKEM512"),
    (0x6399, "X25519Kyber768Draft00"),
    (0x001d, "x25519"),
    (0x0017, "secp256r1"),
    (0x0018, "secp384r1"),
    (0x0019, "secp521r1"),
    (0x001e, "x448"),
    (0x0100, "ffdhe2048"),
    (0x0101, "ffdhe3072"),
    (0x0102, "ffdhe4096"),
];

/// RFC 8446 section 4.2.3, with what came before it.
const SIGNATURES: &[u16] = &[
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401, 0x0501,
    0x0601, 0x0904, 0x0905, 0x0906, 0x0203, 0x0201, 0x0202,
];

/// What one hello offers.
#[derive(Clone, Debug)]
pub struct Offer {
    pub version: u16,
    pub suites: Vec<u16>,
    pub groups: Vec<u16>,
    /// TLS 1.3: send a share of x25519; without one the server says which group it wants.
    pub share: bool,
    /// A DNS name.
    pub server_name: Option<String>,
}

impl Offer {
    /// Everything there is of one version.
    pub fn all(version: u16, server_name: Option<&str>) -> Offer {
        Offer {
            version,
            suites: if version == TLS_1_3 { SUITES_1_3.to_vec() } else { old_suites() },
            groups: GROUPS.iter().map(|(number, _)| *number).collect(),
            share: true,
            server_name: server_name.map(str::to_owned),
        }
    }

    /// The record, to be sent as it is. `random` is used for all that has to be random.
    pub fn encode(&self, random: &[u8; 64]) -> Vec<u8> {
        let mut body = Vec::new();
        put16(&mut body, self.version.min(TLS_1_2));
        body.extend_from_slice(&random[..32]);
        if self.version == TLS_1_3 {
            // Looks like a resumption to boxes on the way (RFC 8446 appendix D.4).
            vector8(&mut body, |body| body.extend_from_slice(&random[32..]));
        } else {
            vector8(&mut body, |_| {});
        }
        vector16(&mut body, |body| {
            self.suites.iter().for_each(|suite| put16(body, *suite));
            if self.version < TLS_1_3 {
                // TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746).
                put16(body, 0x00ff);
            }
        });
        vector8(&mut body, |body| body.push(0));
        if self.version > SSL_3 {
            vector16(&mut body, |body| self.extensions(body, random));
        }
        let mut record = vec![22];
        // RFC 8446 section 5.1: some servers refuse a first record of a later version.
        put16(&mut record, self.version.min(TLS_1_0));
        vector16(&mut record, |record| {
            record.push(1);
            record.push(0);
            vector16(record, |record| record.extend_from_slice(&body));
        });
        record
    }

    fn extensions(&self, out: &mut Vec<u8>, random: &[u8; 64]) {
        let mut extension = |kind: u16, fill: &dyn Fn(&mut Vec<u8>)| {
            put16(out, kind);
            vector16(out, fill);
        };
        if let Some(name) = &self.server_name {
            extension(0, &|out| {
                vector16(out, |out| {
                    out.push(0);
                    vector16(out, |out| out.extend_from_slice(name.as_bytes()));
                });
            });
        }
        extension(10, &|out| vector16(out, |out| self.groups.iter().for_each(|group| put16(out, *group))));
        extension(11, &|out| vector8(out, |out| out.push(0)));
        if self.version >= TLS_1_2 {
            extension(13, &|out| {
                vector16(out, |out| SIGNATURES.iter().for_each(|scheme| put16(out, *scheme)))
            });
        }
        if self.version < TLS_1_3 {
            // Extended master secret, and a session ticket (RFC 7627, 5077).
            extension(23, &|_| {});
            extension(35, &|_| {});
            return;
        }
        extension(43, &|out| vector8(out, |out| put16(out, TLS_1_3)));
        extension(45, &|out| vector8(out, |out| out.push(1)));
        extension(51, &|out| {
            vector16(out, |out| {
                if self.share {
                    put16(out, 0x001d);
                    // Any 32 bytes are a public key (RFC 7748 section 5). Nobody has its private key: the
                    // handshake goes no further than the server's answer.
                    vector16(out, |out| out.extend_from_slice(&random[..32]));
                }
            });
        });
    }
}

fn put16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn vector8(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    fill(out);
    out[at] = u8::try_from(out.len() - at - 1).unwrap_or(u8::MAX);
}

fn vector16(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    put16(out, 0);
    fill(out);
    let length = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use dissect::{Hint, Prefix, inspect_stream};

    use super::*;

    /// What the dissectors make of it: they are the ones that will read real ones.
    fn read(offer: &Offer) -> dissect::TlsFacts {
        let bytes = offer.encode(&[7; 64]);
        let client = Prefix { bytes: &bytes, ended: false, midstream: false, ..Prefix::default() };
        let inspection = inspect_stream(client, Prefix::default(), Hint { server_port: 443 });
        inspection.facts.tls.expect("a ClientHello")
    }

    #[test]
    fn every_version_is_offered_as_itself() {
        for (version, protocol, name) in [
            (SSL_3, "ssl", "3.0"),
            (TLS_1_0, "tls", "1.0"),
            (TLS_1_1, "tls", "1.1"),
            (TLS_1_2, "tls", "1.2"),
            (TLS_1_3, "tls", "1.3"),
        ] {
            let facts = read(&Offer::all(version, Some("api.example.org")));
            assert_eq!(facts.version_offered.as_deref(), Some(name), "{protocol}");
            let expected = (version > SSL_3).then_some("api.example.org");
            assert_eq!(facts.server_name.as_deref(), expected);
        }
        assert_eq!(read(&Offer::all(TLS_1_3, None)).post_quantum_offered, Some(true));
    }

    #[test]
    fn no_suite_is_offered_twice() {
        let mut suites = old_suites();
        let count = suites.len();
        suites.sort_unstable();
        suites.dedup();
        assert_eq!(suites.len(), count);
        assert!(!suites.contains(&0x00ff) && !suites.contains(&0x5600));
    }
}
