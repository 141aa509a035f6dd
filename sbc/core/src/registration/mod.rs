//! REGISTER relayed to the registrar. RFC 3261 §10.
//!
//! The registrar challenges and judges; we hold no password. Each contact of a phone is replaced by one of our own, whose
//! user part is a token that only we can read; a binding comes to be on the registrar's 2xx alone, together with the way
//! that the REGISTER came by. To outside, a name that the registrar does not know is met as one that it knows: with a
//! challenge, after the same time.

pub(crate) mod bindings;
mod mask;

use std::time::Duration;

use broker_proto::journal::Severity;
use sbc_sip::{
    digest::Auth,
    headers::NameAddr,
    message::{Request, Response},
    method::Method,
    uri::{SipUri, Uri},
};

use crate::{
    context::Context,
    outgoing::{self, Answer, Credentials},
    surroundings::Peer,
    target,
    timers::TimerKey,
    transactions::{self, Owner},
    transport::{Flow, NextHop},
};
use bindings::{Binding, Bindings};
use mask::Mask;

/// Contacts of one REGISTER at most.
const CONTACTS: usize = 4;
/// Seconds that a binding lasts if nobody says (RFC 3261 §10.2.1.1).
const USUAL_SECONDS: u32 = 3_600;
/// Seconds that a binding may last at most.
const LONGEST_SECONDS: u32 = 86_400;
/// Relayed REGISTERs under way at once.
const UNDER_WAY: usize = 2_000;

/// What a REGISTER wants.
#[derive(Clone, Debug)]
enum Wish {
    /// To know its bindings.
    Query,
    /// Contacts with the seconds that each is to last.
    Contacts(Vec<(SipUri, u32)>),
    /// All bindings to go.
    RemoveAll,
}

/// A REGISTER on its way to the registrar.
struct Relayed {
    flow: Flow,
    user: String,
    wish: Wish,
    /// The source is one that we know: it is told what the registrar says.
    known: bool,
    /// Slots are counted from here.
    received: std::time::Instant,
    /// An answer that waits for its slot.
    held: Option<Box<Answer<'static>>>,
}

/// Relayed REGISTERs and the bindings that came of them.
#[derive(Default)]
pub(crate) struct Registration {
    pub(crate) bindings: Bindings,
    /// By server transaction.
    under_way: std::collections::BTreeMap<u64, Relayed>,
    mask: Mask,
    cseq: u32,
}

impl Registration {
    /// How many are on their way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// A REGISTER that was admitted, in the server transaction `server`. `known`: the source is no stranger;
    /// `may`: it is one that may register.
    pub(crate) fn request(
        &mut self,
        cx: &mut Context,
        server: u64,
        flow: Flow,
        request: &Request,
        (known, may): (bool, bool),
    ) {
        let refusal = match self.relay(cx, server, flow, request, (known, may)) {
            Ok(()) => return,
            Err(refusal) => refusal,
        };
        cx.counters
            .count("registrations_refused_total", "reason", refusal.1);
        match (known, refusal.0) {
            // What is wrong with a stranger's REGISTER is nobody's business.
            (false, _) => transactions::forget_server(cx, server),
            (true, status) => transactions::respond_plain(cx, server, status),
        }
    }

