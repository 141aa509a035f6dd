//! Which processes talk to which: the whole map of the house's channels, in one table. The supervisor makes the pairs.

use broker_proto::{Role, control::ChannelKind};

/// One channel: the two roles at its ends, and what is spoken on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// One end.
    pub a: Role,
    /// The other end.
    pub b: Role,
    /// Language.
    pub kind: ChannelKind,
}

const fn edge(a: Role, b: Role, kind: ChannelKind) -> Edge {
    Edge { a, b, kind }
}

/// All channels. What is not here cannot be said.
pub(super) const EDGES: [Edge; 14] = [
    edge(Role::Sbc, Role::Firewall, ChannelKind::Broker),
    edge(Role::Time, Role::Firewall, ChannelKind::Broker),
    edge(Role::Dhcp, Role::Firewall, ChannelKind::Broker),
    edge(Role::Management, Role::Firewall, ChannelKind::Broker),
    edge(Role::Init, Role::Journal, ChannelKind::Journal),
    edge(Role::Firewall, Role::Journal, ChannelKind::Journal),
    edge(Role::Sbc, Role::Journal, ChannelKind::Journal),
    edge(Role::Management, Role::Journal, ChannelKind::Journal),
    edge(Role::Sbc, Role::Keyholder, ChannelKind::Keyholder),
    edge(Role::Management, Role::Keyholder, ChannelKind::Keyholder),
    edge(Role::Init, Role::Keyholder, ChannelKind::Keyholder),
    edge(Role::Management, Role::Sbc, ChannelKind::Status),
    edge(Role::Management, Role::Firewall, ChannelKind::Status),
    edge(Role::Management, Role::Init, ChannelKind::Status),
];

impl Edge {
    /// The other end, if `role` is at one of them.
    #[must_use]
    pub(super) fn other(self, role: Role) -> Option<Role> {
        match role {
            _ if role == self.a => Some(self.b),
            _ if role == self.b => Some(self.a),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sbc_reaches_nobody_but_firewall_journal_and_keyholder_by_its_own_will() {
        let spoken: Vec<Role> = EDGES
            .iter()
            .filter(|edge| edge.kind != ChannelKind::Status)
            .filter_map(|edge| edge.other(Role::Sbc))
            .collect();
        assert_eq!(spoken, [Role::Firewall, Role::Journal, Role::Keyholder]);
    }

    #[test]
    fn no_channel_is_there_twice() {
        for (place, edge) in EDGES.iter().enumerate() {
            assert!(EDGES.iter().skip(place + 1).all(|other| other != edge));
        }
    }
}
