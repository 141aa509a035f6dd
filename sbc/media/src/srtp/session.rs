//! Packets of one direction of a leg, sealed or opened in place: RFC 3711 §3.3 and §3.4, RFC 7714 §8 and §9. A session opens
//! or seals, never both: a key of one direction is not used in the other.

use aws_lc_rs::{
    aead::{Aad, Nonce},
    hmac,
};

use super::{
    MasterKey, OVERHEAD, Suite,
    keys::{Cipher, Kind, apply, derive},
    window::{Window, next_rtcp},
};
use crate::rtp::Header;

/// Sources of one direction at once; the one that was silent longest is not forgotten, as its indices must not be used
/// again: a further source is refused.
const SOURCES: usize = 16;
/// Octets of the SRTCP index with its bit for encryption.
const INDEX: usize = 4;
/// Octets of an SRTCP packet that stay in the clear.
const RTCP_CLEAR: usize = 8;
const ENCRYPTED: u32 = 1 << 31;

/// Why a packet was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too short, or no RTP.
    Malformed,
    /// Seen already, or too old to say.
    Replayed,
    /// The tag is not of this key and packet.
    Forged,
    /// More sources than a direction may have.
    TooManySources,
    /// The key is used up (RFC 3711 §9.2).
    UsedUp,
    /// No room for the tag.
    NoRoom,
}

/// Indices of one source.
#[derive(Clone, Copy)]
struct Source {
    ssrc: u32,
    rtp: Option<Window>,
    rtcp: Option<Window>,
}

/// One direction.
pub struct Session {
    suite: Suite,
    rtp: Cipher,
    rtcp: Cipher,
    sources: [Option<Source>; SOURCES],
    /// Place of the source seen last.
    recent: usize,
    /// SRTCP index that was used last.
    sent_rtcp: u64,
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.suite.name())
    }
}

impl Session {
    /// With the keys of `master`. `None`: the crypto library refuses them.
    #[must_use]
    pub fn new(master: &MasterKey) -> Option<Self> {
        Some(Self {
            suite: master.suite(),
            rtp: derive(master, Kind::Rtp).ok()?,
            rtcp: derive(master, Kind::Rtcp).ok()?,
            sources: [None; SOURCES],
            recent: 0,
            sent_rtcp: 0,
        })
    }

