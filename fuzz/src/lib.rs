//! What the targets share: inputs taken apart, what must hold of every answer, and well-formed outsides
//! (records, packets, datagrams) around inputs, behind which a fuzzer would get by luck alone.

#![forbid(unsafe_code)]

pub mod outside;
pub mod quic;

use dissect::{
    Certificate, Facts, Hint, Inspection, Prefix, Protection, Sealed, Segments, inspect_datagrams,
    inspect_stream,
};

/// Splits an input into pieces of two directions: each is led by its length in two bytes, of which the
/// highest bit says that it is the server's. The last may be shorter than it says.
pub fn turns(input: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let ([high, low], after) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes([high & 0x7f, *low])).min(after.len());
        let (piece, next) = after.split_at(length);
        rest = next;
        Some((high & 0x80 == 0, piece))
    })
}

/// Whether every string is short and holds no control character.
pub fn presentable(facts: &Facts) -> bool {
    let mut strings: Vec<&str> = facts.detail.iter().map(String::as_str).collect();
    if let Some(tls) = &facts.tls {
        let some = [
            &tls.version,
            &tls.version_protocol,
            &tls.cipher,
            &tls.group,
            &tls.server_name,
            &tls.alpn,
            &tls.signature,
            &tls.ja3,
            &tls.ja3s,
            &tls.ja4,
            &tls.ja4s,
        ];
        strings.extend(some.into_iter().flatten().map(String::as_str));
        strings.extend(tls.alpn_offered.iter().map(String::as_str));
        for certificate in tls.server_certificates.iter().chain(&tls.client_certificates) {
            strings.extend(texts(certificate));
        }
    }
    if let Some(ssh) = &facts.ssh {
        let some = [
            &ssh.client_version,
            &ssh.server_version,
            &ssh.key_exchange,
            &ssh.host_key,
            &ssh.client_cipher,
            &ssh.server_cipher,
            &ssh.client_mac,
            &ssh.server_mac,
        ];
        strings.extend(some.into_iter().flatten().map(String::as_str));
    }
    strings.into_iter().all(harmless)
}

/// Whether it is short and holds no control character.
pub fn harmless(text: &str) -> bool {
    text.len() <= 255 && !text.chars().any(char::is_control)
}

/// Every string of a certificate.
pub fn texts(certificate: &Certificate) -> impl Iterator<Item = &str> {
    let Certificate { subject, issuer, serial, key_type, signature_algorithm, .. } = certificate;
    let names = certificate.alternative_names.iter().chain(&certificate.spiffe_id);
    [subject, issuer, serial, key_type, signature_algorithm].into_iter().chain(names).map(String::as_str)
}

/// Looks after each piece: nothing that cannot be shown, and what was settled stays, whatever comes after it. But for a
/// yes: what was captured behind it may take it back, and then it does not come again.
pub fn hold_stream<'a>(pieces: impl Iterator<Item = (bool, &'a [u8])>, midstream: bool) {
    let sealed = [Sealed::default(), Sealed::default()];
    // Each piece is a segment. What earlier looks found out changes no answer.
    let look = |sides: &[(Vec<u8>, Vec<u32>); 2], ended: bool| {
        let look = |sealed: Option<&[Sealed; 2]>| {
            let [client, server] = [0, 1].map(|side| {
                let (bytes, segments) = (&sides[side].0, Segments::new(&sides[side].1));
                Prefix { bytes, ended, midstream, segments, sealed: sealed.map(|it| &it[side]) }
            });
            inspect_stream(client, server, Hint::default())
        };
        let found = look(Some(&sealed));
        assert_eq!(found, look(None), "an earlier look changed the answer");
        found
    };
    let mut sides = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    let mut settled: Option<Inspection> = None;
    for (from_client, piece) in pieces {
        let (bytes, ends) = &mut sides[usize::from(!from_client)];
        bytes.extend_from_slice(piece);
        if !piece.is_empty() {
            ends.push(bytes.len() as u32);
        }
        let now = look(&sides, false);
        assert!(presentable(&now.facts));
        hold_settled(&mut settled, now);
    }
    let whole = look(&sides, true);
    assert!(presentable(&whole.facts));
    if settled.is_some() {
        hold_settled(&mut settled, whole);
    }
}

/// What was settled before, held against a later look.
fn hold_settled(settled: &mut Option<Inspection>, now: Inspection) {
    let is_yes = |inspection: &Inspection| matches!(inspection.facts.protection, Protection::Encrypted(_));
    match settled {
        Some(before) if is_yes(before) && !is_yes(&now) => {
            *settled = Some(Inspection { settled: false, ..now })
        }
        Some(before) if before.settled => assert_eq!(before.facts, now.facts, "settled, and changed"),
        Some(taken_back) => assert!(!is_yes(&now), "a yes came back: {:?}", taken_back.facts),
        None if now.settled => *settled = Some(now),
        None => {}
    }
}

/// The same of datagrams, as many as are kept of a flow.
pub fn hold_datagrams<'a>(datagrams: impl Iterator<Item = (bool, &'a [u8])>) {
    let (mut client, mut server): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    let mut settled: Option<Inspection> = None;
    for (from_client, datagram) in datagrams.take(32) {
        if from_client {
            client.push(datagram)
        } else {
            server.push(datagram)
        }
        let now = inspect_datagrams(&client, &server, Hint::default());
        assert!(presentable(&now.facts));
        if let Some(before) = &settled {
            assert_eq!(before.facts, now.facts, "settled, and changed");
        } else if now.settled {
            settled = Some(now);
        }
    }
}
