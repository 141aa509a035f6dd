//! A compound RTCP packet (RFC 3550 §6.1, checks of A.2), read strictly: the lengths add up to the last octet, it begins
//! with a report, and every packet in it holds what its counts claim.

mod conceal;

pub use conceal::conceal;

use crate::{reader::Reader, rtp::MAX_PACKET};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const APPLICATION: u8 = 204;
/// RTPFB and PSFB (RFC 4585).
const FEEDBACK: core::ops::RangeInclusive<u8> = 205..=206;
/// RFC 3611.
const EXTENDED_REPORT: u8 = 207;

/// Why octets are no RTCP compound: always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// Ends inside a packet, or a packet is shorter than its counts claim.
    #[error("a packet is shorter than it claims")]
    Truncated,
    /// Version other than 2.
    #[error("version is not 2")]
    Version,
    /// Padding in a packet that is not the last, or of a length that does not fit.
    #[error("the padding does not fit")]
    Padding,
    /// The first packet is no report (reduced-size RTCP, RFC 5506, is not offered).
    #[error("the compound does not begin with a report")]
    NoReport,
    /// A packet type that is not relayed.
    #[error("packet type {0} is not relayed")]
    PacketType(u8),
    /// A source description whose items run over its end.
    #[error("the source description is malformed")]
    SourceDescription,
    /// More than [`MAX_PACKET`] octets.
    #[error("the compound is too long")]
    TooLong,
}

/// What the relay needs of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compound<'a> {
    /// SSRC of the sender of the first report.
    pub ssrc: u32,
    bytes: &'a [u8],
}

impl<'a> Compound<'a> {
    /// The compound in `bytes`, all of which was checked.
    ///
    /// # Errors
    /// One variant of [`RtcpError`] per offence.
    pub fn read(bytes: &'a [u8]) -> Result<Self, RtcpError> {
        if bytes.len() > MAX_PACKET {
            return Err(RtcpError::TooLong);
        }
        let mut reader = Reader::new(bytes);
        let first = Packet::take(&mut reader)?;
        if !matches!(first.packet_type, SENDER_REPORT | RECEIVER_REPORT) {
            return Err(RtcpError::NoReport);
        }
        first.check(reader.is_empty())?;
        let ssrc = Reader::new(first.body).u32().ok_or(RtcpError::Truncated)?;
        while !reader.is_empty() {
            let packet = Packet::take(&mut reader)?;
            packet.check(reader.is_empty())?;
        }
        Ok(Self { ssrc, bytes })
    }

    /// Sources that say goodbye in this compound.
    pub fn leaving(&self) -> impl Iterator<Item = u32> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        core::iter::from_fn(move || Packet::take(&mut reader).ok())
            .filter(|packet| packet.packet_type == BYE)
            .flat_map(|packet| {
                let mut sources = Reader::new(packet.body);
                (0..packet.count).map_while(move |_| sources.u32())
            })
    }
}

/// One packet of a compound: its first octets and its body, which is as long as the length field says.
#[derive(Clone, Copy)]
struct Packet<'a> {
    padded: bool,
    count: u8,
    packet_type: u8,
    body: &'a [u8],
}

impl<'a> Packet<'a> {
    fn take(reader: &mut Reader<'a>) -> Result<Self, RtcpError> {
        let [bits, packet_type, l0, l1] = reader.chunk().ok_or(RtcpError::Truncated)?;
        if bits >> 6 != 2 {
            return Err(RtcpError::Version);
        }
        let words = usize::from(u16::from_be_bytes([l0, l1]));
        let body = reader.take(words * 4).ok_or(RtcpError::Truncated)?;
        Ok(Self {
            padded: bits & 0x20 != 0,
            count: bits & 0x1f,
            packet_type,
            body,
        })
    }

    fn check(&self, last: bool) -> Result<(), RtcpError> {
        let body = self.without_padding(last)?;
        let blocks = usize::from(self.count) * 24;
        let least = match self.packet_type {
            SENDER_REPORT => 24 + blocks,
            RECEIVER_REPORT => 4 + blocks,
            SOURCE_DESCRIPTION => return check_chunks(self.count, body),
            BYE => usize::from(self.count) * 4,
            APPLICATION => 8,
            kind if FEEDBACK.contains(&kind) => 8,
            EXTENDED_REPORT => 4,
            kind => return Err(RtcpError::PacketType(kind)),
        };
        if body.len() < least {
            Err(RtcpError::Truncated)
        } else {
            Ok(())
        }
    }