    /// Opens an SRTP packet; its length without the tag. Nothing is learned from one that is refused.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        let (header, sequence, ssrc) = rtp_parts(packet)?;
        let tag = self.suite.tag_octets();
        let body = packet
            .len()
            .checked_sub(tag)
            .filter(|end| *end >= header)
            .ok_or(Refused::Malformed)?;
        let place = self.place(ssrc)?;
        let window = self.source(place).and_then(|source| source.rtp);
        let index = match window {
            Some(window) => {
                let index = window.guess(sequence).ok_or(Refused::Replayed)?;
                if !window.is_fresh(index) {
                    return Err(Refused::Replayed);
                }
                index
            }
            None => u64::from(sequence),
        };
        match &self.rtp {
            Cipher::Counter { key, tag, salt } => {
                let (signed, given) = packet.split_at_mut(body);
                verify(tag, signed, rollover(index), given)?;
                let payload = signed.get_mut(header..).ok_or(Refused::Malformed)?;
                apply(key, counter_iv(salt, ssrc, index), payload).map_err(|_| Refused::Forged)?;
            }
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, ssrc, index);
                let (clear, sealed) = packet.split_at_mut(header);
                key.open_in_place(nonce, Aad::from(&*clear), sealed)
                    .map_err(|_| Refused::Forged)?;
            }
        }
        let mut window = window.unwrap_or(Window::new(index));
        window.take(index);
        self.keep(place, ssrc, |source| source.rtp = Some(window));
        Ok(body)
    }

    /// Seals an RTP packet that is the first `length` octets of `buffer`; its length with the tag. An index is never used
    /// twice: a repeated sequence number is refused.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn seal_rtp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, Refused> {
        if buffer.len() < length + OVERHEAD {
            return Err(Refused::NoRoom);
        }
        let packet = buffer.get(..length).ok_or(Refused::Malformed)?;
        let (header, sequence, ssrc) = rtp_parts(packet)?;
        let place = self.place(ssrc)?;
        let mut window = self
            .source(place)
            .and_then(|source| source.rtp)
            .unwrap_or(Window::new(u64::from(sequence)));
        let index = window.guess(sequence).ok_or(Refused::UsedUp)?;
        if !window.is_fresh(index) {
            return Err(Refused::Replayed);
        }
        window.take(index);
        let sealed = match &self.rtp {
            Cipher::Counter { key, tag, salt } => {
                let payload = buffer.get_mut(header..length).ok_or(Refused::Malformed)?;
                apply(key, counter_iv(salt, ssrc, index), payload).map_err(|_| Refused::Forged)?;
                let (signed, room) = buffer.split_at_mut(length);
                length + sign(tag, signed, rollover(index), room)
            }
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, ssrc, index);
                let (packet, room) = buffer.split_at_mut(length);
                let (clear, payload) = packet.split_at_mut(header);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*clear), payload)
                    .map_err(|_| Refused::Forged)?;
                length + put(room, tag.as_ref())
            }
        };
        self.keep(place, ssrc, |source| source.rtp = Some(window));
        Ok(sealed)
    }

    /// Opens an SRTCP packet; the compound's length. One that is not encrypted is refused.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        let tag = self.suite.tag_octets();
        let body = packet
            .len()
            .checked_sub(tag + INDEX)
            .filter(|end| *end >= RTCP_CLEAR)
            .ok_or(Refused::Malformed)?;
        let ssrc = word(packet, 4).ok_or(Refused::Malformed)?;
        // RFC 3711 puts the tag last, RFC 7714 the index.
        let index_at = if self.suite.is_aead() {
            body + tag
        } else {
            body
        };
        let marked = word(packet, index_at).ok_or(Refused::Malformed)?;
        if marked & ENCRYPTED == 0 {
            return Err(Refused::Forged);
        }
        let index = u64::from(marked & !ENCRYPTED);
        let place = self.place(ssrc)?;
        let window = self.source(place).and_then(|source| source.rtcp);
        if window.is_some_and(|window| !window.is_fresh(index)) {
            return Err(Refused::Replayed);
        }
        match &self.rtcp {
            Cipher::Counter { key, tag, salt } => {
                let (signed, given) = packet.split_at_mut(body + INDEX);
                verify(tag, signed, [], given)?;
                let payload = signed.get_mut(RTCP_CLEAR..body).ok_or(Refused::Malformed)?;
                apply(key, counter_iv(salt, ssrc, index), payload).map_err(|_| Refused::Forged)?;
            }
            Cipher::Gcm { key, salt } => {
                let (sealed, _) = packet.split_at_mut(body + tag);
                let (clear, sealed) = sealed.split_at_mut(RTCP_CLEAR);
                let associated = rtcp_associated(clear, marked)?;
                key.open_in_place(gcm_nonce(salt, ssrc, index), Aad::from(associated), sealed)
                    .map_err(|_| Refused::Forged)?;
            }
        }
        let mut window = window.unwrap_or(Window::new(index));
        window.take(index);
        self.keep(place, ssrc, |source| source.rtcp = Some(window));
        Ok(body)
    }

    /// Seals a compound that is the first `length` octets of `buffer`; its length with index and tag.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn seal_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, Refused> {
        if buffer.len() < length + OVERHEAD || length < RTCP_CLEAR {
            return Err(Refused::NoRoom);
        }
        let ssrc = word(buffer, 4).ok_or(Refused::Malformed)?;
        let index = next_rtcp(self.sent_rtcp).ok_or(Refused::UsedUp)?;
        self.sent_rtcp = index;
        let marked = u32::try_from(index).map_err(|_| Refused::UsedUp)? | ENCRYPTED;
        match &self.rtcp {
            Cipher::Counter { key, tag, salt } => {
                let payload = buffer
                    .get_mut(RTCP_CLEAR..length)
                    .ok_or(Refused::Malformed)?;
                apply(key, counter_iv(salt, ssrc, index), payload).map_err(|_| Refused::Forged)?;
                let (_, room) = buffer.split_at_mut(length);
                let signed = length + put(room, &marked.to_be_bytes());
                let (signed, room) = buffer.split_at_mut(signed);
                Ok(signed.len() + sign(tag, signed, [], room))
            }
            Cipher::Gcm { key, salt } => {
                let (packet, room) = buffer.split_at_mut(length);
                let (clear, payload) = packet.split_at_mut(RTCP_CLEAR);
                let associated = rtcp_associated(clear, marked)?;
                let nonce = gcm_nonce(salt, ssrc, index);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(associated), payload)
                    .map_err(|_| Refused::Forged)?;
                let tagged = put(room, tag.as_ref());
                let (_, room) = room.split_at_mut(tagged);
                Ok(length + tagged + put(room, &marked.to_be_bytes()))
            }
        }
    }

    /// The place of a source, or of one that may be taken in.
    fn place(&self, ssrc: u32) -> Result<usize, Refused> {
        let is = |place: usize| self.source(place).is_some_and(|source| source.ssrc == ssrc);
        if is(self.recent) {
            return Ok(self.recent);
        }
        (0..SOURCES)
            .find(|place| is(*place))
            .or_else(|| self.sources.iter().position(Option::is_none))
            .ok_or(Refused::TooManySources)
    }

    fn source(&self, place: usize) -> Option<Source> {
        self.sources.get(place).copied().flatten()
    }

    fn keep(&mut self, place: usize, ssrc: u32, change: impl FnOnce(&mut Source)) {
        self.recent = place;
        if let Some(slot) = self.sources.get_mut(place) {
            change(slot.get_or_insert(Source {
                ssrc,
                rtp: None,
                rtcp: None,
            }));
        }
    }
}

