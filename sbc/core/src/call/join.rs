//! Legs that change calls: after a transfer the remaining party's leg goes over to the new far end's call, and an INVITE
//! with Replaces takes over a leg of the call that it names (RFC 3891). Each leg keeps its dialog, names and clock; media
//! are opened anew and both ends hear of it by re-INVITE. Asked for by [`crate::transfer`].

use sbc_media::relay::Side;
use sbc_sip::{
    headers::{Field, NameAddr},
    sdp::SessionDescription,
    uri::SipUri,
};

use super::{Call, Phase, leg::Leg, own::Purpose, transfer::Turn};
use crate::{context::Context, offer_answer, surroundings::Peer, transport::NextHop};

/// The server transaction of an INVITE that nobody sent.
pub(crate) const NOBODY: u64 = u64::MAX;

/// A far end by what others need to know of it.
pub(crate) struct Party {
    pub(crate) hop: NextHop,
    pub(crate) peer: Peer,
    pub(crate) call_id: String,
    /// Our tag and its.
    pub(crate) tags: (String, Option<String>),
    /// How it is addressed.
    pub(crate) address: NameAddr,
    /// How we are on that leg.
    pub(crate) own: NameAddr,
    /// Where it is, as it says.
    pub(crate) contact: Option<SipUri>,
}

impl Call {
    /// The far end of a leg that stands.
    pub(crate) fn party(&self, side: Side) -> Option<Party> {
        let leg = self.leg(side).filter(|leg| leg.confirmed && !leg.over)?;
        Some(Party {
            hop: leg.hop,
            peer: leg.peer,
            call_id: leg.call_id().to_owned(),
            tags: (
                leg.own_tag().to_owned(),
                leg.remote_tag().map(str::to_owned),
            ),
            address: leg.other().clone(),
            own: leg.own().clone(),
            contact: leg.target().cloned(),
        })
    }

    /// Whether a call is answered and nothing changes it at the moment.
    pub(crate) fn is_steady(&self) -> bool {
        self.phase == Phase::Answered
            && self.exchange.is_none()
            && self.passage.is_none()
            && self.own.is_none()
            && !self.parting
    }

    /// The name by which a party of a call is known.
    pub(crate) fn identity_of(&self, side: Side) -> &str {
        match side {
            Side::A => &self.calling,
            Side::B => &self.called,
        }
    }

    /// What a leg's far end can do, both ways: a new party is not to find it on hold.
    pub(crate) fn offer_of(&self, side: Side) -> Option<SessionDescription> {
        let leg = self.leg(side)?;
        let described = leg.described.as_ref()?;
        Some(offer_answer::resumed(described, leg.hop.peer().ip()))
    }

    /// A leg that stands for one of another call until that comes over.
    pub(crate) fn stand_in(cx: &mut Context, party: &Party) -> Leg {
        let name = cx.identity.name();
        let (own, other) = (party.own.clone(), party.address.clone());
        let mut leg = Leg::new(cx, party.hop, party.peer, name, own, other);
        leg.over = true;
        leg
    }

    /// Exchange a leg with one of another call. Each keeps its clock.
    pub(crate) fn swap_legs(
        cx: &mut Context,
        (one, side): (&mut Self, Side),
        (two, other): (&mut Self, Side),
    ) {
        for (call, side) in [(&*one, side), (&*two, other)] {
            if let Some(leg) = call.leg(side) {
                leg.leave(cx);
            }
            call.session_rests(cx, side);
        }
        if let (Some(first), Some(second)) = (one.leg_mut(side), two.leg_mut(other)) {
            std::mem::swap(first, second);
        }
        std::mem::swap(one.session(side), two.session(other));
        for (call, side) in [(one, side), (two, other)] {
            if let Some(leg) = call.leg(side) {
                leg.enter(cx, call.id, side);
            }
            call.session_goes_on(cx, side);
        }
    }

    /// A new party has come to this call on leg `side`: both ends agree anew.
    pub(crate) fn meet(&mut self, cx: &mut Context, side: Side) {
        match self.offer_of(side.other()) {
            Some(theirs) => self.offer_own(cx, side, Purpose::Join(theirs)),
            None => self.end(cx, "join-refused"),
        }
    }

    /// What a leg's far end said about media is nothing to its successor.
    pub(crate) fn forget_media(&mut self, cx: &mut Context, side: Side) {
        self.media.forget(cx, side);
    }

    /// The callee of this call is here, from the call that is replaced: it gets the caller's offer.
    pub(crate) fn replace(&mut self, cx: &mut Context) {
        self.prepare(cx);
    }

    /// The call was made for a transfer, and answered: nobody waits for a 2xx.
    pub(super) fn answered_for_transfer(&mut self, cx: &mut Context) {
        self.exchange = None;
        cx.turns.push_back(Turn::Answered(self.id));
    }

    /// Whether this call was made for a REFER of that one.
    pub(crate) fn is_made_for(&self, call: u64) -> bool {
        self.made_for == Some(call)
    }

    /// The call with the REFER that this one was made for; none a second time.
    pub(crate) fn take_transfer(&mut self) -> Option<u64> {
        self.made_for.take()
    }

    /// The call ends before it was joined: the referrer's call hears of it.
    pub(super) fn tell_referrer(&mut self, cx: &mut Context) {
        if let Some(call) = self.made_for.take() {
            let status = self.status;
            cx.turns.push_back(Turn::Failed { call, status });
        }
    }

    /// Referred-By of the INVITE to a transfer's target. RFC 3892.
    pub(super) fn referred_by(&self) -> Option<Field> {
        self.referrer.as_deref().cloned().map(Field::ReferredBy)
    }

    /// Whether a request's tags name the dialog of a leg, seen from us. RFC 3891 §3.
    pub(crate) fn is_named_by(&self, side: Side, to_tag: &str, from_tag: &str) -> bool {
        self.leg(side).is_some_and(|leg| {
            leg.own_tag() == to_tag && leg.remote_tag().unwrap_or("0") == from_tag
        })
    }

    /// A 2xx that came again for a leg that has gone over to this call.
    pub(crate) fn came_again(
        &mut self,
        cx: &mut Context,
        side: Side,
        response: &sbc_sip::message::Response,
    ) {
        self.repeated(cx, side, Some(response));
    }
}
