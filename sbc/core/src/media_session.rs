//! The media of one call: for each media line a lease on either leg, its pinhole, and the relay between them. RFC 7092
//! §3.2.1 (media relay), RFC 3550 §11 (RTP and RTCP on a pair of ports).
//!
//! A pinhole opens no sooner than both sides have said where they are. It then lets in one host for a short window;
//! the first valid packet proves the port, and from then on the pinhole lets in that port alone. Without a packet the
//! window closes to the address that was signalled.

use std::{net::SocketAddr, time::Duration};

use broker_proto::{
    RequestId,
    broker::{Family, Flow, LeaseId, ToBroker},
    journal::LegRecord,
    settings::ZoneId,
};
use sbc_media::{
    relay::{Component, Learn, LegMedia, LegStats, MediaCommand, Side, StreamId},
    srtp::Security,
};

use crate::{
    call::CallTimer,
    context::Context,
    identity::Identity,
    io::Output,
    keys::Keys,
    pinhole::{give_back, latch},
    requests::Purpose,
    stream_leg::{Described, Lease, Reach, StreamLeg},
    timers::TimerKey,
};

/// Seconds that a lease is asked for; renewed at half of what was granted.
const LEASE_SECONDS: u32 = 120;
/// How long a leg's port may stay unproved.
const WINDOW: Duration = Duration::from_millis(WINDOW_MS as u64);
const WINDOW_MS: u32 = 10_000;

/// One media line of the call.
struct Stream {
    id: StreamId,
    legs: [Option<Box<StreamLeg>>; 2],
    /// Legs in another zone or family; each takes its place above when the offer that needs it is accepted.
    next: [Option<Box<StreamLeg>>; 2],
    running: bool,
    stats: [LegStats; 2],
}

/// All media of one call.
pub(crate) struct MediaSession {
    call: u64,
    lines: Vec<Option<Stream>>,
    silence_ms: u32,
    /// What each leg's far end sees for who speaks on the other, in all its lines.
    names: [u64; 2],
    /// Streams stopped whose last report has not come, with what they counted so far.
    stopping: Vec<(StreamId, [LegStats; 2])>,
    /// Sums of streams that are over, caller's and callee's leg.
    ended: [LegStats; 2],
    renew_after: Duration,
}

const fn of<T>(side: Side, [a, b]: &[T; 2]) -> &T {
    match side {
        Side::A => a,
        Side::B => b,
    }
}

impl MediaSession {
    pub(crate) fn new(identity: &mut Identity, call: u64, silence_ms: u32) -> Self {
        Self {
            call,
            lines: Vec::new(),
            silence_ms,
            names: [identity.number(), identity.number()],
            stopping: Vec::new(),
            ended: [LegStats::default(); 2],
            renew_after: Duration::from_secs(u64::from(LEASE_SECONDS / 2)),
        }
    }

    /// Ask for sockets of a media line on a leg, unless it has some in that zone and family already.
    pub(crate) fn open(
        &mut self,
        cx: &mut Context,
        line: usize,
        side: Side,
        zone: ZoneId,
        family: Family,
    ) {
        while self.lines.len() <= line {
            self.lines.push(None);
        }
        let call = self.call;
        let Some(slot) = self.lines.get_mut(line) else {
            return;
        };
        let stream = slot.get_or_insert_with(|| Stream {
            id: StreamId(cx.next_stream()),
            legs: [None, None],
            next: [None, None],
            running: false,
            stats: [LegStats::default(); 2],
        });
        let fits = |leg: &StreamLeg| leg.zone == zone && leg.family == family;
        if let Some(old) = pick(&mut stream.next, side).take_if(|leg| !fits(leg)) {
            give_back(cx, &old);
        }
        let current = pick(&mut stream.legs, side);
        if current.as_deref().is_some_and(fits) {
            if let Some(unneeded) = pick(&mut stream.next, side).take() {
                give_back(cx, &unneeded);
            }
            return;
        }
        // What flows goes on until the offer is accepted.
        let place = match current.as_ref().is_some_and(|leg| leg.described.is_some()) {
            true => pick(&mut stream.next, side),
            false => current,
        };
        if place.as_deref().is_some_and(fits) {
            return;
        }
        if let Some(old) = place.take() {
            give_back(cx, &old);
        }
        let id = cx.requests.issue(Purpose::OpenMedia { call, line, side });
        *place = Some(Box::new(StreamLeg {
            zone,
            family,
            lease: None,
            waiting: Some(id),
            reach: None,
            described: None,
            joined: None,
            keys: None,
            security: None,
            window: None,
            rule: None,
            proved_rtp: None,
            proved_rtcp: None,
            silent: false,
        }));
        cx.emit(Output::Broker(ToBroker::OpenMedia {
            id,
            zone,
            family,
            pair: true,
            flow: Flow::default(),
            ttl_seconds: LEASE_SECONDS,
        }));
    }

