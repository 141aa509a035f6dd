//! Bindings that the registrar accepted: which phone, by which way, stands behind which contact token of ours.
//! RFC 3261 §10, RFC 5626 (a binding lives with the way that it came by).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Instant,
};

use broker_proto::settings::{Transport, ZoneId};
use sbc_sip::uri::SipUri;

use crate::{io::ConnectionId, transport::Flow};

/// One contact of one address-of-record.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    /// Number for its timer.
    pub(crate) number: u64,
    /// User part of the address-of-record.
    pub(crate) user: String,
    /// Contact as the phone gave it.
    pub(crate) contact: SipUri,
    /// User part of our own contact at the registrar.
    pub(crate) token: String,
    /// The way to the phone.
    pub(crate) flow: Flow,
    /// When it ends by itself.
    pub(crate) expires: Instant,
}

/// A way, as far as it tells one client from another: a stream is its connection, datagrams have their source.
type FlowKey = (ZoneId, Transport, SocketAddr, Option<ConnectionId>);

const fn flow_key(flow: &Flow) -> FlowKey {
    (flow.zone, flow.transport, flow.peer, flow.connection)
}

/// The table, bounded by the caller.
#[derive(Default)]
pub(crate) struct Bindings {
    by_token: BTreeMap<String, Binding>,
    by_flow: BTreeMap<FlowKey, BTreeSet<String>>,
    tokens: BTreeMap<u64, String>,
}

impl Bindings {
    /// Add or replace the binding of a token. Returns the number of the one that it replaces.
    pub(crate) fn insert(&mut self, binding: Binding) -> Option<u64> {
        let replaced = self.remove(&binding.token);
        self.by_flow
            .entry(flow_key(&binding.flow))
            .or_default()
            .insert(binding.token.clone());
        self.tokens.insert(binding.number, binding.token.clone());
        self.by_token.insert(binding.token.clone(), binding);
        replaced.map(|old| old.number)
    }

    /// Take a binding out.
    pub(crate) fn remove(&mut self, token: &str) -> Option<Binding> {
        let binding = self.by_token.remove(token)?;
        self.tokens.remove(&binding.number);
        let key = flow_key(&binding.flow);
        if let Some(tokens) = self.by_flow.get_mut(&key) {
            tokens.remove(token);
            if tokens.is_empty() {
                self.by_flow.remove(&key);
            }
        }
        Some(binding)
    }

    /// Take the binding of that number out.
    pub(crate) fn remove_number(&mut self, number: u64) -> Option<Binding> {
        let token = self.tokens.get(&number)?.clone();
        self.remove(&token)
    }

    /// The binding behind one of our contacts.
    pub(crate) fn by_token(&self, token: &str) -> Option<&Binding> {
        self.by_token.get(token)
    }

    /// A binding of an address-of-record: the one that lasts longest.
    pub(crate) fn by_user(&self, user: &str) -> Option<&Binding> {
        self.by_token
            .values()
            .filter(|binding| binding.user == user)
            .max_by_key(|binding| binding.expires)
    }

    /// Tokens of an address-of-record.
    pub(crate) fn tokens_of(&self, user: &str) -> Vec<String> {
        self.by_token
            .values()
            .filter(|binding| binding.user == user)
            .map(|binding| binding.token.clone())
            .collect()
    }

    /// Bindings that came by a way.
    pub(crate) fn of_flow(&self, flow: &Flow) -> impl Iterator<Item = &Binding> {
        self.by_flow
            .get(&flow_key(flow))
            .into_iter()
            .flatten()
            .filter_map(|token| self.by_token.get(token))
    }

    /// Whether a way has a live binding.
    pub(crate) fn is_registered(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(&flow_key(flow))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_token.len()
    }

    /// Numbers of all, for their timers; nothing is left.
    pub(crate) fn clear(&mut self) -> Vec<u64> {
        let numbers = self.tokens.keys().copied().collect();
        *self = Self::default();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EXTERNAL, epoch};

    fn binding(number: u64, token: &str, peer: &str) -> Binding {
        Binding {
            number,
            user: "1001".into(),
            contact: SipUri::new(sbc_sip::uri::Host::Address(
                peer.parse::<SocketAddr>().unwrap().ip(),
            )),
            token: token.into(),
            flow: Flow {
                zone: EXTERNAL,
                transport: Transport::Udp,
                local: "198.51.100.1:5060".parse().unwrap(),
                peer: peer.parse().unwrap(),
                connection: None,
            },
            expires: epoch(),
        }
    }

    #[test]
    fn a_binding_is_found_by_token_and_by_its_way_alone() {
        let mut bindings = Bindings::default();
        let alice = binding(1, "t1", "198.51.100.10:5060");
        let other_port = binding(2, "t2", "198.51.100.10:5061").flow;
        bindings.insert(alice.clone());
        assert!(bindings.is_registered(&alice.flow));
        assert!(!bindings.is_registered(&other_port));
        assert_eq!(bindings.by_token("t1").unwrap().user, "1001");
        assert!(bindings.by_token("t2").is_none());
    }

    #[test]
    fn a_refresh_from_elsewhere_moves_the_binding() {
        let mut bindings = Bindings::default();
        let old = binding(1, "t1", "198.51.100.10:5060");
        let new = binding(2, "t1", "198.51.100.11:5060");
        bindings.insert(old.clone());
        assert_eq!(bindings.insert(new.clone()), Some(1));
        assert!(!bindings.is_registered(&old.flow));
        assert!(bindings.is_registered(&new.flow));
        assert_eq!(bindings.len(), 1);
        assert!(bindings.remove_number(1).is_none());
        assert!(bindings.remove_number(2).is_some());
        assert!(!bindings.is_registered(&new.flow));
    }
}
