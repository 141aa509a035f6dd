//! A stream: two legs and the verdict on each packet. One for each media line of a call, owned by one media thread.
//!
//! A packet costs no allocation, no lock and no clock: `now` is the batch's. Events wait in the legs, one of each kind,
//! until they are asked for, so a reader that is late loses repetitions and nothing else.

use core::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    Component, LegMedia, MediaEvent, Side, StreamId,
    leg::{DropReason, Leg},
};

/// Time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it as it now stands by a socket of `side`.
    Forward {
        /// The leg it leaves by.
        side: Side,
        /// Which of that leg's sockets.
        socket: Component,
        /// Where it goes.
        destination: SocketAddr,
        /// Octets of the buffer to send: sealing and opening change the length.
        octets: usize,
    },
    /// Nothing; it was counted.
    Drop(DropReason),
}

impl Default for Verdict {
    fn default() -> Self {
        Self::Drop(DropReason::NoStream)
    }
}

/// A leg and the shape of its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LentLeg {
    /// As the core wants it.
    pub media: LegMedia,
    /// The lease has a socket of its own for RTCP.
    pub pair: bool,
}

/// Two legs that hear and speak for one another.
#[derive(Debug)]
pub struct Stream {
    id: StreamId,
    a: Leg,
    b: Leg,
    silence: Option<Duration>,
    report_at: Instant,
    report_due: bool,
}

impl Stream {
    /// A stream that has heard nothing. `silence`: after which a leg is said to be silent.
    #[must_use]
    pub fn new(
        now: Instant,
        id: StreamId,
        a: LentLeg,
        b: LentLeg,
        silence: Option<Duration>,
    ) -> Self {
        Self {
            id,
            a: Leg::new(now, a.media, a.pair),
            b: Leg::new(now, b.media, b.pair),
            silence,
            report_at: now + REPORT_INTERVAL,
            report_due: false,
        }
    }

    /// Puts another description of a leg in force.
    pub fn change(&mut self, now: Instant, side: Side, leg: LentLeg) {
        self.legs(side).0.change(now, leg.media, leg.pair);
    }

    /// Judges a packet that came from `source` to `socket` of `side`'s leg: the first `octets` of `buffer`, which has
    /// [`OVERHEAD`](crate::srtp::OVERHEAD) more for sealing.
    pub fn on_packet(
        &mut self,
        now: Instant,
        side: Side,
        socket: Component,
        source: SocketAddr,
        (buffer, octets): (&mut [u8], usize),
    ) -> Verdict {
        let (from, to) = self.legs(side);
        match from
            .hear(now, socket, source, (buffer, octets))
            .and_then(|(component, octets)| to.speak(component, buffer, octets))
        {
            Ok((socket, destination, octets)) => Verdict::Forward {
                side: side.other(),
                socket,
                destination,
                octets,
            },
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The kernel did not take a packet that the verdict sent out by `side`.
    pub fn on_send_failure(&mut self, side: Side) {
        self.legs(side).0.unsay();
    }

    /// Notes silence and reports that are due; to be called about once a second.
    pub fn on_tick(&mut self, now: Instant) {
        if let Some(silence) = self.silence {
            self.a.listen_for_silence(now, silence);
            self.b.listen_for_silence(now, silence);
        }
        if now >= self.report_at {
            self.report_at = now + REPORT_INTERVAL;
            self.report_due = true;
        }
    }

    /// Whether [`Self::poll_event`] has something.
    #[must_use]
    pub const fn has_event(&self) -> bool {
        self.a.news.any() || self.b.news.any() || self.report_due
    }

    /// The next event, gravest first.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        for side in [Side::A, Side::B] {
            let stream = self.id;
            let news = &mut self.legs(side).0.news;
            if let Some(source) = news.rtp_proved.take() {
                return Some(MediaEvent::Proved {
                    stream,
                    side,
                    component: Component::Rtp,
                    source,
                });
            }
            if let Some(source) = news.rtcp_proved.take() {
                return Some(MediaEvent::Proved {
                    stream,
                    side,
                    component: Component::Rtcp,
                    source,
                });
            }
            if let Some(source) = news.stranger.take() {
                return Some(MediaEvent::SecondSource {
                    stream,
                    side,
                    source,
                });
            }
            if let Some(ms) = news.silent_ms.take() {
                return Some(MediaEvent::Silent { stream, side, ms });
            }
        }
        core::mem::take(&mut self.report_due).then(|| self.report(false))
    }

    /// The counts as they stand.
    #[must_use]
    pub fn report(&self, last: bool) -> MediaEvent {
        MediaEvent::Report {
            stream: self.id,
            a: self.a.stats(),
            b: self.b.stats(),
            last,
        }
    }

    const fn legs(&mut self, side: Side) -> (&mut Leg, &mut Leg) {
        match side {
            Side::A => (&mut self.a, &mut self.b),
            Side::B => (&mut self.b, &mut self.a),
        }
    }
}

#[cfg(test)]
mod tests;
