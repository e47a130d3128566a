//! DNS messages: the question of a query, and the addresses and names of an answer.
//!
//! Source: RFC 1035 section 4. The wire format is parsed by `simple-dns`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, TYPE};

/// Longest message that is looked at: more does not come in one piece.
const LONGEST: usize = 4096;
/// Links of a chain of aliases.
const MOST_ALIASES: usize = 16;
const MOST_ADDRESSES: usize = 256;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Lower case, without a last dot.
    pub name: String,
    /// A record type: 1 is A, 28 is AAAA.
    pub kind: u16,
}

/// An answer that holds addresses, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub id: u16,
    pub question: Question,
    /// The name that was asked for, then its aliases.
    pub names: Vec<String>,
    /// With their TTL, s.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// Number and question of a query; `None`: it is no query for an address.
pub fn question(datagram: &[u8]) -> Option<(u16, Question)> {
    let packet = parse(datagram)?;
    if packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    Some((packet.id(), asked(&packet)?))
}

/// A whole answer without an error; `None`: it is none, or was cut short.
pub fn answer(datagram: &[u8]) -> Option<Answer> {
    let packet = parse(datagram)?;
    let whole = packet.has_flags(PacketFlag::RESPONSE) && !packet.has_flags(PacketFlag::TRUNCATION);
    if !whole || packet.rcode() != RCODE::NoError {
        return None;
    }
    let question = asked(&packet)?;
    let mut names = vec![question.name.clone()];
    let mut ttl_s = u32::MAX;
    // Only what the question leads to: anything else in an answer is somebody's wish.
    while names.len() <= MOST_ALIASES
        && let Some((alias, ttl)) = alias_of(&packet, names.last()?)
        && !names.contains(&alias)
    {
        names.push(alias);
        ttl_s = ttl_s.min(ttl);
    }
    let last = names.last()?.clone();
    let mut addresses = Vec::new();
    for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
        if text(&record.name).as_ref() != Some(&last) {
            continue;
        }
        let address = match &record.rdata {
            RData::A(a) => IpAddr::V4(Ipv4Addr::from_bits(a.address)),
            RData::AAAA(aaaa) => IpAddr::V6(Ipv6Addr::from_bits(aaaa.address)).to_canonical(),
            _ => continue,
        };
        if addresses.len() < MOST_ADDRESSES {
            addresses.push((address, record.ttl.min(ttl_s)));
        }
    }
    Some(Answer { id: packet.id(), question, names, addresses })
}

fn parse(datagram: &[u8]) -> Option<Packet<'_>> {
    (datagram.len() <= LONGEST).then(|| Packet::parse(datagram).ok()).flatten()
}

fn asked(packet: &Packet<'_>) -> Option<Question> {
    let [question] = &packet.questions[..] else { return None };
    let kind = match question.qtype {
        QTYPE::TYPE(TYPE::A) => 1,
        QTYPE::TYPE(TYPE::AAAA) => 28,
        _ => return None,
    };
    Some(Question { name: text(&question.qname)?, kind })
}

fn alias_of(packet: &Packet<'_>, name: &str) -> Option<(String, u32)> {
    packet.answers.iter().find_map(|record| match &record.rdata {
        RData::CNAME(alias) if record.class == CLASS::IN && text(&record.name).as_deref() == Some(name) => {
            Some((text(&alias.0)?, record.ttl))
        }
        _ => None,
    })
}

/// Lower case; `None`: it holds what no host name does, or is too long.
fn text(name: &Name<'_>) -> Option<String> {
    let text = name.to_string().to_ascii_lowercase();
    let fits = !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    fits.then_some(text)
}
