//! Which addresses of trunks are alive: OPTIONS to each (RFC 3261 §11), at an interval that doubles while one is dead. Routing
//! leaves out what is dead; a call that met silence makes us ask at once.
//!
//! Whatever answers is alive, also with 4xx: it heard us. 503 and silence are not.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use broker_proto::settings::{Health, Transport};
use sbc_sip::{headers::NameAddr, method::Method, uri::Uri};

use crate::{
    context::Context,
    event::Event,
    outgoing, target,
    timers::TimerKey,
    transactions::{self, Owner},
    transport::{self, NextHop},
};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Wait after a failure of an address that still counts as alive.
const SUSPECT: Duration = Duration::from_secs(5);
/// How long an address that met a call with silence is tried after the others.
const AVOIDED: Duration = Duration::from_secs(60);
/// The longest that one may ask to be left alone.
const LONGEST: Duration = Duration::from_secs(300);
/// Such addresses at once.
const SILENT: usize = 256;
/// Wait for a listener to stand.
const NO_WAY: Duration = Duration::from_secs(2);

/// One watched address.
struct State {
    trunk: String,
    hop: NextHop,
    settings: Health,
    call_id: String,
    cseq: u32,
    up: bool,
    /// Answers, or failures, in a row.
    row: u8,
    /// Wait before the next question while it is dead.
    wait: Duration,
    /// An answer is waited for.
    asked: bool,
}

/// All watched addresses, by a number that is never used twice.
#[derive(Default)]
pub(crate) struct TrunkHealth {
    states: BTreeMap<u64, State>,
    /// Addresses that met a call with silence or had no room for it, watched or not, each until it counts as any other.
    silent: Vec<(NextHop, Instant)>,
}

impl TrunkHealth {
    /// Whether an address met a call with silence a short while ago, or asked to be left alone: the others are tried before
    /// it, so that one call waits for it and not each.
    pub(crate) fn is_avoided(&self, now: Instant, hop: &NextHop) -> bool {
        let mut silent = self.silent.iter();
        silent.any(|(have, until)| have == hop && *until > now)
    }

    fn avoid(&mut self, now: Instant, hop: &NextHop, time: Duration) {
        self.silent
            .retain(|(have, until)| *until > now && have != hop);
        if self.silent.len() < SILENT {
            self.silent.push((*hop, now + time.min(LONGEST)));
        }
    }

    /// Whether an address may be called: it is alive, or nobody watches it.
    pub(crate) fn is_up(&self, trunk: &str, address: SocketAddr) -> bool {
        let mut states = self.states.values();
        let state = states.find(|state| state.trunk == trunk && state.hop.peer() == address);
        state.is_none_or(|state| state.up)
    }

    /// Name, address and whether it is alive, of every watched address.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&str, SocketAddr, bool)> {
        let states = self.states.values();
        states.map(|state| (state.trunk.as_str(), state.hop.peer(), state.up))
    }
}

/// The settings are new: what is watched as before goes on, what is new counts as alive until it is silent.
pub(crate) fn configure(cx: &mut Context) {
    let mut old = std::mem::take(&mut cx.health.states);
    for trunk in cx.settings().trunks.clone() {
        let Some(settings) = trunk.policy.health else {
            continue;
        };
        for peer in &trunk.addresses {
            let hop = NextHop::Address {
                zone: trunk.zone,
                transport: trunk.transport,
                peer: *peer,
            };
            let same = |state: &State| {
                state.trunk == trunk.name && state.hop == hop && state.settings == settings
            };
            let kept = old.iter().find(|(_, state)| same(state)).map(|(id, _)| *id);
            if let Some((id, state)) = kept.and_then(|id| Some((id, old.remove(&id)?))) {
                cx.health.states.insert(id, state);
                continue;
            }
            let id = cx.next_number();
            let state = State {
                trunk: trunk.name.clone(),
                hop,
                settings,
                call_id: cx.identity.name(),
                cseq: 0,
                up: true,
                row: 0,
                wait: seconds(settings.interval_seconds),
                asked: false,
            };
            cx.health.states.insert(id, state);
            // Not all at once.
            let lot = cx.identity.number().checked_rem(2_000).unwrap_or(0);
            let at = cx.now + Duration::from_millis(200 + lot);
            cx.timers.set(TimerKey::Health(id), at);
        }
    }
    for id in old.into_keys() {
        cx.timers.cancel(TimerKey::Health(id));
    }
}

