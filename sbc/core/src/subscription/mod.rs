//! Subscriptions through us: two dialogs, one towards the subscriber (leg A), one towards the notifier (leg B), with
//! nothing in common but the event package and the time that is left. RFC 6665; bodies by `bodies`.
//!
//! A SUBSCRIBE goes from A to B, its answer back; a NOTIFY goes from B to A, its answer back. The notifier's first NOTIFY
//! or its 2xx makes the dialog, whichever comes first (§4.1.2.4 and §4.4.1); one of another fork gets 481.
//!
//! | module | noun |
//! |---|---|
//! | `request` | requests inside the dialogs |
//! | `answer` | what became of requests that were sent on |

mod answer;
mod request;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use broker_proto::policy::EventPackage;
use sbc_media::relay::Side;
use sbc_sip::{
    headers::SubscriptionState,
    message::{Request, Response},
    method::Method,
    text::Text,
};

use crate::{
    admission,
    call::leg::Leg,
    context::Context,
    core::Core,
    dispatch::Source,
    message::{self, aim::Tries},
    outgoing::{self, Answer, Credentials, events},
    policy::{self, fields::Crossing},
    surroundings::Peer,
    target::Target,
    timers::TimerKey,
    transactions::{self, Owner, TIMEOUT},
    transport::NextHop,
};

/// Subscriptions at once, and from one source that is neither trunk nor PBX.
const SUBSCRIPTIONS: usize = 20_000;
const FROM_ONE: u32 = 256;
/// Seconds where nobody says (RFC 3856 §6.4, RFC 4235 §3.3, RFC 3842 §3.4 have an hour or more), at least, at most.
const USUAL: u32 = 3_600;
const SHORTEST: u32 = 60;
const LONGEST: u32 = 86_400;

/// What a request of a subscription is for; each has the server transaction that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// The SUBSCRIBE that makes it.
    Begin(u64),
    /// A SUBSCRIBE that refreshes or ends it.
    Refresh(u64),
    /// A NOTIFY.
    Notify(u64),
}

/// One subscription.
struct Subscription {
    /// Towards the subscriber.
    a: Leg,
    /// Towards the notifier.
    b: Leg,
    package: EventPackage,
    /// `id` of the subscriber's Event.
    event_id: Option<Text>,
    /// When it ends by itself; a grace is left for the last NOTIFY.
    until: Instant,
    /// Seconds that the subscriber asked for last.
    asked: u32,
    /// The notifier said that it is over.
    terminated: bool,
    passes_challenges: bool,
    /// What the next notifier would be asked, until one has spoken.
    again: Option<Box<Again>>,
    /// Source that it counts against.
    source: Option<IpAddr>,
}

/// A SUBSCRIBE that may go to another place.
struct Again {
    source: Source,
    request: Request,
    /// Where it is now.
    target: Target,
    tries: Tries,
}

/// The tables.
#[derive(Default)]
pub(crate) struct Subscriptions {
    table: BTreeMap<u64, Subscription>,
    /// By Call-ID and own tag.
    dialogs: BTreeMap<(String, String), (u64, Side)>,
    per_source: BTreeMap<IpAddr, u32>,
}

impl Subscriptions {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn enter(&mut self, number: u64, subscription: Subscription) {
        for (leg, side) in [(&subscription.a, Side::A), (&subscription.b, Side::B)] {
            let key = (leg.call_id().to_owned(), leg.own_tag().to_owned());
            self.dialogs.insert(key, (number, side));
        }
        if let Some(source) = subscription.source {
            *self.per_source.entry(source).or_default() += 1;
        }
        self.table.insert(number, subscription);
    }

    /// Forget a subscription.
    fn remove(&mut self, cx: &mut Context, number: u64) {
        cx.timers.cancel(TimerKey::Subscription(number));
        let Some(subscription) = self.table.remove(&number) else {
            return;
        };
        for leg in [&subscription.a, &subscription.b] {
            self.dialogs
                .remove(&(leg.call_id().to_owned(), leg.own_tag().to_owned()));
        }
        if let Some(source) = subscription.source
            && let Some(count) = self.per_source.get_mut(&source)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
    }

    /// Its time is over, and the last NOTIFY did not come.
    pub(crate) fn expired(&mut self, cx: &mut Context, number: u64) {
        cx.counters
            .count("subscriptions_ended_total", "by", "expiry");
        self.remove(cx, number);
    }

