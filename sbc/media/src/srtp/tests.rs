//! Published vectors, and what must be refused.

use proptest::prelude::*;

use super::{keys, *};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn master(suite: Suite, text: &str) -> MasterKey {
    MasterKey::new(suite, &hex(text)).unwrap()
}

fn some(suite: Suite) -> MasterKey {
    let octets: Vec<u8> = (0..).take(suite.master_octets()).collect();
    MasterKey::new(suite, &octets).unwrap()
}

const RTP: &str = "800f1234 decafbad cafebabe abababab abababab abababab abababab";
const RTCP: &str = "81c8000b cafebabe abababab abababab abababab abababab";

/// Master key, sealed RTP, sealed RTCP. As libsrtp's test driver has them.
const VECTORS: [(Suite, &str, &str, &str); 2] = [
    (
        Suite::AesCm128HmacSha1,
        "e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6",
        "800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb",
        "81c8000bcafebabe 7128035be487b9bdbef89041f977a5a8 80000001 993e08cd54d6c1230798",
    ),
    (
        Suite::AeadAes128Gcm,
        "000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab",
        "800f1234decafbadcafebabe c5002ede04cfdd2eb91159e0880aa06e d2976826f796b201df3131a127e8a392",
        "81c8000bcafebabe c98b8b5df0392a55852b6c21ac8e7025 c52c6fbea2b3b446ea31123ba88ce61e 80000001",
    ),
];

fn sealed(session: &mut Session, packet: &[u8], rtcp: bool) -> Result<Vec<u8>, Refused> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + OVERHEAD, 0);
    let length = if rtcp {
        session.seal_rtcp(&mut buffer, packet.len())
    } else {
        session.seal_rtp(&mut buffer, packet.len())
    }?;
    buffer.truncate(length);
    Ok(buffer)
}

fn opened(session: &mut Session, packet: &[u8], rtcp: bool) -> Result<Vec<u8>, Refused> {
    let mut buffer = packet.to_vec();
    let length = if rtcp {
        session.open_rtcp(&mut buffer)
    } else {
        session.open_rtp(&mut buffer)
    }?;
    buffer.truncate(length);
    Ok(buffer)
}

#[test]
fn packets_are_sealed_and_opened_as_published() {
    for (suite, key, rtp, rtcp) in VECTORS {
        let master = master(suite, key);
        for (plain, secret, is_rtcp) in [(RTP, rtp, false), (RTCP, rtcp, true)] {
            let (plain, secret) = (hex(plain), hex(secret));
            let mut out = Session::new(&master).unwrap();
            assert_eq!(
                sealed(&mut out, &plain, is_rtcp).unwrap(),
                secret,
                "{suite:?}"
            );
            let mut back = Session::new(&master).unwrap();
            assert_eq!(opened(&mut back, &secret, is_rtcp).unwrap(), plain);
        }
    }
}

/// RFC 3711 B.3 and RFC 6188 §7.2: the key stream of the derived encryption key differs from anything but itself.
#[test]
fn session_keys_are_derived_as_published() {
    let vectors = [
        (
            Suite::AesCm128HmacSha1,
            "e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6",
            "30cbbc08863d8c85d49db34a9ae1",
        ),
        (
            Suite::Aes256CmHmacSha1,
            "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6 3b04803de51ee7c96423ab5b78d2",
            "fa31791685ca444a9e07c6c64e93",
        ),
    ];
    for (suite, key, expected) in vectors {
        let keys::Cipher::Counter { salt, .. } =
            keys::derive(&master(suite, key), keys::Kind::Rtp).unwrap()
        else {
            panic!("not a counter mode");
        };
        assert_eq!(salt.to_vec(), hex(expected), "{suite:?}");
    }
}

