//! What no packet may be, whatever is configured: judged before reassembly, so that nothing is kept for it. RFC 6890,
//! RFC 4291, RFC 791 (options), RFC 5095 (routing header), RFC 1858 and RFC 3128 (fragments), RFC 6946 (atomic ones).

use super::Builder;
use crate::policy::{Protocol, Reason, Zone};

/// Fragments per second that a zone may send.
const FRAGMENT_RATE: u32 = 1_000;
/// Octets of a first fragment, at least: the smallest packet that every link carries whole is larger.
const LEAST_FIRST_FRAGMENT: u32 = 256;
/// Fragments begin before this octet: longer datagrams than that and one frame are of no SIP.
const MOST_OFFSET: u32 = 16_384;

/// IPv6 extension headers (IANA's registry) but the fragment header; nothing that is offered needs them.
const EXTENSIONS: [u8; 10] = [0, 43, 50, 51, 60, 135, 139, 140, 253, 254];

/// The messages that IPv6 neighbour discovery and listener discovery need inward. RFC 4861 §7.1, §6.1.2: hop limit 255;
/// RFC 3810 §5.1: hop limit 1 and a link-local source.
pub(super) fn discovery(zone: &Zone) -> Vec<String> {
    let mut rules = vec![
        "icmpv6 type nd-neighbor-solicit icmpv6 code 0 ip6 hoplimit 255".to_owned(),
        "icmpv6 type nd-neighbor-advert icmpv6 code 0 ip6 hoplimit 255".to_owned(),
        "icmpv6 type mld-listener-query ip6 saddr fe80::/10 ip6 hoplimit 1".to_owned(),
    ];
    if zone.v6.as_ref().is_some_and(|v6| v6.learnt) {
        rules.push(
            "icmpv6 type nd-router-advert icmpv6 code 0 ip6 saddr fe80::/10 ip6 hoplimit 255"
                .to_owned(),
        );
    }
    rules
}

/// Answers of a DHCP server, for a zone that learns its IPv4 address (RFC 2131 §4.1).
pub(super) fn dhcp(zone: &Zone) -> Option<&'static str> {
    zone.v4
        .as_ref()
        .filter(|v4| v4.learnt)
        .map(|_| "udp sport 67 udp dport 68")
}

pub(super) fn chains(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let protocol = builder.refuse(Reason::Protocol, name);
    builder.chain(
        format!("early/{name}"),
        "",
        vec![
            format!("meta nfproto ipv4 goto early4/{name}"),
            format!("meta nfproto ipv6 goto early6/{name}"),
            protocol,
        ],
    );
    v4(builder, zone);
    v6(builder, zone);
}

fn v4(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let mut rules = Vec::new();
    let mut refuse = |matched: &str, reason| {
        let refusal = builder.refuse(reason, name);
        format!("{matched} {refusal}")
    };
    rules.extend([
        refuse("ip saddr 0.0.0.0/8", Reason::UnspecifiedSource),
        refuse("ip saddr 127.0.0.0/8", Reason::LoopbackAddress),
        refuse("ip daddr 127.0.0.0/8", Reason::LoopbackAddress),
        refuse("fib saddr type local", Reason::OwnSource),
        refuse("ip saddr 224.0.0.0/4", Reason::MulticastSource),
        refuse("ip saddr 255.255.255.255", Reason::BroadcastSource),
        refuse("fib saddr type broadcast", Reason::BroadcastSource),
        refuse("ip saddr 240.0.0.0/4", Reason::ReservedAddress),
        refuse("ip daddr 0.0.0.0/8", Reason::ReservedAddress),
        refuse(
            "ip daddr 240.0.0.0-255.255.255.254",
            Reason::ReservedAddress,
        ),
        refuse("ip saddr 169.254.0.0/16", Reason::LinkLocal),
        refuse("ip daddr 169.254.0.0/16", Reason::LinkLocal),
        refuse("ip option lsrr exists", Reason::SourceRoute),
        refuse("ip option ssrr exists", Reason::SourceRoute),
        refuse("ip option rr exists", Reason::RecordRoute),
        refuse("ip hdrlength != 5", Reason::IpOptions),
    ]);
    rules.extend(dhcp(zone).map(|answer| format!("{answer} accept")));
    rules.extend([
        refuse(
            "ip protocol != 1 ip protocol != 6 ip protocol != 17",
            Reason::Protocol,
        ),
        refuse("ip daddr 224.0.0.0/4", Reason::MulticastDestination),
        refuse("fib daddr type broadcast", Reason::BroadcastDestination),
        format!("ip frag-off & 0x3fff != 0 goto fragment4/{name}"),
        "accept".to_owned(),
    ]);
    let mut fragment = Vec::new();
    if takes_fragments(zone) {
        fragment.extend([
            refuse("ip protocol != 17", Reason::Fragment),
            refuse(
                &format!("ip frag-off & 0x1fff == 0 ip length < {LEAST_FIRST_FRAGMENT}"),
                Reason::FragmentTiny,
            ),
            refuse("ip length < 28", Reason::FragmentTiny),
            refuse(
                &format!("ip frag-off & 0x1fff >= {}", MOST_OFFSET / 8),
                Reason::FragmentOffset,
            ),
            refuse(
                &format!("limit rate over {FRAGMENT_RATE}/second burst {FRAGMENT_RATE} packets"),
                Reason::FragmentRate,
            ),
            "accept".to_owned(),
        ]);
    } else {
        fragment.push(refuse("", Reason::Fragment).trim().to_owned());
    }
    builder.chain(format!("early4/{name}"), "", rules);
    builder.chain(format!("fragment4/{name}"), "", fragment);
}

