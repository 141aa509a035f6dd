//! Our own registration at carriers that want one. RFC 3261 §10.2; digest by RFC 8760, computed by the keyholder, which
//! alone has the password.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId,
    journal::Severity,
    keyholder::{FromKeyholder, ToKeyholder},
    settings::{Trunk, TrunkRegistration, ZoneId},
};
use sbc_sip::{headers::NameAddr, message::Response, method::Method, uri::Host};

use crate::{
    context::Context,
    digest,
    event::Event,
    io::Output,
    outgoing, policy,
    surroundings::Peer,
    target,
    timers::TimerKey,
    transactions::{self, Owner},
    transport::{self, NextHop},
};

/// Wait after the first failure; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(15);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Shortest time between registrations, whatever the carrier grants.
const SHORTEST_SECONDS: u32 = 30;
/// Requests of one registration beyond the first: answers to challenges (one may be stale), a longer interval.
const TRIES: u8 = 4;
/// Until the next address is tried.
const NEXT_ADDRESS: Duration = Duration::from_millis(100);
/// Proxies that a carrier may want calls to go through.
const SERVICE_ROUTE: usize = 4;

/// One registration.
struct State {
    trunk: String,
    settings: TrunkRegistration,
    call_id: String,
    cseq: u32,
    /// Since when it stands.
    since: Option<Instant>,
    failures: u32,
    tries: u8,
    /// Which of the trunk's addresses is used.
    address: usize,
    /// How many of them have failed in a row.
    failed_addresses: usize,
    /// Fewest seconds that the carrier grants.
    least: u32,
    /// Where the carrier sees us, if that is not where we are.
    seen_at: Option<SocketAddr>,
    /// A contact of ours that is to go.
    old_contact: Option<SocketAddr>,
    /// A digest that the keyholder is computing.
    awaited: Option<(RequestId, digest::Prepared)>,
    ending: bool,
}

/// All registrations, by index of the trunk in the settings.
#[derive(Default)]
pub(crate) struct TrunkRegistrations {
    states: BTreeMap<usize, State>,
    last_request: u32,
}

impl TrunkRegistrations {
    /// The settings are new: registrations that are the same go on.
    pub(crate) fn configure(&mut self, cx: &mut Context) {
        let mut old: BTreeMap<String, State> = std::mem::take(&mut self.states)
            .into_values()
            .map(|state| (state.trunk.clone(), state))
            .collect();
        for (index, trunk) in cx.settings().trunks.clone().into_iter().enumerate() {
            cx.timers.cancel(TimerKey::TrunkRegistration(index));
            let Some(settings) = trunk.registration else {
                continue;
            };
            let state = match old
                .remove(&trunk.name)
                .filter(|state| state.settings == settings)
            {
                Some(state) => state,
                None => State {
                    trunk: trunk.name,
                    settings,
                    call_id: cx.identity.name(),
                    cseq: 0,
                    since: None,
                    failures: 0,
                    tries: 0,
                    address: 0,
                    failed_addresses: 0,
                    least: 0,
                    seen_at: None,
                    old_contact: None,
                    awaited: None,
                    ending: false,
                },
            };
            self.states.insert(index, state);
            cx.timers.set(
                TimerKey::TrunkRegistration(index),
                cx.now + Duration::from_millis(100),
            );
        }
        cx.service_routes.clear();
        for state in old.into_values() {
            cx.log(
                Severity::Notice,
                "trunk-registration-dropped",
                vec![("trunk", state.trunk)],
            );
        }
    }

    /// A listener stands now: registrations that had no way go out at once.
    pub(crate) fn way_opened(&mut self, cx: &mut Context, zone: ZoneId) {
        for (index, state) in &self.states {
            let here = cx
                .surroundings
                .trunk(*index)
                .is_some_and(|trunk| trunk.zone == zone);
            if here && state.since.is_none() && state.cseq == 0 {
                cx.timers.set(TimerKey::TrunkRegistration(*index), cx.now);
            }
        }
    }

    /// A carrier that is known by name is elsewhere now: it is told there where we are.
    pub(crate) fn moved(&mut self, cx: &mut Context, trunk: &str) {
        let mut states = self.states.iter_mut();
        if let Some((index, state)) = states.find(|(_, state)| state.trunk == trunk) {
            state.address = 0;
            state.failed_addresses = 0;
            let at = cx.now + NEXT_ADDRESS;
            cx.timers.set(TimerKey::TrunkRegistration(*index), at);
        }
    }

    /// It is time to register.
    pub(crate) fn timer(&mut self, cx: &mut Context, index: usize) {
        if let Some(state) = self.states.get_mut(&index) {
            state.tries = 0;
            state.awaited = None;
            send(cx, index, state, None);
        }
    }

