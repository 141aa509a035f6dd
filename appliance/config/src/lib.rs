//! gatehouse.toml as types: parse whole, check whole, print canonical.
//!
//! `firewall` renders rules and the sbc's settings from a [`Document`], init makes links and addresses of it, the console
//! writes one, `gatehouse-config` checks and compares them. Nothing here touches a file, a socket or a clock.
//!
//! # The document
//! TOML, at most 256 KiB, `schema = 1`. A key that is not listed here is refused. `appliance/config/example.toml` is a
//! commented whole; a value in parentheses is the default, `!` marks what must be there.
//!
//! | table | keys |
//! |---|---|
//! | top | `schema`! · `lab` (false) |
//! | `[host]`! | `name`! one label · `language` `en`/`de` (en) · `dns` addresses · `ntp` addresses with port (123) |
//! | `[sip]`! | `domain`! |
//! | `[sip.account]` | limits of one registered user: `calls` · `call_rate` · `bandwidth_kbit` |
//! | `[sip.registrar]` | `zone`! · `addresses`! with port (5060), or `host` · `networks`! · `ports` · `transport` `udp`/`tcp`/`tls`/`naptr` (udp; of a host: naptr) |
//! | `[management]` | names of secrets: `certificate` (management) · `token` (api-token) · `password` (operator) |
//! | `[[zone]]`! | `name`! · `kind`! `external`/`internal`/`management`/`partner` · `not_bogon`, `allow_list` networks · `emergency` numbers (112) · `resource_priority` values |
//! | `[zone.numbering]` `[trunk.numbering]` | `country`! · `area` · `international_prefix` (00) · `national_prefix` (0) · `local_digits` (6-11) · `form` `unchanged`/`e164`/`international`/`national`/`digits` (unchanged) |
//! | `[zone.limits]` `[trunk.limits]` | `calls` · `call_rate` · `bandwidth_kbit`; what is left out is not limited |
//! | `[zone.interface]`! | `name` or `mac`, one of them! · `vlan` 1–4094 |
//! | `[zone.ipv4]` | `method` `static`/`dhcp` (static) · `address`! with prefix length · `gateway` of the default route |
//! | `[zone.ipv6]` | `method` `static`/`ra` (static) · `address`! with prefix length · `gateway` of the default route |
//! | `[[zone.routed]]` | `network`! · `gateway`! on the link |
//! | `[zone.media]` | `networks` of peers (by kind) · `ports` (16384-32767) · `peer_ports` (1024-65535) |
//! | `[[listener]]` | `zone`! · `service`! `sip-udp`/`sip-tcp`/`management-https` · `port` (5060, 8443) |
//! | `[[trunk]]` | `name`! · `zone`! · `addresses`! with port (5060), or `host` · `networks`! · `ports` · `transport` as above |
//! | `[trunk.health]` | `interval_seconds` (30) · `down_after` (3) · `up_after` (2) · `retry_seconds_max` (300) |
//! | `[trunk.registration]` | `user`! · `realm`! · `secret`! name · `interval_seconds` (300) |
//! | `[[route]]` | `name`! · `from`! of `registered`, `internal`, `registrar`, `trunk:NAME`, `zone:NAME` · `prefix`, `digits`! count or range, `range` of their value; or `pattern`; or only `domain` hosts · `strip` · `prepend` · `action`! `registrar`/`trunks`/`binding`/`refuse` · `trunks` names or tables of `name`, `priority`, `weight`, `below` · `status` (403) · `failover` 4xx codes · `if_unavailable` `refuse`/`next` (refuse) |
//! | `[route.when]` | `days` (all) · `hours` (all day) · `zone`! of the clock |
//! | `[[policy]]` | `name`! · `for`! of `zone:NAME`, `trunk:NAME`, `registrar` · `trusted` · `accept`, `send` fields · `events` · `publish` · `message_octets` · `info` · `response_map` · `audio_codecs`, `video_codecs`, `denied_codecs` · `transfer` `refuse`/`pass`/`resolve` · `mediasec` (false): see [`Policy`] |
//! | `[[policy.add]]` `[[policy.rewrite]]` | `name`!, `value`! · `field`!, `user`, `host`, `strip` (0), `prepend` |
//! | `[limits]` `[registration]` `[bans]` `[logging]` | see [`Limits`], [`Registrations`], [`Bans`], [`Logging`] |
//!
//! A family that a zone does not name is off in it. Passwords and keys never stand here: `secret` and `[management]` are
//! names that the keyholder knows.
//!
//! # Links
//! [`Zone::ifname`] says which link carries a zone; [`Document::parent_ifname`] which link lies below its VLAN.

pub mod bogons;
mod check;
mod dialplan;
mod diff;
mod document;
mod error;
mod limits;
mod named;
mod pattern;
mod policy;
mod route;
mod sip;
mod table;
mod value;
mod zone;

pub use dialplan::{
    Caps, Clock, Health, Hours, NumberForm, Numbering, Priority, Schedule, TrunkChoice,
    TrunkPolicy, ZonePolicy,
};
pub use diff::{Change, diff};
pub use document::{
    Document, Host, Language, MAX_DOCUMENT, MAX_SERVERS, Management, NTP_PORT, SCHEMA,
};
pub use error::{ConfigError, Sentence};
pub use limits::{
    BanNumbers, Bans, Keepalive, Limits, Logging, LoggingNumbers, RegistrationNumbers,
    Registrations, ShortRefresh,
};
pub use named::{Host as PeerHost, Named};
pub use pattern::{DigitClass, Pattern};
pub use policy::{
    AddedField, AddressField, Codec, EventPackage, InfoKind, MAX_POLICIES, Party, Policy,
    PolicyField, Rewrite, StatusMap, Transfer,
};
pub use route::{
    Action, ActionWord, Called, IfUnavailable, MAX_ROUTES, OWN_DOMAIN, Origin, Prefixed, Route,
};
pub use sip::{
    Listener, MAX_ADDRESSES, MAX_LISTENERS, MAX_NAMES, MAX_TRUNKS, PeerTls, Registrar,
    Registration, SIP_PORT, Service, Sip, Transport, Trunk,
};
pub use value::{Mac, PortRange, Span, parse_endpoint};
pub use zone::{
    Card, Interface, Ipv4, Ipv4Method, Ipv6, Ipv6Method, MAX_NETWORKS, MAX_ZONES, Media, Routed,
    Zone, ZoneKind,
};
