//! Bytes of a packet: one version octet, then the postcard encoding of exactly one value. Used by every channel; on the
//! broker's, values that one turn brought about may follow each other in a packet, since to wake a process costs more than
//! to read a message.

use serde::{Serialize, de::DeserializeOwned};

/// Version of all messages in this crate. Both ends come from one build, so any other value is refused.
pub const PROTOCOL_VERSION: u8 = 1;

/// Largest message in octets, version octet included. A receiver's buffer has this size.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Messages in one packet at most.
pub const MAX_TOGETHER: usize = 16;

/// Why bytes are no message (the sender's fault) or a value cannot be sent (ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Nothing in the packet.
    #[error("empty message")]
    Empty,
    /// The first octet is not [`PROTOCOL_VERSION`].
    #[error("protocol version {0} is not spoken")]
    Version(u8),
    /// Longer than [`MAX_MESSAGE`].
    #[error("message of {0} octets is too long")]
    TooLong(usize),
    /// The body is not an encoding of the expected type.
    #[error("malformed message")]
    Malformed,
    /// More than [`MAX_TOGETHER`] messages.
    #[error("too many messages in one packet")]
    TooMany,
    /// Octets follow the value.
    #[error("{0} octets after the message")]
    TrailingOctets(usize),
}

/// The bytes of `message`. Fails with [`ProtocolError::TooLong`] above [`MAX_MESSAGE`] octets.
///
/// # Errors
/// `TooLong`, or `Malformed` for a value that has no encoding (none of this crate's types has such a value).
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let bytes = postcard::to_extend(message, vec![PROTOCOL_VERSION])
        .map_err(|_| ProtocolError::Malformed)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(ProtocolError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// The one value that `bytes` hold, to the last octet.
///
/// # Errors
/// One variant of [`ProtocolError`] per offence; nothing is read beyond `bytes`, nothing is allocated beyond their length
/// times a small constant.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ProtocolError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(ProtocolError::TooLong(bytes.len()));
    }
    let (&version, body) = bytes.split_first().ok_or(ProtocolError::Empty)?;
    if version != PROTOCOL_VERSION {
        return Err(ProtocolError::Version(version));
    }
    let (value, rest) = postcard::take_from_bytes(body).map_err(|_| ProtocolError::Malformed)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(ProtocolError::TrailingOctets(rest.len()))
    }
}

/// A packet that grows message by message.
#[derive(Debug, Default)]
pub struct Packet {
    bytes: Vec<u8>,
    messages: usize,
}

impl Packet {
    /// Puts `message` behind the others, if the packet then has at most [`MAX_TOGETHER`] messages and `octets` octets; a
    /// first message always goes in, up to [`MAX_MESSAGE`]. `false`: it is not in, and goes into the next packet.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn push<T: Serialize>(
        &mut self,
        message: &T,
        octets: usize,
    ) -> Result<bool, ProtocolError> {
        if self.messages == 0 {
            self.bytes = encode(message)?;
            self.messages = 1;
            return Ok(true);
        }
        let before = self.bytes.len();
        let grown = postcard::to_extend(message, std::mem::take(&mut self.bytes));
        self.bytes = grown.map_err(|_| ProtocolError::Malformed)?;
        let fits = self.messages < MAX_TOGETHER && self.bytes.len() <= octets.min(MAX_MESSAGE);
        if fits {
            self.messages += 1;
        } else {
            self.bytes.truncate(before);
        }
        Ok(fits)
    }

    /// Its bytes; nothing, if no message went in.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The values that `bytes` hold one behind the other, at least one and at most [`MAX_TOGETHER`], to the last octet.
