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
mod tests {
    use netlink_packet_xfrm::constants::XFRM_POLICY_FWD;
    use netlink_packet_xfrm::{Alg, AlgAead, Mark, UserPolicyType};

    use super::*;

    fn ipsec(cipher: bool, proto: u8, optional: u8) -> Ipsec {
        let local = address("10.0.0.1".parse().expect("an address"));
        let remote = address("10.0.0.2".parse().expect("an address"));
        let template = |source, destination| UserTemplate {
            id: netlink_packet_xfrm::Id { daddr: destination, spi: 0, proto },
            family: AF_INET,
            saddr: source,
            mode: XFRM_MODE_TUNNEL,
            reqid: 7,
            optional,
            ..UserTemplate::default()
        };
        let policy = |direction, source, destination| Policy {
            selector: Selector {
                daddr: destination,
                saddr: source,
                family: AF_INET,
                prefixlen_d: 24,
                prefixlen_s: 24,
                ..Selector::default()
            },
            priority: 100,
            index: 1,
            direction,
            allows: true,
            templates: vec![template(source, destination)],
            conditional: false,
        };
        let association = |source, destination| Association {
            destination,
            source,
            request: 7,
            mode: XFRM_MODE_TUNNEL,
            encrypts: cipher,
        };
        Ipsec {
            policies: vec![policy(XFRM_POLICY_OUT, local, remote), policy(XFRM_POLICY_IN, remote, local)],
            associations: vec![association(local, remote), association(remote, local)],
            ..Ipsec::default()
        }
    }

    fn protected() -> Result<Option<Protected>, NotKnown> {
        Ok(Some(Protected { name: "10.0.0.1-10.0.0.2".to_owned(), inbound: true }))
    }

    fn path(remote: &str) -> Path {
        let local = "10.0.0.9:1000".parse().expect("an address");
        Path { transport: Transport::Tcp, local, remote: remote.parse().expect("an address") }
    }

    #[test]
    fn a_policy_with_an_association_protects_both_ways() {
        let found = ipsec(true, IPPROTO_ESP, 0).protects(path("10.0.0.77:80"));
        assert_eq!(found, protected());
        assert_eq!(ipsec(true, IPPROTO_ESP, 0).protects(path("10.0.1.77:80")), Ok(None));
    }

    #[test]
    fn what_does_not_encrypt_or_need_not_be_used_is_nothing() {
        assert_eq!(ipsec(false, IPPROTO_ESP, 0).protects(path("10.0.0.77:80")), Ok(None));
        assert_eq!(ipsec(true, 51, 0).protects(path("10.0.0.77:80")), Ok(None));
        assert_eq!(ipsec(true, IPPROTO_ESP, 1).protects(path("10.0.0.77:80")), Ok(None));
        let mut lapsed = ipsec(true, IPPROTO_ESP, 0);
        lapsed.associations.clear();
        assert_eq!(lapsed.protects(path("10.0.0.77:80")), Ok(None));
        let mut passed_by = ipsec(true, IPPROTO_ESP, 0);
        passed_by.policies[0].templates.clear();
        assert_eq!(passed_by.protects(path("10.0.0.77:80")), Ok(None));
        assert!(!is_cipher(b"ecb(cipher_null)\0") && !is_cipher(b"rfc4543(gcm(aes))\0\0"));
        assert!(is_cipher(b"rfc4106(gcm(aes))\0") && is_cipher(b"cbc(aes)\0"));
    }

