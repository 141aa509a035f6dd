//! Requests beside calls that go to the other side in one transaction: MESSAGE (RFC 3428), PUBLISH (RFC 3903), and the
//! NOTIFY about waiting messages that many a PBX sends unasked. Who may send what to whom is `policy`'s.
//!
//! | module | noun |
//! |---|---|
//! | `aim` | where such a request goes |
//! | `publication` | entity tags of one side under names of the other |

pub(crate) mod aim;
mod publication;

use std::{collections::BTreeMap, time::Duration};

use broker_proto::policy::EventPackage;
use sbc_sip::{
    headers::Field,
    message::{Request, Response},
    method::Method,
    uri::Host,
};

use crate::{
    bodies::{self, Body, Names},
    core::Core,
    dispatch::Source,
    outgoing::{self, Answer, Credentials, events},
    policy::{self, fields::Crossing},
    surroundings::Peer,
    target::Target,
    transactions::{self, Owner},
};
use aim::Tries;
use publication::Publications;

/// Requests on their way at once.
const UNDER_WAY: usize = 2_000;
/// How long an answer is waited for: less than whoever asked us waits. RFC 4320 §4.1: 408 would come too late, or be
/// taken for the whole element's failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(28);
/// Seconds that a publication lasts at most.
const LONGEST: u32 = 86_400;

/// A request on its way.
struct Relayed {
    /// Who waits for the answer, and to what.
    source: Source,
    request: Request,
    /// Whose answer it is, and who is asked if it has none.
    target: Target,
    tries: Tries,
    /// Our host as the asker sees it.
    host: Host,
    publication: Option<u32>,
}

/// The table.
#[derive(Default)]
pub(crate) struct Messages {
    /// By server transaction.
    under_way: BTreeMap<u64, Box<Relayed>>,
    publications: Publications,
}

impl Messages {
    /// How many are on their way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// The server transaction ended before its answer.
    pub(crate) fn server_ended(&mut self, server: u64) {
        self.under_way.remove(&server);
    }
}

/// A request that is to be sent on.
struct Draft {
    target: Target,
    tries: Tries,
    body: Option<Body>,
    publication: Option<(u32, Option<sbc_sip::text::Text>)>,
}

