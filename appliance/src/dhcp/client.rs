//! The client of one zone, without sockets and clocks: the states of RFC 2131 §4.4 by their names there, with their timers.
//! The shell in `dhcp` sends, receives, reads the clock and tells init. What the standard leaves open: the first fit offer
//! is taken; an address of before a restart is asked for again (`INIT-REBOOT`), and used only when a server says yes; none
//! is given back (it runs out).

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    lease::{LONGEST, Lease, Taken, Unfit},
    message::{Ask, Kind, Mac, Malformed, Reply, Request},
};

/// First and longest wait for an answer in s, before 1 s more or less (RFC 2131 §4.1).
const FIRST_WAIT: u64 = 4;
const LONGEST_WAIT: u64 = 64;
/// Requests for one offer: after 4, 8, 16 and 32 s its server is gone.
const REQUESTS: u32 = 4;
/// Requests for an address of before: after 4 and 8 s nobody knows of it.
const REBOOT_REQUESTS: u32 = 2;
/// Wait after a server took its offer back or lent what is not fit (RFC 2131 §3.1: ten seconds).
const AFTER_REFUSAL: Duration = Duration::from_secs(10);
/// Shortest wait between two requests for more time (RFC 2131 §4.4.5).
const LEAST_EXTENSION: Duration = Duration::from_secs(60);
/// T1 is not believed below that, in s.
const LEAST_RENEWAL: u32 = 5;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send to 255.255.255.255.
    Broadcast(Vec<u8>),
    /// Send to this server.
    Send(Ipv4Addr, Vec<u8>),
    /// The address is the box's for that long from now.
    Leased(Lease),
    /// It is no longer.
    Lost,
    /// A datagram was not believed.
    Refused(Refusal),
}

/// Why a datagram was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// No answer at all.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Another client's, or of an exchange that is over; common on a shared link.
    #[error("another client's, or late")]
    NotOurs,
    /// Not what is awaited.
    #[error("not awaited now")]
    Unexpected,
    /// Not from the server whose offer was taken.
    #[error("of another server")]
    OtherServer,
    /// Without lease time or subnet mask.
    #[error("without lease time or subnet mask")]
    Incomplete,
    /// Another address than the one that was asked for.
    #[error("another address than asked for")]
    OtherAddress,
    /// May not be taken.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// A lease in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    address: Ipv4Addr,
    server: Ipv4Addr,
    t1: Instant,
    t2: Instant,
    ends: Instant,
}

/// RFC 2131 figure 5. `due`: when something is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Init {
        due: Instant,
    },
    Selecting {
        due: Instant,
    },
    Requesting {
        due: Instant,
        sent: Instant,
        server: Ipv4Addr,
        address: Ipv4Addr,
        requests: u32,
    },
    /// RFC 2131 `REBOOTING`.
    Rebooting {
        due: Instant,
        sent: Instant,
        address: Ipv4Addr,
        requests: u32,
    },
    Bound(Held),
    Renewing {
        held: Held,
        due: Instant,
        sent: Instant,
    },
    Rebinding {
        held: Held,
        due: Instant,
        sent: Instant,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    mac: Mac,
    taken: Taken,
    rng: StdRng,
    /// Lent before a restart; asked for once.
    remembered: Option<Ipv4Addr>,
    state: State,
    xid: u32,
    began: Instant,
    wait: u64,
    actions: VecDeque<Action>,
}

impl Client {
    /// Begins at once, with the address that was lent before a restart, if there is one. `seed` must be unpredictable: exchanges are named from it.
    #[must_use]
    pub fn new(
        mac: Mac,
        taken: Taken,
        remembered: Option<Ipv4Addr>,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self {
            mac,
            taken,
            rng: StdRng::from_seed(seed),
            remembered,
            state: State::Init { due: now },
            xid: 0,
            began: now,
            wait: FIRST_WAIT,
            actions: VecDeque::new(),
        }
    }

    /// Whose client it is.
    #[must_use]
    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// The cable carries again: it may lead to another network, so whoever is there is asked.
    pub fn handle_carrier(&mut self, now: Instant) {
        match self.state {
            State::Bound(held) | State::Renewing { held, .. } | State::Rebinding { held, .. } => {
                self.rebind(now, held);
            }
            _ => self.restart(now, Duration::ZERO),
        }
    }

