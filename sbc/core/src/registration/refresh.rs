//! Refreshes that are answered without the registrar.
//!
//! A phone behind a translator must refresh often to keep its way open; the registrar need not see it, since its own
//! binding lasts longer. We may answer as long as more than half of that is left, and what is granted never reaches beyond
//! it. An answer from here extends the life of a binding that the registrar accepted; it never makes one, moves one or
//! removes one: anything but the same contact by the same way goes to the registrar.
//!
//! Who may extend it:
//! - on a connection: what comes by the very connection by which the registrar's word was got. Nobody else can write on it.
//! - by UDP, where a source address can be forged: the same source address and port, the same Call-ID with a greater CSeq,
//!   and the credentials that the registrar accepted last, counted on or sent again. A stranger who cannot see the phone's
//!   packets knows neither its Call-ID nor its nonce. One who sees them could at most keep a binding alive where it is,
//!   until half of the registrar's time is over: the same that he could do by sending the phone's own packets again to
//!   any registrar.
//! - while the registrar does not answer, UDP without credentials too, since nobody could give the phone a challenge: the
//!   same source, Call-ID and a greater CSeq; for `away_seconds` at most.

use std::time::Duration;

use sbc_sip::{
    message::Request,
    text::Text,
    uri::{SipUri, Uri},
};

use super::{
    Registration,
    bindings::{Binding, Confirmed},
    credential::Credential,
    wish,
};
use crate::{
    context::Context,
    outgoing::{self, Answer},
    timers::TimerKey,
    transactions,
    transport::Flow,
};

/// How long an answer from here may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// While more than half of the registrar's time is left.
    Half,
    /// While the registrar's time lasts: it has too much to do.
    Whole,
}

/// One binding that is extended.
struct Extension {
    number: u64,
    told: u32,
}

impl Registration {
    /// Answer a REGISTER by ourselves if it is a refresh that may be. `false`: it is not, nothing happened.
    pub(crate) fn refresh(
        &mut self,
        cx: &mut Context,
        flow: &Flow,
        request: &Request,
        reach: Reach,
    ) -> bool {
        let branch = branch_number(cx, request);
        let confirmed = Confirmed {
            call_id: request.headers.call_id.text().clone(),
            cseq: request.headers.cseq.number,
            branch,
            credential: Credential::of(&cx.identity, request),
        };
        let Some(extensions) = self.extensions(cx, flow, request, &confirmed, reach) else {
            return false;
        };
        if let Some(credential) = confirmed.credential {
            let most = self.bindings.len();
            self.spent.used(&cx.identity, credential, flow, most);
        }
        let Some(tag) = self.extend(cx, &extensions, &confirmed) else {
            return false;
        };
        cx.counters.count("registrations_cached_total", "", "");
        let answer = self.success(cx, extensions.iter().map(|one| one.number));
        transactions::respond_statelessly(cx, flow, request, &format!("{tag:016x}"), answer);
        true
    }

    /// What a refresh extends; `None`: the registrar must see it.
    fn extensions(
        &self,
        cx: &mut Context,
        flow: &Flow,
        request: &Request,
        confirmed: &Confirmed,
        reach: Reach,
    ) -> Option<Vec<Extension>> {
        let headers = &request.headers;
        if headers.contact_star
            || headers.contacts.is_empty()
            || headers.contacts.len() > wish::CONTACTS
            || headers.from.uri != headers.to.uri
        {
            return None;
        }
        let to = headers.to.uri.sip()?;
        if !cx.surroundings.is_our_host(&to.host.to_string()) {
            return None;
        }
        let user = outgoing::plain_user(to.user.as_ref()?);
        let mut extensions = Vec::with_capacity(headers.contacts.len());
        for contact in &headers.contacts {
            let Uri::Sip(uri) = &contact.uri else {
                return None;
            };
            let binding = self.bindings.of_flow(flow).find(|binding| {
                *binding.user == *user && binding.flow == *flow && is_contact(binding, uri)
            })?;
            let last = &binding.confirmed;
            if last.call_id != confirmed.call_id {
                return None;
            }
            let again = confirmed.cseq == last.cseq && confirmed.branch == last.branch;
            let told = if again {
                binding.told
            } else if confirmed.cseq > last.cseq {
                let asked = wish::asked(contact, headers.expires());
                self.may_extend(cx, flow, binding, confirmed, (asked, reach))?
            } else {
                return None;
            };
            extensions.push(Extension {
                number: binding.number,
                told,
            });
        }
        Some(extensions)
    }

