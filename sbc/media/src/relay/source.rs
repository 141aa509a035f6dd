//! Which source address of a leg is believed, and when it is learned (RFC 7362 §4 done safely). Nothing is learned but
//! by [`Learn::Host`], and from it: one port, from a valid packet, inside the window, once. No later packet moves it.

use core::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Learn;

/// How long RTCP of a leg may take to prove its source after RTP did: one and a half of RFC 3550 §6.2's least interval.
const RTCP_WINDOW: Duration = Duration::from_millis(7500);

/// Ports below are no client's.
const LOWEST_PORT: u16 = 1024;

/// What a source address is to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The proved one.
    Proved,
    /// Allowed; this packet proves it.
    Provable,
    /// Somebody else.
    Stranger,
    /// The host is right, but the window is closed or RTP was not proved yet.
    Untimely,
}

/// The rule of a leg and what was proved under it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources {
    learn: Learn,
    since: Instant,
    rtp: Option<SocketAddr>,
    rtp_proved_at: Instant,
    rtcp: Option<SocketAddr>,
}

impl Sources {
    pub(super) fn new(now: Instant, learn: Learn) -> Self {
        Self {
            learn,
            since: now,
            rtp: None,
            rtp_proved_at: now,
            rtcp: None,
        }
    }

    /// Puts another rule in force. The same rule changes nothing, not even its window; an exact one keeps what it names.
    pub(super) fn set(&mut self, now: Instant, learn: Learn) {
        if learn == self.learn {
            return;
        }
        let (rtp, rtcp) = match learn {
            Learn::Exact { rtp, rtcp } => (
                self.rtp.filter(|&proved| same(proved, rtp)),
                self.rtcp.filter(|&proved| same(proved, rtcp)),
            ),
            Learn::Host { .. } => (None, None),
        };
        *self = Self {
            learn,
            since: now,
            rtp,
            rtp_proved_at: self.rtp_proved_at,
            rtcp,
        };
    }

    /// Standing of the source of a well-formed RTP packet.
    pub(super) fn of_rtp(&self, now: Instant, source: SocketAddr) -> Standing {
        if let Some(proved) = self.rtp {
            return if same(proved, source) {
                Standing::Proved
            } else {
                Standing::Stranger
            };
        }
        match self.learn {
            Learn::Exact { rtp, .. } if same(rtp, source) => Standing::Provable,
            Learn::Host { host, window_ms }
                if host == source.ip() && source.port() >= LOWEST_PORT =>
            {
                if self.in_window(now, window_ms) {
                    Standing::Provable
                } else {
                    Standing::Untimely
                }
            }
            _ => Standing::Stranger,
        }
    }

    /// Standing of the source of a well-formed compound on a socket of its own. `known_ssrc`: the sender of the report
    /// is one whose RTP was accepted.
    pub(super) fn of_rtcp(&self, now: Instant, source: SocketAddr, known_ssrc: bool) -> Standing {
        if let Some(proved) = self.rtcp {
            return if same(proved, source) {
                Standing::Proved
            } else {
                Standing::Stranger
            };
        }
        match self.learn {
            Learn::Exact { rtcp, .. } if same(rtcp, source) => Standing::Provable,
            Learn::Host { host, window_ms }
                if host == source.ip() && source.port() >= LOWEST_PORT =>
            {
                let open =
                    self.in_window(now, window_ms) || now <= self.rtp_proved_at + RTCP_WINDOW;
                if self.rtp.is_some() && known_ssrc && open {
                    Standing::Provable
                } else {
                    Standing::Untimely
                }
            }
            _ => Standing::Stranger,
        }
    }

    /// Standing of the source of a well-formed compound on the socket of RTP (RFC 5761).
    pub(super) fn of_multiplexed(&self, source: SocketAddr) -> Standing {
        match (self.rtp, self.learn) {
            (Some(proved), _) if same(proved, source) => Standing::Proved,
            // The port is known without a proof; reports may come before media.
            (None, Learn::Exact { rtp, .. }) if same(rtp, source) => Standing::Proved,
            (None, Learn::Host { host, .. }) if host == source.ip() => Standing::Untimely,
            _ => Standing::Stranger,
        }
    }

    pub(super) fn prove_rtp(&mut self, now: Instant, source: SocketAddr) {
        self.rtp = Some(source);
        self.rtp_proved_at = now;
    }

    pub(super) fn prove_rtcp(&mut self, source: SocketAddr) {
        self.rtcp = Some(source);
    }

    fn in_window(&self, now: Instant, window_ms: u32) -> bool {
        now <= self.since + Duration::from_millis(window_ms.into())
    }
}

