//! Lent media sockets by lease. The signalling thread keeps them from `MediaOpened` until the lease is closed; a media
//! thread shares those of its streams. A firewall that began anew knows none of them: until it has taken one back, the
//! lease is an orphan, whose pinhole is closed and whose sockets stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::UdpSocket,
    os::fd::OwnedFd,
    sync::Arc,
};

use broker_proto::{broker::Flow, settings::ZoneId};
use sbc_media::relay::Component;

use crate::socket::{SocketError, nonblocking};

/// The sockets of one lease, already bound by the firewall.
#[derive(Debug)]
pub struct LentSockets {
    /// RTP, and RTCP too where there is no second one.
    pub rtp: UdpSocket,
    /// RTCP of a pair.
    pub rtcp: Option<UdpSocket>,
    /// Both are of IPv6.
    pub v6: bool,
}

impl LentSockets {
    /// The socket for a component; a single one serves both.
    #[must_use]
    pub fn of(&self, component: Component) -> &UdpSocket {
        match (component, &self.rtcp) {
            (Component::Rtcp, Some(rtcp)) => rtcp,
            _ => &self.rtp,
        }
    }
}

/// One lease, with all that a new firewall must be told of it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its sockets.
    pub sockets: Arc<LentSockets>,
    /// The zone that it was lent for.
    pub zone: ZoneId,
    /// What was asked for last: RTP, RTCP.
    pub flows: [Flow; 2],
}

/// All leases that the firewall has granted and that were not closed yet.
#[derive(Debug, Default)]
pub struct Leases {
    by_id: BTreeMap<u64, Lease>,
    orphans: BTreeSet<u64>,
}

impl Leases {
    /// Keeps the one or two descriptors of a lease.
    ///
    /// # Errors
    /// `SocketError::Count` for another number of descriptors than the answer names, `Blocking` for a socket that would
    /// stop its thread.
    pub fn keep(
        &mut self,
        lease: u64,
        (zone, flow): (ZoneId, Flow),
        v6: bool,
        pair: bool,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), SocketError> {
        let mut sockets = descriptors.into_iter();
        let (rtp, rtcp) = match (sockets.next(), sockets.next(), sockets.next(), pair) {
            (Some(rtp), Some(rtcp), None, true) => (rtp, Some(rtcp)),
            (Some(rtp), None, None, false) => (rtp, None),
            _ => return Err(SocketError::Count),
        };
        let rtp = UdpSocket::from(nonblocking(rtp)?);
        let rtcp = rtcp.map(nonblocking).transpose()?.map(UdpSocket::from);
        // As the firewall itself begins with a pair.
        let of_rtcp = Flow {
            send_to: None,
            ..flow
        };
        let entry = Lease {
            sockets: Arc::new(LentSockets { rtp, rtcp, v6 }),
            zone,
            flows: [flow, of_rtcp],
        };
        self.by_id.insert(lease, entry);
        Ok(())
    }

    /// Notes the flows that were asked for. Whether the lease is an orphan: then nobody else is to be asked.
    pub fn latch(&mut self, lease: u64, flows: [Flow; 2]) -> bool {
        if let Some(kept) = self.by_id.get_mut(&lease) {
            kept.flows = flows;
        }
        self.is_orphan(lease)
    }

    /// Whether no firewall knows of a lease.
    #[must_use]
    pub fn is_orphan(&self, lease: u64) -> bool {
        self.orphans.contains(&lease)
    }

    /// The firewall that lent them is gone; its successor knows none of them.
    pub fn orphan(&mut self) {
        self.orphans = self.by_id.keys().copied().collect();
    }

    /// The next orphan.
    #[must_use]
    pub fn next_orphan(&self) -> Option<(u64, Lease)> {
        let id = *self.orphans.first()?;
        Some((id, self.by_id.get(&id)?.clone()))
    }

    /// A firewall is asked to take a lease back.
    pub fn offered(&mut self, lease: u64) {
        self.orphans.remove(&lease);
    }

    /// The sockets of a lease.
    #[must_use]
    pub fn sockets(&self, lease: u64) -> Option<Arc<LentSockets>> {
        self.by_id
            .get(&lease)
            .map(|lease| Arc::clone(&lease.sockets))
    }

    /// Gives a lease back; a stream that still uses it keeps its share until it is stopped.
    pub fn close(&mut self, lease: u64) {
        self.by_id.remove(&lease);
        self.orphans.remove(&lease);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
