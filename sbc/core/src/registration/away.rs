//! The registrar does not answer: failover among its addresses, then phones live on what is remembered until it is back.
//!
//! A relayed REGISTER waits a few seconds; then it goes to the next address. When none is left, requests of our own ask
//! each address whether it is there: some registrars drop what they do not like, and no stranger shall make one away by
//! asking for a name like that. If they are not answered either, the registrar counts as away. From then on nothing is
//! relayed: refreshes are answered from here, new registrations are told to come back (a stranger's are met with silence),
//! calls to the registrar go to the bindings of the number. The questions go on until one is answered.

use std::time::{Duration, Instant};

use sbc_sip::{headers::NameAddr, method::Method};

use super::{Registration, Relayed, refused_event};
use crate::{
    context::Context,
    event::Event,
    outgoing::{self, Answer},
    target,
    timers::TimerKey,
    transactions::{self, Owner},
    transport::{self, NextHop},
};

/// How long a REGISTER waits for an answer by one address: four transmissions by UDP.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// Between two questions whether the registrar is back.
const PROBE: Duration = Duration::from_secs(5);

/// Whether the registrar is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// It answers.
    #[default]
    Present,
    /// It was asked.
    Doubtful,
    /// It did not answer, since when.
    Away(Instant),
}

/// Addresses of the registrar that we have a way to.
pub(super) fn addresses(cx: &Context) -> Vec<NextHop> {
    let Some(registrar) = cx.surroundings.registrar() else {
        return Vec::new();
    };
    registrar
        .addresses
        .iter()
        .map(|peer| NextHop::Address {
            zone: registrar.zone,
            transport: registrar.transport,
            peer: *peer,
        })
        .filter(|hop| transport::own_address(cx, hop).is_some())
        .collect()
}

impl Registration {
    /// Whether the registrar counts as away.
    pub(crate) const fn is_away(&self) -> bool {
        matches!(self.presence, Presence::Away(_))
    }

    /// The registrar answered something.
    /// `address`: which of its addresses, if that is known.
    pub(super) fn answered(&mut self, cx: &mut Context, address: Option<usize>) {
        self.gate.answered = Some(cx.now);
        self.preferred = address.unwrap_or(self.preferred);
        let presence = std::mem::take(&mut self.presence);
        if presence != Presence::Present {
            cx.timers.cancel(TimerKey::RegistrarProbe);
        }
        if let Presence::Away(since) = presence {
            cx.registrar_away = false;
            let lasted = cx.now.saturating_duration_since(since).as_secs();
            cx.event(&Event::PeerUp {
                peer: "registrar",
                address: None,
                seconds_away: Some(lasted),
            });
        }
    }

    /// A relayed REGISTER has waited for long enough.
    pub(super) fn impatient(&mut self, cx: &mut Context, id: u64) {
        let Some(relayed) = self.under_way.get(&id) else {
            return;
        };
        // Others are answered: this one's time is its transaction's.
        if self
            .gate
            .answered
            .is_some_and(|answered| answered > relayed.sent)
        {
            return;
        }
        self.silent(cx, id, false);
    }

    /// A relayed REGISTER got no answer, or one that says that there is nobody: the next address, or the registrar may be
    /// away. `over`: no answer will come any more.
    pub(super) fn silent(&mut self, cx: &mut Context, id: u64, over: bool) {
        let count = addresses(cx).len();
        let another = match self.under_way.get_mut(&id) {
            Some(relayed) if relayed.tried < count => {
                relayed.address = relayed.address.wrapping_add(1);
                true
            }
            _ => false,
        };
        if another {
            self.send(cx, id);
            return;
        }
        if over && let Some(relayed) = self.under_way.remove(&id) {
            cx.timers.cancel(TimerKey::RegisterSlot(id));
            self.without_registrar(cx, id, &relayed);
        }
        self.suspect(cx);
    }

    /// Ask every address whether it is there.
    fn suspect(&mut self, cx: &mut Context) {
        if self.presence != Presence::Present {
            return;
        }
        self.presence = Presence::Doubtful;
        for place in 0..addresses(cx).len() {
            self.ask(cx, place);
        }
        cx.timers.set(TimerKey::RegistrarProbe, cx.now + PATIENCE);
    }

    /// It is time to ask again.
    pub(crate) fn probe(&mut self, cx: &mut Context) {
        match self.presence {
            Presence::Present => return,
            Presence::Doubtful => self.go_away(cx),
            Presence::Away(_) => {}
        }
        cx.timers.set(TimerKey::RegistrarProbe, cx.now + PROBE);
        let place = self.probed.checked_rem(addresses(cx).len()).unwrap_or(0);
        self.probed = self.probed.wrapping_add(1);
        self.ask(cx, place);
    }

    /// The registrar is away. Whoever waits for it is told so.
    fn go_away(&mut self, cx: &mut Context) {
        self.presence = Presence::Away(cx.now);
        cx.registrar_away = true;
        cx.event(&Event::PeerDown {
            peer: "registrar",
            address: None,
        });
        let waiting: Vec<u64> = self
            .under_way
            .iter()
            .filter(|(_, relayed)| relayed.held.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            if let Some(relayed) = self.under_way.remove(&id) {
                cx.timers.cancel(TimerKey::RegisterSlot(id));
                self.without_registrar(cx, id, &relayed);
            }
        }
    }

    fn without_registrar(&mut self, cx: &mut Context, id: u64, relayed: &Relayed) {
        if let Some(answer) = self.answer_without_registrar(cx, relayed) {
            transactions::respond(cx, id, answer);
            return;
        }
        refused_event(cx, &relayed.flow, &relayed.user, "registrar-silent");
        if relayed.known {
            let answer = self.come_back(cx);
            transactions::respond(cx, id, answer);
        } else {
            transactions::forget_server(cx, id);
        }
    }

    /// 503 with a moment to come back at.
    pub(super) fn come_back(&mut self, cx: &mut Context) -> Answer<'static> {
        let settings = cx.settings().registration;
        Answer {
            status: outgoing::status(503),
            retry_after: Some(self.gate.appointment(cx.now, &settings)),
            ..Answer::default()
        }
    }

    /// Ask the registrar by one of its addresses.
    fn ask(&self, cx: &mut Context, place: usize) {
        let hops = addresses(cx);
        let (Some(hop), Some(domain)) = (hops.get(place).copied(), target::domain(cx)) else {
            return;
        };
        let own = NameAddr::new(target::user_at("", domain.clone()));
        let call_id = cx.identity.name();
        let tag = cx.identity.tag();
        let draft = outgoing::RequestDraft {
            method: Method::Options,
            uri: target::user_at("", domain),
            from: own.clone().with_tag(tag),
            to: own,
            call_id: &call_id,
            cseq: 1,
            max_forwards: 70,
            routes: &[],
        };
        let request = outgoing::request(cx, &hop, draft);
        transactions::request(cx, hop, request, Owner::RegistrarProbe(place));
    }

    /// The registrar answered the question.
    pub(crate) fn probe_answered(&mut self, cx: &mut Context, address: usize, status: u16) {
        if self.presence != Presence::Present && !matches!(status, 408 | 503) {
            self.answered(cx, Some(address));
        }
    }

    /// Another registrar was configured: nothing is known of it.
    pub(crate) fn registrar_changed(&mut self, cx: &mut Context) {
        self.preferred = 0;
        self.presence = Presence::Present;
        cx.registrar_away = false;
        cx.timers.cancel(TimerKey::RegistrarProbe);
    }
}
