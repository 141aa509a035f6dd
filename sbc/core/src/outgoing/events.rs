//! Requests beside calls and registrations, built from typed fields: SUBSCRIBE and NOTIFY (RFC 6665), MESSAGE (RFC 3428),
//! PUBLISH (RFC 3903), INFO (RFC 6086).

use broker_proto::policy::EventPackage;
use sbc_sip::{
    headers::{Event, Field, MediaType, NameAddr, SubscriptionState, Substate, TokenValue},
    message::Request,
    text::Text,
    uri::SipUri,
};

use crate::{
    bodies::{self, Body},
    policy::Rules,
};

/// Reasons of RFC 6665 §4.1.3 and RFC 7621.
const REASONS: [&str; 8] = [
    "deactivated",
    "probation",
    "rejected",
    "timeout",
    "giveup",
    "noresource",
    "invariant",
    "badfilter",
];

/// The name of an event package.
pub(crate) const fn package_word(package: EventPackage) -> &'static str {
    match package {
        EventPackage::MessageSummary => "message-summary",
        EventPackage::Presence => "presence",
        EventPackage::Dialog => "dialog",
        EventPackage::Conference => "conference",
    }
}

/// The package of that name.
pub(crate) fn package_named(name: &str) -> Option<EventPackage> {
    [
        EventPackage::MessageSummary,
        EventPackage::Presence,
        EventPackage::Dialog,
        EventPackage::Conference,
    ]
    .into_iter()
    .find(|package| package_word(*package).eq_ignore_ascii_case(name))
}

/// What is missing or wrong in a SUBSCRIBE or NOTIFY.
pub(crate) fn package_of(request: &Request) -> Option<EventPackage> {
    package_named(&request.headers.event()?.package)
}

fn event(package: EventPackage, id: Option<&Text>) -> Field {
    let event = Event::new(Text::from_static(package_word(package)));
    Field::Event(match id {
        Some(id) => event.with_id(id.detached()),
        None => event,
    })
}

/// Packages that a peer with these rules may use.
pub(crate) fn allow_events(rules: &Rules<'_>) -> Field {
    let names = rules.events().map(package_word).map(Text::from_static);
    Field::AllowEvents(names.collect())
}

/// A SUBSCRIBE. RFC 6665 §4.1.2.1.
pub(crate) fn subscribe(
    request: &mut Request,
    contact: Option<SipUri>,
    package: EventPackage,
    seconds: u32,
) {
    request.headers.contacts.extend(contact.map(NameAddr::new));
    request.headers.push(event(package, None));
    request.headers.push(Field::Expires(seconds));
    let accepted = vec![bodies::media_type(package)];
    request.headers.push(Field::Accept(accepted));
}

/// A NOTIFY. `id`: of the subscriber's Event. RFC 6665 §4.2.2.
pub(crate) fn notify(
    request: &mut Request,
    contact: Option<SipUri>,
    (package, id): (EventPackage, Option<&Text>),
    state: SubscriptionState,
    body: Option<Body>,
) {
    request.headers.contacts.extend(contact.map(NameAddr::new));
    request.headers.push(event(package, id));
    request.headers.push(Field::SubscriptionState(state));
    set_body(request, body);
}

/// A state as it is told on: its word, seconds and a reason that is registered.
pub(crate) fn state_of(given: &SubscriptionState, longest: u32) -> SubscriptionState {
    let seconds = given.expires().map(|seconds| seconds.min(longest));
    let mut state = match given.state {
        Substate::Terminated => {
            let reason = given.reason().and_then(|reason| {
                let mut reasons = REASONS.iter();
                reasons.find(|known| known.eq_ignore_ascii_case(reason))
            });
            match reason {
                Some(reason) => SubscriptionState::terminated(reason),
                None => SubscriptionState {
                    state: Substate::Terminated,
                    params: sbc_sip::Params::new(),
                },
            }
        }
        Substate::Pending => SubscriptionState::pending(seconds.unwrap_or(longest)),
        Substate::Active | Substate::Other(_) => {
            SubscriptionState::active(seconds.unwrap_or(longest))
        }
    };
    if let (Substate::Terminated, Some(seconds)) = (&state.state, given.retry_after()) {
        state
            .params
            .set_plain(Text::from_static("retry-after"), seconds.to_string());
    }
    state
}

/// Body and Content-Type.
pub(crate) fn set_body(request: &mut Request, body: Option<Body>) {
    if let Some(Body { kind, bytes }) = body {
        request.set_body(kind, bytes);
    }
}

/// A PUBLISH: package, seconds and the entity tag that the far end gave. RFC 3903 §4.
pub(crate) fn publish(
    request: &mut Request,
    package: EventPackage,
    seconds: Option<u32>,
    tag: Option<Text>,
    body: Option<Body>,
) {
    request.headers.push(event(package, None));
    request.headers.fields.extend(seconds.map(Field::Expires));
    request.headers.fields.extend(tag.map(Field::SipIfMatch));
    set_body(request, body);
}

/// Name the Info-Package of an INFO. RFC 6086 §7.2.
pub(crate) fn info_package(request: &mut Request, name: &str) {
    let value = TokenValue::new(Text::from(name));
    request.headers.push(Field::InfoPackage(value));
}

/// The types of body that a peer is told are understood.
pub(crate) fn accepts(kinds: &[(&'static str, &'static str)]) -> Field {
    let kinds = kinds
        .iter()
        .map(|(kind, subtype)| MediaType::new(Text::from_static(kind), Text::from_static(subtype)));
    Field::Accept(kinds.collect())
}
