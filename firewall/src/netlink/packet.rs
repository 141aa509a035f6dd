//! The five-tuple of a dropped packet, for the operator's list of last drops. The only place in the firewall that looks
//! at octets of strangers, and so no parser: fixed offsets (RFC 791 §3.1, RFC 8200 §3), no loop, no option, no extension
//! header; whatever is not there is left out.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What could be told from a packet's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number, or the IPv6 next header.
    pub protocol: u8,
    /// Source and destination port of UDP and TCP.
    pub ports: Option<(u16, u16)>,
}

impl Tuple {
    /// Reads the head of an IP packet. `None` if it is too short for an IP header or of no known version.
    #[must_use]
    pub fn read(head: &[u8]) -> Option<Self> {
        let (source, destination, protocol, ports_at) = match head.first()? >> 4 {
            4 => {
                let header: &[u8; 20] = head.first_chunk()?;
                let [first, _, _, _, _, _, fragment, rest, _, protocol, ..] = *header;
                let source = Ipv4Addr::from(*head.get(12..16)?.first_chunk::<4>()?);
                let destination = Ipv4Addr::from(*head.get(16..20)?.first_chunk::<4>()?);
                // RFC 791 §3.1: only the first fragment has the ports.
                let later_fragment = u16::from_be_bytes([fragment, rest]) & 0x1fff != 0;
                let ports_at = (!later_fragment).then_some(usize::from(first & 0x0f) * 4);
                (
                    IpAddr::V4(source),
                    IpAddr::V4(destination),
                    protocol,
                    ports_at,
                )
            }
            6 => {
                let source = Ipv6Addr::from(*head.get(8..24)?.first_chunk::<16>()?);
                let destination = Ipv6Addr::from(*head.get(24..40)?.first_chunk::<16>()?);
                (
                    IpAddr::V6(source),
                    IpAddr::V6(destination),
                    *head.get(6)?,
                    Some(40),
                )
            }
            _ => return None,
        };
        let ports = ports_at
            .filter(|_| matches!(protocol, 6 | 17))
            .and_then(|at| head.get(at..at + 4)?.first_chunk::<4>())
            .map(|&[s0, s1, d0, d1]| (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])));
        Some(Self {
            source,
            destination,
            protocol,
            ports,
        })
    }

    /// `udp`, `tcp`, `icmp`, `icmpv6`, or the number.
    #[must_use]
    pub fn protocol_name(&self) -> String {
        match self.protocol {
            1 => "icmp".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            58 => "icmpv6".into(),
            other => other.to_string(),
        }
    }

    /// Source and destination as text, with ports if there are any.
    #[must_use]
    pub fn ends(&self) -> (String, String) {
        match self.ports {
            Some((from, to)) => (
                core::net::SocketAddr::new(self.source, from).to_string(),
                core::net::SocketAddr::new(self.destination, to).to_string(),
            ),
            None => (self.source.to_string(), self.destination.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_udp_packet_shows_its_five_tuple() {
        let mut head = vec![
            0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, 66, 198, 51, 100, 1,
        ];
        head.extend([0x13, 0xc5, 0x13, 0xc4, 0, 12, 0, 0]);
        let tuple = Tuple::read(&head).unwrap();
        assert_eq!(
            tuple.ends(),
            ("198.51.100.66:5061".into(), "198.51.100.1:5060".into())
        );
        assert_eq!(tuple.protocol_name(), "udp");
    }

    #[test]
    fn ipv4_options_move_the_ports() {
        let mut head = vec![
            0x46, 0, 0, 32, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 9, 9, 9, 9,
        ];
        head.extend([0, 80, 0, 81]);
        assert_eq!(Tuple::read(&head).unwrap().ports, Some((80, 81)));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut head = vec![
            0x45, 0, 0, 32, 0, 0, 0x00, 0x10, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ];
        head.extend([0, 80, 0, 81]);
        assert_eq!(Tuple::read(&head).unwrap().ports, None);
    }

    #[test]
    fn an_ipv6_echo_request_has_no_ports() {
        let mut head = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        head.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        head.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        head.extend([128, 0, 0, 0]);
        let tuple = Tuple::read(&head).unwrap();
        assert_eq!(tuple.ends(), ("2001:db8::1".into(), "2001:db8::2".into()));
        assert_eq!(tuple.protocol_name(), "icmpv6");
    }

    proptest::proptest! {
        #[test]
        fn no_head_makes_it_panic(head in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            if let Some(tuple) = Tuple::read(&head) {
                let _ = tuple.ends();
                let _ = tuple.protocol_name();
            }
        }

        #[test]
        fn a_head_cut_anywhere_gives_less_but_nothing_else(length in 0_usize..44, last in proptest::num::u8::ANY) {
            let mut head = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, 66, 198, 51, 100, 1];
            head.extend([0x13, 0xc5, 0x13, 0xc4, 0, 12, 0, last]);
            head.truncate(length);
            let tuple = Tuple::read(&head);
            proptest::prop_assert_eq!(tuple.is_some(), length >= 20);
            proptest::prop_assert_eq!(tuple.and_then(|t| t.ports).is_some(), length >= 24);
        }
    }
}
