//! The firewall's answers that say more than yes: connections, and what it keeps for the next life of the core.

use std::{net::SocketAddr, time::Duration};

use broker_proto::{
    RequestId,
    binding::{BindingToken, KeptBinding},
    broker::{MAX_REQUEST, ToBroker},
    settings::ZoneId,
};

use super::{settings, world::World};
use crate::{BrokerAnswer, ConnectionId};

/// Bindings of one answer: so few that several are needed.
const PAGE: usize = 2;

impl World {
    pub(super) fn connect(&mut self, id: RequestId, peer: SocketAddr) -> BrokerAnswer {
        if let Some(reason) = self.refuse_connect {
            return BrokerAnswer::Refused { id, reason };
        }
        let number = u16::try_from(self.connected.len()).unwrap();
        let connection = ConnectionId(1_000 + u64::from(number));
        let local = SocketAddr::new(Self::gateway(peer).ip(), 50_000 + number);
        self.connected.insert(connection, (peer, local));
        BrokerAnswer::Connected {
            id,
            connection,
            local,
            peer,
        }
    }

    pub(super) fn question(
        &mut self,
        id: RequestId,
        zone: ZoneId,
        peer: SocketAddr,
    ) -> BrokerAnswer {
        self.next_socket += 1;
        let own = settings().zones[usize::from(zone.0)].addresses[0];
        BrokerAnswer::Connected {
            id,
            connection: ConnectionId(self.next_socket),
            local: SocketAddr::new(own, 40_000),
            peer,
        }
    }

    pub(super) fn keep(
        &mut self,
        id: RequestId,
        kept: Vec<KeptBinding>,
        gone: Vec<BindingToken>,
    ) -> BrokerAnswer {
        let request = ToBroker::KeepBindings { id, kept, gone };
        let octets = broker_proto::encode(&request).expect("a message").len();
        assert!(octets <= MAX_REQUEST, "{octets} octets");
        let ToBroker::KeepBindings { kept, gone, .. } = request else {
            return BrokerAnswer::Done { id };
        };
        self.handed_over += 1;
        for token in gone {
            self.kept.remove(&token);
        }
        for binding in kept {
            let until = self.now + Duration::from_secs(u64::from(binding.left));
            self.kept.insert(binding.token, (binding, until));
        }
        BrokerAnswer::Done { id }
    }

    pub(super) fn recall(&self, id: RequestId, after: Option<BindingToken>) -> BrokerAnswer {
        let mut rest = self.kept.iter().filter(|(token, _)| after < Some(**token));
        let page: Vec<_> = rest.by_ref().take(PAGE).collect();
        let more = rest.next().is_some();
        let bindings = page.iter().map(|(_, (binding, until))| {
            let left = until.saturating_duration_since(self.now).as_secs();
            let mut binding = binding.clone();
            binding.left = u32::try_from(left).unwrap();
            binding
        });
        BrokerAnswer::Bindings {
            id,
            bindings: bindings.collect(),
            next: page.last().map(|(token, _)| **token).filter(|_| more),
        }
    }
}
