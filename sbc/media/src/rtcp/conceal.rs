//! A compound as the other side may see it: reports and feedback as they are, names replaced by one of ours (RFC 7022: a
//! CNAME says nothing), reasons of a goodbye and packets of applications left out.

use super::{
    APPLICATION, BYE, EXTENDED_REPORT, FEEDBACK, Packet, RECEIVER_REPORT, SENDER_REPORT,
    SOURCE_DESCRIPTION,
};
use crate::{reader::Reader, rtp::MAX_PACKET};

/// Octets of our name: 16 hexadecimal digits.
const NAME: usize = 16;
/// A chunk of ours: SSRC, item of our name, null octets up to 32 bits.
const CHUNK: usize = 24;
/// RFC 3550 §6.5.1.
const CNAME: u8 = 1;

/// Rewrites the compound that is the first `octets` of `buffer`, which [`Compound::read`](super::Compound::read) has
/// checked; how long it is then. 0: nothing of it may be seen, or it has no room.
pub fn conceal(buffer: &mut [u8], octets: usize, name: u64) -> usize {
    let mut seen = [0; MAX_PACKET];
    let mut out = Out {
        room: &mut seen,
        used: 0,
    };
    let Some(compound) = buffer.get(..octets) else {
        return 0;
    };
    let mut reader = Reader::new(compound);
    while !reader.is_empty() {
        let Ok(packet) = Packet::take(&mut reader) else {
            return 0;
        };
        let Ok(body) = packet.without_padding(reader.is_empty()) else {
            return 0;
        };
        if out.packet(&packet, body, name).is_none() {
            return 0;
        }
    }
    let used = out.used;
    match (buffer.get_mut(..used), seen.get(..used)) {
        (Some(place), Some(seen)) => place.copy_from_slice(seen),
        _ => return 0,
    }
    used
}

struct Out<'a> {
    room: &'a mut [u8; MAX_PACKET],
    used: usize,
}

impl Out<'_> {
    /// `None`: no room.
    fn packet(&mut self, packet: &Packet<'_>, body: &[u8], name: u64) -> Option<()> {
        match packet.packet_type {
            SENDER_REPORT | RECEIVER_REPORT | EXTENDED_REPORT => self.put(packet, body),
            kind if FEEDBACK.contains(&kind) => self.put(packet, body),
            BYE => self.put(packet, body.get(..usize::from(packet.count) * 4)?),
            SOURCE_DESCRIPTION => self.names(packet, body, name),
            APPLICATION => Some(()),
            _ => None,
        }
    }

    fn names(&mut self, packet: &Packet<'_>, body: &[u8], name: u64) -> Option<()> {
        self.head(packet, usize::from(packet.count) * CHUNK)?;
        let mut reader = Reader::new(body);
        for _ in 0..packet.count {
            self.write(&reader.u32()?.to_be_bytes())?;
            while reader.u8()? != 0 {
                let length = reader.u8()?;
                reader.take(usize::from(length))?;
            }
            reader.take(reader.left() % 4)?;
            self.write(&[CNAME, NAME as u8])?;
            self.write(&digits(name))?;
            self.write(&[0, 0])?;
        }
        Some(())
    }

    fn put(&mut self, packet: &Packet<'_>, body: &[u8]) -> Option<()> {
        self.head(packet, body.len())?;
        self.write(body)
    }

    fn head(&mut self, packet: &Packet<'_>, body: usize) -> Option<()> {
        let [l0, l1] = u16::try_from(body / 4).ok()?.to_be_bytes();
        self.write(&[0x80 | packet.count, packet.packet_type, l0, l1])
    }

    fn write(&mut self, octets: &[u8]) -> Option<()> {
        let end = self.used + octets.len();
        self.room.get_mut(self.used..end)?.copy_from_slice(octets);
        self.used = end;
        Some(())
    }
}

fn digits(name: u64) -> [u8; NAME] {
    let mut shift = 64;
    [(); NAME].map(|()| {
        shift -= 4;
        let nibble = (name >> shift & 15) as u8;
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + nibble - 10
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtcp::Compound;

    const NAMED: u64 = 0x0123_4567_89ab_cdef;

    fn concealed(octets: &[u8]) -> Vec<u8> {
        let mut buffer = octets.to_vec();
        buffer.resize(MAX_PACKET + 20, 0xee);
        let length = conceal(&mut buffer, octets.len(), NAMED);
        buffer.truncate(length);
        buffer
    }

    fn packet(count: u8, kind: u8, body: &[u8]) -> Vec<u8> {
        let words = u16::try_from(body.len() / 4).unwrap().to_be_bytes();
        [&[0x80 | count, kind], &words[..], body].concat()
    }

    fn report() -> Vec<u8> {
        packet(0, RECEIVER_REPORT, &[0, 0, 0, 7])
    }

    #[test]
    fn names_are_replaced_and_reports_stay() {
        let names = [
            &[0, 0, 0, 7, 1, 9][..],
            b"bob@inner",
            &[6, 5],
            b"phone",
            &[0, 0],
        ]
        .concat();
        let octets = [report(), packet(1, SOURCE_DESCRIPTION, &names)].concat();
        let seen = concealed(&octets);
        let expected = [
            report(),
            packet(
                1,
                SOURCE_DESCRIPTION,
                &[&[0, 0, 0, 7, 1, 16][..], b"0123456789abcdef", &[0, 0]].concat(),
            ),
        ]
        .concat();
        assert_eq!(seen, expected);
        assert!(Compound::read(&seen).is_ok());
    }

    #[test]
    fn a_reason_and_an_application_are_left_out_and_padding_goes() {
        let bye = packet(
            1,
            BYE,
            &[&[0, 0, 0, 7, 7][..], b"secret!", &[0; 0]].concat(),
        );
        let application = packet(0, APPLICATION, &[0, 0, 0, 7, b'l', b'e', b'a', b'k']);
        let mut padded = packet(0, 206, &[0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 4]);
        padded[0] |= 0x20;
        let seen = concealed(&[report(), application, bye, padded].concat());
        let expected = [
            report(),
            packet(1, BYE, &[0, 0, 0, 7]),
            packet(0, 206, &[0, 0, 0, 7, 0, 0, 0, 9]),
        ]
        .concat();
        assert_eq!(seen, expected);
    }

    proptest! {
        #[test]
        fn whatever_is_read_stays_readable_and_holds_no_name(name in "[a-z]{5,60}", count in 1..4_u8) {
            let mut chunks = Vec::new();
            for _ in 0..count {
                let mut chunk = vec![0, 0, 0, 7, 1, u8::try_from(name.len()).unwrap()];
                chunk.extend(name.bytes());
                chunk.push(0);
                while chunk.len() % 4 != 0 {
                    chunk.push(0);
                }
                chunks.extend(chunk);
            }
            let octets = [report(), packet(count, SOURCE_DESCRIPTION, &chunks)].concat();
            prop_assert!(Compound::read(&octets).is_ok());
            let seen = concealed(&octets);
            prop_assert!(Compound::read(&seen).is_ok());
            prop_assert!(!seen.windows(name.len()).any(|part| part == name.as_bytes()));
        }
    }
}