    /// Orderly end: the subscriber is told, the notifier is left.
    pub(crate) fn stop(&mut self, cx: &mut Context) {
        let numbers: Vec<u64> = self.table.keys().copied().collect();
        for number in numbers {
            if let Some(subscription) = self.table.get_mut(&number) {
                subscription.tell_over(cx, "deactivated");
                subscription.leave(cx);
            }
            self.remove(cx, number);
        }
    }
}

impl Subscription {
    fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// A NOTIFY of our own to the subscriber: it is over.
    fn tell_over(&mut self, cx: &mut Context, reason: &'static str) {
        if self.terminated {
            return;
        }
        self.terminated = true;
        let (hop, mut notify) = self.a.request(cx, Method::Notify);
        let contact = outgoing::contact(cx, &hop);
        let about = (self.package, self.event_id.as_ref());
        let state = SubscriptionState::terminated(reason);
        events::notify(&mut notify, contact, about, state, None);
        transactions::request(cx, hop, notify, Owner::Nobody);
    }

    /// A SUBSCRIBE of our own to the notifier: nobody listens any more.
    fn leave(&mut self, cx: &mut Context) {
        if self.b.remote_tag().is_none() {
            return;
        }
        let (hop, mut subscribe) = self.b.request(cx, Method::Subscribe);
        let contact = outgoing::contact(cx, &hop);
        events::subscribe(&mut subscribe, contact, self.package, 0);
        transactions::request(cx, hop, subscribe, Owner::Nobody);
    }

    /// So many seconds are left.
    fn lasts(&mut self, cx: &mut Context, number: u64, seconds: u32) {
        self.until = cx.now + Duration::from_secs(u64::from(seconds.min(LONGEST)));
        // Timer N of RFC 6665 §4.1.2.4: the last NOTIFY may come after the end.
        cx.timers
            .set(TimerKey::Subscription(number), self.until + TIMEOUT);
    }
}

/// Seconds that a SUBSCRIBE asks for; `Err`: too few.
fn seconds(request: &Request) -> Result<u32, u32> {
    match request.headers.expires().unwrap_or(USUAL) {
        seconds @ 1..SHORTEST => Err(seconds),
        seconds => Ok(seconds.min(LONGEST)),
    }
}

impl Core {
    /// SUBSCRIBE outside a dialog.
    pub(crate) fn subscribe(&mut self, source: Source, request: &Request) {
        if !source.is_known() {
            self.refuse_silently(source, "stranger");
            return;
        }
        let (package, target, tries) = match self.subscription_target(source, request) {
            Ok(found) => found,
            Err((489, reason)) => return self.bad_event(source, request, reason),
            Err((status, reason)) => return self.refuse(source, request, status, reason),
        };
        let Ok(asked) = seconds(request) else {
            self.too_brief(source, request);
            return;
        };
        let counted =
            (source.peer == Peer::Stranger).then(|| admission::aggregate(source.flow.peer.ip()));
        let live = counted.and_then(|source| self.subscriptions.per_source.get(&source));
        if self.stopping
            || self.subscriptions.len() >= SUBSCRIPTIONS
            || live.is_some_and(|live| *live >= FROM_ONE)
        {
            let answer = Answer {
                status: outgoing::status(503),
                retry_after: Some(30),
                ..Answer::default()
            };
            self.refuse_with(source, request, "subscriptions-full", answer);
            return;
        }
        if let Some(server) = self.serve(source, request) {
            self.begin_subscription(source, request, server, (package, asked), (target, tries));
        }
    }

    fn subscription_target(
        &mut self,
        source: Source,
        request: &Request,
    ) -> Result<(EventPackage, Target, Tries), (u16, &'static str)> {
        let from = policy::rules(&self.cx.surroundings, source.peer, source.flow.zone);
        let package = events::package_of(request).filter(|package| from.event(*package));
        let package = package.ok_or((489, "bad-event"))?;
        if request.headers.contacts.len() != 1 {
            return Err((400, "contact"));
        }
        let (target, tries) = self.aim(&source, request)?;
        let to = policy::rules(&self.cx.surroundings, target.peer, target.hop.zone());
        if to.event(package) {
            Ok((package, target, tries))
        } else {
            Err((403, "event-policy"))
        }
    }

    /// RFC 6665 §4.2.1.1.
    fn too_brief(&mut self, source: Source, request: &Request) {
        let answer = Answer {
            status: outgoing::status(423),
            min_expires: Some(SHORTEST),
            ..Answer::default()
        };
        self.refuse_with(source, request, "interval-too-brief", answer);
    }