/// A call to this address met silence: ask now, and try others first for a while.
pub(crate) fn suspect(cx: &mut Context, hop: &NextHop) {
    if matches!(hop, NextHop::Address { .. }) {
        let now = cx.now;
        cx.health.avoid(now, hop, AVOIDED);
    }
    let mut states = cx.health.states.iter();
    let found = states.find(|(_, state)| state.hop == *hop && state.up && !state.asked);
    if let Some(id) = found.map(|(id, _)| *id) {
        cx.timers.set(TimerKey::Health(id), cx.now);
    }
}

/// An address has no room for calls and says when it may: others are tried first until then. RFC 3261 §21.5.4.
pub(crate) fn overloaded(cx: &mut Context, hop: &NextHop, seconds: u32) {
    let now = cx.now;
    cx.health
        .avoid(now, hop, Duration::from_secs(u64::from(seconds)));
}

/// It is time to ask.
pub(crate) fn timer(cx: &mut Context, id: u64) {
    let Some(state) = cx.health.states.get(&id) else {
        return;
    };
    let (hop, call_id) = (state.hop, state.call_id.clone());
    let Some(own) = transport::own_address(cx, &hop) else {
        let at = cx.now + NO_WAY;
        cx.timers.set(TimerKey::Health(id), at);
        return;
    };
    let Some(state) = cx.health.states.get_mut(&id) else {
        return;
    };
    state.cseq = state.cseq.wrapping_add(1) & 0x7fff_ffff;
    state.asked = true;
    let cseq = state.cseq;
    let mut uri = outgoing::uri_of(hop.peer());
    if hop.transport() != Transport::Udp {
        uri = uri.with_param("transport", transport::word(hop.transport()));
    }
    let tag = cx.identity.tag();
    let draft = outgoing::RequestDraft {
        method: Method::Options,
        uri: uri.clone(),
        from: NameAddr::new(target::user_at("", own.ip().into())).with_tag(tag),
        to: NameAddr::new(Uri::Sip(uri)),
        call_id: &call_id,
        cseq,
        max_forwards: 70,
        routes: &[],
    };
    let request = outgoing::request(cx, &hop, draft);
    transactions::request_within(cx, hop, request, Owner::TrunkHealth(id), PATIENCE);
}

/// The final response to a question, or `None`: silence.
pub(crate) fn response(cx: &mut Context, id: u64, status: Option<u16>) {
    let Some(state) = cx.health.states.get_mut(&id) else {
        return;
    };
    state.asked = false;
    let heard = status.is_some_and(|status| status != 503);
    let settings = state.settings;
    let (interval, longest) = (
        seconds(settings.interval_seconds),
        seconds(settings.retry_seconds_max),
    );
    let against = heard != state.up;
    state.row = if against {
        state.row.saturating_add(1)
    } else {
        0
    };
    let enough = if heard {
        settings.up_after
    } else {
        settings.down_after
    };
    let turned = against && state.row >= enough.max(1);
    if turned {
        state.up = heard;
        state.row = 0;
        state.wait = interval;
    }
    let wait = match (state.up, heard) {
        (true, true) => interval,
        // Almost dead, or almost alive again: certainty is wanted soon.
        (true, false) | (false, true) => SUSPECT.min(interval),
        (false, false) => {
            let wait = state.wait;
            state.wait = wait.saturating_mul(2).min(longest);
            wait
        }
    };
    let (trunk, address) = (state.trunk.clone(), state.hop.peer());
    cx.timers.set(TimerKey::Health(id), cx.now + wait);
    cx.counters.count(
        "trunk_questions_total",
        "outcome",
        if heard { "answered" } else { "silent" },
    );
    if turned {
        let (peer, address) = (trunk.as_str(), Some(address));
        let seconds_away = None;
        cx.event(&match heard {
            true => Event::PeerUp {
                peer,
                address,
                seconds_away,
            },
            false => Event::PeerDown { peer, address },
        });
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count.max(1)))
}
