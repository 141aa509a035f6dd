//! What the next life of this process needs to find the phones again: each binding that came, changed or went is left with
//! the firewall, and a core asks it at its beginning for what the one before left. RFC 3261 §10, RFC 5626.
//!
//! What was left is an outsider's word, since the one before may have been a captured one: each binding is checked as
//! strictly as a REGISTER, and lives no longer than the phone was told and the registrar granted. Nothing proves anything
//! any more: by UDP the phone is called and calls at once, but its next REGISTER goes to the registrar; a phone on a
//! connection is waited for, and until it is back the registrar is told 480. A refresh that is answered from here changes
//! nothing that is left, so it costs no message.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use broker_proto::{
    binding::{BindingToken, KeptBinding, MAX_BATCH, MAX_OCTETS},
    broker::ToBroker,
    journal::Severity,
    settings::Transport,
};
use sbc_sip::{
    headers::NameAddr,
    text::Text,
    uri::{SipUri, Uri},
};

use super::{
    Registration,
    bindings::{Binding, Confirmed, Token},
    credential::Credential,
    keepalive, may_register, refresh,
    wish::{self, LONGEST_SECONDS, Wanted, Wish},
};
use crate::{
    context::Context,
    io::{ConnectionId, Output},
    requests::Purpose,
    timers::TimerKey,
    transport::Flow,
};

/// Wait until what changed is handed over, so that many make one message.
const GATHER: Duration = Duration::from_millis(50);
/// Wait between one message and the next.
const PAUSE: Duration = Duration::from_millis(10);
/// Wait after a refusal.
const AGAIN: Duration = Duration::from_secs(1);
/// Octets after which a message takes no further binding; with the longest one it stays below `broker::MAX_REQUEST`.
const BATCH_OCTETS: usize = 2_000;
/// Octets of a binding beside its texts, at most.
const AROUND: usize = 128;
/// Octets of a user part, at most.
const USER: usize = 256;

/// What is to be handed over, and how much was taken up.
#[derive(Default)]
pub(super) struct Legacy {
    /// Bindings that came, changed or went.
    changed: BTreeSet<Token>,
    /// Handed over and not answered.
    under_way: Vec<Token>,
    /// There is no firewall.
    away: bool,
    taken_up: u64,
    dropped: u64,
}

impl Legacy {
    /// Nothing is to be told of what was: both ends forget.
    pub(super) fn clear(&mut self) {
        *self = Self {
            away: self.away,
            ..Self::default()
        };
    }
}

impl Registration {
    /// A binding came, changed or went.
    pub(super) fn changed(&mut self, cx: &mut Context, token: Token) {
        let limit = usize::try_from(cx.settings().limits.registrations).unwrap_or(usize::MAX);
        if self.legacy.changed.len() > limit.saturating_mul(2) {
            return cx
                .counters
                .count("registrations_not_left_total", "reason", "too-many");
        }
        self.legacy.changed.insert(token);
        self.schedule(cx, GATHER);
    }

    fn schedule(&self, cx: &mut Context, wait: Duration) {
        let idle = self.legacy.under_way.is_empty() && !self.legacy.away;
        if idle && !self.legacy.changed.is_empty() && !cx.timers.is_set(TimerKey::Legacy) {
            cx.timers.set(TimerKey::Legacy, cx.now + wait);
        }
    }

    /// Leave the next of those that changed with the firewall.
    pub(crate) fn hand_over(&mut self, cx: &mut Context) {
        if self.legacy.away || !self.legacy.under_way.is_empty() {
            return;
        }
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        let mut octets = 0;
        while self.legacy.under_way.len() < MAX_BATCH
            && octets < BATCH_OCTETS
            && let Some(token) = self.legacy.changed.pop_first()
        {
            self.legacy.under_way.push(token);
            let binding = self.bindings.by_token(token);
            let record = binding.map(|binding| record(cx.now, binding));
            match record.filter(|record| record.left > 0) {
                Some(record) if record.octets() <= MAX_OCTETS => {
                    octets += record.octets() + AROUND;
                    kept.push(record);
                }
                Some(_) => {
                    let name = "registrations_not_left_total";
                    cx.counters.count(name, "reason", "too-long");
                    gone.push(token.0);
                }
                None => gone.push(token.0),
            }
        }
        if !self.legacy.under_way.is_empty() {
            let id = cx.requests.issue(Purpose::KeepBindings);
            cx.emit(Output::Broker(ToBroker::KeepBindings { id, kept, gone }));
        }
    }

