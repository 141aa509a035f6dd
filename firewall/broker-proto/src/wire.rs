//! Bytes of a message: one version octet, then the postcard encoding of exactly one value. Used by every channel.

use serde::{Serialize, de::DeserializeOwned};

/// Version of all messages in this crate. Both ends come from one build, so any other value is refused.
pub const PROTOCOL_VERSION: u8 = 1;

/// Largest message in octets, version octet included. A receiver's buffer has this size.
pub const MAX_MESSAGE: usize = 64 * 1024;

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

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = decode::<ToBroker>(&bytes);
            let _ = decode::<FromBroker>(&bytes);
            let _ = decode::<crate::journal::ToJournal>(&bytes);
            let _ = decode::<crate::keyholder::ToKeyholder>(&bytes);
            let _ = decode::<crate::status::ToStatus>(&bytes);
            let _ = decode::<crate::control::FromChild>(&bytes);
        }
    }
}