    /// The firewall lent sockets. `false`: nobody waits for them here, the caller gives them back.
    pub(crate) fn opened(
        &mut self,
        cx: &mut Context,
        id: RequestId,
        (line, side): (usize, Side),
        lease: (LeaseId, SocketAddr, Option<SocketAddr>),
        ttl_seconds: u32,
    ) -> bool {
        let Some(stream) = self.stream_mut(line) else {
            return false;
        };
        let waits = |leg: &StreamLeg| leg.waiting == Some(id);
        let place = match pick(&mut stream.next, side).as_deref().is_some_and(waits) {
            true => pick(&mut stream.next, side),
            false => pick(&mut stream.legs, side),
        };
        let Some(leg) = place.as_deref_mut().filter(|leg| waits(leg)) else {
            return false;
        };
        leg.waiting = None;
        let lease = Lease {
            id: lease.0,
            rtp: lease.1,
            rtcp: lease.2,
        };
        leg.lease = Some(lease);
        cx.leases.lent(leg.zone, lease);
        self.renew_after = self
            .renew_after
            .min(Duration::from_millis(u64::from(ttl_seconds.max(2)) * 500));
        cx.timers.set(
            TimerKey::Call(self.call, CallTimer::Renew),
            cx.now + self.renew_after,
        );
        true
    }

    /// Whether a line has sockets, or has asked for them.
    pub(crate) fn is_open(&self, line: usize) -> bool {
        self.lines.get(line).is_some_and(Option::is_some)
    }

    /// Whether an answer of the firewall is still awaited for a media line's sockets.
    pub(crate) fn is_opening(&self) -> bool {
        self.legs().any(|(_, _, leg)| leg.waiting.is_some())
    }

    /// Own addresses of a media line on a leg, if lent.
    pub(crate) fn lease(&self, line: usize, side: Side) -> Option<Lease> {
        let stream = self.lines.get(line)?.as_ref()?;
        let [a, b] = &stream.next;
        let next = if side == Side::A { a } else { b };
        match next {
            Some(next) => next.lease,
            None => self.leg(line, side)?.lease,
        }
    }

    /// The leg that waits in another zone or family takes its place: the offer that needs it was accepted.
    fn take_place(&mut self, cx: &mut Context, line: usize, side: Side) {
        let waits = self.stream_mut(line).is_some_and(|stream| {
            pick(&mut stream.next, side)
                .as_ref()
                .is_some_and(|next| next.lease.is_some())
        });
        if !waits {
            return;
        }
        if self.stream_mut(line).is_some_and(|stream| stream.running) {
            self.stop(cx, line);
        }
        let Some(stream) = self.stream_mut(line) else {
            return;
        };
        let next = pick(&mut stream.next, side).take();
        let old = std::mem::replace(pick(&mut stream.legs, side), next);
        if let Some(old) = old {
            give_back(cx, &old);
        }
    }

    /// The offer was refused: what it needed is given back, what was there is there still.
    pub(crate) fn drop_next(&mut self, cx: &mut Context) {
        for stream in self.lines.iter_mut().flatten() {
            for next in stream.next.iter_mut().filter_map(Option::take) {
                give_back(cx, &next);
            }
        }
    }

    /// Keys of a line on a leg that is to be sealed, before it is described; `None`: it is in the clear.
    pub(crate) fn set_keys(&mut self, line: usize, side: Side, keys: Option<Keys>) {
        if let Some(leg) = self.leg_mut(line, side) {
            leg.keys = keys;
        }
    }

    /// Our keys of a line on a leg.
    pub(crate) fn keys(&self, line: usize, side: Side) -> Option<&Keys> {
        self.leg(line, side)?.keys.as_ref()
    }