    /// The firewall has what was handed over, or would not have it.
    pub(crate) fn handed_over(&mut self, cx: &mut Context, done: bool) {
        let batch = std::mem::take(&mut self.legacy.under_way);
        if !done {
            self.legacy.changed.extend(batch);
        }
        self.schedule(cx, if done { PAUSE } else { AGAIN });
    }

    /// The firewall is gone, and all that was left with it.
    pub(crate) fn firewall_is_gone(&mut self, cx: &mut Context) {
        self.legacy.away = true;
        self.legacy.under_way.clear();
        self.legacy.changed = self.bindings.tokens().collect();
        cx.timers.cancel(TimerKey::Legacy);
    }

    /// Settings: there is a firewall.
    pub(crate) fn firewall_is_back(&mut self, cx: &mut Context) {
        if std::mem::take(&mut self.legacy.away) {
            self.schedule(cx, GATHER);
        }
    }

    /// Ask for what an earlier life left.
    pub(crate) fn recall(&mut self, cx: &mut Context, after: Option<BindingToken>) {
        let id = cx.requests.issue(Purpose::RecallBindings);
        cx.emit(Output::Broker(ToBroker::RecallBindings { id, after }));
    }

    /// Some of what an earlier life left.
    pub(crate) fn recalled(
        &mut self,
        cx: &mut Context,
        bindings: Vec<KeptBinding>,
        next: Option<BindingToken>,
    ) {
        for kept in bindings {
            let token = Token(kept.token);
            match self.take_up(cx, kept) {
                Ok(()) => {
                    self.legacy.taken_up += 1;
                    cx.counters.count("registrations_taken_up_total", "", "");
                }
                Err(reason) => {
                    self.legacy.dropped += 1;
                    let name = "registrations_not_taken_up_total";
                    cx.counters.count(name, "reason", reason);
                    // The firewall need not keep it either.
                    if self.bindings.number_of(token).is_none() {
                        self.changed(cx, token);
                    }
                }
            }
        }
        if next.is_some() {
            return self.recall(cx, next);
        }
        let (taken_up, dropped) = (self.legacy.taken_up, self.legacy.dropped);
        if taken_up + dropped > 0 {
            let fields = vec![
                ("bindings", taken_up.to_string()),
                ("dropped", dropped.to_string()),
            ];
            cx.log(Severity::Notice, "registrations-taken-up", fields);
        }
    }

    /// A binding of an earlier life, if it is fit for this one.
    fn take_up(&mut self, cx: &mut Context, kept: KeptBinding) -> Result<(), &'static str> {
        let flow = way(cx, &kept)?;
        let granted = (1..=LONGEST_SECONDS).contains(&kept.granted);
        if !granted || kept.told == 0 || kept.told > kept.granted {
            return Err("times");
        }
        if kept.left == 0 {
            return Err("expired");
        }
        let wanted = wanted(&kept)?;
        let path = (kept.path.iter())
            .map(|proxy| proxy.parse().ok())
            .collect::<Option<Box<[NameAddr]>>>()
            .filter(|path| path.len() <= wish::PATH)
            .ok_or("path")?;
        if self.bindings.number_of(wanted.token).is_some()
            || self.same_phone(&kept.user, &wanted).is_some()
        {
            // It was quicker than this.
            return Err("superseded");
        }
        let settings = cx.settings();
        let most = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let of_account = most(settings.registration.contacts_per_account.max(1));
        if self.bindings.len() >= most(settings.limits.registrations)
            || self.bindings.of_user(&kept.user).len() >= of_account
        {
            return Err("table-full");
        }
        let of_source = settings.registration.contacts_per_source;
        let internal =
            cx.surroundings.peer(flow.zone, flow.peer.ip()) == crate::surroundings::Peer::Internal;
        if !internal && self.bindings.of_source(flow.peer.ip()) >= of_source {
            return Err("source-full");
        }
        let left = kept.left.min(kept.granted);
        let seconds = |count| Duration::from_secs(u64::from(count));
        let behind_nat = wish::behind_nat(&flow, &wanted.contact);
        let outbound = wanted.outbound.is_some();
        let binding = Binding {
            number: cx.next_number(),
            user: Arc::from(kept.user),
            contact: wanted.contact,
            token: wanted.token,
            flow,
            q: wanted.q,
            outbound: wanted.outbound,
            path,
            behind_nat,
            told: kept.told,
            expires: cx.now + seconds(left.min(kept.told)),
            granted: kept.granted,
            granted_until: cx.now + seconds(left),
            confirmed: Confirmed {
                call_id: Text::from(kept.call_id),
                cseq: kept.cseq,
                branch: 0,
                credential: Some(Credential::forgotten(cx.identity.number())),
            },
            tag: cx.identity.number(),
            keepalive: keepalive::begin(cx, &flow, behind_nat, outbound),
        };
        let (number, deadline) = (binding.number, binding.deadline());
        self.bindings.insert(binding);
        cx.timers.set(TimerKey::Binding(number), deadline);
        Ok(())
    }

    /// The token that a phone's contact has already: one of an earlier life was drawn by another secret.
    fn same_phone(&self, user: &str, wanted: &Wanted) -> Option<Token> {
        let same = |binding: &&Binding| match (&binding.outbound, &wanted.outbound) {
            (Some(have), Some(flow)) => have == flow,
            (None, None) => binding.contact == wanted.contact,
            _ => false,
        };
        let of_user = self.bindings.of_user(user);
        of_user.into_iter().find(same).map(|binding| binding.token)
    }

    /// A phone that registers again is bound under the name that the registrar knows it by.
    pub(super) fn known_again(&self, user: &str, wish: &mut Wish) {
        if self.legacy.taken_up == 0 {
            return;
        }
        if let Wish::Contacts(contacts) = wish {
            for wanted in contacts {
                if let Some(token) = self.same_phone(user, wanted) {
                    wanted.token = token;
                }
            }
        }
    }
}

