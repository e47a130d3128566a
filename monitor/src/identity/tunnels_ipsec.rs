//! IPsec policies and security associations of one network namespace (`net/xfrm/xfrm_user.c`).
//!
//! Must never: take a policy for encryption that only authenticates (AH, the null cipher, GMAC), that
//! may be passed by (`level use`), or that other traffic than the flow's is meant by; say that nothing protects a flow
//! where what was not kept may.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_xfrm::constants::{
    AF_INET, IPPROTO_ESP, XFRM_MODE_TRANSPORT, XFRM_MODE_TUNNEL, XFRM_POLICY_ALLOW, XFRM_POLICY_IN,
    XFRM_POLICY_OUT,
};
use netlink_packet_xfrm::{Address, Selector, UserTemplate, XfrmAttrs, XfrmMessage, policy, state};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_XFRM;

use super::namespaces::{Netns, netlink_socket};
use super::tunnels_routes::ask;
use crate::model::Transport;

/// Of either so many are kept: no host is meant to be searched like that for every flow. Of policies these are the ones
/// that go before all others.
const MOST: usize = 4096;

/// What was there at one time.
#[derive(Debug, Default)]
pub(super) struct Ipsec {
    policies: Vec<Policy>,
    associations: Vec<Association>,
    /// The lowest priority of the policies that there was no room for.
    left_out: Option<u32>,
    /// There was no room for all associations.
    more_associations: bool,
}

/// What was not kept may decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotKnown;

#[derive(Debug)]
struct Policy {
    selector: Selector,
    /// The lowest number counts.
    priority: u32,
    index: u32,
    direction: u8,
    allows: bool,
    templates: Vec<UserTemplate>,
    /// It applies under conditions that a flow does not show: a mark, a virtual interface.
    conditional: bool,
}

#[derive(Debug)]
struct Association {
    destination: Address,
    source: Address,
    request: u32,
    mode: u8,
    /// Of both: with the null cipher or GMAC, ESP encrypts nothing.
    encrypts: bool,
}

/// A flow, as policies see it: from here to there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub transport: Transport,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// The policy that a flow falls under demands encryption.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Protected {
    /// The ends of the association.
    pub name: String,
    /// What comes back has to be encrypted, too: the kernel drops what is not.
    pub inbound: bool,
}

impl Ipsec {
    /// Reads both tables. Keys that the kernel sends along are dropped at once.
    pub fn read(namespace: &Netns) -> io::Result<Ipsec> {
        let netlink = netlink_socket(namespace, NETLINK_XFRM)?;
        let mut ipsec = Ipsec::default();
        let question = XfrmMessage::GetPolicy(policy::DelGetMessage::default());
        ask(&netlink, question, NLM_F_DUMP, |answer| {
            if let XfrmMessage::AddPolicy(message) | XfrmMessage::UpdatePolicy(message) = answer {
                ipsec.take_policy(&message);
            }
        })?;
        ipsec.leave_out();
        if !ipsec.policies.is_empty() {
            ipsec.read_associations(&netlink)?;
        }
        Ok(ipsec)
    }

    fn read_associations(&mut self, netlink: &Socket) -> io::Result<()> {
        let question = XfrmMessage::GetDumpSa(state::GetDumpMessage::default());
        ask(netlink, question, NLM_F_DUMP, |answer| {
            if let XfrmMessage::AddSa(message) | XfrmMessage::UpdateSa(message) = answer {
                self.take_association(&message);
            }
        })
    }

    /// Those for what is forwarded are of no flow.
    fn take_policy(&mut self, message: &policy::ModifyMessage) {
        if ![XFRM_POLICY_IN, XFRM_POLICY_OUT].contains(&message.user_policy_info.direction) {
            return;
        }
        self.policies.push(Policy::from(message));
        if self.policies.len() >= 2 * MOST {
            self.leave_out();
        }
    }

    /// Those that others go before, where there are too many.
    fn leave_out(&mut self) {
        if self.policies.len() > MOST {
            self.policies.select_nth_unstable_by_key(MOST, Policy::order);
            let lowest = self.policies.drain(MOST..).map(|policy| policy.priority).min();
            self.left_out = self.left_out.into_iter().chain(lowest).min();
        }
    }

    /// Others than of ESP encrypt nothing.
    fn take_association(&mut self, message: &state::ModifyMessage) {
        if message.user_sa_info.id.proto != IPPROTO_ESP {
            return;
        }
        if self.associations.len() < MOST {
            self.associations.push(Association::from(message));
        } else {
            self.more_associations = true;
        }
    }

    pub fn has_policies(&self) -> bool {
        self.left_out.is_some() || self.policies.iter().any(|policy| policy.direction == XFRM_POLICY_OUT)
    }

    /// What protects this flow's packets on their way out; `None`: nothing.
    pub fn protects(&self, path: Path) -> Result<Option<Protected>, NotKnown> {
        let back = Path { local: path.remote, remote: path.local, ..path };
        let ends = self.encrypted(XFRM_POLICY_OUT, path)?;
        Ok(ends.map(|ends| Protected {
            name: format!("{}-{}", ends.0, ends.1),
            inbound: matches!(self.encrypted(XFRM_POLICY_IN, back), Ok(Some(_))),
        }))
    }