    /// A side said where it is and what it wants, and both agreed on `security`. The relay starts when both sides have.
    pub(crate) fn describe(
        &mut self,
        cx: &mut Context,
        (line, side): (usize, Side),
        reach: Reach,
        (described, security): (Described, Option<Security>),
    ) {
        self.take_place(cx, line, side);
        let Some(leg) = self.leg(line, side) else {
            return;
        };
        let joined = cx
            .leases
            .joined(leg.zone, reach, &described)
            .filter(|joined| !self.holds(LeaseId(joined.lease)));
        if leg.joined != joined {
            // Streams that hand packets to each other run side by side, which is seen to when they begin.
            if self.stream_mut(line).is_some_and(|stream| stream.running) {
                self.stop(cx, line);
            }
            if joined.is_some() {
                cx.counters.count("media_joined_total", "", "");
            }
        }
        let Some(leg) = self.leg_mut(line, side) else {
            return;
        };
        leg.joined = joined;
        leg.security = security;
        let moved = leg
            .described
            .is_none_or(|old| old.rtp != described.rtp || old.rtcp != described.rtcp)
            || leg.reach != Some(reach);
        leg.described = Some(described);
        leg.reach = Some(reach);
        leg.silent = false;
        if moved {
            leg.proved_rtp = None;
            leg.proved_rtcp = None;
            leg.window = None;
        }
        self.apply(cx, line, if moved { Some(side) } else { None });
    }

    /// Forget what a side said (an early answer that another branch may replace, a target that failed).
    pub(crate) fn forget(&mut self, cx: &mut Context, side: Side) {
        for line in 0..self.lines.len() {
            let running = self.stream_mut(line).is_some_and(|stream| stream.running);
            if running {
                self.stop(cx, line);
            }
            let call = self.call;
            if let Some(leg) = self.leg_mut(line, side) {
                let open = leg.described.take().is_some() && running;
                leg.proved_rtp = None;
                leg.proved_rtcp = None;
                leg.window = None;
                leg.rule = None;
                leg.joined = None;
                if let (true, Some(lease)) = (open, leg.lease) {
                    latch(cx, call, lease.id, Flow::default(), Flow::default());
                }
            }
        }
    }

    /// The call was answered: ports that are still unproved get a fresh window, since many phones send nothing before.
    pub(crate) fn answered(&mut self, cx: &mut Context) {
        for line in 0..self.lines.len() {
            for side in [Side::A, Side::B] {
                let running = self.stream_mut(line).is_some_and(|stream| stream.running);
                let fresh = self.leg(line, side).is_some_and(|leg| {
                    leg.proved_rtp.is_none() && leg.window != Some(cx.now + WINDOW)
                });
                if running && fresh {
                    self.apply(cx, line, Some(side));
                }
            }
        }
    }

    /// Close a media line: the other side refused it or it was taken away.
    pub(crate) fn close_line(&mut self, cx: &mut Context, line: usize) {
        if self.stream_mut(line).is_some_and(|stream| stream.running) {
            self.stop(cx, line);
        }
        if let Some(stream) = self.lines.get_mut(line).and_then(Option::take) {
            for leg in stream.legs.iter().chain(&stream.next).flatten() {
                give_back(cx, leg);
            }
            for (sum, stats) in self.ended.iter_mut().zip(&stream.stats) {
                add(sum, stats);
            }
        }
        self.set_window_timer(cx);
    }

    /// Close every media line from the `count`-th on.
    pub(crate) fn close_lines_from(&mut self, cx: &mut Context, count: usize) {
        for line in count..self.lines.len() {
            self.close_line(cx, line);
        }
    }

    /// Close everything. Pinholes are asked to go before anything else happens to the call.
    pub(crate) fn close(&mut self, cx: &mut Context) {
        for line in 0..self.lines.len() {
            self.close_line(cx, line);
        }
        self.lines.clear();
        for timer in [CallTimer::Renew, CallTimer::Window] {
            cx.timers.cancel(TimerKey::Call(self.call, timer));
        }
    }

    /// Whether last reports are still to come.
    pub(crate) fn is_reporting(&self) -> bool {
        !self.stopping.is_empty()
    }

