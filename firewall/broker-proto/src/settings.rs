//! What the sbc needs of `gatehouse.toml`, as typed values: the firewall reads and checks the document, the sbc gets this.
//! No secret is in here; accounts of trunks are named by a [`SecretId`] that the keyholder knows.

use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use crate::dialplan::{
    Caps, DigitClass, Health, NumberForm, Numbering, RouteConditions, Schedule, TimeZone,
    TrunkChoice, TrunkPolicy, ZonePolicy,
};
use crate::policy::Policy;

/// Index of a zone in [`Settings::zones`]; the same number in the firewall and the sbc.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ZoneId(pub u8);

/// Transport of a listener or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// RFC 3261 §18 over UDP.
    Udp,
    /// RFC 3261 §18 over TCP.
    Tcp,
    /// TCP that carries TLS; the asker does the handshake.
    Tls,
    /// WebSocket over TCP: RFC 7118.
    Ws,
    /// WebSocket over TLS: RFC 7118.
    Wss,
}

impl Transport {
    /// Whether the asker does a TLS handshake on it.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether messages come as WebSocket messages.
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// What a zone is to the organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ZoneKind {
    /// Strangers.
    External,
    /// The organisation's own hosts.
    Internal,
    /// Operators.
    Management,
    /// A named partner or carrier.
    Partner,
}

/// A zone as the sbc sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its number.
    pub id: ZoneId,
    /// Its name in the configuration.
    pub name: String,
    /// What it is.
    pub kind: ZoneKind,
    /// The box's own addresses in it (media sockets are bound to the first of each family).
    pub addresses: Vec<IpAddr>,
    /// Networks on the link and behind its gateways, without the default route.
    pub networks: Vec<IpNet>,
    /// Numbers, limits and priority of its callers.
    pub policy: ZonePolicy,
}

/// A SIP listener that the sbc asks for by `Listen`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// In which zone.
    pub zone: ZoneId,
    /// Over what.
    pub transport: Transport,
    /// Port.
    pub port: u16,
    /// Over TLS: names of the certificates in the keyholder, the first for who names no host or an unknown one.
    pub certificates: Vec<String>,
    /// Over WebSocket: origins (RFC 6454) of pages that may connect besides those of the listener's own host; `*`: all.
    pub origins: Vec<String>,
}

/// How a far end is told apart over TLS: RFC 5922.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTls {
    /// Its certificate bears one of these names (`sip:` URI, DNS name or address); one of its addresses, if there is none.
    pub names: Vec<String>,
    /// Who vouches for it: names of bundles of certificates in the keyholder.
    pub authorities: Vec<String>,
    /// What is shown to it when it asks: name of a certificate in the keyholder.
    pub certificate: Option<String>,
}

/// A far end that is known by name (RFC 3263). What name servers say about it counts only inside these bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its domain or host name, in small letters.
    pub host: String,
    /// Port; with one the name is a host's, and no SRV record is asked for.
    pub port: Option<u16>,
    /// The transport is chosen by NAPTR records, among [`Self::transports`].
    pub by_naptr: bool,
    /// How it may be reached, the preferred way first.
    pub transports: Vec<Transport>,
    /// Where its addresses may lie; requests from there are its.
    pub networks: Vec<IpNet>,
    /// Ports that it may have.
    pub ports: Vec<u16>,
}

impl Named {
    /// Whether a place may be its.
    #[must_use]
    pub fn allows(&self, place: SocketAddr) -> bool {
        self.covers(place.ip()) && self.ports.contains(&place.port())
    }

    /// Whether an address may be its: one host's, in one of its networks.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let host = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
        // An IPv4 address in IPv6 clothes is looked up among the IPv6 networks and sent to as IPv4.
        let plain = address.to_canonical() == address;
        let mut networks = self.networks.iter();
        host && plain && networks.any(|network| network.contains(&address))
    }
}

/// A name server that the sbc may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameServer {
    /// Zone to go out by.
    pub zone: ZoneId,
    /// Its address.
    pub address: SocketAddr,
}