    fn relay(
        &mut self,
        cx: &mut Context,
        server: u64,
        flow: Flow,
        request: &Request,
        (known, may): (bool, bool),
    ) -> Result<(), (u16, &'static str)> {
        let hop = registrar(cx).ok_or((503, "no-registrar"))?;
        if self.under_way.len() >= UNDER_WAY {
            return Err((503, "too-many"));
        }
        let to = request.headers.to.uri.sip().ok_or((404, "not-a-sip-uri"))?;
        if !cx.surroundings.is_our_host(&to.host.to_string()) {
            return Err((404, "not-our-domain"));
        }
        let user = to
            .user
            .as_ref()
            .map(outgoing::plain_user)
            .ok_or((404, "no-user"))?;
        let wish = wish(request)?;
        if !may {
            return Err((403, "may-not-register"));
        }
        let domain = target::domain(cx).ok_or((503, "no-domain"))?;
        let aor = NameAddr::new(target::user_at(&user, domain.clone()));
        let call_id = cx
            .identity
            .derived(&["register", &user, &contact_text(&wish)]);
        self.cseq = self.cseq.saturating_add(1);
        let own_tag = cx.identity.tag();
        let draft = outgoing::RequestDraft {
            method: Method::Register,
            uri: SipUri::new(domain),
            from: aor.clone().with_tag(own_tag),
            to: aor,
            call_id: &call_id,
            cseq: self.cseq,
            max_forwards: 70,
            routes: &[],
        };
        let mut relayed = outgoing::request(cx, &hop, draft);
        let own = outgoing::contact(cx, &hop).ok_or((503, "no-way"))?;
        let contacts = match &wish {
            Wish::Query => Vec::new(),
            Wish::RemoveAll => vec![None],
            Wish::Contacts(contacts) => contacts
                .iter()
                .map(|(contact, seconds)| {
                    let token = token(cx, &user, contact);
                    Some((NameAddr::new(own.clone().with_user(&token)), *seconds))
                })
                .collect(),
        };
        outgoing::register(&mut relayed, &contacts, &Credentials::of(request));
        let received = cx.now;
        self.under_way.insert(
            server,
            Relayed {
                flow,
                user,
                wish,
                known,
                received,
                held: None,
            },
        );
        transactions::request(cx, hop, relayed, Owner::Registration(server));
        Ok(())
    }

    /// The registrar's final response, or `None` if there was none in time.
    pub(crate) fn response(&mut self, cx: &mut Context, server: u64, response: Option<&Response>) {
        let Some(relayed) = self.under_way.get(&server) else {
            return;
        };
        let known = relayed.known;
        let Some(response) = response else {
            self.under_way.remove(&server);
            cx.counters
                .count("registrations_refused_total", "reason", "registrar-silent");
            if known {
                let answer = Answer {
                    status: outgoing::status(503),
                    retry_after: Some(30),
                    ..Answer::default()
                };
                transactions::respond(cx, server, answer);
            } else {
                transactions::forget_server(cx, server);
            }
            return;
        };
        let status = response.status.as_u16();
        if matches!(status, 401 | 407) {
            self.mask.learn(response);
        }
        match status {
            200..=299 => self.accepted(cx, server, response),
            401 | 407 => {
                let answer = Answer {
                    status: response.status,
                    challenges: outgoing::challenges(response),
                    ..Answer::default()
                };
                self.hold(cx, server, answer);
            }
            // RFC 3261 §10.3: the interval is too brief; said only to those who got in.
            423 => {
                let answer = Answer {
                    status: response.status,
                    min_expires: response.headers.min_expires(),
                    ..Answer::default()
                };
                self.hold(cx, server, answer);
            }
            500..=599 if known => {
                self.under_way.remove(&server);
                let answer = Answer {
                    status: outgoing::status(503),
                    retry_after: Some(30),
                    ..Answer::default()
                };
                transactions::respond(cx, server, answer);
            }
            500..=599 => {
                self.under_way.remove(&server);
                transactions::forget_server(cx, server);
            }
            // Unknown name, forbidden, or whatever else would tell one name from another.
            _ => {
                cx.counters
                    .count("registrations_refused_total", "reason", "masked");
                let challenges = self.challenge(cx);
                let answer = Answer {
                    status: outgoing::status(401),
                    challenges,
                    ..Answer::default()
                };
                self.hold(cx, server, answer);
            }
        }
    }

    /// Keep an answer until the next slot, so that its time tells nothing about how the registrar came to it.
    fn hold(&mut self, cx: &mut Context, server: u64, answer: Answer<'static>) {
        const SLOT: Duration = Duration::from_millis(25);
        let Some(relayed) = self.under_way.get_mut(&server) else {
            return;
        };
        let passed = cx
            .now
            .saturating_duration_since(relayed.received)
            .as_millis();
        let slots = u32::try_from(passed / SLOT.as_millis()).unwrap_or(u32::MAX - 1) + 1;
        let at = relayed.received + SLOT.saturating_mul(slots);
        relayed.held = Some(Box::new(answer));
        cx.timers.set(TimerKey::RegisterSlot(server), at);
    }