    /// A leg's port was proved: the pinhole narrows to it. Returns whether it was news.
    pub(crate) fn proved(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        side: Side,
        component: Component,
        source: SocketAddr,
    ) {
        let Some(line) = self.line_of(stream) else {
            return;
        };
        let Some(leg) = self.leg_mut(line, side) else {
            return;
        };
        let known = match component {
            Component::Rtp => &mut leg.proved_rtp,
            Component::Rtcp => &mut leg.proved_rtcp,
        };
        if *known == Some(source) {
            return;
        }
        *known = Some(source);
        if component == Component::Rtp {
            leg.window = None;
        }
        if let (Some(rtp), Some(rtcp)) = (leg.proved_rtp, leg.proved_rtcp) {
            leg.rule = Some(Learn::Exact { rtp, rtcp });
        }
        self.set_pinhole(cx, line, side);
        self.change(cx, line, side);
        self.set_window_timer(cx);
    }

    /// A window may have closed.
    pub(crate) fn window_closed(&mut self, cx: &mut Context) {
        for line in 0..self.lines.len() {
            for side in [Side::A, Side::B] {
                let Some(leg) = self.leg_mut(line, side) else {
                    continue;
                };
                if leg.window.is_some_and(|end| end <= cx.now) {
                    match leg.next_window(WINDOW_MS) {
                        // A phone behind a translator that is silent at first: nothing else says where it is. Its host
                        // is let in until it speaks, or until the call is given up for its silence.
                        Some(rule) => {
                            leg.window = Some(cx.now + WINDOW);
                            leg.rule = Some(rule);
                        }
                        None => {
                            leg.window = None;
                            leg.rule = leg.signalled_rule();
                        }
                    }
                    self.set_pinhole(cx, line, side);
                    self.change(cx, line, side);
                }
            }
        }
        self.set_window_timer(cx);
    }

    /// Push all leases out.
    pub(crate) fn renew(&mut self, cx: &mut Context) {
        let leases: Vec<LeaseId> = self
            .legs()
            .filter_map(|(_, _, leg)| leg.lease.map(|lease| lease.id))
            .collect();
        if leases.is_empty() {
            return;
        }
        for lease in leases {
            let id = cx.requests.issue(Purpose::RenewMedia { call: self.call });
            cx.emit(Output::Broker(ToBroker::RenewMedia {
                id,
                lease,
                ttl_seconds: LEASE_SECONDS,
            }));
        }
        cx.timers.set(
            TimerKey::Call(self.call, CallTimer::Renew),
            cx.now + self.renew_after,
        );
    }

    /// A lease ended by itself: it is not there to be given back.
    pub(crate) fn lost(&mut self, cx: &mut Context, lease: LeaseId) {
        for leg in self
            .lines
            .iter_mut()
            .flatten()
            .flat_map(|stream| stream.legs.iter_mut().chain(&mut stream.next).flatten())
        {
            if let Some(own) = leg.lease.take_if(|own| own.id == lease) {
                cx.leases.given_back(own);
            }
        }
    }

    /// Whether a lease is one of this call's.
    pub(crate) fn holds(&self, lease: LeaseId) -> bool {
        self.legs()
            .any(|(_, _, leg)| leg.lease.is_some_and(|own| own.id == lease))
    }

    /// A leg has been silent. `true`: every media line that this leg should send on is.
    pub(crate) fn silent(&mut self, stream: StreamId, side: Side) -> bool {
        let Some(line) = self.line_of(stream) else {
            return false;
        };
        if let Some(leg) = self.leg_mut(line, side) {
            leg.silent = true;
        }
        self.legs()
            .filter(|(_, of, leg)| {
                *of == side && leg.described.is_some_and(|described| described.sends)
            })
            .all(|(_, _, leg)| leg.silent)
    }

    /// Counts of a stream. The last one lets it go. A leg that received since is not silent.
    pub(crate) fn report(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        a: LegStats,
        b: LegStats,
        last: bool,
    ) {
        if let Some(line) = self.line_of(stream) {
            if let Some(stream) = self.stream_mut(line) {
                for ((old, new), leg) in stream.stats.iter_mut().zip([a, b]).zip(&mut stream.legs) {
                    if let Some(leg) = leg {
                        leg.silent &= new.packets_received == old.packets_received;
                    }
                    *old = new;
                }
            }
        } else if let Some((_, counted)) = self
            .stopping
            .iter_mut()
            .find(|(stopped, _)| *stopped == stream)
        {
            *counted = [a, b];
        }
        if last {
            self.settle(cx, stream);
        }
    }

