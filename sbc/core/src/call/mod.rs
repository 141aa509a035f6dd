//! One call: two legs, each a dialog of its own with its own names, and the media between them (RFC 7092 §3.1: a
//! signalling back-to-back user agent with media relay). Leg A faces the caller, leg B the callee.
//!
//! At most one INVITE is on its way through a call at a time: the [`Exchange`]. It comes in on one leg, waits for media
//! sockets, goes out on the other, and ends with the ACK; a second one meanwhile is answered 491 or 500 (RFC 3261 §14).
//!
//! | module | noun |
//! |---|---|
//! | [`leg`] | one dialog: what is sent on it |
//! | `exchange` | INVITE from one leg to the other: sockets, offer, cancel |
//! | `outcome` | responses on their way back, forks, failover |
//! | `crossing` | fields, codecs and statuses that cross |
//! | `early` | the callee's early dialogs and the caller's for them |
//! | `reliable` | provisional responses with PRACK |
//! | `passage` | an offer by UPDATE, PRACK or provisional response |
//! | `own` | re-INVITE and UPDATE on our own account |
//! | `securing` | which legs are sealed by keys |
//! | `session_timer` | each leg's session timer |
//! | `transfer` | REFER and its NOTIFY |
//! | `join` | legs that change calls |
//! | `ability` | what a far end can do |
//! | `acknowledgement` | 2xx sent until its ACK comes |
//! | `in_dialog` | BYE, CANCEL, OPTIONS and re-INVITE |
//! | `information` | INFO and MESSAGE |
//! | `ending` | how a call ends, its records |

pub(crate) mod ability;
mod acknowledgement;
mod crossing;
mod early;
mod ending;
mod exchange;
mod in_dialog;
mod information;
pub(crate) mod join;
pub(crate) mod leg;
mod outcome;
mod own;
mod passage;
mod reliable;
mod securing;
pub(crate) mod session_timer;
pub(crate) mod transfer;

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use broker_proto::{
    broker::Refusal,
    status::{CallInfo, LegInfo},
};
use sbc_media::relay::{MediaEvent, Side};
use sbc_sip::{
    headers::{DisplayName, Field, NameAddr, Replaces},
    message::Request,
    sdp::SessionDescription,
};

use crate::{
    context::Context,
    dispatch::Source,
    media_session::MediaSession,
    outgoing::Credentials,
    policy::fields::Crossing,
    priority::Spared,
    target::Target,
    timers::TimerKey,
    trace::number,
    transactions,
    transport::{self, Flow, NextHop},
};
use early::Fork;
use exchange::Exchange;
use leg::Leg;
use own::Own;
use passage::Passage;
use session_timer::{Asked, Session};
use transfer::Referral;

/// A call's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallTimer {
    /// Leases are pushed out.
    Renew,
    /// A window for proving a port closes.
    Window,
    /// The callee does not answer.
    NoAnswer,
    /// A 2xx is sent again, or given up.
    Acknowledge,
    /// The longest a call may last.
    Duration,
    /// It goes on: its record says so.
    Interim,
    /// Last reports of the media threads do not come.
    Reports,
    /// A reliable provisional response is sent again, or given up.
    Reliable,
    /// The caller's session is to be refreshed, or is over.
    SessionA,
    /// The callee's.
    SessionB,
    /// An offer of our own is made again after a glare.
    Again,
    /// A REFER that was passed on is heard of no more.
    Referral,
    /// A referrer that has nobody left does not hang up.
    Parting,
    /// A 2xx waits for its pinholes no longer.
    Latch,
}

const TIMERS: [CallTimer; 14] = [
    CallTimer::Renew,
    CallTimer::Window,
    CallTimer::NoAnswer,
    CallTimer::Acknowledge,
    CallTimer::Duration,
    CallTimer::Interim,
    CallTimer::Reports,
    CallTimer::Reliable,
    CallTimer::SessionA,
    CallTimer::SessionB,
    CallTimer::Again,
    CallTimer::Referral,
    CallTimer::Parting,
    CallTimer::Latch,
];

/// How long a callee may ring (RFC 3261 §16.6 wants more than three minutes of timer C).
const NO_ANSWER: Duration = Duration::from_secs(185);
/// How often the record of a call says that it goes on: a crash loses no more of it.
const INTERIM: Duration = Duration::from_secs(60);
/// How long last reports are waited for.
const REPORTS: Duration = Duration::from_secs(1);
/// Early dialogs of one INVITE at most.
const FORKS: usize = 8;

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody rings yet.
    Trying,
    /// The callee rings.
    Ringing,
    /// Answered.
    Answered,
    /// Over; what is left is tidied up.
    Ending,
}

