//! What IPsec protects, by what the kernel says of policies and associations.

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
    (association.mode, association.source, association.destination) = (XFRM_MODE_TRANSPORT, local, remote);
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
