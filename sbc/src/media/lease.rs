//! Lent media sockets by lease. The signalling thread keeps them from `MediaOpened` until the lease is closed; a media
//! thread shares those of its streams.

use std::{collections::BTreeMap, net::UdpSocket, os::fd::OwnedFd, sync::Arc};

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

/// All leases that the firewall has granted and that were not closed yet.
#[derive(Debug, Default)]
pub struct Leases {
    by_id: BTreeMap<u64, Arc<LentSockets>>,
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
        self.by_id
            .insert(lease, Arc::new(LentSockets { rtp, rtcp, v6 }));
        Ok(())
    }

    /// The sockets of a lease.
    #[must_use]
    pub fn sockets(&self, lease: u64) -> Option<Arc<LentSockets>> {
        self.by_id.get(&lease).cloned()
    }

    /// Gives a lease back; a stream that still uses it keeps its share until it is stopped.
    pub fn close(&mut self, lease: u64) {
        self.by_id.remove(&lease);
    }

    /// Gives all of them back: the firewall that lent them is gone.
    pub fn close_all(&mut self) {
        self.by_id.clear();
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
