//! Packets as octets: built honestly first, spoilt by the test afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP6: u8 = 58;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;

/// An IP packet.
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// Options, IPv4 only; a multiple of four octets.
    pub(crate) options: Vec<u8>,
    /// Flags and offset, IPv4 only.
    pub(crate) fragment: u16,
    pub(crate) hop_limit: u8,
    pub(crate) payload: Vec<u8>,
}

impl Ip {
    pub(crate) fn new(source: &str, destination: &str, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            options: Vec::new(),
            fragment: 0,
            hop_limit: 64,
            payload,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.v4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.v6(source, destination),
            _ => panic!("two families"),
        }
    }

    fn v4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut bytes = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
        bytes.extend(
            u16::try_from(header + self.payload.len())
                .unwrap()
                .to_be_bytes(),
        );
        bytes.extend([0x12, 0x34]);
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.hop_limit, self.protocol, 0, 0]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(&self.options);
        let sum = checksum(&[&bytes]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    fn v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(u16::try_from(self.payload.len()).unwrap().to_be_bytes());
        bytes.extend([self.protocol, self.hop_limit]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(&self.payload);
        bytes
    }
}

/// A whole UDP packet.
pub(crate) fn udp(source: &str, destination: &str, payload: &[u8]) -> Ip {
    let (from, to): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let mut bytes = Vec::new();
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let sum = transport_checksum(from.ip(), to.ip(), UDP, &bytes);
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    Ip::new(&from.ip().to_string(), &to.ip().to_string(), UDP, bytes)
}

/// A TCP segment without payload.
pub(crate) fn tcp(
    source: &str,
    destination: &str,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
) -> Ip {
    let (from, to): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let mut bytes = Vec::new();
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = transport_checksum(from.ip(), to.ip(), TCP, &bytes);
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    Ip::new(&from.ip().to_string(), &to.ip().to_string(), TCP, bytes)
}

/// An ICMP or ICMPv6 message: type, code, rest.
pub(crate) fn icmp(source: &str, destination: &str, kind: u8, code: u8, rest: &[u8]) -> Ip {
    let (from, to): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    let protocol = if from.is_ipv6() { ICMP6 } else { ICMP };
    let sum = if from.is_ipv6() {
        transport_checksum(from, to, ICMP6, &bytes)
    } else {
        checksum(&[&bytes])
    };
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    Ip::new(source, destination, protocol, bytes)
}

/// Puts an IPv6 extension header in front of the payload: its number and its octets without the next-header octet.
pub(crate) fn extend(mut packet: Ip, number: u8, rest: &[u8]) -> Ip {
    let mut payload = vec![packet.protocol];
    payload.extend(rest);
    payload.extend(&packet.payload);
    packet.protocol = number;
    packet.payload = payload;
    packet
}

fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = u32::try_from(segment.len()).unwrap().to_be_bytes();
    let sum = checksum(&[
        &octets(source),
        &octets(destination),
        &length,
        &[0, 0, 0, protocol],
        segment,
    ]);
    if sum == 0 { 0xffff } else { sum }
}

/// RFC 1071. Each part but the last has an even number of octets.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A plausible RTP packet.
pub(crate) fn rtp() -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
    packet.extend([0xd5; 160]);
    packet
}
