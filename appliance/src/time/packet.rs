//! NTPv4 packets (RFC 5905 §7.3) as far as a client needs them: the request that says nothing of us, and a reply that was
//! checked against it. Timestamps are 64 bits, seconds and fraction, of an era that is never asked for: only differences
//! count, which are right as long as both clocks lie within 68 years of each other (§6).

use std::time::Duration;

/// Octets of a packet without extension fields and authenticator; nothing else is sent or taken.
pub const LENGTH: usize = 48;

/// Seconds from the beginning of NTP's first era to that of Unix (RFC 5905 §A.4).
const UNIX_EPOCH: u64 = 2_208_988_800;
/// Largest root distance of a server that is believed (RFC 5905 §7.2, MAXDIST; chrony and ntpd use the same).
const MAX_ROOT_DISTANCE: Duration = Duration::from_millis(1_500);
/// Longest journey there and back that a sample may have had.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// A timestamp, 32.32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Of a time since the Unix epoch.
    #[must_use]
    pub const fn of_unix(since_epoch: Duration) -> Self {
        let fraction = ((since_epoch.subsec_nanos() as u64) << 32) / 1_000_000_000;
        Self((since_epoch.as_secs().wrapping_add(UNIX_EPOCH) << 32) | fraction)
    }

    /// Later by a span.
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        let fraction = ((span.subsec_nanos() as u64) << 32) / 1_000_000_000;
        Self(self.0.wrapping_add((span.as_secs() << 32) | fraction))
    }

    /// Nanoseconds from `earlier` to this, negative if it is later.
    #[must_use]
    fn since(self, earlier: Self) -> i128 {
        let difference = self.0.wrapping_sub(earlier.0).cast_signed();
        (i128::from(difference) * 1_000_000_000) >> 32
    }
}

/// A request on its way: what a reply must repeat, and when it was sent by our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Random; stands where the packet has its transmit timestamp, so that a reply can not be forged unseen and the packet
    /// does not tell our clock (draft-ietf-ntp-data-minimization).
    pub nonce: u64,
    /// When it was sent.
    pub sent: Timestamp,
}

/// What a reply says of our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Server minus own clock, in ns.
    pub offset_ns: i64,
    /// How wrong `offset_ns` may be, in ns: half the journey and the server's own distance from its root.
    pub error_ns: i64,
}

/// Why a reply is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another length than [`LENGTH`].
    #[error("length")]
    Length,
    /// Neither version 4 nor a server's mode.
    #[error("version or mode")]
    Header,
    /// It repeats another origin timestamp (RFC 5905 §8, TEST2): forged, or a late answer.
    #[error("origin timestamp")]
    Origin,
    /// Kiss-o'-death `DENY` or `RSTR` (§7.4): ask no more.
    #[error("kiss-o'-death, go away")]
    KissAway,
    /// Kiss-o'-death `RATE`, or another code: ask less.
    #[error("kiss-o'-death, slower")]
    KissSlower,
    /// The server says itself that it has no time (leap indicator 3, stratum 16 and above, zero timestamps).
    #[error("unsynchronised")]
    Unsynchronised,
    /// Root distance or journey too long, or times that can not be.
    #[error("distance")]
    Distance,
}

impl Request {
    /// The packet: version 4, mode client, everything else zero but the nonce.
    #[must_use]
    pub fn bytes(&self) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        let (head, nonce) = packet.split_at_mut(40);
        if let Some(first) = head.first_mut() {
            *first = 4 << 3 | 3;
        }
        nonce.copy_from_slice(&self.nonce.to_be_bytes());
        packet
    }

    /// Checks a reply that came `received` by the clock that [`Self::sent`] was read from.
    ///
    /// # Errors
    /// The first test that it fails, in the order of RFC 5905 §9.2; the origin is tested before anything that the reply
    /// says is obeyed, so that nobody off the path can send a kiss-o'-death.
    pub fn check(&self, reply: &[u8], received: Timestamp) -> Result<Sample, Refusal> {
        let reply: &[u8; LENGTH] = reply.try_into().map_err(|_| Refusal::Length)?;
        let [flags, stratum, ..] = *reply;
        if flags >> 3 & 7 != 4 || flags & 7 != 4 {
            return Err(Refusal::Header);
        }
        if long(reply, 24) != self.nonce {
            return Err(Refusal::Origin);
        }
        match (stratum, reply.get(12..16)) {
            (0, Some(b"DENY" | b"RSTR")) => return Err(Refusal::KissAway),
            (0, _) => return Err(Refusal::KissSlower),
            _ => {}
        }
        let (arrived, left) = (Timestamp(long(reply, 32)), Timestamp(long(reply, 40)));
        if flags >> 6 == 3 || stratum > 15 || arrived.0 == 0 || left.0 == 0 {
            return Err(Refusal::Unsynchronised);
        }
        let root_distance = short(reply, 4) / 2 + short(reply, 8);
        if root_distance > i128::try_from(MAX_ROOT_DISTANCE.as_nanos()).unwrap_or(0) {
            return Err(Refusal::Distance);
        }
        let (there, back) = (arrived.since(self.sent), left.since(received));
        let (away, held) = (received.since(self.sent), left.since(arrived));
        let delay = away - held;
        // A server answers after it was asked; rounding may make a journey of no length a little negative.
        if held < 0
            || delay < -1_000_000
            || away > i128::try_from(MAX_DELAY.as_nanos()).unwrap_or(0)
        {
            return Err(Refusal::Distance);
        }
        Ok(Sample {
            offset_ns: i64::try_from((there + back) / 2).map_err(|_| Refusal::Distance)?,
            error_ns: i64::try_from(delay.max(0) / 2 + root_distance)
                .map_err(|_| Refusal::Distance)?,
        })
    }
}