/// Flow labels and scopes of IPv6 do not make another peer.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip() == b.ip()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_MS: u32 = 2000;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn host_rule() -> Learn {
        Learn::Host {
            host: "198.51.100.10".parse().unwrap(),
            window_ms: WINDOW_MS,
        }
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn any_port_of_the_host_proves_itself_inside_the_window_only() {
        let start = crate::epoch();
        let sources = Sources::new(start, host_rule());
        let peer = address("198.51.100.10:40000");
        assert_eq!(sources.of_rtp(after(start, 2000), peer), Standing::Provable);
        assert_eq!(sources.of_rtp(after(start, 2001), peer), Standing::Untimely);
        assert_eq!(
            sources.of_rtp(start, address("198.51.100.66:40000")),
            Standing::Stranger
        );
        assert_eq!(
            sources.of_rtp(start, address("198.51.100.10:1023")),
            Standing::Stranger
        );
    }

    #[test]
    fn once_proved_no_other_port_is_believed_even_inside_the_window() {
        let start = crate::epoch();
        let mut sources = Sources::new(start, host_rule());
        sources.prove_rtp(start, address("198.51.100.10:40000"));
        assert_eq!(
            sources.of_rtp(start, address("198.51.100.10:40001")),
            Standing::Stranger
        );
        assert_eq!(
            sources.of_rtp(after(start, 60_000), address("198.51.100.10:40000")),
            Standing::Proved
        );
    }

    #[test]
    fn the_same_rule_again_does_not_open_a_new_window() {
        let start = crate::epoch();
        let mut sources = Sources::new(start, host_rule());
        sources.set(after(start, 1999), host_rule());
        assert_eq!(
            sources.of_rtp(after(start, 2001), address("198.51.100.10:40000")),
            Standing::Untimely
        );
    }

    #[test]
    fn an_exact_rule_keeps_the_proof_of_the_address_it_names_and_no_other() {
        let start = crate::epoch();
        let peer = address("198.51.100.10:40000");
        let mut sources = Sources::new(start, host_rule());
        sources.prove_rtp(start, peer);
        sources.set(
            start,
            Learn::Exact {
                rtp: peer,
                rtcp: address("198.51.100.10:40001"),
            },
        );
        assert_eq!(sources.of_rtp(start, peer), Standing::Proved);
        let moved = address("198.51.100.10:50000");
        sources.set(
            start,
            Learn::Exact {
                rtp: moved,
                rtcp: address("198.51.100.10:50001"),
            },
        );
        assert_eq!(sources.of_rtp(start, peer), Standing::Stranger);
        assert_eq!(sources.of_rtp(start, moved), Standing::Provable);
    }

    #[test]
    fn rtcp_is_proved_after_rtp_only_from_the_same_host_with_a_known_ssrc_and_in_time() {
        let start = crate::epoch();
        let reports = address("198.51.100.10:40001");
        let mut sources = Sources::new(start, host_rule());
        assert_eq!(sources.of_rtcp(start, reports, true), Standing::Untimely);
        sources.prove_rtp(start, address("198.51.100.10:40000"));
        assert_eq!(sources.of_rtcp(start, reports, true), Standing::Provable);
        assert_eq!(sources.of_rtcp(start, reports, false), Standing::Untimely);
        assert_eq!(
            sources.of_rtcp(after(start, 7501), reports, true),
            Standing::Untimely
        );
        assert_eq!(
            sources.of_rtcp(start, address("198.51.100.66:40001"), true),
            Standing::Stranger
        );
        sources.prove_rtcp(reports);
        assert_eq!(
            sources.of_rtcp(start, address("198.51.100.10:40003"), true),
            Standing::Stranger
        );
    }

    #[test]
    fn multiplexed_rtcp_is_heard_from_the_source_of_rtp_alone() {
        let start = crate::epoch();
        let peer = address("198.51.100.10:40000");
        let mut sources = Sources::new(start, host_rule());
        assert_eq!(sources.of_multiplexed(peer), Standing::Untimely);
        sources.prove_rtp(start, peer);
        assert_eq!(sources.of_multiplexed(peer), Standing::Proved);
        assert_eq!(
            sources.of_multiplexed(address("198.51.100.10:40002")),
            Standing::Stranger
        );
    }

    #[test]
    fn a_flow_label_does_not_make_another_peer() {
        let plain = address("[2001:db8:e::10]:40000");
        let labelled = SocketAddr::V6(std::net::SocketAddrV6::new(
            "2001:db8:e::10".parse().unwrap(),
            40000,
            7,
            3,
        ));
        assert!(same(plain, labelled));
    }
}