#[test]
fn a_replayed_packet_is_opened_once() {
    for suite in Suite::ALL {
        let (mut out, mut back) = pair(suite);
        let packet = sealed(&mut out, &hex(RTP), false).unwrap();
        assert!(opened(&mut back, &packet, false).is_ok());
        assert_eq!(opened(&mut back, &packet, false), Err(Refused::Replayed));
        let report = sealed(&mut out, &hex(RTCP), true).unwrap();
        assert!(opened(&mut back, &report, true).is_ok());
        assert_eq!(opened(&mut back, &report, true), Err(Refused::Replayed));
    }
}

#[test]
fn no_octet_can_be_changed() {
    for suite in Suite::ALL {
        let (mut out, mut back) = pair(suite);
        let packet = sealed(&mut out, &hex(RTP), false).unwrap();
        let report = sealed(&mut out, &hex(RTCP), true).unwrap();
        for (packet, rtcp) in [(&packet, false), (&report, true)] {
            for place in 0..packet.len() {
                let mut forged = packet.clone();
                forged[place] ^= 0x01;
                assert!(
                    opened(&mut back, &forged, rtcp).is_err(),
                    "{suite:?} octet {place}"
                );
            }
            assert!(
                opened(&mut back, packet, rtcp).is_ok(),
                "nothing was learned from forgeries"
            );
        }
    }
}

#[test]
fn a_sequence_number_is_sealed_once() {
    let (mut out, _) = pair(Suite::AeadAes256Gcm);
    assert!(sealed(&mut out, &hex(RTP), false).is_ok());
    let mut other = hex(RTP);
    other[20] ^= 0xff;
    assert_eq!(sealed(&mut out, &other, false), Err(Refused::Replayed));
}

#[test]
fn the_rollover_counter_is_followed_on_both_ends() {
    for suite in Suite::ALL {
        let (mut out, mut back) = pair(suite);
        for sequence in (65_000..=65_535).chain(0..1000).chain(1000..1010) {
            let mut packet = hex(RTP);
            packet[2..4].copy_from_slice(&u16::to_be_bytes(sequence));
            let Ok(secret) = sealed(&mut out, &packet, false) else {
                continue;
            };
            assert_eq!(
                opened(&mut back, &secret, false).unwrap(),
                packet,
                "{suite:?} {sequence}"
            );
        }
    }
}

#[test]
fn more_sources_than_a_direction_may_have_are_refused() {
    let (mut out, _) = pair(Suite::AesCm128HmacSha1);
    for ssrc in 0..20_u32 {
        let mut packet = hex(RTP);
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        assert_eq!(sealed(&mut out, &packet, false).is_ok(), ssrc < 16);
    }
}

#[test]
fn a_clear_report_on_a_sealed_leg_is_refused() {
    let (_, mut back) = pair(Suite::AesCm128HmacSha1);
    let mut clear = hex(RTCP);
    clear.extend([0, 0, 0, 1]);
    clear.extend([0; 10]);
    assert_eq!(opened(&mut back, &clear, true), Err(Refused::Forged));
}

#[test]
fn keys_are_read_with_and_without_padding_and_written_padded() {
    for suite in Suite::ALL {
        let key = some(suite);
        let text = key.to_base64();
        assert_eq!(MasterKey::from_base64(suite, &text).as_ref(), Some(&key));
        let bare = text.trim_end_matches('=');
        assert_eq!(MasterKey::from_base64(suite, bare).as_ref(), Some(&key));
        assert_eq!(MasterKey::from_base64(suite, &text[4..]), None);
        assert_eq!(MasterKey::from_base64(suite, "not base64!"), None);
        assert!(!format!("{key:?}").contains(text.as_str()));
    }
}

fn pair(suite: Suite) -> (Session, Session) {
    let master = some(suite);
    (
        Session::new(&master).unwrap(),
        Session::new(&master).unwrap(),
    )
}

proptest! {
    #[test]
    fn garbage_never_opens_and_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        for suite in Suite::ALL {
            let (_, mut back) = pair(suite);
            prop_assert!(opened(&mut back, &octets, false).is_err());
            prop_assert!(opened(&mut back, &octets, true).is_err());
        }
    }
}