fn v6(builder: &mut Builder<'_>, zone: &Zone) {
    let name = &zone.name;
    let mut refuse = |matched: &str, reason| {
        let refusal = builder.refuse(reason, name);
        format!("{matched} {refusal}").trim().to_owned()
    };
    let mut rules = vec![
        // RFC 4862 §5.4.2: the only packet of which the source may be unspecified.
        "ip6 saddr :: icmpv6 type nd-neighbor-solicit icmpv6 code 0 ip6 hoplimit 255 ip6 daddr ff02::1:ff00:0/104 accept"
            .to_owned(),
        refuse("ip6 saddr ::", Reason::UnspecifiedSource),
        refuse("ip6 saddr ::1", Reason::LoopbackAddress),
        refuse("ip6 daddr ::1", Reason::LoopbackAddress),
        refuse("fib saddr type local", Reason::OwnSource),
        refuse("ip6 saddr ff00::/8", Reason::MulticastSource),
        refuse("exthdr rt exists", Reason::RoutingHeader),
        // RFC 3810 §5: listener discovery is the only one that bears a hop-by-hop header.
        "ip6 nexthdr 0 icmpv6 type mld-listener-query ip6 saddr fe80::/10 ip6 hoplimit 1 accept".to_owned(),
    ];
    rules.extend(
        EXTENSIONS.map(|number| refuse(&format!("ip6 nexthdr {number}"), Reason::ExtensionHeader)),
    );
    rules.extend([
        refuse(
            "ip6 nexthdr != 6 ip6 nexthdr != 17 ip6 nexthdr != 44 ip6 nexthdr != 58",
            Reason::Protocol,
        ),
        format!("ip6 nexthdr 44 goto fragment6/{name}"),
    ]);
    rules.extend(
        discovery(zone)
            .into_iter()
            .map(|message| format!("{message} accept")),
    );
    rules.extend([
        refuse("ip6 saddr fe80::/10", Reason::LinkLocal),
        refuse("ip6 daddr fe80::/10", Reason::LinkLocal),
        refuse("ip6 daddr ff00::/8", Reason::MulticastDestination),
        "accept".to_owned(),
    ]);
    let mut fragment = Vec::new();
    if takes_fragments(zone) {
        fragment.extend([
            refuse("ip6 saddr fe80::/10", Reason::LinkLocal),
            refuse("ip6 daddr fe80::/10", Reason::LinkLocal),
            refuse("ip6 daddr ff00::/8", Reason::MulticastDestination),
            refuse("frag nexthdr != 17", Reason::Fragment),
            refuse("frag frag-off 0 frag more-fragments 0", Reason::Fragment),
            refuse(
                &format!("frag frag-off 0 ip6 length < {LEAST_FIRST_FRAGMENT}"),
                Reason::FragmentTiny,
            ),
            refuse("ip6 length < 16", Reason::FragmentTiny),
            refuse(
                &format!("frag frag-off >= {}", MOST_OFFSET / 8),
                Reason::FragmentOffset,
            ),
            refuse(
                &format!("limit rate over {FRAGMENT_RATE}/second burst {FRAGMENT_RATE} packets"),
                Reason::FragmentRate,
            ),
            "accept".to_owned(),
        ]);
    } else {
        fragment.push(refuse("", Reason::Fragment));
    }
    builder.chain(format!("early6/{name}"), "", rules);
    builder.chain(format!("fragment6/{name}"), "", fragment);
}

/// SIP over UDP may be larger than a frame; nothing else that is offered comes in fragments.
fn takes_fragments(zone: &Zone) -> bool {
    zone.listeners
        .iter()
        .any(|listener| listener.protocol == Protocol::Udp)
}
