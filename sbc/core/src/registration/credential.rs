//! What a REGISTER proves itself with, as far as we can see it without the password. RFC 7616 §3.4, RFC 8760.
//!
//! A digest covers nonce, count and Request-URI, but neither the Contact nor the Call-ID, and the REGISTER that we send to
//! the registrar has our own Call-ID and CSeq. So the registrar cannot tell the credentials of an honest phone from the
//! same ones sent again by somebody who heard them, who would bind that phone's name to another place. [`Spent`] tells
//! them apart: what was used by one way is worth nothing by another; counting on needs the password. Who sends it all the same is challenged anew; an honest phone that moved just answers.

use std::collections::{BTreeMap, VecDeque};

use sbc_sip::{digest::Auth, message::Request};

use crate::{identity::Identity, transport::Flow};

/// Nonces that are remembered at least, whatever the table of bindings may hold.
const LEAST: usize = 65_536;
/// Ways by which one nonce may be used.
const WAYS: usize = 4;
/// Responses that are remembered of each.
const RESPONSES: usize = 4;

/// Fingerprint of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    /// Of account, realm and nonce.
    nonce: u64,
    /// How often the nonce was used; 0 where the phone does not count.
    count: u32,
    /// Of everything else that was computed.
    response: u64,
}

impl Credential {
    /// Of the first digest credentials of a request; `None`: it has none.
    pub(crate) fn of(identity: &Identity, request: &Request) -> Option<Self> {
        let auth = request
            .headers
            .authorization()
            .chain(request.headers.proxy_authorization())
            .find(|auth| auth.is_digest())?;
        Some(Self::read(identity, auth))
    }

    /// Those of an earlier life: nothing follows them but by chance, and `lot` is drawn.
    pub(super) const fn forgotten(lot: u64) -> Self {
        Self {
            nonce: lot,
            count: u32::MAX,
            response: lot,
        }
    }

    fn read(identity: &Identity, auth: &Auth) -> Self {
        let value = |name| auth.params.value(name).unwrap_or_default();
        let count = u32::from_str_radix(&value("nc"), 16).unwrap_or(0);
        Self {
            nonce: identity.derived_number(&[
                "nonce",
                &value("username"),
                &value("realm"),
                &value("nonce"),
            ]),
            count,
            response: identity.derived_number(&[
                "response",
                &value("response"),
                &value("cnonce"),
                &value("uri"),
            ]),
        }
    }

    /// Whether who sent `self` holds what sent `last`: the same nonce, counted on or sent again as it was.
    pub(crate) fn follows(&self, last: &Self) -> bool {
        self.nonce == last.nonce
            && (self.count > last.count
                || (self.count == last.count && self.response == last.response))
    }
}

/// By one way, what was sent with a nonce.
struct Use {
    flow: u64,
    /// The greatest count.
    count: u32,
    /// The last responses, since some phones never count on.
    responses: [u64; RESPONSES],
}

/// Nonces that were used, and by which ways. The oldest are forgotten first.
#[derive(Default)]
pub(crate) struct Spent {
    uses: BTreeMap<u64, Vec<Use>>,
    order: VecDeque<u64>,
}

impl Spent {
    /// These credentials came by this way first, and go to the registrar or are believed.
    pub(crate) fn used(
        &mut self,
        identity: &Identity,
        credential: Credential,
        flow: &Flow,
        bindings: usize,
    ) {
        let flow = fingerprint(identity, flow);
        let order = &mut self.order;
        let uses = self.uses.entry(credential.nonce).or_insert_with(|| {
            order.push_back(credential.nonce);
            Vec::with_capacity(1)
        });
        let room = uses.len() < WAYS;
        match uses.iter_mut().find(|one| one.flow == flow) {
            Some(one) => {
                one.count = one.count.max(credential.count);
                if !one.responses.contains(&credential.response) {
                    one.responses.rotate_right(1);
                    if let Some(first) = one.responses.first_mut() {
                        *first = credential.response;
                    }
                }
            }
            None if room => uses.push(Use {
                flow,
                count: credential.count,
                responses: [credential.response; RESPONSES],
            }),
            None => {}
        }
        while self.order.len() > LEAST.max(bindings.saturating_mul(2)) {
            if let Some(oldest) = self.order.pop_front() {
                self.uses.remove(&oldest);
            }
        }
    }