impl Phase {
    const fn word(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Ending => "ending",
        }
    }
}

/// What the caller's INVITE says that every try at a callee needs.
pub(crate) struct Original {
    pub(crate) max_forwards: u8,
    pub(crate) display: Option<DisplayName>,
    pub(crate) credentials: Credentials,
    /// Its fields that may cross.
    pub(crate) crossing: Crossing,
    /// The callee's dialog whose place it wants, in the callee's own names.
    pub(crate) replaces: Option<Box<Replaces>>,
}

/// A 2xx that nobody wanted: its dialog was ended.
struct Abandoned {
    side: Side,
    tag: Option<String>,
    cseq: u32,
    hop: NextHop,
    ack: Request,
}

/// One call.
pub(crate) struct Call {
    pub(crate) id: u64,
    phase: Phase,
    a: Leg,
    b: Option<Leg>,
    targets: VecDeque<Target>,
    target: Option<Box<Target>>,
    original: Original,
    exchange: Option<Box<Exchange>>,
    forks: Vec<Fork>,
    /// The early dialog that became the dialog.
    settled: Option<Box<Fork>>,
    /// The caller's first tag is some early dialog's.
    tag_used: bool,
    /// Server transaction and CSeq of the caller's INVITE.
    invite: (u64, u32),
    /// An offer that goes by another message than INVITE.
    passage: Option<Box<Passage>>,
    /// A request on our own account.
    own: Option<Box<Own>>,
    /// A transfer under way.
    referral: Option<Referral>,
    /// Whether a REFER came on leg A, on leg B.
    referred: [bool; 2],
    /// What the side that ended the call said to the other of why.
    last_words: Option<(Side, Vec<Field>)>,
    /// The other party has gone to its new one.
    parting: bool,
    /// The call whose REFER this one was made for.
    made_for: Option<u64>,
    /// Whom to name as referrer.
    referrer: Option<Box<NameAddr>>,
    /// The call and the leg of it that this one's caller replaces.
    replaces: Option<(u64, Side)>,
    /// Session timers of both legs.
    sessions: [Session; 2],
    /// A carrier was asked again with the media security that it has.
    agreed: bool,
    /// Pinholes have been waited for long enough.
    latched: bool,
    /// The 2xx that is ready and waits; with its description.
    ready: Option<(Vec<Field>, Option<SessionDescription>)>,
    media: MediaSession,
    /// Kinds of the media lines that flow, for the record.
    kinds: Vec<&'static str>,
    /// Source that the call counts against.
    pub(crate) source: Option<IpAddr>,
    route: String,
    /// Status codes after which the next target is tried, besides the usual ones.
    failover: Vec<u16>,
    /// No limit stops it.
    spared: Option<Spared>,
    pub(crate) calling: String,
    pub(crate) called: String,
    since: Instant,
    answered_at: Option<Instant>,
    ended_at: Option<Instant>,
    status: u16,
    ended_by: &'static str,
    /// What its far end said of why (RFC 3326).
    reason: String,
    recorded: bool,
    /// INVITE client transactions that may still bring a 2xx.
    inviting: Vec<u64>,
    /// Dialogs that were ended as soon as they stood; as many as there may be forks.
    abandoned: Vec<Abandoned>,
}

/// What starts a call.
pub(crate) struct Start {
    pub(crate) leg: Leg,
    pub(crate) server: u64,
    pub(crate) cseq: u32,
    pub(crate) offer: Option<SessionDescription>,
    pub(crate) original: Original,
    pub(crate) targets: VecDeque<Target>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) route: String,
    pub(crate) failover: Vec<u16>,
    pub(crate) spared: Option<Spared>,
    pub(crate) calling: String,
    pub(crate) called: String,
    /// What the INVITE says about the session's time.
    pub(crate) asked: Asked,
    /// The call whose REFER it is for.
    pub(crate) made_for: Option<u64>,
    /// Who referred.
    pub(crate) referrer: Option<NameAddr>,
    /// A leg that stands for the callee until it comes over, and whom the caller replaces.
    pub(crate) callee: Option<(Leg, (u64, Side))>,
}

