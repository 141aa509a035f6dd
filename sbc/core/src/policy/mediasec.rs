//! The mediasec parameter of RFC 3329 as German carriers want it: we name SDES, the carrier names what it has, and every
//! request that begins something says both back. Fields of the carrier's leg alone. Asked by the registration at a trunk
//! and by calls to it.

use std::collections::BTreeMap;

use sbc_sip::{
    headers::{Field, HeaderName, Headers, TokenValue},
    text::Text,
};

use crate::{context::Context, policy, surroundings::Peer};

/// Mechanisms of one carrier.
const MECHANISMS: usize = 8;
const MEDIASEC: Text = Text::from_static("mediasec");

/// What each carrier said that it has, by the trunk's index.
#[derive(Default)]
pub(crate) struct Agreements(BTreeMap<usize, Vec<TokenValue>>);

impl Agreements {
    /// The settings are new, and with them the numbers of the trunks.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Whether it is spoken with a far end.
pub(crate) fn is_spoken(cx: &Context, peer: Peer) -> bool {
    matches!(peer, Peer::Trunk(index) if wanted(cx, index))
}

fn wanted(cx: &Context, index: usize) -> bool {
    let zone = cx.surroundings.trunk(index).map(|trunk| trunk.zone);
    zone.is_some_and(|zone| policy::rules(&cx.surroundings, Peer::Trunk(index), zone).mediasec())
}

/// Take in what a carrier has. `true`: it said something new. RFC 3329 §2.3.1.
pub(crate) fn learn(cx: &mut Context, index: usize, headers: &Headers) -> bool {
    let Some(server) = headers.security_server().filter(|_| wanted(cx, index)) else {
        return false;
    };
    let server: Vec<TokenValue> = server
        .iter()
        .take(MECHANISMS)
        .map(|mechanism| TokenValue {
            token: mechanism.token.detached(),
            params: mechanism.params.detached(),
        })
        .collect();
    let known = cx.mediasec.0.insert(index, server.clone());
    known != Some(server)
}

/// The fields of a request to a carrier that begins something.
pub(crate) fn write(cx: &Context, peer: Peer, headers: &mut Headers) {
    let Peer::Trunk(index) = peer else { return };
    if !wanted(cx, index) {
        return;
    }
    let mut client = TokenValue::new(Text::from_static("sdes-srtp"));
    client.params.set_flag(MEDIASEC);
    headers.push(Field::SecurityClient(vec![client]));
    if let Some(server) = cx.mediasec.0.get(&index) {
        headers.push(Field::SecurityVerify(server.clone()));
    }
    headers.remove(&HeaderName::ProxyRequire);
    headers.push(Field::ProxyRequire(vec![MEDIASEC]));
    let mut require = headers.require().unwrap_or_default().to_vec();
    require.push(MEDIASEC);
    headers.set(Field::Require(require));
}