    /// A slot has come.
    pub(crate) fn slot(&mut self, cx: &mut Context, server: u64) {
        if let Some(answer) = self
            .under_way
            .remove(&server)
            .and_then(|relayed| relayed.held)
        {
            transactions::respond(cx, server, *answer);
        }
    }

    /// The server transaction ended before its answer.
    pub(crate) fn server_ended(&mut self, cx: &mut Context, server: u64) {
        if self.under_way.remove(&server).is_some() {
            cx.timers.cancel(TimerKey::RegisterSlot(server));
        }
    }

    fn accepted(&mut self, cx: &mut Context, server: u64, response: &Response) {
        let Some(relayed) = self.under_way.remove(&server) else {
            return;
        };
        let mut shown = Vec::new();
        match &relayed.wish {
            Wish::Query => {}
            Wish::RemoveAll => {
                for token in self.bindings.tokens_of(&relayed.user) {
                    self.drop_binding(cx, &token);
                }
            }
            Wish::Contacts(contacts) => {
                for (contact, asked) in contacts {
                    let token = token(cx, &relayed.user, contact);
                    let seconds = match *asked {
                        0 => 0,
                        asked => granted(response, &token)
                            .unwrap_or(asked)
                            .min(LONGEST_SECONDS),
                    };
                    if seconds == 0 {
                        self.drop_binding(cx, &token);
                    } else if self.bind(cx, &relayed, contact, token, seconds) {
                        shown.push((contact.clone(), seconds));
                    }
                }
            }
        }
        if matches!(relayed.wish, Wish::Query) {
            shown.extend(
                self.bindings
                    .of_flow(&relayed.flow)
                    .filter(|binding| binding.user == relayed.user)
                    .map(|binding| {
                        let left = binding.expires.saturating_duration_since(cx.now).as_secs();
                        (
                            binding.contact.clone(),
                            u32::try_from(left).unwrap_or(u32::MAX),
                        )
                    }),
            );
        }
        cx.counters.count("registrations_total", "", "");
        let answer = Answer {
            status: outgoing::status(200),
            contacts: shown,
            ..Answer::default()
        };
        transactions::respond(cx, server, answer);
    }

    /// Enter a binding that the registrar accepted. `false`: the table is full.
    fn bind(
        &mut self,
        cx: &mut Context,
        relayed: &Relayed,
        contact: &SipUri,
        token: String,
        seconds: u32,
    ) -> bool {
        let limit = usize::try_from(cx.settings().limits.registrations).unwrap_or(usize::MAX);
        let fresh = self.bindings.by_token(&token).is_none();
        if fresh && self.bindings.len() >= limit {
            cx.counters
                .count("registrations_refused_total", "reason", "table-full");
            return false;
        }
        let number = cx.next_number();
        let expires = cx.now + Duration::from_secs(u64::from(seconds));
        let replaced = self.bindings.insert(Binding {
            number,
            user: relayed.user.clone(),
            contact: contact.clone(),
            token,
            flow: relayed.flow,
            expires,
        });
        if let Some(old) = replaced {
            cx.timers.cancel(TimerKey::Binding(old));
        }
        cx.timers.set(TimerKey::Binding(number), expires);
        if fresh {
            let fields = vec![
                ("user", relayed.user.clone()),
                ("remote", relayed.flow.peer.to_string()),
            ];
            cx.record(Severity::Info, "registered", fields);
        }
        true
    }

    fn drop_binding(&mut self, cx: &mut Context, token: &str) {
        if let Some(binding) = self.bindings.remove(token) {
            cx.timers.cancel(TimerKey::Binding(binding.number));
            cx.record(Severity::Info, "unregistered", vec![("user", binding.user)]);
        }
    }

