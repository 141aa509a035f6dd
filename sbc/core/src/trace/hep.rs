//! One captured message as a packet of HEP version 3: chunks of vendor, type, length and value behind the word `HEP3`.
//! HEPv3 network protocol specification, rev. 11, §3 and §4. Made for the collector, one datagram each.

use std::net::{IpAddr, SocketAddr};

use broker_proto::settings::Transport;

/// Generic chunk types.
mod chunk {
    pub(super) const FAMILY: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const SOURCE_V4: u16 = 3;
    pub(super) const DESTINATION_V4: u16 = 4;
    pub(super) const SOURCE_V6: u16 = 5;
    pub(super) const DESTINATION_V6: u16 = 6;
    pub(super) const SOURCE_PORT: u16 = 7;
    pub(super) const DESTINATION_PORT: u16 = 8;
    pub(super) const SECONDS: u16 = 9;
    pub(super) const MICROSECONDS: u16 = 10;
    pub(super) const KIND: u16 = 11;
    pub(super) const AGENT: u16 = 12;
    pub(super) const PAYLOAD: u16 = 15;
    pub(super) const CORRELATION: u16 = 17;
}

/// Families as the specification numbers them.
const INET: u8 = 2;
const INET6: u8 = 10;
/// Payload is SIP.
const SIP: u8 = 1;
/// IP protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The longest payload: with all chunks before it the packet fits a datagram and its own length field.
const PAYLOAD: usize = 60_000;

/// A message on its way.
pub(super) struct Captured<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) transport: Transport,
    pub(super) unix_ms: u64,
    /// Who captured it.
    pub(super) agent: u32,
    /// What binds messages together: the Call-ID.
    pub(super) correlation: &'a str,
    pub(super) payload: &'a str,
}

/// The packet.
pub(super) fn packet(captured: &Captured<'_>) -> Vec<u8> {
    let mut chunks = Vec::with_capacity(captured.payload.len() + 160);
    let mut push = |kind: u16, value: &[u8]| {
        let length = u16::try_from(value.len() + 6).unwrap_or(u16::MAX);
        // Vendor 0: the generic chunks.
        chunks.extend_from_slice(&[0, 0]);
        chunks.extend_from_slice(&kind.to_be_bytes());
        chunks.extend_from_slice(&length.to_be_bytes());
        chunks.extend_from_slice(value);
    };
    let (source, destination) = (captured.source.ip(), captured.destination.ip());
    push(
        chunk::FAMILY,
        &[if source.is_ipv4() { INET } else { INET6 }],
    );
    let protocol = if captured.transport == Transport::Udp {
        UDP
    } else {
        TCP
    };
    push(chunk::PROTOCOL, &[protocol]);
    for (address, v4, v6) in [
        (source, chunk::SOURCE_V4, chunk::SOURCE_V6),
        (destination, chunk::DESTINATION_V4, chunk::DESTINATION_V6),
    ] {
        match address {
            IpAddr::V4(address) => push(v4, &address.octets()),
            IpAddr::V6(address) => push(v6, &address.octets()),
        }
    }
    push(chunk::SOURCE_PORT, &captured.source.port().to_be_bytes());
    push(
        chunk::DESTINATION_PORT,
        &captured.destination.port().to_be_bytes(),
    );
    let seconds = u32::try_from(captured.unix_ms / 1_000).unwrap_or(u32::MAX);
    let micros = u32::try_from(captured.unix_ms % 1_000 * 1_000).unwrap_or(0);
    push(chunk::SECONDS, &seconds.to_be_bytes());
    push(chunk::MICROSECONDS, &micros.to_be_bytes());
    push(chunk::KIND, &[SIP]);
    push(chunk::AGENT, &captured.agent.to_be_bytes());
    let most = |text: &str, most: usize| {
        text.as_bytes()
            .get(..most)
            .unwrap_or(text.as_bytes())
            .to_vec()
    };
    push(chunk::CORRELATION, &most(captured.correlation, 256));
    push(chunk::PAYLOAD, &most(captured.payload, PAYLOAD));
    let length = u16::try_from(chunks.len() + 6).unwrap_or(u16::MAX);
    let mut packet = Vec::with_capacity(chunks.len() + 6);
    packet.extend_from_slice(b"HEP3");
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&chunks);
    packet
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A reader of its own: chunks by type.
    fn read(packet: &[u8]) -> BTreeMap<u16, Vec<u8>> {
        let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        assert_eq!(&packet[..4], b"HEP3");
        assert_eq!(usize::from(number(4)), packet.len());
        let (mut at, mut chunks) = (6, BTreeMap::new());
        while at < packet.len() {
            let length = usize::from(number(at + 4));
            assert_eq!(number(at), 0);
            assert!(
                chunks
                    .insert(number(at + 2), packet[at + 6..at + length].to_vec())
                    .is_none()
            );
            at += length;
        }
        chunks
    }

    fn captured<'a>(source: &str, destination: &str, payload: &'a str) -> Captured<'a> {
        Captured {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            transport: Transport::Udp,
            unix_ms: 1_700_000_000_123,
            agent: 7,
            correlation: "c@a",
            payload,
        }
    }

    #[test]
    fn a_packet_says_who_when_and_what() {
        let chunks = read(&packet(&captured(
            "198.51.100.20:5060",
            "198.51.100.1:5070",
            "BYE x",
        )));
        assert_eq!(chunks[&1], [2]);
        assert_eq!(chunks[&2], [17]);
        assert_eq!(chunks[&3], [198, 51, 100, 20]);
        assert_eq!(chunks[&4], [198, 51, 100, 1]);
        assert_eq!(chunks[&7], 5060_u16.to_be_bytes());
        assert_eq!(chunks[&8], 5070_u16.to_be_bytes());
        assert_eq!(chunks[&9], 1_700_000_000_u32.to_be_bytes());
        assert_eq!(chunks[&10], 123_000_u32.to_be_bytes());
        assert_eq!(chunks[&11], [1]);
        assert_eq!(chunks[&12], 7_u32.to_be_bytes());
        assert_eq!(chunks[&15], b"BYE x");
        assert_eq!(chunks[&17], b"c@a");
    }

    #[test]
    fn addresses_of_either_family_have_their_chunks() {
        let chunks = read(&packet(&captured("[2001:db8::1]:1", "[2001:db8::2]:2", "")));
        assert_eq!(
            (chunks[&1].as_slice(), chunks[&5].len(), chunks[&6].len()),
            (&[10_u8][..], 16, 16)
        );
    }

    #[test]
    fn the_longest_payload_fits() {
        let long = "x".repeat(70_000);
        let packet = packet(&captured("192.0.2.1:1", "192.0.2.2:2", &long));
        assert_eq!(read(&packet)[&15].len(), PAYLOAD);
    }
}
