//! One side of a stream: whom it hears, whom it speaks to, what it counted. Two in each [`super::stream::Stream`].

use core::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    Component, LegMedia, LegStats,
    source::{Sources, Standing},
};
use crate::{
    demux::Kind,
    reception::Reception,
    rtcp::{self, Compound},
    rtp::{Header, MAX_PACKET},
    srtp::{Refused, Security, Session},
};

/// Sources of one leg that are counted at once: media, its retransmissions and repair, and one that follows a transfer.
const SSRCS: usize = 4;
/// New sources that a leg takes at once, beyond that one a second: a flood of SSRCs is an attack (RFC 3550 §8.2).
const SSRC_BURST: u32 = 8;
const SSRC_INTERVAL: Duration = Duration::from_secs(1);
/// At most one event about strangers in this time.
const STRANGER_INTERVAL: Duration = Duration::from_secs(1);

/// Why a packet was not relayed. Each is a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// No such stream any more.
    NoStream,
    /// Longer than a frame.
    Oversized,
    /// No media by its first octet, or STUN, DTLS or TURN, none of which was negotiated.
    NotMedia,
    /// Looks like RTP and is not.
    MalformedRtp,
    /// Looks like RTCP and is not.
    MalformedRtcp,
    /// RTP on the port of RTCP, or RTCP on that of RTP without rtcp-mux.
    WrongPort,
    /// A payload type that was not negotiated.
    PayloadType,
    /// From an address that is not the leg's.
    Stranger,
    /// From the leg's host, but outside the window in which a source is learned.
    Untimely,
    /// More new SSRCs than anything honest has.
    SsrcFlood,
    /// A goodbye for somebody else.
    ForeignBye,
    /// The leg does not receive at the moment, or the other one does not send.
    Held,
    /// The other leg has no destination yet.
    NoDestination,
    /// Not sealed with the leg's key.
    Unauthenticated,
    /// Seen before, or too old to say.
    Replayed,
    /// Could not be sealed for the other leg: an index that was used, or a key that is used up.
    Unsealed,
}

impl DropReason {
    /// All reasons; the place of each is its number.
    pub const ALL: [Self; 16] = [
        Self::NoStream,
        Self::Oversized,
        Self::NotMedia,
        Self::MalformedRtp,
        Self::MalformedRtcp,
        Self::WrongPort,
        Self::PayloadType,
        Self::Stranger,
        Self::Untimely,
        Self::SsrcFlood,
        Self::ForeignBye,
        Self::Held,
        Self::NoDestination,
        Self::Unauthenticated,
        Self::Replayed,
        Self::Unsealed,
    ];

    /// The word for it in counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoStream => "no-stream",
            Self::Oversized => "oversized",
            Self::NotMedia => "not-media",
            Self::MalformedRtp => "malformed-rtp",
            Self::MalformedRtcp => "malformed-rtcp",
            Self::WrongPort => "wrong-port",
            Self::PayloadType => "payload-type",
            Self::Stranger => "stranger",
            Self::Untimely => "untimely",
            Self::SsrcFlood => "ssrc-flood",
            Self::ForeignBye => "foreign-bye",
            Self::Held => "held",
            Self::NoDestination => "no-destination",
            Self::Unauthenticated => "unauthenticated",
            Self::Replayed => "replayed",
            Self::Unsealed => "unsealed",
        }
    }
}

/// What a leg has to tell, until it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    pub(super) rtp_proved: Option<SocketAddr>,
    pub(super) rtcp_proved: Option<SocketAddr>,
    pub(super) stranger: Option<SocketAddr>,
    pub(super) silent_ms: Option<u64>,
}

impl News {
    pub(super) const fn any(&self) -> bool {
        self.rtp_proved.is_some()
            || self.rtcp_proved.is_some()
            || self.stranger.is_some()
            || self.silent_ms.is_some()
    }
}

/// Both directions of a leg with keys.
#[derive(Debug)]
struct Sealed {
    inward: Session,
    outward: Session,
}