    /// The ends of the association that has to be used.
    fn encrypted(&self, direction: u8, path: Path) -> Result<Option<(IpAddr, IpAddr)>, NotKnown> {
        let matching =
            self.policies.iter().filter(|policy| policy.direction == direction && policy.is_for(path));
        let policy = matching.min_by_key(|policy| policy.order());
        if self.left_out.is_some_and(|lowest| policy.is_none_or(|policy| policy.priority >= lowest)) {
            return Err(NotKnown);
        }
        let Some(policy) = policy.filter(|policy| policy.allows && !policy.conditional) else {
            return Ok(None);
        };
        let mut found = Ok(None);
        for template in &policy.templates {
            match self.ends(template, path) {
                Ok(None) => {}
                Ok(ends) => return Ok(ends),
                unknown => found = unknown,
            }
        }
        found
    }

    /// Of a template that demands encryption, and has an association to do it with.
    fn ends(&self, template: &UserTemplate, path: Path) -> Result<Option<(IpAddr, IpAddr)>, NotKnown> {
        if template.id.proto != IPPROTO_ESP || template.optional != 0 {
            return Ok(None);
        }
        let (source, destination) = match template.mode {
            XFRM_MODE_TUNNEL => (template.saddr, template.id.daddr),
            XFRM_MODE_TRANSPORT => (address(path.local.ip()), address(path.remote.ip())),
            _ => return Ok(None),
        };
        let mut fitting = self.associations.iter().filter(|association| {
            association.mode == template.mode
                && (template.reqid == 0 || association.request == template.reqid)
                && association.destination == destination
                && (source == Address::default() || association.source == source)
        });
        let Some(first) = fitting.next() else {
            return if self.more_associations { Err(NotKnown) } else { Ok(None) };
        };
        let family = if template.mode == XFRM_MODE_TRANSPORT {
            path.remote.is_ipv4()
        } else {
            template.family == AF_INET
        };
        let ends = (ip(first.source, family), ip(first.destination, family));
        match first.encrypts && fitting.all(|other| other.encrypts) {
            // Another one may be used, which does not.
            true if self.more_associations => Err(NotKnown),
            true => Ok(Some(ends)),
            false => Ok(None),
        }
    }
}

impl Policy {
    fn from(message: &policy::ModifyMessage) -> Policy {
        let info = &message.user_policy_info;
        let mut templates = Vec::new();
        let mut conditional = info.selector.ifindex != 0 || info.selector.user != 0;
        for attribute in &message.nlas {
            match attribute {
                XfrmAttrs::Template(list) => templates.extend(list.iter().copied()),
                XfrmAttrs::Mark(mark) => conditional |= mark.mask != 0,
                XfrmAttrs::IfId(id) => conditional |= *id != 0,
                XfrmAttrs::PolicyType(kind) => conditional |= kind.ptype != 0,
                _ => {}
            }
        }
        Policy {
            selector: info.selector,
            priority: info.priority,
            index: info.index,
            direction: info.direction,
            allows: info.action == XFRM_POLICY_ALLOW,
            templates,
            conditional,
        }
    }

    /// The first one counts.
    fn order(&self) -> (u32, u32) {
        (self.priority, self.index)
    }

    /// Ports of the selector are those of the packet: the source is `path.local`.
    fn is_for(&self, path: Path) -> bool {
        let selector = &self.selector;
        let family = if path.remote.is_ipv4() { AF_INET } else { netlink_packet_xfrm::constants::AF_INET6 };
        let protocol = match path.transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        };
        let port = |wanted: u16, mask: u16, port: u16| (port ^ wanted) & mask == 0;
        selector.family == family
            && (selector.proto == 0 || selector.proto == protocol)
            && within(address(path.remote.ip()), selector.daddr, selector.prefixlen_d)
            && within(address(path.local.ip()), selector.saddr, selector.prefixlen_s)
            && port(selector.dport, selector.dport_mask, path.remote.port())
            && port(selector.sport, selector.sport_mask, path.local.port())
    }
}

impl Association {
    fn from(message: &state::ModifyMessage) -> Association {
        let info = &message.user_sa_info;
        let mut encrypts = false;
        for attribute in &message.nlas {
            match attribute {
                XfrmAttrs::EncryptionAlg(algorithm) => encrypts |= is_cipher(&algorithm.alg_name),
                XfrmAttrs::EncryptionAlgAead(algorithm) => encrypts |= is_cipher(&algorithm.alg_name),
                _ => {}
            }
        }
        Association {
            destination: info.id.daddr,
            source: info.saddr,
            request: info.reqid,
            mode: info.mode,
            encrypts,
        }
    }
}

/// By the kernel's name. RFC 4543 is GMAC: it proves, and hides nothing.
fn is_cipher(name: &[u8]) -> bool {
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    let name = String::from_utf8_lossy(&name[..end]);
    !name.is_empty() && !name.contains("null") && !name.contains("rfc4543")
}

fn within(address: Address, network: Address, length: u8) -> bool {
    let whole = usize::from(length / 8).min(16);
    let mask = match length % 8 {
        0 => 0,
        bits => 0xff_u8 << (8 - bits),
    };
    address.addr[..whole] == network.addr[..whole]
        && address.addr.get(whole).zip(network.addr.get(whole)).is_none_or(|(a, b)| (a ^ b) & mask == 0)
}

fn address(ip: IpAddr) -> Address {
    let mut addr = [0; 16];
    match ip {
        IpAddr::V4(v4) => addr[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => addr = v6.octets(),
    }
    Address { addr }
}

fn ip(address: Address, ipv4: bool) -> IpAddr {
    let [a, b, c, d, ..] = address.addr;
    if ipv4 { Ipv4Addr::new(a, b, c, d).into() } else { Ipv6Addr::from(address.addr).into() }
}

#[cfg(test)]
#[path = "tunnels_ipsec_tests.rs"]
mod tests;
