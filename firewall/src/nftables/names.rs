//! Names of everything in the table `inet gatehouse` that more than one place must know, with the layout of each set's key.
//! The renderer declares them, the broker puts elements in by netlink, tests and operators read them.
//!
//! Sets never change their definition, so they live on through every commit. In the kernel a concatenated key is the
//! sequence of its fields, each padded with zero octets to a multiple of four: `ipv4_addr` 4 octets, `ipv6_addr` 16,
//! `inet_service` 2 octets in network order and 2 zero octets.

/// The table's name; its family is `inet` (`NFPROTO_INET`, 1).
pub const TABLE: &str = "gatehouse";

/// Group of `nfnetlink_log` to which every refusal is logged, rate-limited; the prefix is `reason zone`.
pub const LOG_GROUP: u16 = 7;

/// Marks (`SO_MARK`) that say what a socket was lent for. The container can not change them.
pub mod mark {
    /// SIP listeners of the sbc, UDP and TCP (accepted connections inherit it).
    pub const LISTEN_SIP: u32 = 0x4748_0001;
    /// HTTPS listeners of management.
    pub const LISTEN_MANAGEMENT: u32 = 0x4748_0002;
    /// Media sockets.
    pub const MEDIA: u32 = 0x4748_0003;
    /// `Connect` of the sbc to registrars and trunks.
    pub const CONNECT_SIP: u32 = 0x4748_0004;
    /// `Connect` of time to NTP servers.
    pub const CONNECT_TIME: u32 = 0x4748_0005;
    /// `Connect` to DNS servers.
    pub const CONNECT_NAMES: u32 = 0x4748_0006;
    /// `Connect` to log and HEP receivers.
    pub const CONNECT_EXPORT: u32 = 0x4748_0007;
    /// Echo requests of the network test.
    pub const NETWORK_TEST: u32 = 0x4748_0008;
    /// The DHCP client of a zone that is configured so.
    pub const DHCP: u32 = 0x4748_0009;
    /// A listener of a silent process: no rule knows it, so it sends nothing.
    pub const WITHHELD: u32 = 0x4748_000a;
    /// Put on a packet (never on a socket) that passed a pinhole inward.
    pub const PASSED_PINHOLE: u32 = 0x4748_0101;
}

/// Address family of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetFamily {
    /// `ipv4_addr`
    V4,
    /// `ipv6_addr`
    V6,
}

impl SetFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The digit at the end of a set's name.
    #[must_use]
    pub const fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    /// The family of an address.
    #[must_use]
    pub const fn of(address: &core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(_) => Self::V4,
            core::net::IpAddr::V6(_) => Self::V6,
        }
    }

    /// nft's name of the address type.
    #[must_use]
    pub const fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }
}

/// One field of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// An address of the set's family.
    Address,
    /// A UDP or TCP port.
    Port,
}

/// Who puts elements in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The broker, by netlink, each with or without a timeout of its own.
    Broker,
    /// The ruleset itself, on the way of a packet.
    Rules,
}

/// Every set of the table, without the family; `name(family)` is the name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// Pinhole for any port of 1024 and up in the zone's media networks: local address . local port.
    MediaAny,
    /// Pinhole for any port of 1024 and up of one address: local address . local port . peer address.
    MediaHost,
    /// Pinhole for one proved peer: local address . local port . peer address . peer port.
    MediaPeer,
    /// Where a media socket may send: local address . local port . peer address . peer port.
    MediaOut,
    /// Banned from SIP listeners: address.
    BanHostSip,
    /// Banned from everything: address.
    BanHostAll,
    /// Banned from SIP listeners: address . source port.
    BanFlowSip,
    /// Banned from everything: address . source port.
    BanFlowAll,
    /// Under suspicion, held to a stricter rate: address.
    Greylist,
    /// UDP SIP peers that were answered and wrote again, so that a registered phone can be called after its connection
    /// tracking entry is gone: local address . local port . peer address . peer port.
    SipFlow,
    /// Rate of datagrams to listeners by source: address.
    UdpRate,
    /// The same for configured peers: address.
    PeerRate,
    /// The same for sources on the greylist: address.
    GreyRate,
    /// Rate of SYN by source: address.
    SynRate,
    /// Rate of new UDP flows by source: address.
    FlowRate,
    /// Live TCP connections by source: address.
    Connections,
    /// Packets inward by pinhole: local address . local port.
    MediaRate,
    /// Packets outward by media socket: local address . local port.
    MediaOutRate,
}