///
/// # Errors
/// As [`decode`], and `TooMany`; then none of them counts.
pub fn decode_together<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, ProtocolError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(ProtocolError::TooLong(bytes.len()));
    }
    let (&version, mut rest) = bytes.split_first().ok_or(ProtocolError::Empty)?;
    if version != PROTOCOL_VERSION {
        return Err(ProtocolError::Version(version));
    }
    let mut values = Vec::with_capacity(1);
    loop {
        let before = rest.len();
        let (value, behind) =
            postcard::take_from_bytes(rest).map_err(|_| ProtocolError::Malformed)?;
        values.push(value);
        if behind.is_empty() {
            return Ok(values);
        }
        // A value of no octets would never end.
        if values.len() >= MAX_TOGETHER || behind.len() == before {
            return Err(ProtocolError::TooMany);
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{FromBroker, ToBroker};

    #[test]
    fn a_message_survives_the_round_trip() {
        let message = ToBroker::Health { sequence: 7 };
        assert_eq!(decode::<ToBroker>(&encode(&message).unwrap()), Ok(message));
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = encode(&ToBroker::Health { sequence: 7 }).unwrap();
        bytes[0] = PROTOCOL_VERSION + 1;
        assert_eq!(
            decode::<ToBroker>(&bytes),
            Err(ProtocolError::Version(PROTOCOL_VERSION + 1))
        );
    }

    #[test]
    fn an_octet_after_the_message_is_refused() {
        let mut bytes = encode(&ToBroker::Health { sequence: 7 }).unwrap();
        bytes.push(0);
        assert_eq!(
            decode::<ToBroker>(&bytes),
            Err(ProtocolError::TrailingOctets(1))
        );
    }

    #[test]
    fn a_cut_message_is_refused_at_every_length() {
        let bytes = encode(&ToBroker::Ban {
            id: crate::RequestId(1),
            key: crate::broker::BanKey::Host("192.0.2.1".parse().unwrap()),
            scope: crate::broker::BanScope::Signalling,
            seconds: 60,
            reason: "scanner".into(),
        })
        .unwrap();
        for length in 0..bytes.len() {
            assert!(
                decode::<ToBroker>(&bytes[..length]).is_err(),
                "{length} octets decoded"
            );
        }
    }

    #[test]
    fn messages_of_one_packet_come_out_in_order_and_one_too_many_goes_into_the_next() {
        let health = |sequence| ToBroker::Health { sequence };
        let mut packet = Packet::default();
        for sequence in 0..MAX_TOGETHER as u64 {
            assert_eq!(packet.push(&health(sequence), 1000), Ok(true));
        }
        assert_eq!(packet.push(&health(99), 1000), Ok(false));
        let mut bytes = packet.into_bytes();
        let expected: Vec<_> = (0..MAX_TOGETHER as u64).map(health).collect();
        assert_eq!(decode_together::<ToBroker>(&bytes), Ok(expected));
        assert!(
            decode::<ToBroker>(&bytes).is_err(),
            "elsewhere one message is a packet"
        );
        bytes.extend(&encode(&health(1)).unwrap()[1..]);
        assert_eq!(
            decode_together::<ToBroker>(&bytes),
            Err(ProtocolError::TooMany)
        );
    }

    #[test]
    fn a_packet_is_not_longer_than_it_may_be_and_nothing_cut_counts() {
        let ban = ToBroker::Ban {
            id: crate::RequestId(1),
            key: crate::broker::BanKey::Host("192.0.2.1".parse().unwrap()),
            scope: crate::broker::BanScope::Signalling,
            seconds: 60,
            reason: "scanner".repeat(10),
        };
        let mut packet = Packet::default();
        assert_eq!(
            packet.push(&ban, 10),
            Ok(true),
            "the first one is in whatever its length"
        );
        assert_eq!(packet.push(&ban, 100), Ok(false));
        assert_eq!(packet.push(&ban, 1000), Ok(true));
        let bytes = packet.into_bytes();
        assert_eq!(decode_together::<ToBroker>(&bytes).unwrap().len(), 2);
        let one = encode(&ban).unwrap().len();
        for length in (0..bytes.len()).filter(|length| *length != one) {
            assert!(
                decode_together::<ToBroker>(&bytes[..length]).is_err(),
                "{length} octets"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = decode::<ToBroker>(&bytes);
            let _ = decode::<FromBroker>(&bytes);
            let _ = decode_together::<ToBroker>(&bytes);
            let _ = decode_together::<FromBroker>(&bytes);
            let _ = decode::<crate::journal::ToJournal>(&bytes);
            let _ = decode::<crate::keyholder::ToKeyholder>(&bytes);
            let _ = decode::<crate::status::ToStatus>(&bytes);
            let _ = decode::<crate::control::FromChild>(&bytes);
        }
    }
}