/// Eight octets at a fixed place.
fn long(packet: &[u8; LENGTH], at: usize) -> u64 {
    let octets = packet
        .get(at..at + 8)
        .and_then(|octets| octets.try_into().ok());
    octets.map_or(0, u64::from_be_bytes)
}

/// Nanoseconds of an NTP short, 16.16 bits, at a fixed place.
fn short(packet: &[u8; LENGTH], at: usize) -> i128 {
    let octets = packet
        .get(at..at + 4)
        .and_then(|octets| octets.try_into().ok());
    (i128::from(octets.map_or(0, u32::from_be_bytes)) * 1_000_000_000) >> 16
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// What an honest server at stratum 2 answers whose clock says `now` throughout.
    pub(crate) fn honest(request: &[u8], now: Timestamp) -> [u8; LENGTH] {
        let mut reply = [0; LENGTH];
        reply[..4].copy_from_slice(&[4 << 3 | 4, 2, 6, 0xec]);
        reply[24..32].copy_from_slice(&request[40..48]);
        reply[32..40].copy_from_slice(&now.0.to_be_bytes());
        reply[40..48].copy_from_slice(&now.0.to_be_bytes());
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::honest, *};
    use proptest::prelude::*;

    const SENT: Timestamp = Timestamp::of_unix(Duration::from_secs(1_800_000_000));

    fn request() -> Request {
        Request {
            nonce: 0x0123_4567_89ab_cdef,
            sent: SENT,
        }
    }

    fn reply() -> [u8; LENGTH] {
        honest(&request().bytes(), SENT.plus(Duration::from_millis(5_010)))
    }

    fn check(reply: &[u8]) -> Result<Sample, Refusal> {
        request().check(reply, SENT.plus(Duration::from_millis(20)))
    }

    #[test]
    fn an_honest_reply_gives_the_offset_and_its_bound() {
        let sample = check(&reply()).unwrap();
        assert!(
            (sample.offset_ns - 5_000_000_000).abs() < 1_000,
            "{sample:?}"
        );
        assert!((sample.error_ns - 10_000_000).abs() < 1_000, "{sample:?}");
    }

    #[test]
    fn a_clock_that_starts_in_1970_is_set_over_the_decades() {
        let request = Request {
            nonce: 1,
            sent: Timestamp::of_unix(Duration::from_secs(5)),
        };
        let now = Timestamp::of_unix(Duration::from_secs(1_800_000_000));
        let sample = request
            .check(&honest(&request.bytes(), now), request.sent)
            .unwrap();
        assert_eq!(sample.offset_ns / 1_000_000_000, 1_799_999_995);
    }

    #[test]
    fn the_request_tells_nothing_but_a_nonce() {
        let bytes = request().bytes();
        assert_eq!(bytes[0], 0x23);
        assert!(bytes[1..40].iter().all(|octet| *octet == 0));
    }

    #[test]
    fn each_test_of_the_reply_fails_alone() {
        let spoilt = |at: usize, octets: &[u8]| {
            let mut reply = reply();
            reply[at..at + octets.len()].copy_from_slice(octets);
            check(&reply).unwrap_err()
        };
        assert_eq!(check(&reply()[..47]), Err(Refusal::Length));
        assert_eq!(check(&[&reply()[..], &[0]].concat()), Err(Refusal::Length));
        assert_eq!(spoilt(0, &[4 << 3 | 3]), Refusal::Header);
        assert_eq!(spoilt(0, &[4 << 3 | 5]), Refusal::Header);
        assert_eq!(spoilt(0, &[3 << 3 | 4]), Refusal::Header);
        assert_eq!(spoilt(31, &[0xee]), Refusal::Origin);
        assert_eq!(spoilt(0, &[0xc0 | 4 << 3 | 4]), Refusal::Unsynchronised);
        assert_eq!(spoilt(1, &[16]), Refusal::Unsynchronised);
        assert_eq!(spoilt(32, &[0; 8]), Refusal::Unsynchronised);
        assert_eq!(spoilt(40, &[0; 8]), Refusal::Unsynchronised);
        assert_eq!(spoilt(4, &[0, 4, 0, 0]), Refusal::Distance);
        assert_eq!(spoilt(8, &[0, 2, 0, 0]), Refusal::Distance);
        let earlier = SENT.0.wrapping_sub(1 << 40).to_be_bytes();
        assert_eq!(spoilt(40, &earlier), Refusal::Distance);
    }

    #[test]
    fn a_kiss_of_death_counts_only_with_our_nonce() {
        for (code, refusal) in [
            (b"DENY", Refusal::KissAway),
            (b"RSTR", Refusal::KissAway),
            (b"RATE", Refusal::KissSlower),
        ] {
            let mut kiss = reply();
            kiss[1] = 0;
            kiss[12..16].copy_from_slice(code);
            assert_eq!(check(&kiss), Err(refusal));
            kiss[24] ^= 1;
            assert_eq!(check(&kiss), Err(Refusal::Origin));
        }
    }

    #[test]
    fn a_reply_that_was_long_under_way_is_not_used() {
        let late = SENT.plus(Duration::from_millis(2_001));
        assert_eq!(request().check(&reply(), late), Err(Refusal::Distance));
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic(reply in prop::collection::vec(any::<u8>(), 0..64), received in any::<u64>()) {
            let _ = request().check(&reply, Timestamp(received));
        }

        #[test]
        fn no_body_makes_it_panic(body in any::<[u8; 24]>(), end in any::<[u8; 16]>(), received in any::<u64>()) {
            let mut reply = reply();
            reply[..24].copy_from_slice(&body);
            reply[0] = 4 << 3 | 4;
            reply[32..].copy_from_slice(&end);
            let _ = request().check(&reply, Timestamp(received));
        }
    }
}
