//! What an answer must have of its offer: RFC 3264 §6. Asked by the core before an answer counts.

use thiserror::Error;

use super::SessionDescription;

/// Why a description is no answer to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// Another number of media descriptions.
    #[error("another number of media descriptions")]
    Count,
    /// A media description of another kind or protocol in that place.
    #[error("media description {0} is of another kind")]
    Kind(usize),
    /// A stream taken that the offer had refused.
    #[error("media description {0} was offered with port 0")]
    Refused(usize),
    /// A direction that the offer does not allow.
    #[error("media description {0} goes another way than offered")]
    Direction(usize),
}

/// Whether `answer` is one to `offer`: as many media descriptions, each of the same kind and protocol, none taken that was
/// offered with port 0, none sending where the offer does not receive.
pub fn answers(offer: &SessionDescription, answer: &SessionDescription) -> Result<(), Mismatch> {
    if offer.media.len() != answer.media.len() {
        return Err(Mismatch::Count);
    }
    for (index, (offered, answered)) in offer.media.iter().zip(&answer.media).enumerate() {
        let same =
            offered.kind == answered.kind && offered.proto.eq_ignore_ascii_case(&answered.proto);
        if !same {
            return Err(Mismatch::Kind(index));
        }
        if answered.port == 0 {
            continue;
        }
        if offered.port == 0 {
            return Err(Mismatch::Refused(index));
        }
        let (offers, takes) = (offer.direction_of(offered), answer.direction_of(answered));
        // RFC 3264 §6.1.
        let fits = (offers.receives() || !takes.sends()) && (offers.sends() || !takes.receives());
        if !fits {
            return Err(Mismatch::Direction(index));
        }
    }
    Ok(())
}