    /// Nothing follows about a stopped stream: its counts go into the sums.
    fn settle(&mut self, cx: &mut Context, stream: StreamId) {
        cx.streams.remove(&stream);
        if let Some(place) = self
            .stopping
            .iter()
            .position(|(stopped, _)| *stopped == stream)
        {
            let (_, counted) = self.stopping.swap_remove(place);
            for (sum, stats) in self.ended.iter_mut().zip(&counted) {
                add(sum, stats);
            }
        }
    }

    /// Wait for no more reports; what was counted last must do.
    pub(crate) fn settle_all(&mut self, cx: &mut Context) {
        while let Some((stream, _)) = self.stopping.first().copied() {
            self.settle(cx, stream);
        }
    }

    /// A stream that the media threads could not carry is over.
    pub(crate) fn failed(&mut self, cx: &mut Context, stream: StreamId) {
        self.settle(cx, stream);
        if let Some(line) = self.line_of(stream)
            && let Some(stream) = self.stream_mut(line)
        {
            stream.running = false;
        }
    }

    /// Write the sums of a leg into its record.
    pub(crate) fn write_record(&self, side: Side, record: &mut LegRecord) {
        let mut sum = *of(side, &self.ended);
        for stream in self.lines.iter().flatten() {
            add(&mut sum, of(side, &stream.stats));
        }
        record.packets_received = sum.packets_received;
        record.packets_sent = sum.packets_sent;
        record.packets_lost = sum.packets_lost;
        record.octets_received = sum.octets_received;
        record.jitter_us = sum.jitter_us;
    }

    /// Own ports on a leg: RTP and RTCP of each media line.
    pub(crate) fn ports(&self, side: Side) -> Vec<u16> {
        self.legs()
            .filter(|(_, of, _)| *of == side)
            .filter_map(|(_, _, leg)| leg.lease)
            .flat_map(|lease| [Some(lease.rtp.port()), lease.rtcp.map(|rtcp| rtcp.port())])
            .flatten()
            .collect()
    }

    fn legs(&self) -> impl Iterator<Item = (usize, Side, &StreamLeg)> {
        self.lines.iter().enumerate().flat_map(|(line, stream)| {
            stream.iter().flat_map(move |stream| {
                let ([a, b], [next_a, next_b]) = (&stream.legs, &stream.next);
                [
                    (line, Side::A, a.as_deref()),
                    (line, Side::B, b.as_deref()),
                    (line, Side::A, next_a.as_deref()),
                    (line, Side::B, next_b.as_deref()),
                ]
                .into_iter()
                .filter_map(|(line, side, leg)| leg.map(|leg| (line, side, leg)))
            })
        })
    }

    fn stream_mut(&mut self, line: usize) -> Option<&mut Stream> {
        self.lines.get_mut(line)?.as_mut()
    }

    fn leg(&self, line: usize, side: Side) -> Option<&StreamLeg> {
        let [a, b] = &self.lines.get(line)?.as_ref()?.legs;
        if side == Side::A {
            a.as_deref()
        } else {
            b.as_deref()
        }
    }

    fn leg_mut(&mut self, line: usize, side: Side) -> Option<&mut StreamLeg> {
        let [a, b] = &mut self.lines.get_mut(line)?.as_mut()?.legs;
        if side == Side::A {
            a.as_deref_mut()
        } else {
            b.as_deref_mut()
        }
    }

    fn line_of(&self, id: StreamId) -> Option<usize> {
        self.lines
            .iter()
            .position(|stream| stream.as_ref().is_some_and(|stream| stream.id == id))
    }

    /// Bring pinholes and relay of a line to what both sides said; `moved`: the side whose addresses are new.
    fn apply(&mut self, cx: &mut Context, line: usize, moved: Option<Side>) {
        let Some(stream) = self.stream_mut(line) else {
            return;
        };
        let running = stream.running;
        let ready = stream.legs.iter().all(|leg| {
            leg.as_ref()
                .is_some_and(|leg| leg.lease.is_some() && leg.described.is_some())
        });
        if !ready {
            return;
        }
        let opened: &[Side] = match (running, moved) {
            (false, _) => &[Side::A, Side::B],
            (true, Some(Side::A)) => &[Side::A],
            (true, Some(Side::B)) => &[Side::B],
            (true, None) => &[],
        };
        for &side in opened {
            if let Some(leg) = self.leg_mut(line, side) {
                leg.open_window(cx.now + WINDOW, WINDOW_MS);
            }
            self.set_pinhole(cx, line, side);
        }
        if running {
            self.change(cx, line, Side::A);
            self.change(cx, line, Side::B);
        } else {
            self.start(cx, line);
        }
        self.set_window_timer(cx);
    }

