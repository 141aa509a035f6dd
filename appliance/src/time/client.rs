//! The client, without sockets and clocks: rounds in which every server is asked once, each from a socket of its own, and
//! what follows from the answers. The shell in `time` opens sockets, reads clocks and tells init. RFC 5905 §10, RFC 8633.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    agreement::agreement,
    packet::{LENGTH, Refusal, Request, Sample, Timestamp},
};

/// Shortest and longest time between rounds (RFC 5905 §7.2: 2^6 and 2^10 s).
const SHORTEST: Duration = Duration::from_secs(64);
const LONGEST: Duration = Duration::from_secs(1_024);
/// Until the first agreement: at boot the clock may be anything. Doubled up to [`SHORTEST`].
const FIRST: Duration = Duration::from_secs(4);
/// How long a round waits for answers.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a server that has sent `DENY` or `RSTR` is left alone.
const AWAY: Duration = Duration::from_secs(86_400);
/// Below this the clock runs well and is looked at less often.
const WELL_NS: u64 = 5_000_000;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a socket to this server and call [`Client::handle_opened`].
    Open(SocketAddr),
    /// Close the sockets of this round, whatever they still await.
    CloseAll,
    /// The clock is off.
    Offset {
        /// Server minus own clock, in ns.
        nanoseconds: i64,
        /// How wrong that may be, in ns.
        error_ns: i64,
        /// Whose word it is.
        server: SocketAddr,
    },
    /// The servers do not agree, or too few answered.
    NoAgreement {
        /// Usable answers.
        answers: usize,
        /// Servers configured.
        servers: usize,
    },
    /// An answer was not used.
    Refused {
        /// Whose.
        server: SocketAddr,
        /// Why.
        reason: Refusal,
    },
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// Asked again from then on.
    rest_until: Instant,
    /// Doubled by each request to slow down.
    pause: Duration,
    /// An answer may still come in this round; its socket is maybe not even open.
    awaited: bool,
    asked: Option<(Request, Instant)>,
    sample: Option<Sample>,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    servers: Vec<Server>,
    rng: StdRng,
    interval: Duration,
    synchronised: bool,
    /// End of the round that runs.
    round_ends: Option<Instant>,
    next_round: Instant,
    actions: VecDeque<Action>,
}

impl Client {
    /// Without servers. `seed` must be unpredictable: nonces are drawn from it.
    #[must_use]
    pub fn new(seed: [u8; 32], now: Instant) -> Self {
        Self {
            servers: Vec::new(),
            rng: StdRng::from_seed(seed),
            interval: FIRST,
            synchronised: false,
            round_ends: None,
            next_round: now,
            actions: VecDeque::new(),
        }
    }

    /// Other servers, from now on. Those that stay keep their pauses.
    pub fn configure(&mut self, addresses: &[SocketAddr], now: Instant) {
        if self
            .servers
            .iter()
            .map(|server| server.address)
            .eq(addresses.iter().copied())
        {
            return;
        }
        let mut old = core::mem::take(&mut self.servers);
        self.servers = addresses
            .iter()
            .map(
                |address| match old.iter().position(|server| server.address == *address) {
                    Some(place) => Server {
                        awaited: false,
                        asked: None,
                        sample: None,
                        ..old.swap_remove(place)
                    },
                    None => Server {
                        address: *address,
                        rest_until: now,
                        pause: SHORTEST,
                        awaited: false,
                        asked: None,
                        sample: None,
                    },
                },
            )
            .collect();
        self.actions.push_back(Action::CloseAll);
        self.round_ends = None;
        self.interval = if self.synchronised { SHORTEST } else { FIRST };
        self.next_round = now;
    }