/// Status, word for the counter, and types of body that would do.
type Refused = (u16, &'static str);

impl Core {
    /// MESSAGE outside a dialog.
    pub(crate) fn message_request(&mut self, source: Source, request: &Request) {
        if !source.is_known() {
            self.refuse_silently(source, "stranger");
            return;
        }
        match self.text_draft(source, request, None) {
            Ok(draft) => self.relay(source, request, draft),
            Err((415, reason)) => {
                let answer = Answer {
                    status: outgoing::status(415),
                    fields: vec![events::accepts(&[("text", "plain")])],
                    ..Answer::default()
                };
                self.refuse_with(source, request, reason, answer);
            }
            Err((405, reason)) => self.not_allowed(source, request, reason),
            Err((status, reason)) => self.refuse(source, request, status, reason),
        }
    }

    fn text_draft(
        &mut self,
        source: Source,
        request: &Request,
        next: Option<(Target, Tries)>,
    ) -> Result<Draft, Refused> {
        let from = policy::rules(&self.cx.surroundings, source.peer, source.flow.zone);
        let given = from.message_octets();
        if given == 0 {
            return Err((405, "message-policy"));
        }
        let (target, tries) = match next {
            Some(next) => next,
            None => self.aim(&source, request)?,
        };
        let to = policy::rules(&self.cx.surroundings, target.peer, target.hop.zone());
        let most = given.min(to.message_octets());
        if most == 0 {
            return Err((403, "message-policy"));
        }
        let body = text_body(request, most)?;
        Ok(Draft {
            target,
            tries,
            body,
            publication: None,
        })
    }

    /// PUBLISH.
    pub(crate) fn publish_request(&mut self, source: Source, request: &Request) {
        if !source.is_known() {
            self.refuse_silently(source, "stranger");
            return;
        }
        match self.publish_draft(source, request, None) {
            Ok(draft) => self.relay(source, request, draft),
            Err((405, reason)) => self.not_allowed(source, request, reason),
            Err((489, reason)) => self.bad_event(source, request, reason),
            Err((status, reason)) => self.refuse(source, request, status, reason),
        }
    }

    fn publish_draft(
        &mut self,
        source: Source,
        request: &Request,
        next: Option<(Target, Tries)>,
    ) -> Result<Draft, Refused> {
        let from = policy::rules(&self.cx.surroundings, source.peer, source.flow.zone);
        if !from.publishes() {
            return Err((405, "publish-policy"));
        }
        let package = events::package_of(request).filter(|package| from.event(*package));
        let package = package.ok_or((489, "bad-event"))?;
        let (target, tries) = match next {
            Some(next) => next,
            None => self.aim(&source, request)?,
        };
        let to = policy::rules(&self.cx.surroundings, target.peer, target.hop.zone());
        if !to.publishes() || !to.event(package) {
            return Err((403, "publish-policy"));
        }
        let tag = match request.headers.sip_if_match() {
            // RFC 3903 §11.2.1: the condition failed.
            Some(tag) => Some(
                self.messages
                    .publications
                    .theirs(self.cx.now, tag)
                    .ok_or((412, "entity-tag"))?,
            ),
            None => None,
        };
        let seconds = request.headers.expires().unwrap_or(3_600).min(LONGEST);
        let body = self.state_body(request, package, &target)?;
        if body.is_none() && tag.is_none() {
            return Err((400, "empty-publication"));
        }
        Ok(Draft {
            target,
            tries,
            body,
            publication: Some((seconds, tag)),
        })
    }

    /// NOTIFY outside a dialog: about waiting messages, of the PBX, to a phone that registered.
    pub(crate) fn notify_request(&mut self, source: Source, request: &Request) {
        if !source.is_known() {
            self.refuse_silently(source, "stranger");
            return;
        }
        match self.notify_draft(source, request, None) {
            Ok(draft) => self.relay(source, request, draft),
            Err((status, reason)) => self.refuse(source, request, status, reason),
        }
    }

    fn notify_draft(
        &mut self,
        source: Source,
        request: &Request,
        next: Option<(Target, Tries)>,
    ) -> Result<Draft, Refused> {
        let package = EventPackage::MessageSummary;
        let from = policy::rules(&self.cx.surroundings, source.peer, source.flow.zone);
        let asked = events::package_of(request) == Some(package);
        if source.peer != Peer::Registrar || !asked || !from.event(package) {
            return Err((481, "no-subscription"));
        }
        let (target, tries) = match next {
            Some(next) => next,
            None => self.aim(&source, request)?,
        };
        let to = policy::rules(&self.cx.surroundings, target.peer, target.hop.zone());
        if !to.event(package) {
            return Err((403, "event-policy"));
        }
        let body = self.state_body(request, package, &target)?;
        Ok(Draft {
            target,
            tries,
            body,
            publication: None,
        })
    }

    /// The state in a request's body for the target; `Err`: it is nothing that crosses.
    fn state_body(
        &self,
        request: &Request,
        package: EventPackage,
        target: &Target,
    ) -> Result<Option<Body>, Refused> {
        let Some(body) = request.body_part() else {
            return Ok(None);
        };
        let host = target.own.uri.host().ok_or((500, "no-host"))?;
        let names = Names {
            host,
            identity: &self.cx.identity,
        };
        let state = bodies::state(package, &body, names);
        state.map(Some).ok_or((415, "body-type"))
    }

    fn relay(&mut self, source: Source, request: &Request, draft: Draft) {
        if self.messages.under_way.len() >= UNDER_WAY {
            self.refuse(source, request, 503, "messages-full");
            return;
        }
        let Some(host) = own_host(request, &draft.target) else {
            self.refuse(source, request, 500, "no-host");
            return;
        };
        if let Some(server) = self.serve(source, request) {
            self.send_on(server, source, request.clone(), host, draft);
        }
    }

    /// Send a request to a target of it.
    fn send_on(&mut self, server: u64, source: Source, request: Request, host: Host, draft: Draft) {
        let Draft {
            target,
            tries,
            body,
            publication,
        } = draft;
        let cx = &mut self.cx;
        let rules = policy::rules(&cx.surroundings, source.peer, source.flow.zone);
        let crossing = Crossing::of(&rules, &request.headers);
        let rules = policy::rules(&cx.surroundings, target.peer, target.hop.zone());
        let own = crossing.from(&rules, target.own.clone());
        let (tag, call_id) = (cx.identity.tag(), cx.identity.name());
        let hop = target.hop;
        let relayed = outgoing::RequestDraft {
            method: request.method.clone(),
            uri: target.uri.clone(),
            from: own.with_tag(tag),
            to: target.other.clone(),
            call_id: &call_id,
            cseq: 1,
            max_forwards: hops(&request),
            routes: &[],
        };
        let mut relayed = outgoing::request(cx, &hop, relayed);
        match (&request.method, &publication) {
            (Method::Publish, Some((seconds, tag))) => {
                let package = events::package_of(&request).unwrap_or(EventPackage::Presence);
                events::publish(&mut relayed, package, Some(*seconds), tag.clone(), body);
            }
            (Method::Notify, _) => {
                let state = request.headers.subscription_state();
                let state = state.map_or_else(
                    || sbc_sip::headers::SubscriptionState::active(LONGEST),
                    |state| events::state_of(state, LONGEST),
                );
                let contact = outgoing::contact(cx, &hop);
                let about = (EventPackage::MessageSummary, None);
                events::notify(&mut relayed, contact, about, state, body);
            }
            _ => events::set_body(&mut relayed, body),
        }
        if target.passes_challenges {
            Credentials::of(&request).write(&mut relayed);
        }
        let rules = policy::rules(&cx.surroundings, target.peer, target.hop.zone());
        if let Some(host) = relayed.headers.from.uri.host().cloned() {
            crossing.write(&rules, &host, &mut relayed.headers);
        }
        outgoing::add_fields(&mut relayed.headers, rules.added());
        let patience = tries.patience(cx.now);
        self.messages.under_way.insert(
            server,
            Box::new(Relayed {
                source,
                request,
                target,
                tries,
                host,
                publication: publication.map(|(seconds, _)| seconds),
            }),
        );
        let owner = Owner::Message(server);
        transactions::request_within(&mut self.cx, hop, relayed, owner, patience);
    }

    /// Send a request to the next target after one that failed. `Err`: there is none, and the answer goes back.
    fn try_next(
        &mut self,
        server: u64,
        mut relayed: Box<Relayed>,
        answered: Result<&Response, u16>,
    ) -> Result<(), Box<Relayed>> {
        while let Some(target) = relayed.tries.next(&mut self.cx, &relayed.target, answered) {
            let (source, request) = (relayed.source, relayed.request.clone());
            let until = relayed.tries.clone();
            let next = Some((target, until));
            let draft = match request.method {
                Method::Publish => self.publish_draft(source, &request, next),
                Method::Notify => self.notify_draft(source, &request, next),
                _ => self.text_draft(source, &request, next),
            };
            // A target that policy closes is none.
            if let Ok(draft) = draft {
                self.send_on(server, source, request, relayed.host, draft);
                return Ok(());
            }
        }
        Err(relayed)
    }

    /// The final response to a request that was sent on, or the status that stands for none.
    pub(crate) fn message_answered(&mut self, server: u64, answered: Result<&Response, u16>) {
        let Some(relayed) = self.messages.under_way.remove(&server) else {
            return;
        };
        let Err(relayed) = self.try_next(server, relayed, answered) else {
            return;
        };
        let cx = &mut self.cx;
        let (target, source) = (&relayed.target, relayed.source);
        let from = policy::rules(&cx.surroundings, target.peer, target.hop.zone());
        let to = policy::rules(&cx.surroundings, source.peer, source.flow.zone);
        let (status, mut fields, mut challenges) = match answered {
            Ok(response) => {
                let status = response.status.as_u16();
                let crossing = Crossing::of(&from, &response.headers);
                let fields = crossing.fields(&to, &relayed.host);
                (status, fields, outgoing::challenges(response))
            }
            Err(status) => (status, Vec::new(), Vec::new()),
        };
        let told = told(from.told(status), target.passes_challenges);
        if told != status || !matches!(told, 401 | 407) {
            challenges.clear();
        }
        if let (Some(seconds), Ok(response), 200..=299) = (relayed.publication, answered, status) {
            let granted = response.headers.expires().unwrap_or(seconds).min(seconds);
            fields.push(Field::Expires(granted));
            if let Some(tag) = response.headers.sip_etag() {
                let ours = self
                    .messages
                    .publications
                    .ours(cx.now, granted, tag, &mut cx.identity);
                fields.extend(ours.map(Field::SipEtag));
            }
        }
        let min_expires = match answered {
            Ok(response) if told == 423 => response.headers.min_expires(),
            _ => None,
        };
        let answer = Answer {
            status: outgoing::status(told),
            challenges,
            fields,
            min_expires,
            ..Answer::default()
        };
        transactions::respond(cx, server, answer);
    }

    /// A method that this peer may not use, with those that it may. RFC 3261 §8.2.1.
    pub(crate) fn not_allowed(&mut self, source: Source, request: &Request, reason: &'static str) {
        let answer = Answer {
            status: outgoing::status(405),
            allow: true,
            ..Answer::default()
        };
        self.refuse_with(source, request, reason, answer);
    }

    /// An event package that this peer may not use, with those that it may. RFC 6665 §7.2.
    pub(crate) fn bad_event(&mut self, source: Source, request: &Request, reason: &'static str) {
        let rules = policy::rules(&self.cx.surroundings, source.peer, source.flow.zone);
        let fields = vec![events::allow_events(&rules)];
        let answer = Answer {
            status: outgoing::status(489),
            fields,
            ..Answer::default()
        };
        self.refuse_with(source, request, reason, answer);
    }
}

/// The text of a MESSAGE. An empty one is none.
pub(crate) fn text_body(request: &Request, most: u32) -> Result<Option<Body>, Refused> {
    let Some(body) = request.body_part() else {
        return Ok(None);
    };
    if u32::try_from(body.bytes.len()).map_or(true, |octets| octets > most) {
        return Err((513, "message-size"));
    }
    bodies::plain_text(&body)
        .map(Some)
        .ok_or((415, "body-type"))
}

/// Our host as the asker sees it: where it sent its request to.
fn own_host(request: &Request, target: &Target) -> Option<Host> {
    request
        .headers
        .to
        .uri
        .host()
        .or(target.own.uri.host())
        .cloned()
}

/// Max-Forwards of a request that is sent on.
pub(crate) fn hops(request: &Request) -> u8 {
    let left = request.headers.max_forwards().unwrap_or(70);
    left.min(70).saturating_sub(1)
}

/// The status that the asker is told: a redirection would show addresses of the other side, a challenge means it only
/// where its credentials go there, and extensions are between us and the other side.
pub(crate) const fn told(status: u16, passes_challenges: bool) -> u16 {
    match status {
        401 | 407 if !passes_challenges => 500,
        408 => 504,
        300..=399 => 480,
        420 | 421 | 494 => 500,
        _ => status,
    }
}