/// The organisation's registrar and PBX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registrar {
    /// Where it is.
    pub zone: ZoneId,
    /// Its addresses, in order of preference; requests from any of them are the PBX's. Of one known by name: none from the
    /// firewall, in the sbc what name servers said.
    pub addresses: Vec<SocketAddr>,
    /// It is known by name.
    pub named: Option<Named>,
    /// How it is reached.
    pub transport: Transport,
    /// Over UDP: whether requests too large for a datagram go by TCP to the same port (RFC 3261 §18.1.1).
    pub large_requests_by_tcp: bool,
    /// Over TLS: whose certificate it must show.
    pub tls: Option<PeerTls>,
}

/// Where captured messages go: HEP version 3 over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// Zone to go out by.
    pub zone: ZoneId,
    /// Its address.
    pub address: SocketAddr,
}

/// Name of an account's secret in the keyholder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretId(pub String);

/// Registration of the product at a trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkRegistration {
    /// User part of the address-of-record, and digest user name.
    pub user: String,
    /// Domain of the address-of-record and digest realm that is answered.
    pub realm: String,
    /// Seconds between registrations, at most.
    pub interval_seconds: u32,
    /// Whose password.
    pub secret: SecretId,
}

/// A carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunk {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is.
    pub zone: ZoneId,
    /// Its addresses, in order of preference; requests from any port of them are the trunk's. Of one known by name: none
    /// from the firewall, in the sbc what name servers said.
    pub addresses: Vec<SocketAddr>,
    /// It is known by name.
    pub named: Option<Named>,
    /// How it is reached.
    pub transport: Transport,
    /// Over UDP: whether requests too large for a datagram go by TCP to the same port (RFC 3261 §18.1.1).
    pub large_requests_by_tcp: bool,
    /// Over TLS, both ways: whose certificate it must show. `None`: nothing of it over TLS is believed.
    pub tls: Option<PeerTls>,
    /// Whether the product registers there.
    pub registration: Option<TrunkRegistration>,
    /// Numbers, limits, health and priority.
    pub policy: TrunkPolicy,
}

/// Who a caller is, as far as routing cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A source with a live binding that the registrar accepted.
    Registered,
    /// A host of an internal zone (the PBX among them).
    Internal,
    /// The PBX itself.
    Registrar,
    /// The trunk of that name.
    Trunk(String),
    /// A known caller in the zone of that name.
    Zone(String),
}

/// Which called users a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Called {
    /// Numbers with a prefix.
    Number(NumberPattern),
    /// Numbers of a pattern, from the first to the last character.
    Pattern(Vec<DigitClass>),
    /// Whatever it is, also a name.
    Anything,
}

/// Numbers with a prefix: then between `digits_min` and `digits_max` digits, of which those after the prefix may be bound
/// to a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberPattern {
    /// First characters, maybe none; `+` allowed.
    pub prefix: String,
    /// Fewest digits after the prefix.
    pub digits_min: u8,
    /// Most digits after the prefix.
    pub digits_max: u8,
    /// Lowest and highest value of the digits after the prefix.
    pub range: Option<(u64, u64)>,
}

/// What is done with a call that a route matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteAction {
    /// To the PBX.
    Registrar,
    /// To the first of these trunks that takes it.
    Trunks(Vec<TrunkChoice>),
    /// To a live binding of the called number, or 480.
    Binding,
    /// Refused with this status code (4xx–6xx).
    Refuse(u16),
}

/// One line of the routing table; the first that matches counts, none: 404 to known peers, silence to strangers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name in the configuration; stands in call records.
    pub name: String,
    /// Callers it is for; empty: nobody.
    pub from: Vec<Origin>,
    /// Called numbers it is for.
    pub called: Called,
    /// What else must be so.
    pub conditions: RouteConditions,
    /// Characters cut from the front of the number.
    pub strip: u8,
    /// Characters put in front afterwards.
    pub prepend: String,
    /// What is done.
    pub action: RouteAction,
}

