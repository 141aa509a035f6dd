//! Requests inside the dialogs of a subscription: SUBSCRIBE of the subscriber, NOTIFY of the notifier. RFC 6665 §4.1.2.2,
//! §4.1.3, §4.4.1.

use broker_proto::policy::EventPackage;
use sbc_media::relay::Side;
use sbc_sip::{message::Request, method::Method};

use super::{Subscription, Task, seconds};
use crate::{
    bodies::{self, Body, Names},
    context::Context,
    core::Core,
    dispatch::Source,
    message::PATIENCE,
    outgoing::{self, Answer, events},
    surroundings::Peer,
    transactions::{self, Owner},
};

impl Core {
    /// A request inside a dialog that is no call's. `false`: nor any subscription's.
    pub(crate) fn in_subscription(&mut self, source: Source, request: &Request) -> bool {
        let Some(tag) = request.headers.to.tag() else {
            return false;
        };
        let key = (request.headers.call_id.text().to_string(), tag.to_string());
        let Some((number, side)) = self.subscriptions.dialogs.get(&key).copied() else {
            return false;
        };
        let may = self
            .subscriptions
            .table
            .get(&number)
            .is_some_and(|subscription| source.may_speak(subscription.leg(side)));
        if !may {
            return false;
        }
        if self.bad_basics(source, request) {
            return true;
        }
        let Some(server) = self.serve(source, request) else {
            return true;
        };
        let Some(subscription) = self.subscriptions.table.get_mut(&number) else {
            return true;
        };
        let cx = &mut self.cx;
        match (side, &request.method) {
            (Side::A, Method::Subscribe) => subscription.refresh(cx, number, server, request),
            (Side::B, Method::Notify) => subscription.notified(cx, number, server, request),
            (_, Method::Options) => {
                let answer = Answer {
                    status: outgoing::status(200),
                    allow: true,
                    accept: true,
                    ..Answer::default()
                };
                transactions::respond(cx, server, answer);
            }
            _ => {
                let answer = Answer {
                    status: outgoing::status(405),
                    allow: true,
                    ..Answer::default()
                };
                transactions::respond(cx, server, answer);
            }
        }
        true
    }
}

impl Subscription {
    /// A SUBSCRIBE of the subscriber: more time, or none any more.
    fn refresh(&mut self, cx: &mut Context, number: u64, server: u64, request: &Request) {
        let event = request.headers.event();
        let same = events::package_of(request) == Some(self.package)
            && event.and_then(|event| event.id()) == self.event_id.as_ref();
        if !self.a.is_from_remote(request) || !same || self.terminated {
            transactions::respond_plain(cx, server, 481);
            return;
        }
        if !self.a.in_order(request.headers.cseq.number) {
            transactions::respond_plain(cx, server, 500);
            return;
        }
        let Ok(asked) = seconds(request) else {
            let answer = Answer {
                status: outgoing::status(423),
                min_expires: Some(super::SHORTEST),
                ..Answer::default()
            };
            transactions::respond(cx, server, answer);
            return;
        };
        if self.b.remote_tag().is_none() {
            // The notifier has not said a word yet: there is no dialog to refresh.
            transactions::respond_plain(cx, server, 491);
            return;
        }
        self.a.refresh_target_from(&request.headers.contacts);
        self.asked = asked;
        let (hop, mut subscribe) = self.b.request(cx, Method::Subscribe);
        let contact = outgoing::contact(cx, &hop);
        events::subscribe(&mut subscribe, contact, self.package, asked);
        let owner = Owner::Subscription(number, Task::Refresh(server));
        transactions::request_within(cx, hop, subscribe, owner, PATIENCE);
    }

    /// A NOTIFY of the notifier.
    fn notified(&mut self, cx: &mut Context, number: u64, server: u64, request: &Request) {
        let headers = &request.headers;
        let ours = self.b.remote_tag().is_none() || self.b.is_from_remote(request);
        if !ours || headers.from.tag().is_none() || self.terminated {
            // RFC 6665 §4.1.2.4: one of another fork is not wanted.
            transactions::respond_plain(cx, server, 481);
            return;
        }
        if events::package_of(request) != Some(self.package) {
            transactions::respond_plain(cx, server, 489);
            return;
        }
        let Some(given) = headers.subscription_state() else {
            transactions::respond_plain(cx, server, 400);
            return;
        };
        if !self.b.in_order(headers.cseq.number) {
            transactions::respond_plain(cx, server, 500);
            return;
        }
        let over = given.is_terminated();
        let body = match self.state_body(cx, request) {
            Ok(body) => body,
            // That it is over must be told even where its last state cannot be.
            Err(()) if over => None,
            Err(()) => {
                let kind = bodies::kind_of(self.package);
                let answer = Answer {
                    status: outgoing::status(415),
                    fields: vec![events::accepts(&[kind])],
                    ..Answer::default()
                };
                cx.counters
                    .count("sip_refused_total", "reason", "body-type");
                transactions::respond(cx, server, answer);
                return;
            }
        };
        if self.b.remote_tag().is_none() {
            self.b.adopt_request(request);
        } else {
            self.b.refresh_target_from(&headers.contacts);
        }
        if over {
            self.terminated = true;
        } else if let Some(seconds) = given.expires() {
            self.lasts(cx, number, seconds);
        }
        let state = events::state_of(given, self.asked.max(1));
        let (hop, mut notify) = self.a.request(cx, Method::Notify);
        let contact = outgoing::contact(cx, &hop);
        let about = (self.package, self.event_id.as_ref());
        events::notify(&mut notify, contact, about, state, body);
        let owner = Owner::Subscription(number, Task::Notify(server));
        transactions::request_within(cx, hop, notify, owner, PATIENCE);
    }

    fn state_body(&self, cx: &mut Context, request: &Request) -> Result<Option<Body>, ()> {
        let Some(body) = request.body_part() else {
            return Ok(None);
        };
        let host = self.a.own().uri.host().ok_or(())?;
        let names = Names {
            host,
            identity: &cx.identity,
        };
        let state = bodies::state(self.package, &body, names).ok_or(())?;
        if self.package == EventPackage::Dialog && self.b.peer == Peer::Registrar {
            cx.told.note(&cx.identity, self.b.hop.zone(), body.bytes);
        }
        Ok(Some(state))
    }
}