    /// Each of what has to fit, and does not: alone.
    #[test]
    fn a_policy_is_for_what_its_selector_says_and_protects_by_associations_that_fit() {
        let elsewhere = || address("192.0.2.1".parse().expect("an address"));
        type Change = fn(&mut Ipsec, Address);
        let changes: [(&str, Change); 14] = [
            ("it blocks", |it, _| it.policies[0].allows = false),
            ("it has a condition", |it, _| it.policies[0].conditional = true),
            ("it is of what comes in", |it, _| it.policies[0].direction = XFRM_POLICY_IN),
            ("of IPv6", |it, _| {
                it.policies[0].selector.family = netlink_packet_xfrm::constants::AF_INET6;
            }),
            ("of UDP", |it, _| it.policies[0].selector.proto = 17),
            ("of another port there", |it, _| {
                (it.policies[0].selector.dport, it.policies[0].selector.dport_mask) = (81, 0xffff);
            }),
            ("of another port here", |it, _| {
                (it.policies[0].selector.sport, it.policies[0].selector.sport_mask) = (1001, 0xffff);
            }),
            ("of another address here", |it, other| it.policies[0].selector.saddr = other),
            ("another one goes before", |it, _| {
                let mut first = Policy::from(&policy::ModifyMessage::default());
                (first.selector, first.direction) = (it.policies[0].selector, XFRM_POLICY_OUT);
                (first.priority, first.index) = (50, 9);
                it.policies.push(first);
            }),
            ("an association of another mode", |it, _| it.associations[0].mode = XFRM_MODE_TRANSPORT),
            ("of another number", |it, _| it.associations[0].request = 8),
            ("to elsewhere", |it, other| it.associations[0].destination = other),
            ("from elsewhere", |it, other| it.associations[0].source = other),
            ("beside one that encrypts nothing", |it, _| {
                let Association { destination, source, request, mode, .. } = it.associations[0];
                it.associations.push(Association { destination, source, request, mode, encrypts: false });
            }),
        ];
        for (what, change) in changes {
            let mut ipsec = ipsec(true, IPPROTO_ESP, 0);
            change(&mut ipsec, elsewhere());
            assert_eq!(ipsec.protects(path("10.0.0.77:80")), Ok(None), "{what}");
        }
        // One that goes behind it counts for nothing.
        let mut behind = ipsec(true, IPPROTO_ESP, 0);
        let mut last = Policy::from(&policy::ModifyMessage::default());
        (last.selector, last.direction) = (behind.policies[0].selector, XFRM_POLICY_OUT);
        (last.priority, last.index) = (200, 0);
        behind.policies.push(last);
        assert_eq!(behind.protects(path("10.0.0.77:80")), protected());
        // What comes back need not be encrypted.
        let mut one_way = ipsec(true, IPPROTO_ESP, 0);
        one_way.policies.truncate(1);
        let found = one_way.protects(path("10.0.0.77:80"));
        assert_eq!(found.map(|found| found.map(|found| found.inbound)), Ok(Some(false)));
        // Without a tunnel, the ends are those of the flow.
        let mut transport = ipsec(true, IPPROTO_ESP, 0);
        transport.policies[0].templates[0].mode = XFRM_MODE_TRANSPORT;
        let [local, remote] = ["10.0.0.9", "10.0.0.77"].map(|ip| address(ip.parse().expect("an address")));
        let association = &mut transport.associations[0];
        (association.mode, association.source, association.destination) =
            (XFRM_MODE_TRANSPORT, local, remote);
        let name = transport.protects(path("10.0.0.77:80")).map(|found| found.map(|found| found.name));
        assert_eq!(name, Ok(Some("10.0.0.9-10.0.0.77".to_owned())));
    }

    #[test]
    fn what_the_kernel_says_of_a_policy_and_an_association_is_taken_as_it_is_meant() {
        let of = |change: fn(&mut policy::ModifyMessage)| {
            let mut message = policy::ModifyMessage::default();
            message.user_policy_info.action = XFRM_POLICY_ALLOW;
            change(&mut message);
            let policy = Policy::from(&message);
            (policy.allows, policy.conditional)
        };
        assert_eq!(of(|_| {}), (true, false));
        assert_eq!(of(|it| it.user_policy_info.action = XFRM_POLICY_ALLOW + 1), (false, false));
        assert_eq!(of(|it| it.user_policy_info.selector.ifindex = 2), (true, true));
        assert_eq!(of(|it| it.user_policy_info.selector.user = 1000), (true, true));
        assert_eq!(of(|it| it.nlas.push(XfrmAttrs::IfId(0))), (true, false));
        assert_eq!(of(|it| it.nlas.push(XfrmAttrs::IfId(7))), (true, true));
        assert_eq!(of(|it| it.nlas.push(XfrmAttrs::Mark(Mark { value: 0, mask: 0 }))), (true, false));
        assert_eq!(of(|it| it.nlas.push(XfrmAttrs::Mark(Mark { value: 0, mask: 1 }))), (true, true));
        let sub = UserPolicyType { ptype: 1, ..UserPolicyType::default() };
        let mut message = policy::ModifyMessage::default();
        message.nlas.push(XfrmAttrs::PolicyType(sub));
        assert!(Policy::from(&message).conditional);

        let encrypts = |attribute: Option<XfrmAttrs>| {
            let mut message = state::ModifyMessage::default();
            message.nlas.extend(attribute);
            Association::from(&message).encrypts
        };
        let cipher = |name: &[u8]| {
            let mut alg = Alg { alg_name: [0; 64], alg_key_len: 0, alg_key: Vec::new() };
            alg.alg_name[..name.len()].copy_from_slice(name);
            Some(XfrmAttrs::EncryptionAlg(alg))
        };
        let aead = |name: &[u8]| {
            let mut alg = AlgAead { alg_name: [0; 64], alg_key_len: 0, alg_icv_len: 0, alg_key: Vec::new() };
            alg.alg_name[..name.len()].copy_from_slice(name);
            Some(XfrmAttrs::EncryptionAlgAead(alg))
        };
        assert!(encrypts(cipher(b"cbc(aes)")) && encrypts(aead(b"rfc4106(gcm(aes))")));
        assert!(!encrypts(cipher(b"ecb(cipher_null)")) && !encrypts(aead(b"rfc4543(gcm(aes))")));
        assert!(!encrypts(None), "AH, or nothing");
    }