impl Sealed {
    fn new(security: &Security) -> Option<Box<Self>> {
        Some(Box::new(Self {
            inward: Session::new(&security.inward)?,
            outward: Session::new(&security.outward)?,
        }))
    }

    /// Another description of the same leg: a direction whose key stays goes on where it was (RFC 3711 §3.3: its indices
    /// are never used again).
    fn change(&mut self, old: &Security, new: &Security) -> Option<()> {
        if old.inward != new.inward {
            self.inward = Session::new(&new.inward)?;
        }
        if old.outward != new.outward {
            self.outward = Session::new(&new.outward)?;
        }
        Some(())
    }
}

/// One side of a stream.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) media: LegMedia,
    /// Sessions of a leg with keys. A leg whose keys the crypto library refuses hears and says nothing.
    sealed: Option<Box<Sealed>>,
    /// RTCP has a socket of its own; otherwise both share one.
    pub(super) pair: bool,
    sources: Sources,
    epoch: Instant,
    receptions: [Option<Reception>; SSRCS],
    /// Place of the source heard last, and of the next one to be given up.
    current: usize,
    victim: usize,
    ssrc_credit: u32,
    ssrc_credit_at: Instant,
    /// Loss of sources that were given up.
    lost_before: u64,
    received: u64,
    sent: u64,
    octets: u64,
    rejected: u64,
    heard_at: Instant,
    silent_said_at: Instant,
    stranger_after: Instant,
    pub(super) news: News,
}

impl Leg {
    pub(super) fn new(now: Instant, media: LegMedia, pair: bool) -> Self {
        Self {
            sealed: media.security.as_deref().and_then(Sealed::new),
            sources: Sources::new(now, media.learn),
            media,
            pair,
            epoch: now,
            receptions: [None; SSRCS],
            current: 0,
            victim: 0,
            ssrc_credit: SSRC_BURST,
            ssrc_credit_at: now,
            lost_before: 0,
            received: 0,
            sent: 0,
            octets: 0,
            rejected: 0,
            heard_at: now,
            silent_said_at: now,
            stranger_after: now,
            news: News::default(),
        }
    }

    pub(super) fn change(&mut self, now: Instant, media: LegMedia, pair: bool) {
        self.sources.set(now, media.learn);
        if media.receive && !self.media.receive {
            self.heard_at = now;
            self.silent_said_at = now;
        }
        self.sealed = match (
            self.media.security.as_deref(),
            media.security.as_deref(),
            self.sealed.take(),
        ) {
            (Some(old), Some(new), Some(mut sealed)) => sealed.change(old, new).map(|()| sealed),
            (_, Some(new), None) | (None, Some(new), _) => Sealed::new(new),
            (_, None, _) => None,
        };
        self.media = media;
        self.pair = pair;
    }

