//! What stands behind a PROXY header is what it is without: any stream, behind any header that is whole, and
//! behind bytes that begin like one.

#![no_main]

use dissect::{Hint, Inspection, Prefix, inspect_stream};
use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::outside::proxy_header;
use streamwatch_fuzz::{hold_stream, turns};

fn look(client: &[u8], server: &[u8]) -> Inspection {
    let prefix = |bytes| Prefix { bytes, ended: false, midstream: false, ..Prefix::default() };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first() else { return };
    let mut pieces = turns(rest);
    let Some((_, content)) = pieces.next() else { return };
    let (mut client, mut server) = (Vec::new(), Vec::new());
    for (from_client, piece) in pieces.take(16) {
        if from_client { client.extend_from_slice(piece) } else { server.extend_from_slice(piece) }
    }
    if head & 0x80 != 0 {
        // No header, or half of one.
        let header = proxy_header(*head, content);
        let cut = usize::from(head >> 2 & 0x1f).min(header.len());
        let begun = [&header[..cut], content, &client].concat();
        return hold_stream([(true, begun.as_slice()), (false, server.as_slice())].into_iter(), false);
    }
    let header = proxy_header(*head, content);
    let bare = look(&client, &server);
    // Where a header is unwrapped, one more layer may be; and nothing behind it is told apart from silence.
    let layered = client.starts_with(b"PROXY ") || client.starts_with(b"\r\n\r\n\0");
    let behind = look(&[header, client.clone()].concat(), &server);
    if !layered {
        assert_eq!(bare.facts, behind.facts, "behind a header it is something else");
        assert_eq!(bare.settled, behind.settled);
    }
});
