//! Bounds of packets, calls, registrations, bans and log lines. Every key may be left out; the defaults are those of the product as
//! shipped, and the canonical form always prints them.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    error::say,
    table::{Report, Section},
    value::words,
    zone::MAX_NETWORKS,
};

/// A struct of whole numbers with a default and an allowed range each: fields, reading, range check.
macro_rules! numbers {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* $field:ident = $default:literal in $least:literal..=$most:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub struct $name { $($(#[$doc])* pub $field: u32,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $name {
            /// Names of the keys.
            pub(crate) const KEYS: &'static [&'static str] = &[$(stringify!($field)),+];

            /// Key, value, least and most of each.
            pub(crate) fn bounds(&self) -> Vec<(&'static str, u32, u32, u32)> {
                vec![$((stringify!($field), self.$field, $least, $most)),+]
            }

            pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
                $(let $field = section.or(report, stringify!($field), $default);)+
                Some(Self { $($field: $field?,)+ })
            }
        }
    };
}

numbers! {
    /// Bounds of packets, connections and calls. Rates are per second; a source is one IPv4 address or one IPv6 /64.
    pub struct Limits {
        /// TCP connections opened per second by one source.
        syn_rate_per_source = 20 in 1..=100_000,
        /// TCP connections opened per second in all.
        syn_rate = 2_000 in 1..=1_000_000,
        /// New UDP flows per second from one source.
        flow_rate_per_source = 50 in 1..=100_000,
        /// New UDP flows per second in all.
        flow_rate = 10_000 in 1..=1_000_000,
        /// TCP connections at once from one source.
        connections_per_source = 32 in 1..=65_535,
        /// Packets per second to the SIP listeners from one source that is neither trunk nor PBX.
        sip_rate_per_source = 200 in 1..=100_000,
        /// ICMP and ICMPv6 messages per second in all, neighbour discovery apart.
        icmp_rate = 50 in 0..=100_000,
        /// Neighbour discovery messages per second in each zone.
        nd_rate = 200 in 10..=100_000,
        /// Packets per second through one pinhole, each way.
        media_packet_rate = 500 in 50..=100_000,
        /// Media sockets lent at once.
        media_sockets = 8_192 in 4..=65_536,
        /// Calls at once.
        calls = 2_000 in 1..=100_000,
        /// Calls at once from one source that is neither trunk nor PBX.
        calls_per_source = 20 in 1..=100_000,
        /// New calls per second in all.
        call_rate = 500 in 1..=100_000,
        /// Bindings at once.
        registrations = 10_000 in 1..=1_000_000,
        /// SIP connections over TCP at once.
        connections = 4_000 in 1..=100_000,
        /// Seconds until an accepted connection must be ready for messages: TLS and WebSocket handshake.
        handshake_seconds = 10 in 1..=60,
        /// Octets of a SIP message.
        message_octets = 16_384 in 1_500..=65_535,
        /// Seconds without media after which a call is ended.
        media_timeout_seconds = 60 in 5..=86_400,
        /// Seconds a call may last.
        call_seconds = 43_200 in 60..=604_800,
        /// Seconds of a session timer that is asked for on each leg of a call; 0: none is asked for.
        session_expires_seconds = 1_800 in 0..=86_400,
        /// Shortest session timer that is agreed to, in seconds (RFC 4028: never below 90).
        min_se_seconds = 90 in 90..=3_600,
        /// Seconds an idle SIP connection may last.
        idle_connection_seconds = 600 in 10..=86_400,
    }
}

impl Limits {
    pub(crate) fn from_section(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, Self::KEYS);
        Self::read(section, report)
    }
}

numbers! {
    /// Numbers of the section `bans`.
    pub struct BanNumbers {
        /// Seconds a ban lasts if its asker names none.
        seconds = 3_600 in 10..=2_592_000,
        /// Seconds a ban lasts at most.
        seconds_max = 86_400 in 10..=2_592_000,
        /// Bans at once.
        maximum = 65_536 in 16..=1_000_000,
    }
}

/// Bans of sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bans {
    /// Times and bounds.
    #[serde(flatten)]
    pub numbers: BanNumbers,
    /// Sources that are never banned, in any zone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_list: Vec<IpNet>,
}

words! {
    /// Which phones are granted little time at once, so that they refresh often and keep their way open.
    pub enum ShortRefresh {
        /// Those whose source is another than their contact.
        Nat = "nat",
        /// These, and all on UDP.
        Udp = "udp",
        /// All.
        All = "all",
    }
}

