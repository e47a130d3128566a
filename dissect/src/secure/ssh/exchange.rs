//! One side's packets in the clear, up to NEWKEYS (RFC 4253 sections 6 and 7).

use super::super::record::holds_text;
use crate::bytes::Reader;
use crate::readable::are_words;

/// Section 6.1 asks for 35000 to be accepted.
const PACKET: std::ops::RangeInclusive<u32> = 6..=35_000;

const DISCONNECT: u8 = 1;
const IGNORE: u8 = 2;
const UNIMPLEMENTED: u8 = 3;
const DEBUG: u8 = 4;
const EXT_INFO: u8 = 7;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
/// Of the method of key exchange (RFC 4251 section 7).
const EXCHANGE_FIRST: u8 = 30;
const EXCHANGE_LAST: u8 = 49;

/// Those of the longest exchange, and some of no meaning.
const MOST_PACKETS: usize = 16;

/// A KEXINIT (section 7.1): lists of names, separated by commas.
pub(super) struct Offer<'a> {
    pub key_exchange: &'a [u8],
    pub host_key: &'a [u8],
    pub to_server: Algorithms<'a>,
    pub to_client: Algorithms<'a>,
    /// Nothing follows.
    pub is_all: bool,
}

/// What is negotiated for each direction by itself.
pub(super) struct Algorithms<'a> {
    pub cipher: &'a [u8],
    pub mac: &'a [u8],
    pub compression: &'a [u8],
}

impl<'a> Offer<'a> {
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        reader.take(1 + 16)?;
        let mut list = || {
            let length = reader.u32()?;
            reader.take(usize::try_from(length).ok()?)
        };
        let (key_exchange, host_key) = (list()?, list()?);
        let (cipher_to_server, cipher_to_client) = (list()?, list()?);
        let (mac_to_server, mac_to_client) = (list()?, list()?);
        let (compression_to_server, compression_to_client) = (list()?, list()?);
        // Languages; whether a guess follows, and a number for later.
        let languages = list().is_some() && list().is_some();
        let is_all = languages && reader.rest().len() == 1 + 4;
        Some(Offer {
            is_all,
            key_exchange,
            host_key,
            to_server: Algorithms {
                cipher: cipher_to_server,
                mac: mac_to_server,
                compression: compression_to_server,
            },
            to_client: Algorithms {
                cipher: cipher_to_client,
                mac: mac_to_client,
                compression: compression_to_client,
            },
        })
    }
}

/// One side's packets in the clear.
#[derive(Default)]
pub(super) struct Exchange<'a> {
    pub offer: Option<Offer<'a>>,
    /// Where the encrypted packets begin: behind NEWKEYS.
    pub keys_at: Option<usize>,
    /// A message of the key exchange itself was there.
    pub exchanged: bool,
    pub disconnected: bool,
    /// Where something stands that is no packet of a key exchange.
    pub broken: Option<usize>,
    /// A packet was padded more than it has to be.
    pub pads_more: bool,
    /// Messages of the exchange itself are words. Tokens of GSSAPI may be: they name who has a ticket.
    pub exchanges_words: bool,
    /// There is more than stacks send, or words where nobody reads any.
    pub is_odd: bool,
}

impl<'a> Exchange<'a> {
    pub fn read(bytes: &'a [u8]) -> Self {
        let mut exchange = Exchange::default();
        let (mut at, mut packets) = (0, 0);
        while let Some(rest) = bytes.get(at..)
            && exchange.keys_at.is_none()
            && !exchange.disconnected
        {
            let [a, b, c, d, padding, message, ..] = *rest else { break };
            let length = u32::from_be_bytes([a, b, c, d]);
            let known = match message {
                KEXINIT => exchange.offer.is_none(),
                DISCONNECT | IGNORE | UNIMPLEMENTED | DEBUG => true,
                EXT_INFO | NEWKEYS | EXCHANGE_FIRST..=EXCHANGE_LAST => exchange.offer.is_some(),
                _ => false,
            };
            if !known || !PACKET.contains(&length) || u32::from(padding) + 2 > length {
                exchange.broken = Some(at);
                break;
            }
            let end = 4 + length as usize;
            let Some(packet) = rest.get(5..end - usize::from(padding)) else { break };
            packets += 1;
            let body = &packet[1..];
            match message {
                EXCHANGE_FIRST..=EXCHANGE_LAST => {
                    exchange.exchanges_words |= are_words(body.get(4..).unwrap_or(&[]))
                }
                _ => exchange.is_odd |= packets > MOST_PACKETS || !may_hold(message, body),
            }
            // At least four bytes, up to a multiple of eight.
            exchange.pads_more |= !(4..12).contains(&padding);
            match message {
                KEXINIT => {
                    exchange.offer = Offer::parse(packet);
                    exchange.is_odd |= exchange.offer.as_ref().is_some_and(|offer| !offer.is_all);
                }
                NEWKEYS => exchange.keys_at = Some(at + end),
                DISCONNECT => exchange.disconnected = true,
                EXCHANGE_FIRST..=EXCHANGE_LAST => exchange.exchanged = true,
                _ => {}
            }
            if message == KEXINIT && exchange.offer.is_none() {
                exchange.broken = Some(at);
                break;
            }
            at += end;
        }
        exchange
    }
}

/// What stacks say in packets that are no part of the exchange itself, and say nothing that anybody reads.
fn may_hold(message: u8, body: &[u8]) -> bool {
    match message {
        NEWKEYS => body.is_empty(),
        UNIMPLEMENTED => body.len() == 4,
        IGNORE | DEBUG => {
            let words = |at: usize| body.get(at..).is_some_and(|it| are_words(it) || holds_text(it));
            !words(0) && !words(4)
        }
        // Its place is behind NEWKEYS (RFC 8308 section 2.4).
        EXT_INFO => false,
        _ => true,
    }
}