impl Call {
    /// A caller's INVITE was admitted and has at least one target.
    pub(crate) fn start(cx: &mut Context, id: u64, start: Start) -> Self {
        let limits = cx.settings().limits;
        let mut call = Self {
            id,
            phase: Phase::Trying,
            a: start.leg,
            b: None,
            targets: start.targets,
            target: None,
            original: start.original,
            exchange: None,
            forks: Vec::new(),
            settled: None,
            tag_used: false,
            invite: (start.server, start.cseq),
            passage: None,
            own: None,
            referral: None,
            referred: [false; 2],
            parting: false,
            last_words: None,
            agreed: false,
            latched: false,
            made_for: start.made_for,
            referrer: start.referrer.map(Box::new),
            replaces: None,
            sessions: [Session::default(), Session::default()],
            ready: None,
            media: MediaSession::new(
                &mut cx.identity,
                id,
                limits.media_timeout_seconds.saturating_mul(1000),
            ),
            kinds: Vec::new(),
            source: start.source,
            route: start.route,
            failover: start.failover,
            spared: start.spared,
            calling: start.calling,
            called: start.called,
            since: cx.now,
            answered_at: None,
            ended_at: None,
            status: 0,
            ended_by: "",
            reason: String::new(),
            recorded: false,
            inviting: Vec::new(),
            abandoned: Vec::new(),
        };
        call.a.enter(cx, id, Side::A);
        call.session_noted(Side::A, start.asked);
        transactions::belongs_to(cx, start.server, id);
        call.exchange = Some(Box::new(Exchange::new(
            Side::A,
            start.server,
            start.cseq,
            start.offer,
            true,
        )));
        cx.timers
            .set(TimerKey::Call(id, CallTimer::NoAnswer), cx.now + NO_ANSWER);
        call.write_attempt(cx);
        match start.callee {
            Some((leg, replaced)) => {
                call.b = Some(leg);
                call.replaces = Some(replaced);
            }
            None => call.next_target(cx),
        }
        call
    }

    /// If nothing is left to be done, the call is let go of after this input.
    fn check_over(&self, cx: &mut Context) {
        let over = self.phase == Phase::Ending
            && self.recorded
            && self.exchange.is_none()
            && self.inviting.is_empty();
        if over {
            cx.over.insert(self.id);
        }
    }

