//! What a datagram on a media port is, by its first octets (RFC 7983 §7 for the first, RFC 5761 §4 for the second).
//! The pinhole in the kernel has the same table; here it is asked again for every packet.

/// Kind of datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First octet 0–3.
    Stun,
    /// First octet 20–63.
    Dtls,
    /// First octet 64–79.
    TurnChannel,
    /// First octet 128–191 and a payload type that is no RTCP packet type.
    Rtp,
    /// First octet 128–191, second 192–223.
    Rtcp,
    /// Anything else, also an empty datagram.
    Unknown,
}

impl Kind {
    /// Kind of `datagram`; says nothing about whether the rest of it is well formed.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Self {
        match datagram {
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, _, ..] => Self::Rtp,
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [64..=79, ..] => Self::TurnChannel,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_octet_has_the_kind_of_rfc_7983() {
        for first in 0..=255_u8 {
            let expected = match first {
                0..=3 => Kind::Stun,
                20..=63 => Kind::Dtls,
                64..=79 => Kind::TurnChannel,
                128..=191 => Kind::Rtp,
                _ => Kind::Unknown,
            };
            assert_eq!(Kind::of(&[first, 0, 0, 0]), expected, "first octet {first}");
        }
    }

    #[test]
    fn the_second_octet_tells_rtcp_from_rtp() {
        for second in 0..=255_u8 {
            let expected = if (192..=223).contains(&second) {
                Kind::Rtcp
            } else {
                Kind::Rtp
            };
            assert_eq!(Kind::of(&[0x80, second]), expected, "second octet {second}");
        }
    }

    #[test]
    fn an_empty_datagram_and_a_single_octet_are_unknown() {
        assert_eq!(Kind::of(&[]), Kind::Unknown);
        assert_eq!(Kind::of(&[0x80]), Kind::Unknown);
    }
}