    /// A binding's time is over.
    pub(crate) fn expired(&mut self, cx: &mut Context, number: u64) {
        if let Some(binding) = self.bindings.remove_number(number) {
            cx.record(
                Severity::Info,
                "registration-expired",
                vec![("user", binding.user)],
            );
        }
    }

    /// A connection is gone and every binding that lived by it (RFC 5626 §4.2.2).
    pub(crate) fn connection_closed(&mut self, cx: &mut Context, flow: &Flow) {
        let tokens: Vec<String> = self
            .bindings
            .of_flow(flow)
            .map(|binding| binding.token.clone())
            .collect();
        for token in tokens {
            self.drop_binding(cx, &token);
        }
    }

    /// Forget every binding.
    pub(crate) fn clear(&mut self, cx: &mut Context) {
        for number in self.bindings.clear() {
            cx.timers.cancel(TimerKey::Binding(number));
        }
    }

    /// A challenge of the registrar's shape.
    pub(crate) fn challenge(&self, cx: &mut Context) -> Vec<(bool, Auth)> {
        let domain = cx.settings().domain.clone();
        self.mask.challenge(&mut cx.identity, &domain)
    }

    /// Whether a From user is one that this way is registered as.
    pub(crate) fn speaks_for(&self, flow: &Flow, user: &str) -> bool {
        self.bindings
            .of_flow(flow)
            .any(|binding| binding.user == user)
    }
}

/// The registrar's first address that we have a way to.
fn registrar(cx: &Context) -> Option<NextHop> {
    let registrar = cx.surroundings.registrar()?;
    registrar
        .addresses
        .iter()
        .map(|peer| NextHop::Address {
            zone: registrar.zone,
            transport: registrar.transport,
            peer: *peer,
        })
        .find(|hop| crate::transport::own_address(cx, hop).is_some())
}

/// User part of our contact for a phone's contact: always the same for the same, so that a refresh is one.
fn token(cx: &Context, user: &str, contact: &SipUri) -> String {
    cx.identity
        .derived(&["contact", user, &contact.to_string()])
}

fn contact_text(wish: &Wish) -> String {
    match wish {
        Wish::Query => String::new(),
        Wish::RemoveAll => "*".to_owned(),
        Wish::Contacts(contacts) => contacts
            .iter()
            .map(|(contact, _)| contact.to_string())
            .collect(),
    }
}

fn wish(request: &Request) -> Result<Wish, (u16, &'static str)> {
    let expires = request.headers.expires();
    if request.headers.contact_star {
        // RFC 3261 §10.2.2.
        return if expires == Some(0) {
            Ok(Wish::RemoveAll)
        } else {
            Err((400, "star-without-zero"))
        };
    }
    let contacts = &request.headers.contacts;
    if contacts.is_empty() {
        return Ok(Wish::Query);
    }
    if contacts.len() > CONTACTS {
        return Err((400, "too-many-contacts"));
    }
    let mut wanted = Vec::new();
    for contact in contacts {
        let Uri::Sip(uri) = &contact.uri else {
            return Err((400, "contact-not-sip"));
        };
        let seconds = contact
            .expires()
            .or(expires)
            .unwrap_or(USUAL_SECONDS)
            .min(LONGEST_SECONDS);
        wanted.push((uri.as_request_uri().detached(), seconds));
    }
    Ok(Wish::Contacts(wanted))
}

/// Seconds that the registrar granted to one of our contacts.
fn granted(response: &Response, token: &str) -> Option<u32> {
    let ours = response.contacts().iter().find(|contact| {
        contact
            .uri
            .user()
            .is_some_and(|user| user.as_str() == token)
    })?;
    ours.expires().or_else(|| response.headers.expires())
}

/// Whether a source that asks to register may do so at all: carriers and the PBX have no business here.
pub(crate) const fn may_register(peer: Peer) -> bool {
    matches!(peer, Peer::Stranger | Peer::Internal)
}
