//! What a source may take of us: scanners are known by their marks, everything else has a rate.
//!
//! Load is shed in one order: strangers first, then new calls, then registrations; requests inside a dialog are never
//! counted. A refused stranger is not answered, a refused known peer gets 503 with Retry-After.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Marks of scanners in User-Agent, From user or tags, in lower case (lab contract §6).
const SCANNERS: [&str; 8] = [
    "friendly-scanner",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sundayddr",
    "vaxsipuseragent",
    "pplsip",
    "iwar",
];

/// Requests a second from one stranger's address, and how many at once.
const STRANGER: Rate = Rate {
    per_second: 5,
    burst: 20,
};
/// Requests a second from all strangers together.
const STRANGERS: Rate = Rate {
    per_second: 200,
    burst: 400,
};
/// Requests outside a dialog a second from one known address (a trunk's or the PBX's calls come from one).
const KNOWN: Rate = Rate {
    per_second: 5_000,
    burst: 10_000,
};
/// Sources whose rates are kept at once; a source beyond that is refused.
const SOURCES: usize = 20_000;

/// A token bucket's shape.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// A token bucket, counted in thousandths so that a slow rate loses nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    millis: u64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self {
            millis: u64::from(rate.burst) * 1000,
            at: now,
        }
    }

    /// Full for any rate, until [`Self::cap`] says which.
    pub(crate) const fn brimming(now: Instant) -> Self {
        Self {
            millis: u64::MAX,
            at: now,
        }
    }

    /// Keep no more than the rate allows at once.
    pub(crate) fn cap(&mut self, rate: Rate) {
        self.millis = self.millis.min(u64::from(rate.burst) * 1000);
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed =
            u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(u64::from(rate.per_second));
        if gained > 0 {
            self.millis = self
                .millis
                .saturating_add(gained)
                .min(u64::from(rate.burst) * 1000);
            self.at = now;
        }
    }

    /// Whether there is one to take.
    pub(crate) fn has(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.millis >= 1000
    }

    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.take_above(rate, 0, now)
    }

    /// Take one, if `reserve` are left afterwards.
    pub(crate) fn take_above(&mut self, rate: Rate, reserve: u32, now: Instant) -> bool {
        self.refill(rate, now);
        let enough = self.millis >= 1000 + u64::from(reserve) * 1000;
        if enough {
            self.millis -= 1000;
        }
        enough
    }

    /// Take so many, or all that there are.
    pub(crate) fn charge(&mut self, count: u32) {
        self.millis = self.millis.saturating_sub(u64::from(count) * 1000);
    }

    pub(crate) fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.millis >= u64::from(rate.burst) * 1000
    }
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// This source asks too often.
    Source,
    /// All strangers together ask too often.
    Stranger,
    /// Too many new calls a second.
    Call,
}

impl Shed {
    /// Stable word for counters and logs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Source => "source-rate",
            Self::Stranger => "stranger-rate",
            Self::Call => "call-rate",
        }
    }
}

/// Rates of all sources. Bounded by [`SOURCES`].
pub(crate) struct Rates {
    sources: BTreeMap<IpAddr, (Bucket, bool)>,
    strangers: Bucket,
    calls: Bucket,
}

impl Rates {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            sources: BTreeMap::new(),
            strangers: Bucket::full(STRANGERS, now),
            // Full at the first call: the rate is a setting and not known here.
            calls: Bucket {
                millis: u64::MAX,
                at: now,
            },
        }
    }

    /// A request outside a dialog from `source`.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        source: IpAddr,
        known: bool,
    ) -> Result<(), Shed> {
        let rate = if known { KNOWN } else { STRANGER };
        let key = aggregate(source);
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&key) {
            self.sweep(now);
            if self.sources.len() >= SOURCES {
                return Err(Shed::Source);
            }
        }
        let entry = self
            .sources
            .entry(key)
            .or_insert_with(|| (Bucket::full(rate, now), known));
        if entry.1 != known {
            *entry = (Bucket::full(rate, now), known);
        }
        if !entry.0.take(rate, now) {
            return Err(Shed::Source);
        }
        if !known && !self.strangers.take(STRANGERS, now) {
            return Err(Shed::Stranger);
        }
        Ok(())
    }

    /// A new call; `per_second` is the configured rate, a burst of one second is allowed.
    pub(crate) fn call(&mut self, now: Instant, per_second: u32) -> Result<(), Shed> {
        let rate = Rate {
            per_second,
            burst: per_second,
        };
        self.calls.millis = self.calls.millis.min(u64::from(rate.burst) * 1000);
        if self.calls.take(rate, now) {
            Ok(())
        } else {
            Err(Shed::Call)
        }
    }

    /// Forget sources that have been quiet; the wait until the next sweep, `None` if nothing is left.
    pub(crate) fn sweep(&mut self, now: Instant) -> Option<Duration> {
        self.sources.retain(|_, (bucket, known)| {
            !bucket.is_full(if *known { KNOWN } else { STRANGER }, now)
        });
        (!self.sources.is_empty()).then_some(Duration::from_secs(10))
    }

    /// How many sources are kept.
    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    pub(crate) fn clear(&mut self, now: Instant) {
        *self = Self::new(now);
    }
}

