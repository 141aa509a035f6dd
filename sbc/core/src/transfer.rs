//! Transfers across calls: which of the two handlings a referrer's policy wants, the rights that count (the referrer's
//! own, as if it called there), and the legs of two calls that come together. RFC 3515, RFC 3891, RFC 5589.
//!
//! Pass: the far side of the referrer's call gets the REFER, its target and Replaces in that side's own names. Resolve:
//! we call the target ourselves and join the legs. Either is closed to whom the policy does not open it.

use std::collections::VecDeque;

use broker_proto::{
    journal::Severity,
    policy::{EventPackage, Transfer},
    settings::ZoneId,
};
use sbc_media::relay::Side;
use sbc_sip::{
    headers::{CallId, NameAddr, Replaces},
    message::Request,
    sdp::SessionDescription,
    uri::{SipUri, Uri},
};

use crate::{
    call::{
        Call, Original, Start,
        join::{NOBODY, Party},
        leg::Leg,
        session_timer::Asked,
        transfer::{Turn, Wish, with_replaces},
    },
    context::Context,
    core::Core,
    dispatch::Source,
    ledger,
    outgoing::{self, Credentials},
    policy::{self, fields::Crossing},
    surroundings::Peer,
    target::{self, NoTarget, Way},
    transport::{Flow, NextHop},
};

/// Hops left to a call that was made for a transfer: transfers that chase each other end.
const HOPS: u8 = 30;

impl Core {
    /// Deal with what calls want of each other. `false`: nothing was left.
    pub(crate) fn take_turn(&mut self) -> bool {
        if let Some(wish) = self.cx.wishes.pop_front() {
            self.wish(&wish);
        } else if let Some(turn) = self.cx.turns.pop_front() {
            self.turn(turn);
        } else {
            return false;
        }
        true
    }

    fn wish(&mut self, wish: &Wish) {
        let decided = self.decide(wish);
        let word = decided
            .as_ref()
            .map_or_else(|(_, word)| *word, |word| *word);
        self.cx.counters.count("transfers_total", "outcome", word);
        let fields = vec![
            ("call", wish.call.to_string()),
            ("outcome", word.to_owned()),
        ];
        self.cx.log(Severity::Notice, "transfer", fields);
        if let (Err((status, _)), Some(call)) = (decided, self.calls.get_mut(&wish.call)) {
            call.referral_refused(&mut self.cx, wish.server, status);
        }
    }

