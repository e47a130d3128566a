//! Recorded datagrams, and what is said of such.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

use std::path::Path;

use dissect::{Hint, Inspection, inspect_datagrams};

pub type Datagrams = Vec<Vec<u8>>;

/// Those of the client and of the server. In its file each is led by its length in two bytes.
pub fn fixture(name: &str) -> (Datagrams, Datagrams) {
    let read = |side: &str| {
        let file = format!("{name}.{side}.datagrams");
        let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(file)).unwrap();
        let mut rest = &bytes[..];
        let mut all = Vec::new();
        while let [high, low, after @ ..] = rest {
            let (datagram, next) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            all.push(datagram.to_vec());
            rest = next;
        }
        all
    };
    (read("client"), read("server"))
}

pub fn look(client: &[Vec<u8>], server: &[Vec<u8>]) -> Inspection {
    let client: Vec<&[u8]> = client.iter().map(Vec::as_slice).collect();
    let server: Vec<&[u8]> = server.iter().map(Vec::as_slice).collect();
    inspect_datagrams(&client, &server, Hint::default())
}