    /// The carrier's final response, or none in time.
    pub(crate) fn response(&mut self, cx: &mut Context, index: usize, response: Option<&Response>) {
        let Some(state) = self.states.get_mut(&index) else {
            return;
        };
        let status = response.map_or(408, |response| response.status.as_u16());
        let agreed =
            response.is_some_and(|response| policy::mediasec::learn(cx, index, &response.headers));
        match (status, response) {
            // RFC 3329 §2.3.1: again, with what the carrier has.
            (494, Some(_)) if agreed && state.tries < TRIES => {
                state.tries += 1;
                send(cx, index, state, None);
            }
            (200..=299, Some(response)) => accepted(cx, index, state, response),
            (401 | 407, Some(response)) if state.tries < TRIES => {
                let uri = format!("sip:{}", state.settings.realm);
                let cnonce = cx.identity.name();
                match digest::prepare(
                    response,
                    &state.settings.realm,
                    &state.settings.user,
                    &cnonce,
                    &uri,
                ) {
                    Some(prepared) => {
                        state.tries += 1;
                        self.last_request = self.last_request.wrapping_add(1);
                        ask_keyholder(cx, RequestId(self.last_request), index, state, prepared);
                    }
                    None => failed(cx, index, state, "no-usable-challenge"),
                }
            }
            (423, Some(response)) if state.tries < TRIES => {
                // RFC 3261 §10.2.8: what is configured is what we like best, not what a carrier must take.
                state.tries += 1;
                let least = response.headers.min_expires().unwrap_or(3_600);
                state.least = least.min(86_400);
                send(cx, index, state, None);
            }
            (423, _) => failed(cx, index, state, "interval"),
            (401 | 403 | 407, _) => failed(cx, index, state, "refused"),
            (408, None) => failed(cx, index, state, "silent"),
            (500..=599, _) => failed(cx, index, state, "unavailable"),
            _ => failed(cx, index, state, "failed"),
        }
    }

    /// The keyholder answered.
    pub(crate) fn answer(&mut self, cx: &mut Context, answer: &FromKeyholder) {
        let (id, response) = match answer {
            FromKeyholder::Response { id, response } => (*id, Some(response)),
            FromKeyholder::Refused { id } => (*id, None),
            _ => return,
        };
        let found = self
            .states
            .iter_mut()
            .find(|(_, state)| state.awaited.as_ref().is_some_and(|(have, _)| *have == id));
        let Some((index, state)) = found else { return };
        let Some((_, prepared)) = state.awaited.take() else {
            return;
        };
        match response {
            Some(response) => send(cx, *index, state, Some((prepared, response.as_str()))),
            None => failed(cx, *index, state, "keyholder-refused"),
        }
    }

    /// Whether each stands, for how many seconds, and how often it failed since it last did.
    pub(crate) fn gauges(&self, now: Instant) -> Vec<(String, u64)> {
        self.states
            .values()
            .flat_map(|state| {
                let trunk = &state.trunk;
                let seconds = state
                    .since
                    .map_or(0, |since| now.saturating_duration_since(since).as_secs());
                [
                    (
                        format!("sbc_trunk_registered{{trunk=\"{trunk}\"}}"),
                        u64::from(state.since.is_some()),
                    ),
                    (
                        format!("sbc_trunk_registered_seconds{{trunk=\"{trunk}\"}}"),
                        seconds,
                    ),
                    (
                        format!("sbc_trunk_registration_failures{{trunk=\"{trunk}\"}}"),
                        u64::from(state.failures),
                    ),
                ]
            })
            .collect()
    }

    /// Take the registrations back.
    pub(crate) fn stop(&mut self, cx: &mut Context) {
        for (index, state) in &mut self.states {
            cx.timers.cancel(TimerKey::TrunkRegistration(*index));
            if state.since.take().is_some() {
                state.ending = true;
                state.tries = 0;
                send(cx, *index, state, None);
            }
        }
    }
}

fn hop_of(cx: &Context, trunk: &Trunk, address: usize) -> Option<NextHop> {
    let reachable: Vec<NextHop> = trunk
        .addresses
        .iter()
        .map(|peer| NextHop::Address {
            zone: trunk.zone,
            transport: trunk.transport,
            peer: *peer,
        })
        .filter(|hop| transport::own_address(cx, hop).is_some())
        .collect();
    reachable
        .get(address.checked_rem(reachable.len())?)
        .copied()
}

/// Send REGISTER, with the answer to a challenge if there is one.
fn send(
    cx: &mut Context,
    index: usize,
    state: &mut State,
    credentials: Option<(digest::Prepared, &str)>,
) {
    let Some(trunk) = cx.surroundings.trunk(index).cloned() else {
        return;
    };
    let Ok(realm) = Host::parse_text(&state.settings.realm) else {
        failed(cx, index, state, "realm-is-no-host");
        return;
    };
    let Some(hop) = hop_of(cx, &trunk, state.address) else {
        failed(cx, index, state, "no-way");
        return;
    };
    let aor = NameAddr::new(target::user_at(&state.settings.user, realm.clone()));
    state.cseq = state.cseq.saturating_add(1);
    let tag = cx.identity.tag();
    let draft = outgoing::RequestDraft {
        method: Method::Register,
        uri: target::user_at("", realm),
        from: aor.clone().with_tag(tag),
        to: aor,
        call_id: &state.call_id,
        cseq: state.cseq,
        max_forwards: 70,
        routes: &[],
    };
    let mut request = outgoing::request(cx, &hop, draft);
    let Some(own) = outgoing::contact(cx, &hop) else {
        return;
    };
    let seconds = if state.ending {
        0
    } else {
        state.settings.interval_seconds.max(state.least)
    };
    let at = |seen: Option<SocketAddr>| {
        let uri = match seen {
            Some(seen) => outgoing::uri_at(&own, seen),
            None => own.clone(),
        };
        NameAddr::new(uri.with_user(&state.settings.user))
    };
    let mut contacts = vec![Some((at(state.seen_at), seconds))];
    contacts.extend(state.old_contact.map(|old| Some((at(Some(old)), 0))));
    outgoing::register(&mut request, &contacts, &outgoing::Credentials::default());
    policy::mediasec::write(cx, Peer::Trunk(index), &mut request.headers);
    if let Some((prepared, response)) = credentials {
        prepared.write(&mut request, response);
    }
    transactions::request(cx, hop, request, Owner::TrunkRegistration(index));
}

