//! Media addresses that the firewall has lent us, of all calls. A PBX or carrier that relays no media answers one call of
//! ours with the address that another one gave: then both meet in our own house, and no packet has to leave it.
//!
//! Only a peer that is known may name an address of ours, only one of its own zone, and what is named counts once the other
//! call's peer names this one in turn (the media threads see to it). Nobody learns such a port but by signalling that went
//! through that peer.

use std::{collections::BTreeMap, net::SocketAddr};

use broker_proto::settings::ZoneId;
use sbc_media::relay::Joined;

use crate::stream_leg::{Described, Lease, Reach};

/// All leases by their address for RTP.
#[derive(Default)]
pub(crate) struct OwnLeases {
    by_address: BTreeMap<SocketAddr, (ZoneId, Lease)>,
}

impl OwnLeases {
    /// A lease is there.
    pub(crate) fn lent(&mut self, zone: ZoneId, lease: Lease) {
        self.by_address.insert(lease.rtp, (zone, lease));
    }

    /// A lease is there no more.
    pub(crate) fn given_back(&mut self, lease: Lease) {
        // Its address may be another one's by now.
        if let Some((_, have)) = self.by_address.get(&lease.rtp)
            && have.id == lease.id
        {
            self.by_address.remove(&lease.rtp);
        }
    }

    /// The lease that a far end in `zone` describes as its own media, if it may.
    pub(crate) fn joined(
        &self,
        zone: ZoneId,
        reach: Reach,
        described: &Described,
    ) -> Option<Joined> {
        let (of, lease) = self.by_address.get(&described.rtp?)?;
        let rtcp = lease.rtcp.unwrap_or(lease.rtp);
        let same = described.rtcp.is_none_or(|described| described == rtcp);
        (*of == zone && !reach.client && same).then_some(Joined {
            lease: lease.id.0,
            rtp: lease.rtp,
            rtcp,
        })
    }
}
