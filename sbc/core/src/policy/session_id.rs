//! Session-ID: RFC 7989. We are an end of each dialog, so each leg has a half of our own, the same in every message of
//! it; the far ends' halves stay on their sides. Written to peers whose policy has the field, and to no others.

use broker_proto::policy::PolicyField;
use sbc_sip::{
    headers::{Field, SessionId},
    message::Request,
};

use crate::{
    context::Context,
    identity::Identity,
    policy::{self, Rules},
    transport::Flow,
};

/// Version 4 and the variant of RFC 9562, as RFC 7989 §4.1 wants a UUID.
const MARKS: (u128, u128) = (
    !((0xf_u128 << 76) | (0x3_u128 << 62)),
    (0x4_u128 << 76) | (0x2_u128 << 62),
);

/// Our half in the dialog of a Call-ID.
fn own(identity: &Identity, call_id: &str) -> u128 {
    let half = |name| {
        let text = identity.derived(&["session-id", name, call_id]);
        let first = text.get(..16).unwrap_or_default();
        u128::from_str_radix(first, 16).unwrap_or_default()
    };
    ((half("high") << 64 | half("low")) & MARKS.0) | MARKS.1
}

/// The field of a request of ours in the dialog of a Call-ID. `theirs`: the far end's half, 0 before it is known.
pub(crate) fn of_request(
    rules: &Rules<'_>,
    identity: &Identity,
    call_id: &str,
    theirs: u128,
) -> Option<Field> {
    let wanted = rules.sends(PolicyField::SessionId);
    wanted.then(|| Field::SessionId(SessionId::new(own(identity, call_id), theirs)))
}

/// The field of our answers to a request.
pub(crate) fn of_answer(cx: &Context, flow: &Flow, request: &Request) -> Option<Field> {
    let theirs = request.headers.session_id()?.local_number()?;
    let peer = cx.surroundings.peer(flow.zone, flow.peer.ip());
    let rules = policy::rules(&cx.surroundings, peer, flow.zone);
    of_request(&rules, &cx.identity, request.headers.call_id.text(), theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_half_is_a_uuid_that_stays_the_same_in_a_dialog() {
        let identity = Identity::new([7; 32]);
        let one = own(&identity, "a");
        assert_eq!(one, own(&identity, "a"));
        assert_ne!(one, own(&identity, "b"));
        assert_eq!((one >> 76) & 0xf, 4);
        assert_eq!((one >> 62) & 0x3, 2);
    }
}
