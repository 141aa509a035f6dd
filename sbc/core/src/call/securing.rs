//! Which legs of a call are sealed, and whether both sides agree. RFC 4568 §5.1.
//!
//! What a side offers is taken: sealed with keys that it gives where its signalling is sealed too or where it sits in the
//! organisation's own zone, otherwise in the clear. What we offer a phone that registered
//! over TLS is sealed, and what we offer a carrier over TLS that media security is spoken with.

use broker_proto::settings::{Transport, ZoneKind};
use sbc_media::{relay::Side, srtp::Security};
use sbc_sip::sdp::SessionDescription;

use super::{Call, leg::Leg};
use crate::{
    context::Context,
    keys::{self, Keys},
    offer_answer, policy,
    surroundings::Peer,
};

impl Call {
    /// Keys of a line that `side` offers, on both legs. `false`: keys that came by a way that anyone can read.
    pub(super) fn set_keys(
        &mut self,
        cx: &mut Context,
        line: usize,
        side: Side,
        offer: &SessionDescription,
    ) -> bool {
        let Some(offered) = offer.media.get(line) else {
            return false;
        };
        let sealed = keys::is_sealed(offered);
        if sealed && !self.leg(side).is_some_and(|leg| may_carry_keys(cx, leg)) {
            cx.counters.count("media_keys_refused_total", "", "");
            return false;
        }
        let ours = match sealed {
            true => Keys::answering(&mut cx.identity, offered, self.media.keys(line, side)),
            false => None,
        };
        if sealed && ours.is_none() {
            return false;
        }
        self.media.set_keys(line, side, ours);
        let other = side.other();
        let Some(leg) = self.leg(other) else {
            return false;
        };
        let theirs = match (leg.description.last().is_some(), is_to_be_sealed(cx, leg)) {
            // What a session began with it goes on with.
            (true, _) => self.media.keys(line, other).cloned(),
            (false, true) => Some(Keys::offering(&mut cx.identity)),
            (false, false) => None,
        };
        self.media.set_keys(line, other, theirs);
        true
    }

    /// What was agreed for a line on a leg by its far end's description; `None`: nothing, the line cannot be.
    pub(super) fn agreed(
        &self,
        line: usize,
        side: Side,
        described: &SessionDescription,
    ) -> Option<Option<Security>> {
        let described = described.media.get(line)?;
        match (self.media.keys(line, side), keys::is_sealed(described)) {
            (None, false) => Some(None),
            (Some(keys), true) => keys.agreed(described).map(Some),
            _ => None,
        }
    }

    /// Whether a description of `side` answers what we offered there.
    pub(super) fn answers(&self, side: Side, answer: &SessionDescription) -> bool {
        self.leg(side)
            .and_then(|leg| leg.description.last())
            .is_some_and(|offer| offer_answer::answers(offer, answer))
    }
}

/// Whether keys in descriptions on a leg are read by nobody else.
fn may_carry_keys(cx: &Context, leg: &Leg) -> bool {
    let sealed = matches!(leg.hop.transport(), Transport::Tls | Transport::Wss);
    sealed
        || cx
            .settings()
            .zones
            .iter()
            .any(|zone| zone.id == leg.hop.zone() && zone.kind == ZoneKind::Internal)
}

/// Whether what we offer on a leg is sealed: to a registered phone whose signalling is, to a carrier that wants so.
fn is_to_be_sealed(cx: &Context, leg: &Leg) -> bool {
    let wants = leg.peer == Peer::Stranger || policy::mediasec::is_spoken(cx, leg.peer);
    wants && leg.hop.transport() == Transport::Tls
}
