//! A file of the store: one header line that says what the rest must be, then the rest. A cut-off, mixed-up or flipped
//! file does not open.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Why a file does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    /// No header of this store.
    #[error("it has no header of this store")]
    NoHeader,
    /// Of another revision than its name says.
    #[error("it belongs to another revision")]
    WrongRevision,
    /// Shorter or longer than the header says.
    #[error("it is cut off")]
    Length,
    /// The checksum differs.
    #[error("its checksum is wrong, the disk damaged it")]
    Checksum,
}

pub(super) struct Record;

impl Record {
    /// Octets of the longest header.
    pub(super) const HEADER: usize = 160;

    /// Header and body. The checksum covers the revision and the length too.
    pub(super) fn seal(body: &[u8], revision: u64) -> Zeroizing<Vec<u8>> {
        let mut bytes = Vec::with_capacity(Self::HEADER + body.len());
        let length = body.len();
        let checksum = checksum(body, revision);
        bytes.extend_from_slice(
            format!("gatehouse 1 revision={revision} length={length} sha256={checksum}\n")
                .as_bytes(),
        );
        bytes.extend_from_slice(body);
        Zeroizing::new(bytes)
    }

    /// The body of an undamaged file of that revision.
    pub(super) fn open(bytes: &[u8], revision: u64) -> Result<&[u8], RecordError> {
        let end = bytes
            .iter()
            .take(Self::HEADER)
            .position(|b| *b == b'\n')
            .ok_or(RecordError::NoHeader)?;
        let (header, rest) = bytes.split_at_checked(end).ok_or(RecordError::NoHeader)?;
        let body = rest.get(1..).unwrap_or_default();
        let header = core::str::from_utf8(header).map_err(|_| RecordError::NoHeader)?;
        let fields = header
            .strip_prefix("gatehouse 1 revision=")
            .ok_or(RecordError::NoHeader)?;
        let (of, fields) = fields.split_once(" length=").ok_or(RecordError::NoHeader)?;
        let (length, sum) = fields.split_once(" sha256=").ok_or(RecordError::NoHeader)?;
        if of != revision.to_string() {
            return Err(RecordError::WrongRevision);
        }
        if length != body.len().to_string() {
            return Err(RecordError::Length);
        }
        if sum != checksum(body, revision) {
            Err(RecordError::Checksum)
        } else {
            Ok(body)
        }
    }
}

fn checksum(body: &[u8], revision: u64) -> String {
    let mut hash = Sha256::new();
    hash.update(revision.to_be_bytes());
    hash.update((body.len() as u64).to_be_bytes());
    hash.update(body);
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let sealed = Record::seal(b"schema = 1\n", 7);
        assert_eq!(Record::open(&sealed, 7), Ok(b"schema = 1\n".as_slice()));
        assert_eq!(Record::open(&sealed, 8), Err(RecordError::WrongRevision));
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut flipped = sealed.to_vec();
                flipped[at] ^= 1 << bit;
                assert!(
                    Record::open(&flipped, 7).is_err(),
                    "bit {bit} of octet {at}"
                );
            }
            assert!(Record::open(&sealed[..at], 7).is_err(), "cut at {at}");
        }
    }
}