/// One subscriber has at least a whole /64 of IPv6, so that is one source.
pub(crate) fn aggregate(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
        },
    }
}

/// Whether a request bears a known scanner's mark: User-Agent, From user or From tag.
pub(crate) fn is_scanner(user_agent: &str, from_user: &str, from_tag: &str) -> bool {
    [user_agent, from_user, from_tag].iter().any(|text| {
        let text = text.to_ascii_lowercase();
        SCANNERS.iter().any(|mark| text.contains(mark))
    }) || (user_agent.to_ascii_lowercase().contains("eyebeam") && has_sipvicious_tag(from_tag))
}

/// sipvicious writes `<hex of address and port>` as tag: hex digits alone, of which decoding gives printable text that
/// holds the target's address (`3139322e…` is `192.`).
fn has_sipvicious_tag(tag: &str) -> bool {
    let hex = tag.len() >= 16 && tag.bytes().all(|octet| octet.is_ascii_hexdigit());
    hex && tag
        .as_bytes()
        .chunks_exact(2)
        .take(7)
        .all(|pair| matches!(pair, [b'3', b'0'..=b'9'] | [b'2', b'e' | b'E']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    #[test]
    fn a_strangers_rate_is_its_own_and_comes_back() {
        let start = epoch();
        let mut rates = Rates::new(start);
        let one = "198.51.100.66".parse().unwrap();
        let other = "198.51.100.30".parse().unwrap();
        let served = (0..100)
            .filter(|_| rates.request(start, one, false).is_ok())
            .count();
        assert_eq!(served, STRANGER.burst as usize);
        assert_eq!(rates.request(start, one, false), Err(Shed::Source));
        assert_eq!(rates.request(start, other, false), Ok(()));
        assert_eq!(
            rates.request(start + Duration::from_secs(1), one, false),
            Ok(())
        );
    }

    #[test]
    fn all_strangers_together_have_a_rate_that_known_peers_do_not_feel() {
        let start = epoch();
        let mut rates = Rates::new(start);
        let served = (0..1000u32)
            .filter(|n| {
                rates
                    .request(start, IpAddr::V4((0xc612_0000 + n).into()), false)
                    .is_ok()
            })
            .count();
        assert_eq!(served, STRANGERS.burst as usize);
        assert_eq!(
            rates.request(start, "198.51.100.20".parse().unwrap(), true),
            Ok(())
        );
    }

    #[test]
    fn a_subscribers_64_bit_network_is_one_source() {
        assert_eq!(
            aggregate("2001:db8:e::1:2:3:4".parse().unwrap()),
            aggregate("2001:db8:e::9:8:7:6".parse().unwrap())
        );
        assert_eq!(
            aggregate("::ffff:198.51.100.66".parse().unwrap()),
            "198.51.100.66".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn quiet_sources_are_forgotten() {
        let start = epoch();
        let mut rates = Rates::new(start);
        rates
            .request(start, "198.51.100.66".parse().unwrap(), false)
            .unwrap();
        assert!(rates.sweep(start).is_some());
        assert_eq!(rates.sweep(start + Duration::from_secs(60)), None);
        assert_eq!(rates.len(), 0);
    }

    #[test]
    fn the_call_rate_is_the_configured_one() {
        let start = epoch();
        let mut rates = Rates::new(start);
        assert_eq!(
            (0..50).filter(|_| rates.call(start, 10).is_ok()).count(),
            10
        );
        assert!(rates.call(start + Duration::from_millis(100), 10).is_ok());
        assert!(rates.call(start + Duration::from_millis(100), 10).is_err());
        assert!(Rates::new(start).call(start, 0).is_err());
    }

    #[test]
    fn scanners_are_known_by_their_marks() {
        for (agent, user, tag) in [
            ("friendly-scanner", "", ""),
            ("VaxSIPUserAgent/3.0", "", ""),
            ("", "sipvicious", ""),
            ("", "", "x-sundayddr-1"),
            ("pplsip", "100", "1"),
            ("eyeBeam release 1102", "", "3139322e302e322e310131"),
        ] {
            assert!(is_scanner(agent, user, tag), "{agent} {user} {tag}");
        }
        assert!(!is_scanner("eyeBeam release 1102", "1001", "a94f"));
        assert!(!is_scanner("baresip v3", "1001", "3139322e302e322e310131"));
    }
}