    /// Carry a REFER out; otherwise the status that refuses it, and why.
    fn decide(&mut self, wish: &Wish) -> Result<&'static str, (u16, &'static str)> {
        let gone = (481, "gone");
        let call = self.calls.get(&wish.call).ok_or(gone)?;
        let referrer = call.party(wish.side).ok_or(gone)?;
        let remaining = call.party(wish.side.other()).ok_or(gone)?;
        let transfer =
            policy::rules(&self.cx.surroundings, referrer.peer, referrer.hop.zone()).transfer();
        if transfer == Transfer::Refuse {
            return Err((403, "not-permitted"));
        }
        let takes_refer = call.takes_refer(wish.side.other());
        let pass = transfer == Transfer::Pass && takes_refer;
        match &wish.replaces {
            Some(replaces) => self.attended(wish, replaces, &referrer, &remaining, pass),
            None => self.blind(wish, &referrer, &remaining, pass),
        }
    }

    fn blind(
        &mut self,
        wish: &Wish,
        referrer: &Party,
        remaining: &Party,
        pass: bool,
    ) -> Result<&'static str, (u16, &'static str)> {
        let called = wish.target.user.as_ref().map(outgoing::plain_user);
        let called = called.unwrap_or_default();
        let way = self.way_of(wish, referrer)?;
        if pass {
            let host = remaining.address.uri.host().cloned();
            let host = host.ok_or((403, "no-address"))?;
            let target = target::user_at(&called, host);
            if let Some(call) = self.calls.get_mut(&wish.call) {
                call.pass_refer(&mut self.cx, wish.server, target);
            }
            return Ok("passed");
        }
        let offer = self
            .calls
            .get(&wish.call)
            .and_then(|call| call.offer_of(wish.side.other()));
        let offer = offer.ok_or((488, "no-media"))?;
        if let Some(call) = self.calls.get_mut(&wish.call) {
            call.referral_taken(&mut self.cx, wish.server);
        }
        self.call_target(wish, referrer, remaining, (way, called, offer));
        Ok("resolved")
    }

    /// Where the referrer itself would get, if it called there.
    fn way_of(&mut self, wish: &Wish, referrer: &Party) -> Result<Way, (u16, &'static str)> {
        let limits = self.cx.settings().limits;
        let most = usize::try_from(limits.calls).unwrap_or(usize::MAX);
        if self.stopping || self.call_count() >= most {
            return Err((503, "calls"));
        }
        if self.rates.call(self.cx.now, limits.call_rate).is_err() {
            return Err((503, "call-rate"));
        }
        let calling = self
            .calls
            .get(&wish.call)
            .map(|call| call.identity_of(wish.side).to_owned())
            .unwrap_or_default();
        let flow = self.flow_of(referrer);
        let (uri, kbit) = (Uri::Sip(wish.target.clone()), ledger::kbit_of(None));
        let way = target::find(
            &mut self.cx,
            &self.registration.bindings,
            (referrer.peer, &flow),
            (&calling, &uri),
            (kbit, false),
        );
        match way {
            // A telephone of the PBX transfers to a number there, which the PBX would not have asked us for.
            Err(none) if referrer.peer == Peer::Registrar && is_elsewhere(&none) => {
                target::at_registrar(&mut self.cx, (flow.zone, kbit), &calling, &uri)
            }
            way => way,
        }
        .map_err(|none| (none.status, none.reason))
    }

    /// The way by which a party speaks, for the question whether it is registered.
    fn flow_of(&self, party: &Party) -> Flow {
        match party.hop {
            NextHop::Flow(flow) => flow,
            NextHop::Address {
                zone,
                transport,
                peer,
            } => Flow {
                zone,
                transport,
                local: self
                    .cx
                    .surroundings
                    .own(zone, transport, peer.ip())
                    .unwrap_or(peer),
                peer,
                connection: None,
            },
        }
    }

    /// A call of our own to the target, with a leg that stands for the remaining party.
    fn call_target(
        &mut self,
        wish: &Wish,
        referrer: &Party,
        remaining: &Party,
        (way, called, offer): (Way, String, SessionDescription),
    ) {
        let id = self.cx.next_number();
        let calling = self
            .calls
            .get(&wish.call)
            .map(|call| call.identity_of(wish.side).to_owned())
            .unwrap_or_default();
        let leg = Call::stand_in(&mut self.cx, remaining);
        let referred_by = way.targets.front().and_then(|target| {
            let user = referrer.address.uri.user().map(outgoing::plain_user)?;
            let host = target.own.uri.host()?.clone();
            Some(NameAddr::new(target::user_at(&user, host)))
        });
        // The remaining party counts in the call that it is in; the new one counts where it goes.
        let Context {
            surroundings,
            ledger,
            now,
            ..
        } = &mut self.cx;
        let settings = surroundings.settings();
        let kbit = ledger::kbit_of(Some(&offer));
        ledger.begin(*now, settings, id, Vec::new(), (kbit, false));
        let start = Start {
            leg,
            server: NOBODY,
            cseq: 0,
            offer: Some(offer),
            original: Original {
                max_forwards: HOPS,
                display: None,
                credentials: Credentials::default(),
                crossing: Crossing::default(),
                replaces: None,
            },
            targets: way.targets,
            failover: way.failover,
            spared: None,
            source: None,
            route: way.route,
            calling,
            called,
            asked: Asked::default(),
            made_for: Some(wish.call),
            referrer: referred_by,
            callee: None,
        };
        self.cx.counters.count("calls_total", "", "");
        let call = Call::start(&mut self.cx, id, start);
        self.calls.insert(id, Box::new(call));
    }

    fn attended(
        &mut self,
        wish: &Wish,
        replaces: &Replaces,
        referrer: &Party,
        remaining: &Party,
        pass: bool,
    ) -> Result<&'static str, (u16, &'static str)> {
        let (other, side) = self.named(replaces).ok_or((481, "no-dialog"))?;
        let unfit = (481, "not-its-dialog");
        let second = self
            .calls
            .get(&other)
            .filter(|call| call.is_steady() && other != wish.call)
            .ok_or(unfit)?;
        // Both calls are the referrer's own.
        let own = second.party(side).ok_or(unfit)?;
        if !same_party(&own, referrer) {
            return Err((403, "not-its-dialog"));
        }
        let target = second.party(side.other()).ok_or(unfit)?;
        let neighbours = target.hop.zone() == remaining.hop.zone();
        if let (true, true, Some(remote)) = (pass, neighbours, target.tags.1.clone()) {
            let names = Replaces::new(
                CallId::new(&target.call_id),
                remote.as_str(),
                target.tags.0.as_str(),
            );
            let uri: Option<SipUri> = target
                .contact
                .clone()
                .or_else(|| target.address.uri.sip().cloned());
            let uri = uri.ok_or((403, "no-address"))?;
            if let Some(call) = self.calls.get_mut(&wish.call) {
                call.pass_refer(&mut self.cx, wish.server, with_replaces(uri, &names));
            }
            return Ok("passed");
        }
        if let Some(call) = self.calls.get_mut(&wish.call) {
            call.referral_taken(&mut self.cx, wish.server);
        }
        self.join((wish.call, wish.side.other()), (other, side));
        Ok("resolved")
    }

    /// The call and leg whose dialog Replaces names, as its far end knows it or as we do.
    fn named(&self, replaces: &Replaces) -> Option<(u64, Side)> {
        let call_id = replaces.call_id.text().to_string();
        let (to, from) = (replaces.to_tag()?, replaces.from_tag()?);
        [(to, from), (from, to)].into_iter().find_map(|(own, far)| {
            let key = (call_id.clone(), own.to_string());
            let (id, side) = self.cx.dialogs.get(&key).copied()?;
            self.calls
                .get(&id)?
                .is_named_by(side, own, far)
                .then_some((id, side))
        })
    }

    /// The leg `from` of one call takes the place of leg `to` of another; what is left of the first ends.
    fn join(&mut self, from: (u64, Side), to: (u64, Side)) {
        let Some(mut first) = self.calls.remove(&from.0) else {
            return;
        };
        if let Some(second) = self.calls.get_mut(&to.0) {
            first.drop_offers(&mut self.cx);
            second.forget_media(&mut self.cx, to.1);
            Call::swap_legs(&mut self.cx, (&mut first, from.1), (second, to.1));
            second.meet(&mut self.cx, to.1);
            first.transfer_done(&mut self.cx);
        }
        self.calls.insert(from.0, first);
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Answered(id) => self.target_answered(id),
            Turn::Failed { call, status } => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.transfer_failed(&mut self.cx, status);
                }
            }
            Turn::Dropped(of) => {
                let mut made = self.calls.values_mut();
                if let Some(call) = made.find(|call| call.is_made_for(of)) {
                    call.take_transfer();
                    call.end(&mut self.cx, "transfer-lost");
                }
            }
            Turn::Replaced(old) => {
                if let Some(call) = self.calls.get_mut(&old) {
                    call.end(&mut self.cx, "replaced");
                }
            }
            Turn::NotReplaced { new, old, side } => self.give_back(new, old, side),
            Turn::Again(response) => {
                let key = (
                    response.headers.call_id.text().to_string(),
                    response
                        .headers
                        .from
                        .tag()
                        .map(|tag| tag.to_string())
                        .unwrap_or_default(),
                );
                if let Some((id, side)) = self.cx.dialogs.get(&key).copied()
                    && let Some(call) = self.calls.get_mut(&id)
                {
                    call.came_again(&mut self.cx, side, &response);
                }
            }
        }
    }

    /// The target of a transfer answered: the remaining party comes to it, unless it has hung up meanwhile.
    fn target_answered(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let referred = call.take_transfer();
        let remaining = referred.and_then(|of| {
            let side = self.calls.get(&of)?.referred_side()?;
            Some((of, side.other()))
        });
        let stands = remaining.is_some_and(|(of, side)| {
            self.calls
                .get(&of)
                .is_some_and(|call| !call.is_ending() && call.party(side).is_some())
        });
        match remaining.filter(|_| stands) {
            Some(remaining) => self.join(remaining, (id, Side::A)),
            None => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.end(&mut self.cx, "transfer-lost");
                }
            }
        }
    }

    /// An INVITE that wants to take the place of a party: RFC 3891 §3. The call that it makes and whose leg it takes;
    /// otherwise the status that refuses it.
    pub(crate) fn replaced_by(
        &self,
        source: Source,
        replaces: &Replaces,
    ) -> Result<(u64, Side), (u16, &'static str)> {
        let (id, side) = self.named(replaces).ok_or((481, "no-dialog"))?;
        let call = self.calls.get(&id).ok_or((481, "no-dialog"))?;
        if call.is_ending() {
            return Err((603, "dialog-ended"));
        }
        // An early dialog that we did not begin is nobody's to take; one that we did begin has no name yet.
        let party = call.party(side).ok_or((481, "no-dialog"))?;
        let rules = policy::rules(&self.cx.surroundings, source.peer, source.flow.zone);
        if rules.transfer() == Transfer::Refuse {
            return Err((403, "not-permitted"));
        }
        // Who knows the names of a dialog and belongs to its far end's side.
        let inside = |peer| matches!(peer, Peer::Registrar | Peer::Internal);
        let same = party.hop.zone() == source.flow.zone
            && (party.peer == source.peer || (inside(party.peer) && inside(source.peer)));
        if !same {
            return Err((403, "not-its-dialog"));
        }
        if replaces.early_only() {
            return Err((486, "not-early"));
        }
        if !call.is_steady() {
            return Err((491, "busy"));
        }
        Ok((id, side))
    }

    /// Replaces of an INVITE in the PBX's own names, if it names a dialog of the PBX that the caller's side was told of
    /// (RFC 4235): the PBX knows whether it may be taken. `Err`: the caller may not ask.
    pub(crate) fn told_of(
        &self,
        source: Source,
        request: &Request,
    ) -> Result<Option<(ZoneId, Replaces)>, (u16, &'static str)> {
        let told = wanted(request).and_then(|replaces| self.cx.told.original(replaces));
        let rules = policy::rules(&self.cx.surroundings, source.peer, source.flow.zone);
        let closed = rules.transfer() == Transfer::Refuse || !rules.event(EventPackage::Dialog);
        if told.is_some() && closed {
            return Err((403, "not-permitted"));
        }
        Ok(told)
    }

    /// The leg that stands for the other party of a call until that comes over.
    pub(crate) fn stand_in_for(&mut self, (id, side): (u64, Side)) -> Option<Leg> {
        let party = self.calls.get(&id)?.party(side.other())?;
        Some(Call::stand_in(&mut self.cx, &party))
    }

    /// The new caller's call has a leg that stands for the other party: now that party itself.
    pub(crate) fn take_over(&mut self, new: u64, (old, side): (u64, Side)) {
        let Some(mut call) = self.calls.remove(&new) else {
            return;
        };
        if let Some(old) = self.calls.get_mut(&old) {
            Call::swap_legs(&mut self.cx, (&mut call, Side::B), (old, side.other()));
        }
        call.replace(&mut self.cx);
        self.calls.insert(new, call);
    }

    fn give_back(&mut self, new: u64, old: u64, side: Side) {
        let Some(mut call) = self.calls.remove(&new) else {
            return;
        };
        if let Some(old) = self.calls.get_mut(&old).filter(|old| !old.is_ending()) {
            Call::swap_legs(&mut self.cx, (&mut call, Side::B), (old, side.other()));
        }
        call.end(&mut self.cx, "refused");
        self.calls.insert(new, call);
    }
}

/// Nothing forbids the call, and nobody knows where it goes.
fn is_elsewhere(none: &NoTarget) -> bool {
    matches!(none.reason, "not-registered" | "no-route" | "loop")
}

/// Whether two legs have the same far end: the same carrier, the organisation's own side, or the same client.
fn same_party(one: &Party, two: &Party) -> bool {
    let inside = |peer| matches!(peer, Peer::Registrar | Peer::Internal);
    one.hop.zone() == two.hop.zone()
        && match (one.peer, two.peer) {
            (Peer::Stranger, Peer::Stranger) => one.hop.peer() == two.hop.peer(),
            (one, two) => one == two || (inside(one) && inside(two)),
        }
}

/// Replaces of an INVITE.
pub(crate) fn wanted(request: &Request) -> Option<&Replaces> {
    request.headers.replaces()
}

/// No place to try: the callee is there already.
pub(crate) fn nowhere() -> Way {
    Way {
        route: String::new(),
        targets: VecDeque::new(),
        failover: Vec::new(),
        replaces: None,
    }
}
