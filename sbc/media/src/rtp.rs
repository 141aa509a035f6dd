//! The header of an RTP packet (RFC 3550 §5.1), read strictly: every length that the packet claims must fit into it.

use crate::reader::Reader;

/// Longest packet that is relayed, in octets of UDP payload. Above it nothing honest fits an Ethernet frame.
pub const MAX_PACKET: usize = 1500;

/// Why octets are no RTP packet: always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Ends inside the fixed header, the CSRC list or the extension.
    #[error("the packet ends inside its header")]
    Truncated,
    /// Version other than 2.
    #[error("version is not 2")]
    Version,
    /// The padding count is 0 or longer than what follows the header.
    #[error("the padding does not fit")]
    Padding,
    /// More than [`MAX_PACKET`] octets.
    #[error("the packet is too long")]
    TooLong,
}

/// The fields of a header that the relay needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Meaning depends on the profile; for audio the first packet of a talkspurt.
    pub marker: bool,
    /// 0–127.
    pub payload_type: u8,
    /// Counts packets, wraps.
    pub sequence_number: u16,
    /// In units of the payload type's clock, wraps.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Octets before the payload.
    pub header_octets: usize,
    /// Octets of payload, padding not counted.
    pub payload_octets: usize,
}

impl Header {
    /// Octets of the header of a packet whose payload may be sealed: what SRTP leaves in the clear (RFC 3711 §3.1).
    /// `None`: the packet ends inside it, or is of another version.
    #[must_use]
    pub fn clear_octets(packet: &[u8]) -> Option<usize> {
        let mut reader = Reader::new(packet);
        Self::fixed(&mut reader).ok()?;
        Some(packet.len() - reader.left())
    }

    /// The fixed part; CSRC list and extension are passed over.
    fn fixed(reader: &mut Reader<'_>) -> Result<[u8; 12], RtpError> {
        let fixed: [u8; 12] = reader.chunk().ok_or(RtpError::Truncated)?;
        let [bits, ..] = fixed;
        if bits >> 6 != 2 {
            return Err(RtpError::Version);
        }
        reader
            .take(usize::from(bits & 0x0f) * 4)
            .ok_or(RtpError::Truncated)?;
        if bits & 0x10 != 0 {
            let [_, _, l0, l1] = reader.chunk().ok_or(RtpError::Truncated)?;
            reader
                .take(usize::from(u16::from_be_bytes([l0, l1])) * 4)
                .ok_or(RtpError::Truncated)?;
        }
        Ok(fixed)
    }

    /// The header of `packet`, all claims of which were checked against its length.
    ///
    /// # Errors
    /// One variant of [`RtpError`] per offence.
    pub fn read(packet: &[u8]) -> Result<Self, RtpError> {
        if packet.len() > MAX_PACKET {
            return Err(RtpError::TooLong);
        }
        let mut reader = Reader::new(packet);
        let [bits, kind, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = Self::fixed(&mut reader)?;
        let padding = if bits & 0x20 == 0 {
            0
        } else {
            let count = reader.rest().last().map_or(0, |&count| usize::from(count));
            if count == 0 || count > reader.left() {
                return Err(RtpError::Padding);
            }
            count
        };
        Ok(Self {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            sequence_number: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            header_octets: packet.len() - reader.left(),
            payload_octets: reader.left() - padding,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: [u8; 16] = [
        0x80, 0x88, 0x12, 0x34, 0, 0, 0, 160, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4,
    ];

    #[test]
    fn a_plain_header_is_read() {
        let header = Header::read(&PLAIN).unwrap();
        assert_eq!(
            header,
            Header {
                marker: true,
                payload_type: 8,
                sequence_number: 0x1234,
                timestamp: 160,
                ssrc: 0xdead_beef,
                header_octets: 12,
                payload_octets: 4,
            }
        );
    }

    #[test]
    fn a_packet_cut_inside_its_header_is_refused() {
        for length in 0..12 {
            assert_eq!(
                Header::read(&PLAIN[..length]),
                Err(RtpError::Truncated),
                "{length} octets"
            );
        }
    }

    #[test]
    fn every_other_version_is_refused() {
        for version in [0_u8, 1, 3] {
            let mut packet = PLAIN;
            packet[0] = version << 6;
            assert_eq!(Header::read(&packet), Err(RtpError::Version));
        }
    }

    #[test]
    fn a_csrc_list_that_does_not_fit_is_refused() {
        let mut packet = PLAIN;
        packet[0] = 0x81;
        assert_eq!(Header::read(&packet).unwrap().payload_octets, 0);
        packet[0] = 0x82;
        assert_eq!(Header::read(&packet), Err(RtpError::Truncated));
    }

    #[test]
    fn an_extension_that_lies_about_its_length_is_refused() {
        let mut packet = PLAIN;
        packet[0] = 0x90;
        packet[12..].copy_from_slice(&[0xbe, 0xde, 0, 0]);
        assert_eq!(Header::read(&packet).unwrap().header_octets, 16);
        packet[15] = 1;
        assert_eq!(Header::read(&packet), Err(RtpError::Truncated));
    }

    #[test]
    fn padding_that_lies_about_its_length_is_refused() {
        let mut packet = PLAIN;
        packet[0] = 0xa0;
        assert_eq!(Header::read(&packet).unwrap().payload_octets, 0);
        packet[15] = 3;
        assert_eq!(Header::read(&packet).unwrap().payload_octets, 1);
        for count in [0, 5, 255] {
            packet[15] = count;
            assert_eq!(
                Header::read(&packet),
                Err(RtpError::Padding),
                "padding of {count}"
            );
        }
    }

    #[test]
    fn a_packet_longer_than_a_frame_is_refused() {
        let mut packet = vec![0; MAX_PACKET];
        packet[0] = 0x80;
        assert!(Header::read(&packet).is_ok());
        packet.push(0);
        assert_eq!(Header::read(&packet), Err(RtpError::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_and_all_lengths_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(header) = Header::read(&bytes) {
                prop_assert!(header.header_octets >= 12);
                prop_assert!(header.header_octets + header.payload_octets <= bytes.len());
            }
        }
    }
}