/// Bounds of the sbc's tables and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Calls at once.
    pub calls: u32,
    /// Calls at once from one stranger's or registered address.
    pub calls_per_source: u32,
    /// New calls per second in all.
    pub call_rate: u32,
    /// Bindings at once.
    pub registrations: u32,
    /// SIP TCP connections at once.
    pub connections: u32,
    /// Seconds until a connection that was accepted must be ready for messages: TLS and WebSocket handshake.
    pub handshake_seconds: u32,
    /// Octets of a SIP message.
    pub message_octets: u32,
    /// Seconds without media after which a call is ended.
    pub media_timeout_seconds: u32,
    /// Seconds a call may last.
    pub call_seconds: u32,
    /// Seconds of a session timer that is asked for on each leg; 0: none is asked for.
    pub session_expires_seconds: u32,
    /// Shortest session timer that is agreed to, in seconds.
    pub min_se_seconds: u32,
    /// Seconds an idle TCP connection may last.
    pub idle_connection_seconds: u32,
}

/// Which phones are granted little time at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShortRefresh {
    /// Those whose source is another than their contact.
    Nat,
    /// These, and all on UDP.
    Udp,
    /// All.
    All,
}

/// Registrations of phones: times, rates and bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Who is to refresh often.
    pub short_refresh: ShortRefresh,
    /// Seconds granted to such a phone on UDP, at most.
    pub refresh_udp_seconds: u32,
    /// Seconds granted to such a phone on a connection, at most.
    pub refresh_stream_seconds: u32,
    /// Seconds that the registrar is asked for on behalf of such phones.
    pub registrar_expires_seconds: u32,
    /// Fewest seconds that a phone may ask for.
    pub min_expires_seconds: u32,
    /// Keep-alives are OPTIONS requests; otherwise line ends.
    pub keepalive_by_options: bool,
    /// Seconds between keep-alives; 0: none.
    pub keepalive_seconds: u32,
    /// Contacts of one account at once.
    pub contacts_per_account: u32,
    /// Contacts at once from one source.
    pub contacts_per_source: u32,
    /// REGISTER requests per second from one source that has no binding.
    pub source_rate: u32,
    /// REGISTER requests per second to the registrar.
    pub relay_rate: u32,
    /// Seconds that bindings may outlive the registrar's word while it is away.
    pub away_seconds: u32,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            short_refresh: ShortRefresh::Nat,
            refresh_udp_seconds: 120,
            refresh_stream_seconds: 600,
            registrar_expires_seconds: 3_600,
            min_expires_seconds: 60,
            keepalive_by_options: true,
            keepalive_seconds: 30,
            contacts_per_account: 8,
            contacts_per_source: 500,
            source_rate: 15,
            relay_rate: 200,
            away_seconds: 3_600,
        }
    }
}

/// Everything the sbc knows about its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Counts commits.
    pub revision: u64,
    /// SIP domain and realm of the organisation.
    pub domain: String,
    /// Zones in the order of their numbers.
    pub zones: Vec<Zone>,
    /// Listeners to ask for.
    pub listeners: Vec<Listener>,
    /// The PBX, if there is one.
    pub registrar: Option<Registrar>,
    /// Carriers.
    pub trunks: Vec<Trunk>,
    /// Routing table.
    pub routes: Vec<Route>,
    /// What passes besides calls; a peer has the first that names it, otherwise what is built in for its kind.
    pub policies: Vec<Policy>,
    /// How much one account (a registered user) may take.
    pub account: Caps,
    /// Bounds.
    pub limits: Limits,
    /// Registrations of phones.
    pub registration: Registration,
    /// Where captured messages go, if anywhere.
    pub collector: Option<Collector>,
    /// Whom the sbc asks for names, in order of preference; none, if no peer is known by name.
    pub name_servers: Vec<NameServer>,
    /// Laboratory: allows `lab/reset`. Weakens nothing else.
    pub lab: bool,
}
