//! The messages between the processes of the house: types and their bytes, no behaviour.
//!
//! Every pair of processes talks over one `SOCK_SEQPACKET` socket pair; one packet is one message (on the broker's channel
//! one or several, see [`decode_together`]), descriptors travel beside it by `SCM_RIGHTS`. Each direction of each pair has
//! an enum of its own, so a message that runs the wrong way cannot be expressed, and the receiver refuses whatever does not
//! decode to the last byte.
//!
//! | module | between | opened by |
//! |---|---|---|
//! | [`broker`] | any sandboxed process and the firewall | init, one pair per process |
//! | [`control`] | init and each of its children | init, descriptor 3 of the child |
//! | [`journal`] | every process and the journal | init |
//! | [`keyholder`] | sbc, management and the keyholder | init |
//! | [`status`] | management and sbc, firewall, init | init |
//!
//! [`binding`] is what the sbc leaves with the firewall for its successor; [`settings`] holds what the firewall hands to the
//! sbc, which reads no configuration file; [`policy`] what of it says which fields and messages pass; [`network_test`] what
//! a test of the network tries and finds.

#![cfg_attr(
    not(test),
    forbid(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::disallowed_macros
    )
)]

pub mod binding;
pub mod broker;
pub mod control;
mod dialplan;
pub mod journal;
pub mod keyholder;
pub mod network_test;
pub mod policy;
pub mod settings;
pub mod status;
mod wire;

pub use wire::{
    MAX_MESSAGE, MAX_TOGETHER, PROTOCOL_VERSION, Packet, ProtocolError, decode, decode_together,
    encode,
};

use serde::{Deserialize, Serialize};

/// The processes of the house. The receiver of a message knows its sender's role from the socket it came by, never
/// from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// PID 1: mounts, links, supervision.
    Init,
    /// nf_tables, sockets, the broker.
    Firewall,
    /// SIP and media; meets everybody, owns nothing.
    Sbc,
    /// Private keys and account secrets.
    Keyholder,
    /// Append-only, hash-chained records.
    Journal,
    /// NTP client.
    Time,
    /// DHCP client of zones that take their address from the network.
    Dhcp,
    /// HTTPS on the management zone.
    Management,
    /// The person at the serial line.
    Console,
}

impl Role {
    /// All roles, in start order.
    pub const ALL: [Self; 9] = [
        Self::Init,
        Self::Firewall,
        Self::Journal,
        Self::Keyholder,
        Self::Dhcp,
        Self::Sbc,
        Self::Time,
        Self::Management,
        Self::Console,
    ];

    /// The word for it in logs, file names (`gatehouse-<name>`) and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Firewall => "firewall",
            Self::Sbc => "sbc",
            Self::Keyholder => "keyholder",
            Self::Journal => "journal",
            Self::Time => "time",
            Self::Dhcp => "dhcp",
            Self::Management => "management",
            Self::Console => "console",
        }
    }
}

impl core::fmt::Display for Role {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Number that pairs a reply with its request. Chosen by the asker; any value is valid.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestId(pub u32);
