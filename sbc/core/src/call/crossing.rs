//! What of a call's messages crosses besides the call: header fields, codecs and status codes by the policies of both
//! peers. The rules are `policy`'s; here is which leg they are for.

use sbc_media::relay::Side;
use sbc_sip::{
    headers::{Field, Headers},
    message::Request,
    sdp::SessionDescription,
};

use super::{Call, leg::Leg};
use crate::{
    context::Context,
    outgoing,
    policy::{self, Rules, fields::Crossing, formats},
};

/// The rules for a leg's far end.
pub(super) fn rules<'a>(cx: &'a Context, leg: &Leg) -> Rules<'a> {
    policy::rules(&cx.surroundings, leg.peer, leg.hop.zone())
}

impl Call {
    /// The caller's fields, and those of our own, into the first INVITE to a target.
    pub(super) fn write_fields(
        cx: &Context,
        leg: &Leg,
        crossing: &Crossing,
        request: &mut Request,
    ) {
        let rules = rules(cx, leg);
        let host = request.headers.from.uri.host().cloned();
        if let Some(host) = host {
            crossing.write(&rules, &host, &mut request.headers);
        }
        outgoing::add_fields(&mut request.headers, rules.added());
        policy::mediasec::write(cx, leg.peer, &mut request.headers);
    }

    /// The fields of a response that came on leg `side`, for the other.
    pub(super) fn carried(&self, cx: &Context, side: Side, headers: &Headers) -> Vec<Field> {
        let (Some(from), Some(to)) = (self.leg(side), self.leg(side.other())) else {
            return Vec::new();
        };
        let Some(host) = to.own().uri.host() else {
            return Vec::new();
        };
        Crossing::of(&rules(cx, from), headers).fields(&rules(cx, to), host)
    }

    /// What a final status that came on leg `side` is told on as.
    pub(super) fn mapped(&self, cx: &Context, side: Side, status: u16) -> u16 {
        self.leg(side)
            .map_or(status, |leg| rules(cx, leg).told(status))
    }

    /// A description of the far end opposite to `to`, with the codecs that both policies let pass.
    pub(super) fn filtered(
        &self,
        cx: &Context,
        to: Side,
        theirs: &SessionDescription,
    ) -> SessionDescription {
        let (Some(from), Some(to)) = (self.leg(to.other()), self.leg(to)) else {
            return theirs.clone();
        };
        let (from, to) = (rules(cx, from).codecs(), rules(cx, to).codecs());
        formats::filtered(theirs, &from, &to)
    }
}