    /// Judges a packet of this leg's far end that came to `socket`, opens it where the leg has keys, and counts it. What
    /// it is and how long it is then.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        socket: Component,
        source: SocketAddr,
        (buffer, octets): (&mut [u8], usize),
    ) -> Result<(Component, usize), DropReason> {
        let heard = if octets > MAX_PACKET {
            Err(DropReason::Oversized)
        } else {
            let packet = buffer.get_mut(..octets).unwrap_or_default();
            match (Kind::of(packet), socket) {
                (Kind::Rtp, Component::Rtp) => self.hear_rtp(now, source, packet),
                (Kind::Rtcp, Component::Rtcp) => self.hear_rtcp(now, source, packet),
                (Kind::Rtcp, Component::Rtp) if !self.pair => self.hear_rtcp(now, source, packet),
                (Kind::Rtp | Kind::Rtcp, _) => Err(DropReason::WrongPort),
                _ => Err(DropReason::NotMedia),
            }
        };
        match heard {
            Ok(_) => {
                self.received += 1;
                self.heard_at = now;
            }
            Err(_) => self.rejected += 1,
        }
        heard
    }

    /// Where a packet for this leg's far end goes and how long it is, sealed where the leg has keys, counted as sent: the
    /// component names the socket.
    pub(super) fn speak(
        &mut self,
        component: Component,
        buffer: &mut [u8],
        octets: usize,
    ) -> Result<(Component, SocketAddr, usize), DropReason> {
        let (socket, destination) = match component {
            Component::Rtp if !self.media.send => return Err(DropReason::Held),
            Component::Rtp => (Component::Rtp, self.media.send_to),
            Component::Rtcp if self.pair => (Component::Rtcp, self.media.send_rtcp_to),
            Component::Rtcp => (Component::Rtp, self.media.send_rtcp_to),
        };
        let destination = destination.ok_or(DropReason::NoDestination)?;
        let octets = match component {
            Component::Rtp => octets,
            Component::Rtcp => match rtcp::conceal(buffer, octets, self.media.name) {
                0 => return Err(DropReason::MalformedRtcp),
                octets => octets,
            },
        };
        let octets = match (&mut self.sealed, &self.media.security) {
            (Some(sealed), _) => match component {
                Component::Rtp => sealed.outward.seal_rtp(buffer, octets),
                Component::Rtcp => sealed.outward.seal_rtcp(buffer, octets),
            }
            .map_err(|_| DropReason::Unsealed)?,
            (None, None) => octets,
            (None, Some(_)) => return Err(DropReason::Unsealed),
        };
        self.sent += 1;
        Ok((socket, destination, octets))
    }

    /// Opens a packet where the leg has keys; how long it is then.
    fn open(&mut self, component: Component, packet: &mut [u8]) -> Result<usize, DropReason> {
        let opened = match (&mut self.sealed, &self.media.security) {
            (None, None) => return Ok(packet.len()),
            (None, Some(_)) => return Err(DropReason::Unauthenticated),
            (Some(sealed), _) => match component {
                Component::Rtp => sealed.inward.open_rtp(packet),
                Component::Rtcp => sealed.inward.open_rtcp(packet),
            },
        };
        opened.map_err(|refused| match refused {
            Refused::Replayed => DropReason::Replayed,
            Refused::TooManySources => DropReason::SsrcFlood,
            Refused::Malformed | Refused::Forged | Refused::UsedUp | Refused::NoRoom => {
                DropReason::Unauthenticated
            }
        })
    }

    /// The kernel did not take a packet after all.
    pub(super) fn unsay(&mut self) {
        self.sent = self.sent.saturating_sub(1);
    }

    /// Notes the silence of a leg that should be heard; again after each further `silence`.
    pub(super) fn listen_for_silence(&mut self, now: Instant, silence: Duration) {
        let since = self.heard_at.max(self.silent_said_at);
        if self.media.receive && now.saturating_duration_since(since) >= silence {
            self.silent_said_at = now;
            let ms = now.saturating_duration_since(self.heard_at).as_millis();
            self.news.silent_ms = Some(u64::try_from(ms).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn stats(&self) -> LegStats {
        let lost = self
            .receptions
            .iter()
            .flatten()
            .map(Reception::lost)
            .sum::<u64>();
        let current = self.receptions.get(self.current).and_then(Option::as_ref);
        LegStats {
            packets_received: self.received,
            packets_sent: self.sent,
            packets_lost: self.lost_before + lost,
            octets_received: self.octets,
            jitter_us: current.map_or(0, |reception| reception.jitter_us(self.media.clock_hz)),
            rejected: self.rejected,
        }
    }

    fn hear_rtp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        packet: &mut [u8],
    ) -> Result<(Component, usize), DropReason> {
        if Header::clear_octets(packet).is_none() {
            return Err(DropReason::MalformedRtp);
        }
        // Before any key is tried: a stranger costs no cryptography.
        let standing = self.sources.of_rtp(now, source);
        if matches!(standing, Standing::Stranger | Standing::Untimely) {
            return Err(self.turn_away(now, source, standing));
        }
        let octets = self.open(Component::Rtp, packet)?;
        let header = Header::read(packet.get(..octets).unwrap_or_default())
            .map_err(|_| DropReason::MalformedRtp)?;
        if !self.media.receive {
            return Err(DropReason::Held);
        }
        if !self.media.payloads.contains(header.payload_type) {
            return Err(DropReason::PayloadType);
        }
        self.count(now, &header)?;
        if standing == Standing::Provable {
            self.sources.prove_rtp(now, source);
            self.news.rtp_proved = Some(source);
        }
        Ok((Component::Rtp, octets))
    }

    fn hear_rtcp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        packet: &mut [u8],
    ) -> Result<(Component, usize), DropReason> {
        // The first report's SSRC stands in the clear under every key (RFC 3711 §3.4).
        let [_, _, _, _, s0, s1, s2, s3, ..] = *packet else {
            return Err(DropReason::MalformedRtcp);
        };
        let known = self.knows(u32::from_be_bytes([s0, s1, s2, s3]));
        let standing = if self.pair {
            self.sources.of_rtcp(now, source, known)
        } else {
            self.sources.of_multiplexed(source)
        };
        if matches!(standing, Standing::Stranger | Standing::Untimely) {
            return Err(self.turn_away(now, source, standing));
        }
        let octets = self.open(Component::Rtcp, packet)?;
        let compound = Compound::read(packet.get(..octets).unwrap_or_default())
            .map_err(|_| DropReason::MalformedRtcp)?;
        // RFC 3550 §6.6: one says goodbye for oneself; a sender that was never heard may leave under its report's name.
        if compound
            .leaving()
            .any(|ssrc| ssrc != compound.ssrc && !self.knows(ssrc))
        {
            return Err(DropReason::ForeignBye);
        }
        if standing == Standing::Provable {
            self.sources.prove_rtcp(source);
            self.news.rtcp_proved = Some(source);
        }
        Ok((Component::Rtcp, octets))
    }

    fn turn_away(&mut self, now: Instant, source: SocketAddr, standing: Standing) -> DropReason {
        if standing != Standing::Stranger {
            return DropReason::Untimely;
        }
        if now >= self.stranger_after {
            self.stranger_after = now + STRANGER_INTERVAL;
            self.news.stranger = Some(source);
        }
        DropReason::Stranger
    }

    fn knows(&self, ssrc: u32) -> bool {
        self.receptions
            .iter()
            .flatten()
            .any(|reception| reception.ssrc() == ssrc)
    }

    fn count(&mut self, now: Instant, header: &Header) -> Result<(), DropReason> {
        self.octets += header.payload_octets as u64;
        let arrival = now.saturating_duration_since(self.epoch);
        let clock_hz = self.media.clock_hz;
        let mut places = self.receptions.iter_mut().enumerate();
        let known = places.find_map(|(place, reception)| {
            reception
                .as_mut()
                .filter(|reception| reception.ssrc() == header.ssrc)
                .map(|found| (place, found))
        });
        if let Some((place, reception)) = known {
            reception.count(header);
            reception.time(header, arrival, clock_hz);
            self.current = place;
            return Ok(());
        }
        self.spend_ssrc_credit(now)?;
        let mut reception = Reception::new(header);
        reception.time(header, arrival, clock_hz);
        let place = self
            .receptions
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.victim);
        if let Some(slot) = self.receptions.get_mut(place) {
            self.lost_before += slot
                .replace(reception)
                .map_or(0, |given_up| given_up.lost());
        }
        self.current = place;
        self.victim = (place + 1) % SSRCS;
        Ok(())
    }

    fn spend_ssrc_credit(&mut self, now: Instant) -> Result<(), DropReason> {
        let earned = now.saturating_duration_since(self.ssrc_credit_at).as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(SSRC_BURST);
            self.ssrc_credit = self.ssrc_credit.saturating_add(earned).min(SSRC_BURST);
            self.ssrc_credit_at += SSRC_INTERVAL * earned;
        }
        self.ssrc_credit = self
            .ssrc_credit
            .checked_sub(1)
            .ok_or(DropReason::SsrcFlood)?;
        Ok(())
    }
}