fn accepted(cx: &mut Context, index: usize, state: &mut State, response: &Response) {
    state.failures = 0;
    state.failed_addresses = 0;
    if state.ending {
        return;
    }
    let routes: Vec<NameAddr> = response
        .headers
        .service_route()
        .unwrap_or_default()
        .iter()
        .take(SERVICE_ROUTE)
        .map(NameAddr::detached)
        .collect();
    if routes.is_empty() {
        cx.service_routes.remove(&index);
    } else {
        // RFC 3608 §6.1.
        cx.service_routes.insert(index, routes);
    }
    let granted = response
        .contacts()
        .iter()
        .find(|contact| {
            contact
                .uri
                .user()
                .is_some_and(|user| user.as_str() == state.settings.user)
                && contact.expires() != Some(0)
        })
        .and_then(NameAddr::expires)
        .or_else(|| response.headers.expires())
        .unwrap_or(state.settings.interval_seconds)
        .clamp(SHORTEST_SECONDS, 86_400);
    let wanted = state.settings.interval_seconds.max(state.least);
    let seconds = granted.min(wanted).max(SHORTEST_SECONDS);
    // Early enough for a retransmission or two.
    let mut wait = Duration::from_secs(u64::from(seconds)).mul_f32(0.85);
    state.old_contact = None;
    if let Some((own, seen)) = outgoing::seen_at(response)
        && state.seen_at.unwrap_or(own) != seen
    {
        // RFC 3581 §4, RFC 5626 §4.3: a translator is between us; calls must come to its address.
        state.old_contact = Some(state.seen_at.unwrap_or(own));
        state.seen_at = Some(seen);
        wait = NEXT_ADDRESS;
    }
    cx.timers
        .set(TimerKey::TrunkRegistration(index), cx.now + wait);
    if state.since.is_none() {
        state.since = Some(cx.now);
        cx.event(&Event::TrunkRegistered {
            trunk: &state.trunk,
        });
    }
}

fn failed(cx: &mut Context, index: usize, state: &mut State, reason: &'static str) {
    cx.counters
        .count("trunk_registration_failures_total", "reason", reason);
    if state.ending {
        return;
    }
    // An address that does not work is followed by the next at once; a carrier that refuses by one is not asked by others.
    let addresses = cx
        .surroundings
        .trunk(index)
        .map_or(0, |trunk| trunk.addresses.len());
    if matches!(reason, "silent" | "unavailable" | "no-way") {
        state.address = state.address.wrapping_add(1);
        state.failed_addresses += 1;
        if state.failed_addresses < addresses {
            cx.timers
                .set(TimerKey::TrunkRegistration(index), cx.now + NEXT_ADDRESS);
            return;
        }
    }
    state.failed_addresses = 0;
    cx.service_routes.remove(&index);
    if state.since.take().is_some() || state.failures == 0 {
        let trunk = &state.trunk;
        cx.event(&Event::TrunkRegistrationFailed { trunk, reason });
    }
    // RFC 5626 §4.5: waits double, with some chance in them so that not all clients come at once.
    let wait = FIRST_WAIT
        .saturating_mul(1 << state.failures.min(6))
        .min(LONGEST_WAIT);
    let part = u32::try_from(cx.identity.number() % 500).unwrap_or(0);
    let wait = wait / 2 + wait.saturating_mul(part) / 1000;
    state.failures = state.failures.saturating_add(1);
    cx.timers
        .set(TimerKey::TrunkRegistration(index), cx.now + wait);
}

fn ask_keyholder(
    cx: &mut Context,
    id: RequestId,
    index: usize,
    state: &mut State,
    prepared: digest::Prepared,
) {
    let parameters = prepared.parameters("REGISTER");
    let algorithm = prepared.algorithm().to_owned();
    let secret = state.settings.secret.clone();
    state.awaited = Some((id, prepared));
    // Should the keyholder not answer, the next try comes by itself.
    cx.timers
        .set(TimerKey::TrunkRegistration(index), cx.now + FIRST_WAIT);
    cx.emit(Output::Keyholder(ToKeyholder::Digest {
        id,
        secret,
        algorithm,
        parameters,
    }));
}
