//! Bindings that the registrar accepted: which phone, by which way, stands behind which contact token of ours.
//! RFC 3261 §10, RFC 5626 (a binding lives with the way that it came by). One table, kept by [`super::Registration`], read
//! by whoever looks for the way to a phone.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use broker_proto::settings::{Transport, ZoneId};
use sbc_sip::{headers::NameAddr, text::Text, uri::SipUri};

use super::credential::Credential;
use crate::{admission::aggregate, identity::hexadecimal, io::ConnectionId, transport::Flow};

/// User part of our own contact at the registrar: says nothing to anybody but us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) [u8; 12]);

impl Token {
    /// The token that a user part spells; `None`: it is none of ours, alive or dead.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut octets = [0; 12];
        let pairs = text.as_bytes().chunks_exact(2);
        let spelt = text
            .bytes()
            .all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 24 || !spelt {
            return None;
        }
        for (octet, pair) in octets.iter_mut().zip(pairs) {
            *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(octets))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

/// The REGISTER that a binding was last confirmed by. RFC 3261 §10.3: what is older changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Confirmed {
    pub(crate) call_id: Text,
    pub(crate) cseq: u32,
    /// Of its top Via: tells its repetition from another request.
    pub(crate) branch: u64,
    /// What it proved itself with to the registrar.
    pub(crate) credential: Option<Credential>,
}

/// One contact of one address-of-record.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    /// Number for its timer.
    pub(crate) number: u64,
    /// User part of the address-of-record.
    pub(crate) user: Arc<str>,
    /// Contact as the phone gave it.
    pub(crate) contact: SipUri,
    /// User part of our own contact at the registrar.
    pub(crate) token: Token,
    /// The way to the phone.
    pub(crate) flow: Flow,
    /// Preference among the contacts of the address-of-record, in thousandths.
    pub(crate) q: u16,
    /// Instance and number of the flow (RFC 5626), shown to the phone again.
    pub(crate) outbound: Option<Box<(Text, u32)>>,
    /// Proxies between us and the phone (RFC 3327).
    pub(crate) path: Box<[NameAddr]>,
    /// The source is another than the contact: a translator lies between.
    pub(crate) behind_nat: bool,
    /// Seconds that the phone was told.
    pub(crate) told: u32,
    /// When it ends by itself.
    pub(crate) expires: Instant,
    /// Seconds that the registrar granted.
    pub(crate) granted: u32,
    /// When the registrar's own binding ends.
    pub(crate) granted_until: Instant,
    pub(crate) confirmed: Confirmed,
    /// Draws the To tag of answers that the registrar does not see.
    pub(crate) tag: u64,
    pub(crate) keepalive: Keepalive,
}

/// What is known of a phone that gets keep-alives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keepalive {
    /// When the next one leaves; `None`: never.
    pub(crate) next: Option<Instant>,
    /// One awaits its answer.
    pub(crate) pending: bool,
    /// It has answered one.
    pub(crate) answers: bool,
    /// So many in a row were not answered.
    pub(crate) silent: u8,
}

impl Binding {
    /// When something is to be done about it.
    pub(crate) fn deadline(&self) -> Instant {
        self.keepalive
            .next
            .map_or(self.expires, |next| next.min(self.expires))
    }

    /// What is left of the registrar's own binding.
    pub(crate) fn granted_left(&self, now: Instant) -> Duration {
        self.granted_until.saturating_duration_since(now)
    }
}

/// A way, as far as it tells one client from another: a stream is its connection, datagrams have their source.
type FlowKey = (ZoneId, Transport, SocketAddr, Option<ConnectionId>);

const fn flow_key(flow: &Flow) -> FlowKey {
    (flow.zone, flow.transport, flow.peer, flow.connection)
}

/// The table, bounded by the caller.
#[derive(Default)]
pub(crate) struct Bindings {
    all: BTreeMap<u64, Box<Binding>>,
    by_token: BTreeMap<Token, u64>,
    by_user: BTreeMap<Arc<str>, Vec<u64>>,
    by_flow: BTreeMap<FlowKey, Vec<u64>>,
    per_source: BTreeMap<IpAddr, u32>,
}

impl Bindings {
    /// Add or replace the binding of a token. Returns the number of the one that it replaces.
    pub(crate) fn insert(&mut self, binding: Binding) -> Option<u64> {
        let replaced = self.number_of(binding.token);
        if let Some(old) = replaced {
            self.remove(old);
        }
        let number = binding.number;
        self.by_token.insert(binding.token, number);
        self.by_flow
            .entry(flow_key(&binding.flow))
            .or_default()
            .push(number);
        match self.by_user.get_mut(&binding.user) {
            Some(numbers) => numbers.push(number),
            None => {
                self.by_user.insert(Arc::clone(&binding.user), vec![number]);
            }
        }
        *self
            .per_source
            .entry(aggregate(binding.flow.peer.ip()))
            .or_default() += 1;
        self.all.insert(number, Box::new(binding));
        replaced
    }