    /// A datagram came, from whomever.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) {
        if let Err(refusal) = self.judge(now, bytes) {
            self.actions.push_back(Action::Refused(refusal));
        }
    }

    /// Time has passed; call it at [`Self::poll_timeout`] or whenever.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Init { due } if due <= now => {
                self.begin(now);
                match self.remembered.take() {
                    Some(address) => self.reboot(now, address, 0),
                    None => self.discover(now),
                }
            }
            State::Rebooting {
                due,
                address,
                requests,
                ..
            } if due <= now => {
                if requests >= REBOOT_REQUESTS {
                    self.restart(now, Duration::ZERO);
                } else {
                    self.reboot(now, address, requests);
                }
            }
            State::Selecting { due } if due <= now => self.discover(now),
            State::Requesting {
                due,
                server,
                address,
                requests,
                ..
            } if due <= now => {
                if requests >= REQUESTS {
                    self.restart(now, Duration::ZERO);
                } else {
                    self.request(now, server, address, requests);
                }
            }
            State::Bound(held) | State::Renewing { held, .. } | State::Rebinding { held, .. }
                if held.ends <= now =>
            {
                self.lose(now, Duration::ZERO);
            }
            State::Bound(held) | State::Renewing { held, .. } if held.t2 <= now => {
                self.rebind(now, held)
            }
            State::Bound(held) if held.t1 <= now => {
                self.begin(now);
                self.extend(now, held, held.t2, false);
            }
            State::Renewing { held, due, .. } if due <= now => {
                self.extend(now, held, held.t2, false)
            }
            State::Rebinding { held, due, .. } if due <= now => {
                self.extend(now, held, held.ends, true)
            }
            _ => {}
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        match self.state {
            State::Init { due }
            | State::Selecting { due }
            | State::Requesting { due, .. }
            | State::Rebooting { due, .. } => due,
            State::Bound(held) => held.t1.min(held.ends),
            State::Renewing { held, due, .. } => due.min(held.t2),
            State::Rebinding { held, due, .. } => due.min(held.ends),
        }
    }

    /// What is to be done next; drain it after each call.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn judge(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Refusal> {
        let reply = Reply::decode(bytes)?;
        if (reply.xid, reply.mac) != (self.xid, self.mac) {
            return Err(Refusal::NotOurs);
        }
        match (self.state, reply.kind) {
            (State::Selecting { .. }, Kind::Offer) => {
                let lease = lease_of(&reply)?;
                lease.vet(&self.taken)?;
                self.wait = FIRST_WAIT;
                self.request(now, reply.server, lease.address, 0);
                Ok(())
            }
            (State::Requesting { server, .. }, Kind::Ack | Kind::Nak) if reply.server != server => {
                Err(Refusal::OtherServer)
            }
            (State::Requesting { sent, address, .. }, Kind::Ack) => {
                let taken = self.bind(now, sent, address, &reply);
                if taken.is_err() {
                    self.restart(now, AFTER_REFUSAL);
                }
                taken
            }
            (State::Requesting { .. }, Kind::Nak) => {
                self.restart(now, AFTER_REFUSAL);
                Ok(())
            }
            (State::Rebooting { sent, address, .. }, Kind::Ack) => {
                let taken = self.bind(now, sent, address, &reply);
                if taken.is_err() {
                    self.restart(now, AFTER_REFUSAL);
                }
                taken
            }
            // RFC 2131 §3.2: it is on another network now, and begins from the beginning.
            (State::Rebooting { .. }, Kind::Nak) => {
                self.lose(now, Duration::ZERO);
                Ok(())
            }
            (State::Renewing { held, .. }, Kind::Ack | Kind::Nak)
                if reply.server != held.server =>
            {
                Err(Refusal::OtherServer)
            }
            // RFC 2131 §4.4.5: in REBINDING any server may answer.
            (
                State::Renewing { held, sent, .. } | State::Rebinding { held, sent, .. },
                Kind::Ack,
            ) => self.bind(now, sent, held.address, &reply),
            (State::Renewing { .. } | State::Rebinding { .. }, Kind::Nak) => {
                self.lose(now, AFTER_REFUSAL);
                Ok(())
            }
            _ => Err(Refusal::Unexpected),
        }
    }

    /// Takes a lease whose time runs from when it was asked for (RFC 2131 §4.4.1).
    fn bind(
        &mut self,
        now: Instant,
        sent: Instant,
        address: Ipv4Addr,
        reply: &Reply,
    ) -> Result<(), Refusal> {
        let lease = lease_of(reply)?;
        if lease.address != address {
            return Err(Refusal::OtherAddress);
        }
        lease.vet(&self.taken)?;
        let t2 = reply
            .rebinding_seconds
            .filter(|t2| (LEAST_RENEWAL + 1..lease.seconds).contains(t2));
        let t2 = t2.unwrap_or(lease.seconds - lease.seconds / 8);
        let t1 = reply
            .renewal_seconds
            .filter(|t1| (LEAST_RENEWAL..t2).contains(t1));
        let t1 = t1.unwrap_or((lease.seconds / 2).min(t2));
        let after = |seconds: u32| sent + Duration::from_secs(seconds.into());
        let ends = after(lease.seconds);
        self.state = State::Bound(Held {
            address,
            server: reply.server,
            t1: after(t1),
            t2: after(t2),
            ends,
        });
        let left = ends.saturating_duration_since(now).as_secs();
        let seconds = u32::try_from(left).unwrap_or(lease.seconds);
        self.actions
            .push_back(Action::Leased(Lease { seconds, ..lease }));
        Ok(())
    }

    fn restart(&mut self, now: Instant, pause: Duration) {
        self.wait = FIRST_WAIT;
        self.state = State::Init { due: now + pause };
    }

    fn lose(&mut self, now: Instant, pause: Duration) {
        self.actions.push_back(Action::Lost);
        self.restart(now, pause);
    }

    /// Names a new exchange.
    fn begin(&mut self, now: Instant) {
        self.xid = self.rng.random();
        self.began = now;
    }

    fn discover(&mut self, now: Instant) {
        let bytes = self.message(now, Ask::Discover);
        self.actions.push_back(Action::Broadcast(bytes));
        let due = now + self.next_wait();
        self.state = State::Selecting { due };
    }

    fn request(&mut self, now: Instant, server: Ipv4Addr, address: Ipv4Addr, requests: u32) {
        let bytes = self.message(now, Ask::Select { address, server });
        self.actions.push_back(Action::Broadcast(bytes));
        let due = now + self.next_wait();
        self.state = State::Requesting {
            due,
            sent: now,
            server,
            address,
            requests: requests + 1,
        };
    }

    fn reboot(&mut self, now: Instant, address: Ipv4Addr, requests: u32) {
        let bytes = self.message(now, Ask::Reboot { address });
        self.actions.push_back(Action::Broadcast(bytes));
        let due = now + self.next_wait();
        self.state = State::Rebooting {
            due,
            sent: now,
            address,
            requests: requests + 1,
        };
    }

    fn rebind(&mut self, now: Instant, held: Held) {
        self.begin(now);
        self.extend(now, held, held.ends, true);
    }

    /// Asks for more time, and again after half of what is left until `end`.
    fn extend(&mut self, now: Instant, held: Held, end: Instant, all: bool) {
        let bytes = self.message(
            now,
            Ask::Extend {
                address: held.address,
            },
        );
        let due = now + (end.saturating_duration_since(now) / 2).max(LEAST_EXTENSION);
        let (action, state) = if all {
            (
                Action::Broadcast(bytes),
                State::Rebinding {
                    held,
                    due,
                    sent: now,
                },
            )
        } else {
            (
                Action::Send(held.server, bytes),
                State::Renewing {
                    held,
                    due,
                    sent: now,
                },
            )
        };
        self.actions.push_back(action);
        self.state = state;
    }

    fn message(&self, now: Instant, ask: Ask) -> Vec<u8> {
        let seconds = now.saturating_duration_since(self.began).as_secs();
        let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
        Request {
            xid: self.xid,
            seconds,
            mac: self.mac,
            ask,
        }
        .encode()
    }

    /// The wait of now, ±1 s; the next is twice as long.
    fn next_wait(&mut self) -> Duration {
        let wait =
            Duration::from_millis(self.wait * 1_000 - 1_000 + self.rng.random_range(0..=2_000));
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        wait
    }
}

fn lease_of(reply: &Reply) -> Result<Lease, Refusal> {
    let (Some(prefix), Some(seconds)) = (reply.prefix, reply.lease_seconds) else {
        return Err(Refusal::Incomplete);
    };
    Ok(Lease {
        address: reply.address,
        prefix,
        gateway: reply.gateway,
        seconds: seconds.min(LONGEST),
    })
}

#[cfg(test)]
mod tests;