    /// A policy that demands nothing, for others.
    fn beside(index: u32, priority: u32) -> policy::ModifyMessage {
        let mut message = policy::ModifyMessage::default();
        let info = &mut message.user_policy_info;
        (info.index, info.priority, info.direction) = (index, priority, XFRM_POLICY_OUT);
        info.selector = Selector {
            family: AF_INET,
            daddr: address("192.0.2.0".parse().expect("an address")),
            prefixlen_d: 24,
            ..Selector::default()
        };
        message
    }

    /// As many as there is room for beside the two, and `more`; in any order.
    fn among(more: u32, priority: u32) -> Ipsec {
        let Ipsec { policies, associations, .. } = ipsec(true, IPPROTO_ESP, 0);
        let mut ipsec = Ipsec { associations, ..Ipsec::default() };
        for index in 0..MOST as u32 - 2 + more {
            ipsec.take_policy(&beside(index + 2, priority));
        }
        ipsec.policies.extend(policies);
        ipsec.leave_out();
        ipsec
    }

    #[test]
    fn with_more_policies_than_are_kept_nothing_is_said_to_be_outside_of_them() {
        let (inside, outside) = (path("10.0.0.77:80"), path("10.0.1.77:80"));
        let whole = among(0, 50);
        assert_eq!((whole.protects(inside), whole.protects(outside)), (protected(), Ok(None)));
        // The two that it falls under are among those that there is no room for.
        for more in [2, 3 * MOST as u32] {
            let partial = among(more, 50);
            assert!(partial.has_policies());
            assert_eq!(partial.policies.len(), MOST);
            for path in [inside, outside] {
                assert_eq!(partial.protects(path), Err(NotKnown), "{more}");
            }
        }
        // They go before all that was left out.
        let partial = among(2, 200);
        assert_eq!((partial.protects(inside), partial.protects(outside)), (protected(), Err(NotKnown)));
        // What was left out may be as good, whatever else is left out after that.
        let mut partial = among(2, 100);
        assert_eq!(partial.protects(inside), Err(NotKnown));
        (0..2 * MOST as u32).for_each(|index| partial.take_policy(&beside(index, 200)));
        partial.leave_out();
        assert_eq!((partial.policies.len(), partial.protects(inside)), (MOST, Err(NotKnown)));
        // Nobody's flow is forwarded.
        let mut forwarded = beside(1, 0);
        forwarded.user_policy_info.direction = XFRM_POLICY_FWD;
        let mut none = Ipsec::default();
        none.take_policy(&forwarded);
        assert!(!none.has_policies() && none.policies.is_empty());
    }

    #[test]
    fn with_more_associations_than_are_kept_a_flow_under_a_policy_is_not_known_to_be_in_the_clear() {
        let (inside, outside) = (path("10.0.0.77:80"), path("10.0.1.77:80"));
        let mut of_others = state::ModifyMessage::default();
        of_others.user_sa_info.id.proto = IPPROTO_ESP;
        let full = |mut ipsec: Ipsec, first: bool| {
            let known = std::mem::take(&mut ipsec.associations);
            if first {
                ipsec.associations.extend(known);
            }
            for _ in 0..MOST {
                ipsec.take_association(&of_others);
            }
            ipsec
        };
        // Its own was left out; or another one may have been, which encrypts nothing.
        for first in [false, true] {
            let mut partial = full(ipsec(true, IPPROTO_ESP, 0), first);
            partial.take_association(&of_others);
            assert_eq!(partial.associations.len(), MOST);
            assert_eq!(partial.protects(inside), Err(NotKnown), "{first}");
            assert_eq!(partial.protects(outside), Ok(None), "{first}");
        }
        // One is enough to know that it need not be encrypted.
        assert_eq!(full(ipsec(false, IPPROTO_ESP, 0), true).protects(inside), Ok(None));
        // As many as there is room for are all.
        assert_eq!(full(ipsec(true, IPPROTO_ESP, 0), false).protects(inside), Ok(None));
        // AH takes no room.
        of_others.user_sa_info.id.proto = 51;
        let mut beside = ipsec(true, IPPROTO_ESP, 0);
        for _ in 0..2 * MOST {
            beside.take_association(&of_others);
        }
        assert_eq!(beside.protects(inside), protected());
    }

    #[test]
    fn networks_are_compared_by_their_bits() {
        let a = address("10.1.2.3".parse().expect("an address"));
        let b = address("10.1.3.3".parse().expect("an address"));
        assert!(within(a, b, 0) && within(a, b, 23) && !within(a, b, 24) && within(a, a, 128));
        // The last bit that differs is the 22nd.
        let c = address("10.1.4.3".parse().expect("an address"));
        assert!(within(a, c, 21) && !within(a, c, 22) && !within(a, c, 23));
    }
}