    /// Whether the record of its end is written.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.phase == Phase::Ending
    }

    /// Forget everything that leads here.
    pub(crate) fn leave(&mut self, cx: &mut Context) {
        self.a.leave(cx);
        for fork in &self.forks {
            cx.dialogs
                .remove(&(self.a.call_id().to_owned(), fork.own_tag.clone()));
        }
        if let Some(leg) = &mut self.b {
            leg.leave(cx);
        }
        for timer in TIMERS {
            cx.timers.cancel(TimerKey::Call(self.id, timer));
        }
    }

    fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::A => Some(&self.a),
            Side::B => self.b.as_ref(),
        }
    }

    fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::A => Some(&mut self.a),
            Side::B => self.b.as_mut(),
        }
    }

    /// One of the call's deadlines has come.
    pub(crate) fn timer(&mut self, cx: &mut Context, timer: CallTimer) {
        match timer {
            CallTimer::Renew => self.media.renew(cx),
            CallTimer::Window => self.media.window_closed(cx),
            CallTimer::NoAnswer => self.no_answer(cx),
            CallTimer::Acknowledge => {
                self.acknowledge_timer(cx);
                self.check_over(cx);
            }
            CallTimer::Duration => self.end(cx, "limit"),
            CallTimer::Interim => self.write_interim(cx),
            CallTimer::Reliable => {
                self.reliable_timer(cx);
                self.check_over(cx);
            }
            CallTimer::SessionA => self.session_timer(cx, Side::A),
            CallTimer::SessionB => self.session_timer(cx, Side::B),
            CallTimer::Again => self.again(cx),
            CallTimer::Referral => self.referral_timer(),
            CallTimer::Parting => self.end(cx, "transferred"),
            CallTimer::Latch => {
                self.latched = true;
                self.release_success(cx);
            }
            CallTimer::Reports => {
                self.media.settle_all(cx);
                self.write_end(cx);
            }
        }
    }

    /// The firewall lent sockets for a media line.
    pub(crate) fn media_opened(
        &mut self,
        cx: &mut Context,
        id: broker_proto::RequestId,
        at: (usize, Side),
        lease: (
            broker_proto::broker::LeaseId,
            std::net::SocketAddr,
            Option<std::net::SocketAddr>,
        ),
        ttl_seconds: u32,
    ) -> bool {
        let taken = self.media.opened(cx, id, at, lease, ttl_seconds);
        if taken && !self.media.is_opening() {
            self.media_ready(cx);
        }
        taken
    }

    /// A pinhole of the call is as it was asked for.
    pub(crate) fn latched(&mut self, cx: &mut Context) {
        if self.ready.is_some() {
            self.release_success(cx);
        }
    }

    /// The firewall refused something that the call's media need.
    pub(crate) fn media_refused(&mut self, cx: &mut Context, reason: Refusal) {
        if self.phase == Phase::Ending {
            return;
        }
        match &self.exchange {
            Some(exchange) if exchange.awaits_media() => {
                self.refuse_exchange(cx, status_of(reason), "media-refused")
            }
            _ if self.passage_opens() => {
                self.refuse_passage(cx, status_of(reason), "media-refused");
            }
            _ => self.end(cx, "media-refused"),
        }
    }

    /// A lease could not be pushed out. Too many requests at once is no reason to end a call: the next one is in time.
    pub(crate) fn renewal_refused(&mut self, cx: &mut Context, reason: Refusal) {
        if !matches!(reason, Refusal::RateLimit) && self.phase != Phase::Ending {
            self.end(cx, "lease-lost");
        }
    }

    /// Whether a lease is one of this call's.
    pub(crate) fn holds(&self, lease: broker_proto::broker::LeaseId) -> bool {
        self.media.holds(lease)
    }

    /// Whether a source may speak in the dialog of a leg.
    pub(crate) fn may_speak(&self, side: Side, source: &Source) -> bool {
        self.leg(side).is_some_and(|leg| source.may_speak(leg))
    }

    /// Whether a leg's dialog came by a way.
    pub(crate) fn lives_by(&self, flow: &Flow) -> bool {
        [Some(&self.a), self.b.as_ref()]
            .into_iter()
            .flatten()
            .any(|leg| leg.hop == NextHop::Flow(*flow))
    }

    /// A lease of this call ended.
    pub(crate) fn lease_ended(&mut self, cx: &mut Context, lease: broker_proto::broker::LeaseId) {
        self.media.lost(cx, lease);
        if self.phase != Phase::Ending {
            self.end(cx, "lease-lost");
        }
    }

    /// The media threads have something to say about one of this call's streams.
    pub(crate) fn media_event(&mut self, cx: &mut Context, event: &MediaEvent) {
        match *event {
            MediaEvent::Proved {
                stream,
                side,
                component,
                source,
            } => {
                self.media.proved(cx, stream, side, component, source);
            }
            MediaEvent::SecondSource { source, .. } => {
                cx.counters.count("media_second_source_total", "", "");
                let fields = vec![
                    ("call", self.id.to_string()),
                    ("source", source.to_string()),
                ];
                cx.log(
                    broker_proto::journal::Severity::Notice,
                    "media-second-source",
                    fields,
                );
            }
            MediaEvent::Silent { stream, side, .. } => {
                if self.media.silent(stream, side) && self.phase == Phase::Answered {
                    self.end(cx, "media-timeout");
                }
            }
            MediaEvent::Report { stream, a, b, last } => {
                self.media.report(cx, stream, a, b, last);
                if self.phase == Phase::Ending && !self.media.is_reporting() {
                    self.write_end(cx);
                }
            }
            MediaEvent::Failed { stream, .. } => {
                self.media.failed(cx, stream);
                if self.phase != Phase::Ending {
                    self.end(cx, "media-failed");
                } else if !self.media.is_reporting() {
                    self.write_end(cx);
                }
            }
        }
    }

    /// For the list of live calls.
    pub(crate) fn info(&self, cx: &Context, now: Instant) -> CallInfo {
        let leg_info = |leg: &Leg, side| LegInfo {
            zone: cx.zone_name(leg.hop.zone()),
            remote: leg.hop.peer(),
            transport: transport::word(leg.hop.transport()).to_owned(),
            call_id: leg.call_id().to_owned(),
            media_ports: self.media.ports(side),
        };
        let mut legs = vec![leg_info(&self.a, Side::A)];
        legs.extend(self.b.as_ref().map(|leg| leg_info(leg, Side::B)));
        CallInfo {
            id: self.id,
            state: self.phase.word().to_owned(),
            calling: number(&self.calling),
            called: number(&self.called),
            age_ms: millis(now, self.since),
            legs,
        }
    }
}

/// The status code that tells a caller that the firewall would not lend media sockets.
const fn status_of(reason: Refusal) -> u16 {
    match reason {
        Refusal::PeerOutsidePolicy => 488,
        Refusal::NotPermitted
        | Refusal::NotConfigured
        | Refusal::UnknownLease
        | Refusal::RateLimit
        | Refusal::Quota
        | Refusal::PortsExhausted
        | Refusal::AllowListed
        | Refusal::OutOfRange
        | Refusal::System
        | Refusal::PeerRefused
        | Refusal::Closed => 503,
    }
}

fn millis(now: Instant, then: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX)
}