    /// Seconds by which a binding may be extended.
    fn may_extend(
        &self,
        cx: &mut Context,
        flow: &Flow,
        binding: &Binding,
        confirmed: &Confirmed,
        (asked, reach): (u32, Reach),
    ) -> Option<u32> {
        let settings = cx.settings().registration;
        if asked < settings.min_expires_seconds {
            return None;
        }
        let away = self.is_away();
        let proved = flow.connection.is_some()
            || match (&binding.confirmed.credential, &confirmed.credential) {
                (Some(last), Some(now)) => now.follows(last),
                (None, None) => true,
                _ => false,
            };
        if !proved && !away {
            return None;
        }
        let left = seconds(binding.granted_left(cx.now));
        let short = wish::short(cx, flow, binding.behind_nat);
        let told = wish::told(cx, asked, binding.granted, short);
        if proved && told <= left && (reach == Reach::Whole || left > binding.granted / 2) {
            return Some(told);
        }
        if !away {
            return None;
        }
        let end = binding.granted_until + Duration::from_secs(u64::from(settings.away_seconds));
        let most = seconds(end.saturating_duration_since(cx.now));
        (most > 0).then(|| told.min(most))
    }

    /// Extend bindings; the To tag of the answer.
    fn extend(
        &mut self,
        cx: &mut Context,
        extensions: &[Extension],
        confirmed: &Confirmed,
    ) -> Option<u64> {
        let mut tag = None;
        for one in extensions {
            let binding = self.bindings.get_mut(one.number)?;
            tag = tag.or(Some(binding.tag));
            if binding.confirmed.branch == confirmed.branch
                && binding.confirmed.cseq == confirmed.cseq
            {
                continue;
            }
            binding.told = one.told;
            binding.expires = cx.now + Duration::from_secs(u64::from(one.told));
            binding.confirmed.cseq = confirmed.cseq;
            binding.confirmed.branch = confirmed.branch;
            if confirmed.credential.is_some() {
                binding.confirmed.credential = confirmed.credential;
            }
            let deadline = binding.deadline();
            cx.timers.set(TimerKey::Binding(one.number), deadline);
        }
        tag
    }

    /// Answer a REGISTER that waits for a registrar that is away. `None`: it may not be.
    pub(super) fn answer_without_registrar(
        &mut self,
        cx: &mut Context,
        relayed: &super::Relayed,
    ) -> Option<Answer<'static>> {
        let mut extensions = Vec::new();
        if !matches!(&relayed.wish, wish::Wish::Contacts(contacts)
            if contacts.iter().all(|wanted| wanted.seconds > 0))
        {
            return None;
        }
        for wanted in relayed.wish.bound() {
            let binding = self.bindings.by_token(wanted.token)?;
            let same = binding.flow == relayed.flow
                && *binding.user == *relayed.user
                && binding.contact == wanted.contact
                && binding.confirmed.call_id == relayed.confirmed.call_id
                && binding.confirmed.cseq < relayed.confirmed.cseq;
            if !same {
                return None;
            }
            let asked = (wanted.seconds, Reach::Whole);
            let told = self.may_extend(cx, &relayed.flow, binding, &relayed.confirmed, asked)?;
            extensions.push(Extension {
                number: binding.number,
                told,
            });
        }
        self.extend(cx, &extensions, &relayed.confirmed)?;
        cx.counters.count("registrations_cached_total", "", "");
        Some(self.success(cx, extensions.iter().map(|one| one.number)))
    }

    /// 200 with these bindings.
    pub(super) fn success(
        &self,
        cx: &Context,
        numbers: impl Iterator<Item = u64>,
    ) -> Answer<'static> {
        let mut answer = Answer {
            status: outgoing::status(200),
            ..Answer::default()
        };
        for binding in numbers.filter_map(|number| self.bindings.get(number)) {
            let left = seconds(binding.expires.saturating_duration_since(cx.now));
            answer.contacts.push(outgoing::bound_contact(
                binding.contact.clone(),
                left,
                binding.outbound.as_deref(),
            ));
            if binding.outbound.is_some() {
                answer.flow_timer = Some(flow_timer(cx, &binding.flow));
            }
            if answer.path.is_empty() {
                answer.path = binding.path.to_vec();
            }
        }
        answer
    }
}

/// Seconds after which a phone with a flow shows that it lives (RFC 5626 §4.4).
fn flow_timer(cx: &Context, flow: &Flow) -> u32 {
    match flow.connection {
        Some(_) => 120.min(cx.settings().limits.idle_connection_seconds),
        None => cx.settings().registration.keepalive_seconds.clamp(15, 120),
    }
}

/// What tells a request's repetition from another request.
pub(super) fn branch_number(cx: &Context, request: &Request) -> u64 {
    let branch = request
        .top_via()
        .and_then(|via| via.branch())
        .cloned()
        .unwrap_or_else(|| Text::from_static(""));
    cx.identity.derived_number(&["branch", &branch])
}

fn is_contact(binding: &Binding, uri: &SipUri) -> bool {
    if uri.headers.is_empty() && !uri.params.has("method") {
        binding.contact == *uri
    } else {
        binding.contact == uri.as_request_uri()
    }
}

pub(super) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
