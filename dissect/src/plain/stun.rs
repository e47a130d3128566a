//! STUN (RFC 8489) and TURN (RFC 8656), and what shares a flow with them (RFC 7983).
//!
//! In: a flow's datagrams. Out: the same without what is STUN, and with what a relay carries taken out of
//! its frames. Evidence: a cookie of 32 bits and a length that fits; of a relay's frame, a channel and the
//! length that is there.

/// The first byte of STUN, where other protocols share its flow.
const LAST_FIRST_BYTE: u8 = 3;
const HEADER: usize = 20;
const COOKIE: &[u8] = &[0x21, 0x12, 0xa4, 0x42];
/// What is sent to a peer of the relay's, and what came from one.
const INDICATIONS: [u16; 2] = [0x0016, 0x0017];
const PEER: u16 = 0x0012;
const DATA: u16 = 0x0013;
const MOST_ATTRIBUTES: usize = 16;
/// The first byte of a channel's number, and the length of a frame's header.
const CHANNELS: std::ops::RangeInclusive<u8> = 0x40..=0x4f;
const FRAME: usize = 4;

/// RTP, RTCP, and the two with their payload encrypted (SRTP).
const MEDIA: std::ops::RangeInclusive<u8> = 128..=191;
/// The second byte of RTCP.
const CONTROL: std::ops::RangeInclusive<u8> = 192..=223;

/// What is not STUN of each direction, in its order, and whether there was any.
pub(crate) struct Others<'a> {
    pub client: Vec<&'a [u8]>,
    pub server: Vec<&'a [u8]>,
    pub stun: bool,
}

enum Kind<'a> {
    Stun,
    /// Whom a relay is asked for, and what it carries.
    Relayed(Vec<u8>, &'a [u8]),
    Other,
}

/// None: nothing is STUN, or in a frame. Of several peers of a relay's, what the first of them is told is taken out of its frames, and the
/// others' frames stay as they are: each has an encryption of its own.
pub(crate) fn others<'a>(client: &[&'a [u8]], server: &[&'a [u8]]) -> Option<Others<'a>> {
    // As nearly always.
    if client.iter().chain(server).all(|datagram| matches!(kind(datagram), Kind::Other)) {
        return None;
    }
    let [client, server] =
        [client, server].map(|side| side.iter().map(|d| (kind(d), *d)).collect::<Vec<_>>());
    let peer = client.iter().chain(&server).find_map(|(kind, _)| match kind {
        Kind::Stun => None,
        Kind::Relayed(peer, _) => Some(Some(peer)),
        Kind::Other => Some(None),
    });
    let peer = peer.flatten();
    let rest = |side: &[(Kind<'a>, &'a [u8])]| {
        let rest = side.iter().filter_map(|(kind, datagram)| match kind {
            Kind::Stun => None,
            Kind::Relayed(to, data) if Some(to) == peer => Some(*data),
            _ => Some(*datagram),
        });
        rest.collect::<Vec<_>>()
    };
    let stun = client.iter().chain(&server).any(|(kind, _)| matches!(kind, Kind::Stun));
    Some(Others { client: rest(&client), server: rest(&server), stun })
}

fn kind(datagram: &[u8]) -> Kind<'_> {
    let (to, data) = match (relayed(datagram), is_stun(datagram)) {
        (Some(relayed), _) => relayed,
        (None, true) => return Kind::Stun,
        (None, false) => return Kind::Other,
    };
    // Peers try each other over the relay, too.
    if is_stun(data) { Kind::Stun } else { Kind::Relayed(to, data) }
}

/// A datagram may be cut short; nothing may follow a message.
fn is_stun(datagram: &[u8]) -> bool {
    let Some([first, _, high, low]) = datagram.first_chunk() else { return false };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    *first <= LAST_FIRST_BYTE
        && datagram.get(4..8) == Some(COOKIE)
        && datagram.len() >= HEADER
        && length.is_multiple_of(4)
        && datagram.len() <= HEADER + length
}

/// What a relay carries, and for whom.
fn relayed(datagram: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let [first, second, high, low] = datagram.first_chunk()?;
    if CHANNELS.contains(first) {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let data = datagram.get(FRAME..FRAME + length)?;
        let padding = datagram.len() - FRAME - length;
        return (padding < 4).then(|| (vec![*first, *second], data));
    }
    if !is_stun(datagram) || !INDICATIONS.contains(&u16::from_be_bytes([*first, *second])) {
        return None;
    }
    let (mut peer, mut data) = (None, None);
    let mut rest = &datagram[HEADER..];
    for _ in 0..MOST_ATTRIBUTES {
        let Some((head, after)) = rest.split_first_chunk::<4>() else { break };
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = &after[..after.len().min(length)];
        match u16::from_be_bytes([head[0], head[1]]) {
            PEER => peer = Some(value),
            DATA => data = Some(value),
            _ => {}
        }
        rest = after.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    let mut peer = peer?.to_vec();
    // Its address is masked with the cookie and what follows it, which is another each time.
    for (byte, mask) in peer.iter_mut().skip(4).zip(&datagram[4..HEADER]) {
        *byte ^= mask;
    }
    Some((peer, data?))
}

/// Whether it is a frame of a relay's, with what it carries for a peer.
pub(crate) fn is_frame(datagram: &[u8]) -> bool {
    matches!(kind(datagram), Kind::Relayed(..))
}

/// What SRTP would encrypt of a datagram; none: it is neither that nor RTP.
pub(crate) fn media(datagram: &[u8]) -> Option<&[u8]> {
    let [first, second] = *datagram.first_chunk()?;
    if !MEDIA.contains(&first) {
        return None;
    }
    if CONTROL.contains(&second) {
        return datagram.get(8..);
    }
    let sources = 12 + 4 * usize::from(first & 0x0f);
    let extension = match first & 0x10 {
        0 => 0,
        _ => {
            let length = datagram.get(sources + 2..sources + 4)?;
            4 + 4 * usize::from(u16::from_be_bytes([length[0], length[1]]))
        }
    };
    datagram.get(sources + extension..)
}