impl Set {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Self; 18] = [
        Self::MediaAny,
        Self::MediaHost,
        Self::MediaPeer,
        Self::MediaOut,
        Self::BanHostSip,
        Self::BanHostAll,
        Self::BanFlowSip,
        Self::BanFlowAll,
        Self::Greylist,
        Self::SipFlow,
        Self::UdpRate,
        Self::PeerRate,
        Self::GreyRate,
        Self::SynRate,
        Self::FlowRate,
        Self::Connections,
        Self::MediaRate,
        Self::MediaOutRate,
    ];

    /// Name without the family's digit.
    #[must_use]
    pub const fn stem(self) -> &'static str {
        match self {
            Self::MediaAny => "media_any",
            Self::MediaHost => "media_host",
            Self::MediaPeer => "media_peer",
            Self::MediaOut => "media_out",
            Self::BanHostSip => "ban_host_sip",
            Self::BanHostAll => "ban_host_all",
            Self::BanFlowSip => "ban_flow_sip",
            Self::BanFlowAll => "ban_flow_all",
            Self::Greylist => "greylist",
            Self::SipFlow => "sip_flow",
            Self::UdpRate => "udp_rate",
            Self::PeerRate => "peer_rate",
            Self::GreyRate => "grey_rate",
            Self::SynRate => "syn_rate",
            Self::FlowRate => "flow_rate",
            Self::Connections => "connections",
            Self::MediaRate => "media_rate",
            Self::MediaOutRate => "media_out_rate",
        }
    }

    /// Name in the kernel: `media_peer4`, `media_peer6`.
    #[must_use]
    pub fn name(self, family: SetFamily) -> String {
        format!("{}{}", self.stem(), family.digit())
    }

    /// Fields of the key, in order.
    #[must_use]
    pub const fn key(self) -> &'static [Field] {
        use Field::{Address, Port};
        match self {
            Self::MediaPeer | Self::MediaOut | Self::SipFlow => &[Address, Port, Address, Port],
            Self::MediaHost => &[Address, Port, Address],
            Self::MediaAny
            | Self::MediaRate
            | Self::MediaOutRate
            | Self::BanFlowSip
            | Self::BanFlowAll => &[Address, Port],
            Self::BanHostSip
            | Self::BanHostAll
            | Self::Greylist
            | Self::UdpRate
            | Self::PeerRate
            | Self::GreyRate
            | Self::SynRate
            | Self::FlowRate
            | Self::Connections => &[Address],
        }
    }

    /// Who puts elements in.
    #[must_use]
    pub const fn writer(self) -> Writer {
        match self {
            Self::MediaAny
            | Self::MediaHost
            | Self::MediaPeer
            | Self::MediaOut
            | Self::BanHostSip
            | Self::BanHostAll
            | Self::BanFlowSip
            | Self::BanFlowAll
            | Self::Greylist => Writer::Broker,
            Self::SipFlow
            | Self::UdpRate
            | Self::PeerRate
            | Self::GreyRate
            | Self::SynRate
            | Self::FlowRate
            | Self::Connections
            | Self::MediaRate
            | Self::MediaOutRate => Writer::Rules,
        }
    }

    /// Seconds after which an element that the rules put in is forgotten, counted from its last packet.
    #[must_use]
    pub const fn timeout_seconds(self) -> u32 {
        match self {
            // A registration lasts an hour at most before the phone refreshes it (RFC 3261 §10.2), and somewhat more.
            Self::SipFlow => 3_900,
            _ => 60,
        }
    }

    /// Most elements; the kernel refuses more.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::MediaAny | Self::MediaHost | Self::MediaPeer | Self::MediaOut => 32_768,
            Self::MediaRate | Self::MediaOutRate | Self::PeerRate => 32_768,
            Self::BanHostSip
            | Self::BanHostAll
            | Self::BanFlowSip
            | Self::BanFlowAll
            | Self::Greylist => 65_536,
            Self::SipFlow
            | Self::UdpRate
            | Self::GreyRate
            | Self::SynRate
            | Self::FlowRate
            | Self::Connections => 65_536,
        }
    }
}

/// Zone word of packets that arrived on, or would leave by, an interface that no zone has.
pub const NO_ZONE: &str = "none";

/// Name of the counter of a reason in a zone: `drop/spoofed-source/external`.
#[must_use]
pub fn drop_counter(reason: &str, zone: &str) -> String {
    format!("drop/{reason}/{zone}")
}

/// Reason and zone of a counter's name; `None` if it is not a drop counter.
#[must_use]
pub fn parse_drop_counter(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("drop/")?.split_once('/')
}

/// Prefix of a log entry: `spoofed-source external`. The broker splits it at the space.
#[must_use]
pub fn log_prefix(reason: &str, zone: &str) -> String {
    format!("{reason} {zone}")
}