words! {
    /// What keeps the way to a phone behind a translator open.
    pub enum Keepalive {
        /// A request that the phone answers, which also shows that it is there.
        Options = "options",
        /// Line ends, as RFC 5626 has them.
        Crlf = "crlf",
    }
}

numbers! {
    /// Numbers of the section `registration`.
    pub struct RegistrationNumbers {
        /// Seconds that a phone on UDP is granted at most where `short_refresh` says so.
        refresh_udp_seconds = 120 in 30..=3_600,
        /// Seconds that a phone on a connection is granted at most where `short_refresh` says so.
        refresh_stream_seconds = 600 in 30..=7_200,
        /// Seconds that the PBX is asked for on behalf of such phones.
        registrar_expires_seconds = 3_600 in 600..=86_400,
        /// Fewest seconds that a phone may ask for.
        min_expires_seconds = 60 in 10..=3_600,
        /// Seconds between keep-alives to phones behind a translator; 0: none.
        keepalive_seconds = 30 in 0..=300,
        /// Contacts of one account at once.
        contacts_per_account = 8 in 1..=32,
        /// Contacts at once from one source.
        contacts_per_source = 500 in 1..=100_000,
        /// REGISTER requests per second from one source that has no binding.
        source_rate = 15 in 1..=10_000,
        /// REGISTER requests per second that are relayed to the PBX.
        relay_rate = 200 in 1..=10_000,
        /// Seconds that bindings may outlive what the PBX granted while it is out of reach.
        away_seconds = 3_600 in 0..=86_400,
    }
}

/// Registrations of phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Registrations {
    /// Who is to refresh often.
    pub short_refresh: ShortRefresh,
    /// What keeps ways open.
    pub keepalive: Keepalive,
    /// Times, rates and bounds.
    #[serde(flatten)]
    pub numbers: RegistrationNumbers,
}

impl Default for Registrations {
    fn default() -> Self {
        Self {
            short_refresh: ShortRefresh::Nat,
            keepalive: Keepalive::Options,
            numbers: RegistrationNumbers::default(),
        }
    }
}

impl Registrations {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(
            report,
            &[RegistrationNumbers::KEYS, &["short_refresh", "keepalive"]].concat(),
        );
        let usual = Self::default();
        let short_refresh = section.or(report, "short_refresh", usual.short_refresh);
        let keepalive = section.or(report, "keepalive", usual.keepalive);
        let numbers = RegistrationNumbers::read(section, report);
        Some(Self {
            short_refresh: short_refresh?,
            keepalive: keepalive?,
            numbers: numbers?,
        })
    }
}

impl Bans {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &[BanNumbers::KEYS, &["allow_list"]].concat());
        let numbers = BanNumbers::read(section, report);
        let allow_list = section.list(report, "allow_list", MAX_NETWORKS);
        Some(Self {
            numbers: numbers?,
            allow_list: allow_list?,
        })
    }
}

numbers! {
    /// Numbers of the section `logging`.
    pub struct LoggingNumbers {
        /// Dropped packets per second that are logged for one reason; all are counted.
        drops_per_second = 5 in 0..=1_000,
        /// As many may be logged at once.
        drops_burst = 10 in 1..=1_000,
        /// Log lines per second that are taken from one process.
        lines_per_second = 200 in 10..=10_000,
    }
}

/// What is written down, and who is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Logging {
    /// Its numbers.
    #[serde(flatten)]
    pub numbers: LoggingNumbers,
    /// Collector of SIP messages, secrets taken out, as HEP version 3 over UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hep: Option<SocketAddr>,
}

impl Logging {
    pub(crate) fn from_section(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &[LoggingNumbers::KEYS, &["syslog", "hep"]].concat());
        let target: Option<Vec<SocketAddr>> = section
            .optional_with(report, "syslog", |value| crate::value::endpoint(value, 514))
            .map(|target| target.into_iter().collect());
        if target.is_some_and(|target| !target.is_empty()) {
            report.error(
                &section.key("syslog"),
                say!(
                    "this version sends no records to a syslog server; take the line out",
                    "diese Version sendet nichts an einen Syslog-Server; die Zeile muss entfallen"
                ),
            );
        }
        let hep = section.optional_with(report, "hep", |value| crate::value::endpoint(value, 9060));
        let numbers = LoggingNumbers::read(section, report);
        Some(Self {
            numbers: numbers?,
            hep: hep?,
        })
    }
}
