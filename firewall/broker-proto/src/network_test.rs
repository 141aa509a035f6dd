//! What a network test tries and finds: echo requests to the hosts that the configuration names. Asked for at the console,
//! sent by the firewall under a mark of its own; travels in [`crate::control`] messages.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a tested host is to the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Host {
    /// Next hop of a default route or of a network behind the zone.
    Gateway,
    /// DNS.
    NameServer,
    /// NTP.
    TimeServer,
    /// PBX or registrar.
    Pbx,
    /// A carrier.
    Trunk,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The first echo reply took this long.
    Answered {
        /// From request to reply.
        microseconds: u32,
    },
    /// Nothing came back in time.
    Silent,
    /// The network says that the host cannot be reached, or nobody on the link has the address.
    Unreachable,
    /// The box has no route to it, or no address of that family in the zone.
    NoRoute,
    /// The zone's card is not there.
    NoCard,
    /// The box's own ruleset let no request out.
    Refused,
}

/// One host and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Zone's name.
    pub zone: String,
    /// What the host is.
    pub host: Host,
    /// The trunk's name; empty for the others.
    pub name: String,
    /// Whereto.
    pub address: IpAddr,
    /// What came of it.
    pub outcome: Outcome,
}

/// State of a zone's cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cable {
    /// The card is not there.
    NoCard,
    /// The card has no link.
    Unplugged,
    /// The card has a link.
    Connected,
}