    /// When [`Self::handle_timeout`] is due; `None`: never, there is no server.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.servers.is_empty() {
            None
        } else {
            Some(self.round_ends.unwrap_or(self.next_round))
        }
    }

    /// The next thing to do; call until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.round_ends {
            Some(end) if now >= end => self.end_round(now),
            None if now >= self.next_round && !self.servers.is_empty() => self.begin_round(now),
            _ => {}
        }
    }

    /// The socket to `server` is open: the packet to send at once, at `wall` by the clock that is to be measured.
    pub fn handle_opened(
        &mut self,
        now: Instant,
        wall: Timestamp,
        server: SocketAddr,
    ) -> Option<[u8; LENGTH]> {
        self.round_ends?;
        let nonce = self.rng.random();
        let server = self
            .servers
            .iter_mut()
            .find(|known| known.address == server && known.asked.is_none())?;
        let request = Request { nonce, sent: wall };
        server.asked = Some((request, now));
        Some(request.bytes())
    }

    /// A datagram came from `server`. Its time of arrival is reckoned by the monotonic clock from that of the request, so
    /// a step of the clock in between does no harm.
    pub fn handle_datagram(&mut self, now: Instant, server: SocketAddr, datagram: &[u8]) {
        let Some(known) = self
            .servers
            .iter_mut()
            .find(|known| known.address == server)
        else {
            return;
        };
        let Some((request, sent)) = known.asked else {
            return;
        };
        let received = request.sent.plus(now.saturating_duration_since(sent));
        match request.check(datagram, received) {
            Ok(sample) => {
                // The first right answer counts: the nonce is used up (RFC 5905 §8).
                (known.asked, known.awaited) = (None, false);
                known.sample = Some(sample);
                known.pause = SHORTEST;
            }
            Err(reason) => {
                match reason {
                    Refusal::KissAway => {
                        (known.asked, known.awaited) = (None, false);
                        known.rest_until = now + AWAY;
                    }
                    Refusal::KissSlower => {
                        known.pause = (known.pause * 2).min(AWAY);
                        (known.asked, known.awaited) = (None, false);
                        known.rest_until = now + known.pause;
                    }
                    // Whoever wrote this, the right answer may still come.
                    _ => {}
                }
                self.actions.push_back(Action::Refused { server, reason });
            }
        }
        if self.round_ends.is_some() && !self.servers.iter().any(|server| server.awaited) {
            self.end_round(now);
        }
    }

    fn begin_round(&mut self, now: Instant) {
        for server in &mut self.servers {
            (server.asked, server.sample) = (None, None);
            server.awaited = now >= server.rest_until;
            if server.awaited {
                self.actions.push_back(Action::Open(server.address));
            }
        }
        self.round_ends = Some(now + PATIENCE);
    }

    fn end_round(&mut self, now: Instant) {
        let samples: Vec<_> = self
            .servers
            .iter()
            .filter_map(|server| Some((server.address, server.sample?)))
            .collect();
        for server in &mut self.servers {
            (server.asked, server.sample) = (None, None);
        }
        self.round_ends = None;
        self.actions.push_back(Action::CloseAll);
        match agreement(&samples, self.servers.len()) {
            Some((
                server,
                Sample {
                    offset_ns,
                    error_ns,
                },
            )) => {
                let well = offset_ns.unsigned_abs() < WELL_NS;
                self.interval = if well && self.synchronised {
                    (self.interval * 2).clamp(SHORTEST, LONGEST)
                } else {
                    SHORTEST
                };
                self.synchronised = true;
                self.actions.push_back(Action::Offset {
                    nanoseconds: offset_ns,
                    error_ns,
                    server,
                });
            }
            None => {
                let most = if self.synchronised { LONGEST } else { SHORTEST };
                self.interval = (self.interval * 2).min(most);
                self.actions.push_back(Action::NoAgreement {
                    answers: samples.len(),
                    servers: self.servers.len(),
                });
            }
        }
        // RFC 5905 §11: spread, so that boxes that started together do not ask together.
        let spread = self
            .rng
            .random_range(0..=u64::try_from(self.interval.as_millis() / 8).unwrap_or(0));
        self.next_round = now + self.interval + Duration::from_millis(spread);
    }
}

#[cfg(test)]
mod tests;
