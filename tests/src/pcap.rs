//! Datagrams as a capture file that tshark reads (<https://www.tcpdump.org/manpages/pcap-savefile.5.html>).

use std::io::{Result, Write};

/// Raw IP.
const LINK_TYPE: u32 = 101;
const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 50_000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 443);

/// Writes UDP datagrams between two addresses, in this order; `true`: the client's. The server's port is
/// 443.
///
/// # Errors
/// The file cannot be written.
pub fn write_datagrams<'a>(
    file: &mut impl Write,
    datagrams: impl IntoIterator<Item = (bool, &'a [u8])>,
) -> Result<()> {
    let head = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, LINK_TYPE];
    file.write_all(&head.map(u32::to_le_bytes).concat())?;
    for (at, (from_client, datagram)) in (0u32..).zip(datagrams) {
        let packet = packet(from_client, datagram);
        let length = packet.len() as u32;
        file.write_all(&[at, 0, length, length].map(u32::to_le_bytes).concat())?;
        file.write_all(&packet)?;
    }
    Ok(())
}

/// IPv4 and UDP, without checksums: nobody verifies them in a file.
fn packet(from_client: bool, datagram: &[u8]) -> Vec<u8> {
    let (source, destination) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let udp = 8 + datagram.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.0);
    packet.extend(destination.0);
    packet.extend([source.1, destination.1, udp, 0].map(u16::to_be_bytes).concat());
    packet.extend(datagram);
    packet
}