    fn without_padding(&self, last: bool) -> Result<&'a [u8], RtcpError> {
        if !self.padded {
            return Ok(self.body);
        }
        let count = self.body.last().map_or(0, |&count| usize::from(count));
        if !last || count == 0 || !count.is_multiple_of(4) {
            return Err(RtcpError::Padding);
        }
        let kept = self
            .body
            .len()
            .checked_sub(count)
            .ok_or(RtcpError::Padding)?;
        self.body.get(..kept).ok_or(RtcpError::Padding)
    }
}

/// RFC 3550 §6.5: `count` chunks of an SSRC and items, each list ended by a null octet and filled up to 32 bits.
fn check_chunks(count: u8, body: &[u8]) -> Result<(), RtcpError> {
    const WRONG: RtcpError = RtcpError::SourceDescription;
    let mut reader = Reader::new(body);
    for _ in 0..count {
        reader.u32().ok_or(WRONG)?;
        while reader.u8().ok_or(WRONG)? != 0 {
            let length = reader.u8().ok_or(WRONG)?;
            reader.take(usize::from(length)).ok_or(WRONG)?;
        }
        reader.take(reader.left() % 4).ok_or(WRONG)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RR: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 7];
    const SDES: [u8; 16] = [
        0x81, 202, 0, 3, 0, 0, 0, 7, 1, 4, b'a', b'@', b'b', b'c', 0, 0,
    ];
    const BYE_OF_7: [u8; 8] = [0x81, 203, 0, 1, 0, 0, 0, 7];

    fn compound(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn a_report_with_description_and_goodbye_is_read() {
        let bytes = compound(&[&RR, &SDES, &BYE_OF_7]);
        let compound = Compound::read(&bytes).unwrap();
        assert_eq!(compound.ssrc, 7);
        assert_eq!(compound.leaving().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_compound_cut_anywhere_between_packets_is_refused() {
        let bytes = compound(&[&RR, &SDES, &BYE_OF_7]);
        for length in (0..bytes.len()).filter(|length| ![8, 24].contains(length)) {
            assert!(Compound::read(&bytes[..length]).is_err(), "{length} octets");
        }
    }

    #[test]
    fn a_compound_that_begins_without_a_report_is_refused() {
        assert_eq!(
            Compound::read(&compound(&[&BYE_OF_7, &RR])),
            Err(RtcpError::NoReport)
        );
    }

    #[test]
    fn an_unknown_packet_type_is_refused() {
        let unknown = [0x80, 210, 0, 0];
        assert_eq!(
            Compound::read(&compound(&[&RR, &unknown])),
            Err(RtcpError::PacketType(210))
        );
    }

    #[test]
    fn a_count_that_the_packet_does_not_hold_is_refused() {
        let mut report = RR;
        report[0] = 0x81;
        assert_eq!(Compound::read(&report), Err(RtcpError::Truncated));
        let mut goodbye = BYE_OF_7;
        goodbye[0] = 0x82;
        assert_eq!(
            Compound::read(&compound(&[&RR, &goodbye])),
            Err(RtcpError::Truncated)
        );
    }

    #[test]
    fn a_description_item_that_runs_over_its_end_is_refused() {
        let mut description = SDES;
        description[9] = 200;
        assert_eq!(
            Compound::read(&compound(&[&RR, &description])),
            Err(RtcpError::SourceDescription)
        );
    }

    #[test]
    fn padding_is_taken_in_the_last_packet_only_and_must_fit() {
        let padded = [0xa0, 201, 0, 2, 0, 0, 0, 7, 0, 0, 0, 4];
        assert!(Compound::read(&padded).is_ok());
        assert_eq!(
            Compound::read(&compound(&[&padded, &BYE_OF_7])),
            Err(RtcpError::Padding)
        );
        for count in [0, 3, 12, 255] {
            let mut wrong = padded;
            wrong[11] = count;
            assert_eq!(
                Compound::read(&wrong),
                Err(RtcpError::Padding),
                "padding of {count}"
            );
        }
    }

    #[test]
    fn another_version_is_refused_in_every_packet() {
        let mut goodbye = BYE_OF_7;
        goodbye[0] = 0x41;
        assert_eq!(
            Compound::read(&compound(&[&RR, &goodbye])),
            Err(RtcpError::Version)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(compound) = Compound::read(&bytes) {
                prop_assert!(compound.leaving().count() <= bytes.len());
            }
        }

        #[test]
        fn no_change_of_one_octet_makes_it_panic(place in 0_usize..32, value in any::<u8>()) {
            let mut bytes = compound(&[&RR, &SDES, &BYE_OF_7]);
            bytes[place] = value;
            let _ = Compound::read(&bytes).map(|compound| compound.leaving().count());
        }
    }
}