/// Length of the header, sequence number and SSRC.
fn rtp_parts(packet: &[u8]) -> Result<(usize, u16, u32), Refused> {
    let header = Header::clear_octets(packet).ok_or(Refused::Malformed)?;
    match packet {
        [_, _, high, low, ..] => {
            let ssrc = word(packet, 8).ok_or(Refused::Malformed)?;
            Ok((header, u16::from_be_bytes([*high, *low]), ssrc))
        }
        _ => Err(Refused::Malformed),
    }
}

fn word(octets: &[u8], at: usize) -> Option<u32> {
    octets
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_be_bytes)
}

/// Puts octets at the front of room that is known to be there; how many.
fn put(room: &mut [u8], octets: &[u8]) -> usize {
    for (place, octet) in room.iter_mut().zip(octets) {
        *place = *octet;
    }
    octets.len()
}

/// The roll-over counter as it is signed.
const fn rollover(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

fn counter_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let numbers = u128::from(ssrc) << 64 | u128::from(index) << 16;
    let mut iv = numbers.to_be_bytes();
    for (place, octet) in iv.iter_mut().zip(salt) {
        *place ^= octet;
    }
    iv
}

/// RFC 7714 §8.1 and §9.1: two zeros, SSRC, six octets of index.
fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let numbers = u128::from(ssrc) << 48 | u128::from(index);
    let [_, _, _, _, iv @ ..] = numbers.to_be_bytes();
    let mut iv: [u8; 12] = iv;
    for (place, octet) in iv.iter_mut().zip(salt) {
        *place ^= octet;
    }
    Nonce::assume_unique_for_key(iv)
}

fn rtcp_associated(clear: &[u8], marked: u32) -> Result<[u8; 12], Refused> {
    let mut associated = [0; 12];
    let (head, end) = associated.split_at_mut(RTCP_CLEAR);
    head.copy_from_slice(clear.get(..RTCP_CLEAR).ok_or(Refused::Malformed)?);
    end.copy_from_slice(&marked.to_be_bytes());
    Ok(associated)
}

fn signature(key: &hmac::Key, octets: &[u8], more: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(octets);
    context.update(more);
    context.sign()
}

/// Writes the tag, 80 bits of it; its length.
fn sign(key: &hmac::Key, octets: &[u8], more: impl AsRef<[u8]>, room: &mut [u8]) -> usize {
    let tag = signature(key, octets, more.as_ref());
    put(room, tag.as_ref().get(..10).unwrap_or_default())
}

fn verify(
    key: &hmac::Key,
    octets: &[u8],
    more: impl AsRef<[u8]>,
    given: &[u8],
) -> Result<(), Refused> {
    use subtle::ConstantTimeEq as _;

    let tag = signature(key, octets, more.as_ref());
    let expected = tag.as_ref().get(..10).unwrap_or_default();
    if bool::from(expected.ct_eq(given)) {
        Ok(())
    } else {
        Err(Refused::Forged)
    }
}