/// The way to the phone: by one of our listeners, to somebody who may register.
fn way(cx: &Context, kept: &KeptBinding) -> Result<Flow, &'static str> {
    let settings = cx.settings();
    let zone = cx.surroundings.zone(kept.zone).ok_or("zone-gone")?;
    let stands = settings.listeners.iter().any(|listener| {
        listener.zone == kept.zone
            && listener.transport == kept.transport
            && listener.port == kept.local.port()
    });
    if !stands || !zone.addresses.contains(&kept.local.ip()) {
        return Err("listener-gone");
    }
    let host = kept.peer.ip();
    let one = !(host.is_unspecified() || host.is_multicast() || host.is_loopback());
    let plain = host.to_canonical() == host && host.is_ipv4() == kept.local.is_ipv4();
    let theirs = kept.peer.port() > 0 && !cx.surroundings.is_own(host);
    if !one || !plain || !theirs || !may_register(cx.surroundings.peer(kept.zone, host)) {
        return Err("address");
    }
    Ok(Flow {
        zone: kept.zone,
        transport: kept.transport,
        local: kept.local,
        peer: kept.peer,
        connection: (kept.transport != Transport::Udp).then_some(ConnectionId::GONE),
    })
}

/// What the phone once asked for.
fn wanted(kept: &KeptBinding) -> Result<Wanted, &'static str> {
    let fits = |text: &str, most| (1..=most).contains(&text.len()) && is_plain(text);
    let outbound = kept.outbound.as_ref();
    let outbound_fits =
        outbound.is_none_or(|(instance, number)| fits(instance, wish::INSTANCE) && *number > 0);
    if !fits(&kept.user, USER) || !fits(&kept.call_id, MAX_OCTETS) || !outbound_fits {
        return Err("text");
    }
    let Ok(Uri::Sip(contact)) = kept.contact.parse::<Uri>() else {
        return Err("contact");
    };
    Ok(Wanted {
        contact: SipUri::as_request_uri(&contact),
        token: Token(kept.token),
        seconds: kept.told,
        q: kept.q.min(1000),
        outbound: outbound.map(|(name, number)| Box::new((Text::from(name.as_str()), *number))),
    })
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A binding as it is left with the firewall.
fn record(now: Instant, binding: &Binding) -> KeptBinding {
    let outbound = binding.outbound.as_deref();
    KeptBinding {
        token: binding.token.0,
        zone: binding.flow.zone,
        transport: binding.flow.transport,
        local: binding.flow.local,
        peer: binding.flow.peer,
        user: binding.user.to_string(),
        contact: binding.contact.to_string(),
        path: binding.path.iter().map(NameAddr::to_string).collect(),
        outbound: outbound.map(|(name, number)| (name.to_string(), *number)),
        q: binding.q,
        told: binding.told,
        granted: binding.granted,
        left: refresh::seconds(binding.granted_left(now)),
        call_id: binding.confirmed.call_id.to_string(),
        cseq: binding.confirmed.cseq,
    }
}