    fn start(&mut self, cx: &mut Context, line: usize) {
        let (call, silence_ms) = (self.call, self.silence_ms);
        let (Some(a), Some(b)) = (self.leg_media(line, Side::A), self.leg_media(line, Side::B))
        else {
            return;
        };
        let Some(stream) = self.stream_mut(line) else {
            return;
        };
        stream.running = true;
        cx.streams.insert(stream.id, call);
        cx.emit(Output::Media(MediaCommand::Start {
            stream: stream.id,
            call,
            a,
            b,
            silence_ms,
        }));
    }

    fn change(&mut self, cx: &mut Context, line: usize, side: Side) {
        let Some(leg) = self.leg_media(line, side) else {
            return;
        };
        let Some(stream) = self.stream_mut(line) else {
            return;
        };
        if stream.running {
            cx.emit(Output::Media(MediaCommand::Change {
                stream: stream.id,
                side,
                leg,
            }));
        }
    }

    /// End the relay of a line; a line that goes on gets a new name, since names are never used twice.
    fn stop(&mut self, cx: &mut Context, line: usize) {
        let next = cx.next_stream();
        let Some(stream) = self.stream_mut(line) else {
            return;
        };
        let stopped = std::mem::replace(&mut stream.id, StreamId(next));
        stream.running = false;
        let counted = std::mem::take(&mut stream.stats);
        self.stopping.push((stopped, counted));
        cx.emit(Output::Media(MediaCommand::Stop { stream: stopped }));
    }

    fn leg_media(&self, line: usize, side: Side) -> Option<LegMedia> {
        let leg = self.leg(line, side)?;
        let other = self.leg(line, side.other())?;
        let (lease, described) = (leg.lease?, leg.described?);
        let payloads = (0..128)
            .filter(|payload| {
                described.payloads.contains(*payload)
                    || other
                        .described
                        .is_some_and(|other| other.payloads.contains(*payload))
            })
            .collect();
        Some(LegMedia {
            lease: lease.id.0,
            payloads,
            learn: leg.rule?,
            send_to: leg.send_to(),
            send_rtcp_to: leg.send_rtcp_to(),
            receive: described.sends,
            send: described.receives,
            clock_hz: described.clock_hz,
            name: *of(side, &self.names),
            security: leg.security.clone().map(Box::new),
            joined: leg.joined.map(Box::new),
        })
    }

    fn set_pinhole(&self, cx: &mut Context, line: usize, side: Side) {
        let Some(leg) = self.leg(line, side) else {
            return;
        };
        let Some(lease) = leg.lease else { return };
        // What is handed over needs no pinhole, and nobody else may come through one.
        if leg.joined.is_some() {
            return latch(cx, self.call, lease.id, Flow::default(), Flow::default());
        }
        let rtp = Flow {
            admit: leg.admit_rtp(),
            send_to: leg.send_to(),
        };
        let rtcp = Flow {
            admit: leg.admit_rtcp(),
            send_to: leg.send_rtcp_to(),
        };
        latch(cx, self.call, lease.id, rtp, rtcp);
    }

    fn set_window_timer(&self, cx: &mut Context) {
        let key = TimerKey::Call(self.call, CallTimer::Window);
        match self.legs().filter_map(|(_, _, leg)| leg.window).min() {
            Some(end) => cx.timers.set(key, end),
            None => cx.timers.cancel(key),
        }
    }
}

/// The place of a side.
const fn pick<T>(legs: &mut [T; 2], side: Side) -> &mut T {
    let [a, b] = legs;
    match side {
        Side::A => a,
        Side::B => b,
    }
}

fn add(sum: &mut LegStats, more: &LegStats) {
    sum.packets_received = sum.packets_received.saturating_add(more.packets_received);
    sum.packets_sent = sum.packets_sent.saturating_add(more.packets_sent);
    sum.packets_lost = sum.packets_lost.saturating_add(more.packets_lost);
    sum.octets_received = sum.octets_received.saturating_add(more.octets_received);
    sum.jitter_us = sum.jitter_us.max(more.jitter_us);
    sum.rejected = sum.rejected.saturating_add(more.rejected);
}
