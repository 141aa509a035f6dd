//! A name server's datagram: whatever it holds, it is refused or read, and what was read leads nowhere but into the networks
//! and ports of the peer that was looked for.

#![no_main]

use std::time::Instant;

use broker_proto::settings::{Named, Transport};
use libfuzzer_sys::fuzz_target;
use sbc_core::resolve::{
    cache::Cache,
    message::{Asked, Fault, OCTETS, RECORDS, Said},
    selection::Wanted,
};

fn named() -> Named {
    Named {
        host: "carrier.test".into(),
        port: None,
        by_naptr: true,
        transports: vec![Transport::Udp, Transport::Tcp],
        networks: ["198.51.100.0/24", "2001:db8:e::/64"]
            .map(|network| network.parse().expect("a network"))
            .into(),
        ports: vec![5060, 5070],
    }
}

fuzz_target!(|data: &[u8]| {
    let named = named();
    let mut cache = Cache::default();
    let now = Instant::now();
    let own = ["198.51.100.1".parse().expect("an address")];
    let wanted = Wanted {
        named: &named,
        families: &[false, true],
        own: &own,
    };
    // Several answers, each to what is asked next: two octets of length before each, as over TCP (RFC 1035 §4.2.2).
    let mut rest = data;
    for _ in 0..64 {
        let walk = wanted.walk(&cache, now);
        let Some(question) = walk.ask.into_iter().next() else {
            if let Ok(reached) = walk.found {
                let mut draw = |bound: u64| u64::from(data.first().copied().unwrap_or(0)) % bound;
                let order = reached.order(&mut draw);
                assert!(!order.is_empty());
                for place in order {
                    assert!(named.allows(place) && !own.contains(&place.ip()), "{place}");
                }
                assert!(named.transports.contains(&reached.transport));
            }
            break;
        };
        let Some(asked) = Asked::new(&question, 0x1234, 0) else {
            cache.failed(question, now);
            continue;
        };
        let octets = asked.octets().expect("a question can be written");
        assert!(octets.len() <= 512);
        let Some((length, more)) = rest.split_first_chunk::<2>() else {
            cache.failed(question, now);
            continue;
        };
        let length = usize::from(u16::from_be_bytes(*length)).min(more.len());
        let (answer, more) = more.split_at(length);
        rest = more;
        // The question's own head and question in front, so that the search need not guess them.
        let mut whole = octets.get(..octets.len() - 11).unwrap_or_default().to_vec();
        if let (Some(flags), Some(first)) = (whole.get_mut(2..12), answer.get(..10)) {
            flags.copy_from_slice(first);
        }
        if let Some([flags, _, questions @ ..]) = whole.get_mut(2..6) {
            *flags |= 0x80;
            questions.copy_from_slice(&[0, 1]);
        }
        whole.extend(answer.get(10..).unwrap_or_default());
        for bytes in [answer, whole.as_slice()] {
            match asked.read(bytes) {
                Ok(said) => {
                    if let Said::Records(records, _) = &said {
                        assert!((1..=RECORDS).contains(&records.len()));
                    }
                    cache.learn(question.clone(), said, now);
                }
                Err(Fault::Oversized) => assert!(bytes.len() > usize::from(OCTETS)),
                Err(_) => cache.failed(question.clone(), now),
            }
        }
    }
});