    fn begin_subscription(
        &mut self,
        source: Source,
        request: &Request,
        server: u64,
        (package, asked): (EventPackage, u32),
        (target, tries): (Target, Tries),
    ) {
        let cx = &mut self.cx;
        let number = cx.next_number();
        let headers = &request.headers;
        let mut a = Leg::new(
            cx,
            NextHop::Flow(source.flow),
            source.peer,
            headers.call_id.text().to_string(),
            outgoing::without_tag(headers.to.clone()),
            outgoing::without_tag(headers.from.clone()),
        );
        a.adopt_request(request);
        let (b, hop, subscribe) = notifier(cx, source, request, (package, asked), &target);
        cx.counters.count(
            "subscriptions_total",
            "package",
            events::package_word(package),
        );
        let patience = tries.patience(cx.now);
        let passes_challenges = target.passes_challenges;
        let again = Again {
            source,
            request: request.clone(),
            target,
            tries,
        };
        let mut subscription = Subscription {
            a,
            b,
            package,
            event_id: headers
                .event()
                .and_then(|event| event.id())
                .map(Text::detached),
            until: cx.now,
            asked,
            terminated: false,
            passes_challenges,
            again: Some(Box::new(again)),
            source: (source.peer == Peer::Stranger)
                .then(|| admission::aggregate(source.flow.peer.ip())),
        };
        subscription.lasts(cx, number, asked);
        self.subscriptions.enter(number, subscription);
        let owner = Owner::Subscription(number, Task::Begin(server));
        transactions::request_within(&mut self.cx, hop, subscribe, owner, patience);
    }

    /// Ask the next notifier after one that failed without a word. `false`: there is none.
    fn next_notifier(
        &mut self,
        number: u64,
        server: u64,
        answered: Result<&Response, u16>,
    ) -> bool {
        let cx = &mut self.cx;
        let Some(subscription) = self.subscriptions.table.get_mut(&number) else {
            return false;
        };
        if answered.is_ok_and(|response| response.status.is_success())
            || subscription.b.remote_tag().is_some()
        {
            subscription.again = None;
            return false;
        }
        let Some(mut again) = subscription.again.take() else {
            return false;
        };
        while let Some(target) = again.tries.next(cx, &again.target, answered) {
            let rules = policy::rules(&cx.surroundings, target.peer, target.hop.zone());
            again.target = target;
            if !rules.event(subscription.package) {
                continue;
            }
            let asks = (subscription.package, subscription.asked);
            let (b, hop, subscribe) =
                notifier(cx, again.source, &again.request, asks, &again.target);
            let name = |leg: &Leg| (leg.call_id().to_owned(), leg.own_tag().to_owned());
            self.subscriptions.dialogs.remove(&name(&subscription.b));
            self.subscriptions
                .dialogs
                .insert(name(&b), (number, Side::B));
            subscription.b = b;
            subscription.passes_challenges = again.target.passes_challenges;
            let patience = again.tries.patience(cx.now);
            subscription.again = Some(again);
            let owner = Owner::Subscription(number, Task::Begin(server));
            transactions::request_within(cx, hop, subscribe, owner, patience);
            return true;
        }
        false
    }
}

/// The leg towards a notifier, and the SUBSCRIBE that goes there.
fn notifier(
    cx: &mut Context,
    source: Source,
    request: &Request,
    (package, asked): (EventPackage, u32),
    target: &Target,
) -> (Leg, NextHop, Request) {
    let rules = policy::rules(&cx.surroundings, source.peer, source.flow.zone);
    let crossing = Crossing::of(&rules, &request.headers);
    let rules = policy::rules(&cx.surroundings, target.peer, target.hop.zone());
    let own = crossing.from(&rules, target.own.clone());
    let call_id = cx.identity.name();
    let mut b = Leg::new(
        cx,
        target.hop,
        target.peer,
        call_id,
        own,
        target.other.clone(),
    );
    let (hop, mut subscribe) = b.request(cx, Method::Subscribe);
    let contact = outgoing::contact(cx, &hop);
    events::subscribe(&mut subscribe, contact, package, asked);
    outgoing::aim_at(&mut subscribe, &target.uri, message::hops(request));
    if target.passes_challenges {
        Credentials::of(request).write(&mut subscribe);
    }
    let rules = policy::rules(&cx.surroundings, target.peer, target.hop.zone());
    if let Some(host) = subscribe.headers.from.uri.host().cloned() {
        crossing.write(&rules, &host, &mut subscribe.headers);
    }
    outgoing::add_fields(&mut subscribe.headers, rules.added());
    (b, hop, subscribe)
}