    /// Whether these credentials were heard by another way and prove nothing by this one. A registrar may give the same
    /// nonce to two phones of an account at once, so a first use that was not seen before is no replay.
    pub(crate) fn is_replay(
        &self,
        identity: &Identity,
        credential: &Credential,
        flow: &Flow,
    ) -> bool {
        let Some(uses) = self.uses.get(&credential.nonce) else {
            return false;
        };
        let flow = fingerprint(identity, flow);
        if uses.iter().any(|one| one.flow == flow) {
            return false;
        }
        uses.len() >= WAYS
            || uses.iter().any(|one| match credential.count {
                // Without client nonce two phones with one password say the same.
                0 => true,
                1 => one.responses.contains(&credential.response),
                count => count <= one.count,
            })
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn fingerprint(identity: &Identity, flow: &Flow) -> u64 {
    let connection = flow.connection.map_or(0, |connection| connection.0);
    identity.derived_number(&[
        "flow",
        &flow.zone.0.to_string(),
        crate::transport::word(flow.transport),
        &flow.peer.to_string(),
        &connection.to_string(),
    ])
}

#[cfg(test)]
mod tests {
    use broker_proto::settings::Transport;

    use super::*;
    use crate::testing::EXTERNAL;

    fn flow(peer: &str) -> Flow {
        Flow {
            zone: EXTERNAL,
            transport: Transport::Udp,
            local: "198.51.100.1:5060".parse().unwrap(),
            peer: peer.parse().unwrap(),
            connection: None,
        }
    }

    const fn credential(nonce: u64, count: u32, response: u64) -> Credential {
        Credential {
            nonce,
            count,
            response,
        }
    }

    #[test]
    fn credentials_follow_if_counted_on_or_the_very_same() {
        let last = credential(1, 3, 7);
        assert!(credential(1, 4, 9).follows(&last));
        assert!(credential(1, 3, 7).follows(&last));
        assert!(!credential(1, 3, 8).follows(&last));
        assert!(!credential(1, 2, 7).follows(&last));
        assert!(!credential(2, 4, 7).follows(&last));
    }

    #[test]
    fn what_was_accepted_by_one_way_is_worth_nothing_by_another() {
        let identity = Identity::new([1; 32]);
        let mut spent = Spent::default();
        let (here, there) = (flow("198.51.100.10:5060"), flow("198.51.100.66:5060"));
        spent.used(&identity, credential(1, 2, 7), &here, 0);
        assert!(spent.is_replay(&identity, &credential(1, 2, 7), &there));
        assert!(spent.is_replay(&identity, &credential(1, 1, 7), &there));
        assert!(spent.is_replay(&identity, &credential(1, 0, 5), &there));
        assert!(!spent.is_replay(&identity, &credential(1, 2, 7), &here));
        assert!(!spent.is_replay(&identity, &credential(1, 3, 8), &there));
        assert!(!spent.is_replay(&identity, &credential(9, 1, 8), &there));
    }

    #[test]
    fn two_phones_of_an_account_may_get_the_same_nonce() {
        let identity = Identity::new([1; 32]);
        let mut spent = Spent::default();
        let (here, there) = (flow("198.51.100.10:5060"), flow("198.51.100.11:5060"));
        let stranger = flow("198.51.100.66:5060");
        spent.used(&identity, credential(1, 1, 7), &here, 0);
        assert!(!spent.is_replay(&identity, &credential(1, 1, 8), &there));
        spent.used(&identity, credential(1, 1, 8), &there, 0);
        // One that never counts on: each of its answers is remembered.
        spent.used(&identity, credential(1, 1, 9), &here, 0);
        for heard in [7, 8, 9] {
            assert!(spent.is_replay(&identity, &credential(1, 1, heard), &stranger));
        }
    }

    #[test]
    fn the_memory_of_nonces_is_bounded() {
        let identity = Identity::new([1; 32]);
        let mut spent = Spent::default();
        let here = flow("198.51.100.10:5060");
        for nonce in 0..100_000 {
            spent.used(&identity, credential(nonce, 1, 1), &here, 10);
        }
        assert_eq!((spent.uses.len(), spent.order.len()), (LEAST, LEAST));
    }
}