    /// Take the binding of that number out.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Box<Binding>> {
        fn forget<K: Ord>(map: &mut BTreeMap<K, Vec<u64>>, key: &K, number: u64) {
            if let Some(numbers) = map.get_mut(key) {
                numbers.retain(|have| *have != number);
                if numbers.is_empty() {
                    map.remove(key);
                }
            }
        }
        let binding = self.all.remove(&number)?;
        self.by_token.remove(&binding.token);
        forget(&mut self.by_flow, &flow_key(&binding.flow), number);
        forget(&mut self.by_user, &binding.user, number);
        let source = aggregate(binding.flow.peer.ip());
        if let Some(count) = self.per_source.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
        Some(binding)
    }

    pub(crate) fn number_of(&self, token: Token) -> Option<u64> {
        self.by_token.get(&token).copied()
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Binding> {
        self.all.get(&number).map(|binding| &**binding)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Binding> {
        self.all.get_mut(&number).map(|binding| &mut **binding)
    }

    /// The binding behind one of our contacts.
    pub(crate) fn by_token(&self, token: Token) -> Option<&Binding> {
        self.get(self.number_of(token)?)
    }

    /// Bindings of an address-of-record: the preferred ones first (RFC 3261 §16.6), of equal ones those that last longest.
    pub(crate) fn of_user(&self, user: &str) -> Vec<&Binding> {
        let mut bindings: Vec<&Binding> = self
            .by_user
            .get(user)
            .into_iter()
            .flatten()
            .filter_map(|number| self.get(*number))
            .collect();
        bindings.sort_by_key(|binding| std::cmp::Reverse((binding.q, binding.expires)));
        bindings
    }

    /// Whether an address-of-record has any.
    pub(crate) fn has_user(&self, user: &str) -> bool {
        self.by_user.contains_key(user)
    }

    /// Bindings that came by a way.
    pub(crate) fn of_flow(&self, flow: &Flow) -> impl Iterator<Item = &Binding> {
        self.by_flow
            .get(&flow_key(flow))
            .into_iter()
            .flatten()
            .filter_map(|number| self.get(*number))
    }

    /// Whether a way has a live binding.
    pub(crate) fn is_registered(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(&flow_key(flow))
    }

    /// Bindings that came from a source.
    pub(crate) fn of_source(&self, source: IpAddr) -> u32 {
        self.per_source
            .get(&aggregate(source))
            .copied()
            .unwrap_or(0)
    }

    /// Tokens of all.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.by_token.keys().copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Numbers of all, for their timers; nothing is left.
    pub(crate) fn clear(&mut self) -> Vec<u64> {
        let numbers = self.all.keys().copied().collect();
        *self = Self::default();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EXTERNAL, epoch};

    fn token(number: u8) -> Token {
        Token([number; 12])
    }

    fn binding(number: u64, token: Token, peer: &str) -> Binding {
        Binding {
            number,
            user: "1001".into(),
            contact: SipUri::new(sbc_sip::uri::Host::Address(
                peer.parse::<SocketAddr>().unwrap().ip(),
            )),
            token,
            flow: Flow {
                zone: EXTERNAL,
                transport: Transport::Udp,
                local: "198.51.100.1:5060".parse().unwrap(),
                peer: peer.parse().unwrap(),
                connection: None,
            },
            q: 1000,
            outbound: None,
            path: Box::default(),
            behind_nat: false,
            told: 60,
            expires: epoch(),
            granted: 60,
            granted_until: epoch(),
            confirmed: Confirmed {
                call_id: Text::from_static("c"),
                cseq: 1,
                branch: 1,
                credential: None,
            },
            tag: 1,
            keepalive: Keepalive::default(),
        }
    }

    #[test]
    fn a_binding_is_found_by_token_and_by_its_way_alone() {
        let mut bindings = Bindings::default();
        let alice = binding(1, token(1), "198.51.100.10:5060");
        let other_port = binding(2, token(2), "198.51.100.10:5061").flow;
        bindings.insert(alice.clone());
        assert!(bindings.is_registered(&alice.flow));
        assert!(!bindings.is_registered(&other_port));
        assert_eq!(&*bindings.by_token(token(1)).unwrap().user, "1001");
        assert!(bindings.by_token(token(2)).is_none());
    }

    #[test]
    fn a_refresh_from_elsewhere_moves_the_binding() {
        let mut bindings = Bindings::default();
        let old = binding(1, token(1), "198.51.100.10:5060");
        let new = binding(2, token(1), "198.51.100.11:5060");
        bindings.insert(old.clone());
        assert_eq!(bindings.insert(new.clone()), Some(1));
        assert!(!bindings.is_registered(&old.flow));
        assert!(bindings.is_registered(&new.flow));
        assert_eq!((bindings.len(), bindings.of_user("1001").len()), (1, 1));
        assert!(bindings.remove(1).is_none());
        assert!(bindings.remove(2).is_some());
        assert!(!bindings.is_registered(&new.flow));
        assert!(bindings.of_user("1001").is_empty());
        assert_eq!(bindings.of_source(new.flow.peer.ip()), 0);
    }

    #[test]
    fn contacts_of_an_account_come_in_their_order_of_preference() {
        let mut bindings = Bindings::default();
        for (number, q) in [(1, 300), (2, 1000), (3, 500)] {
            let mut one = binding(
                number,
                token(u8::try_from(number).unwrap()),
                "198.51.100.10:5060",
            );
            one.q = q;
            bindings.insert(one);
        }
        let order: Vec<u64> = bindings
            .of_user("1001")
            .iter()
            .map(|one| one.number)
            .collect();
        assert_eq!(order, [2, 3, 1]);
        assert_eq!(bindings.of_source("198.51.100.10".parse().unwrap()), 3);
    }

    #[test]
    fn a_token_is_read_back_and_nothing_else_is_one() {
        let token = Token(*b"\x00\xff3456789abc");
        assert_eq!(Token::read(&token.to_string()), Some(token));
        for other in [
            "1001",
            "",
            "00FF33343536373839616263",
            "+0ff33343536373839616263",
            "zz",
        ] {
            assert_eq!(Token::read(other), None, "{other}");
        }
    }
}
