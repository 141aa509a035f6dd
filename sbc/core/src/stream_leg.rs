//! One leg of one media line: what is known of its far end, and the pinhole and relay rule that follow from it.
//!
//! A window lets in one host until the first valid packet proves its port; then that port alone. A client's description is
//! believed only where it names the host that its signalling comes from: any other address is either behind a translator
//! or somebody else's.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use broker_proto::{
    RequestId,
    broker::{Admit, Family, LeaseId},
    settings::ZoneId,
};
use sbc_media::{
    relay::{Joined, Learn, PayloadSet},
    srtp::Security,
};

use crate::keys::Keys;

/// What a side's session description says about one media line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// Where it receives RTP; `None`: nowhere (held by an unspecified address).
    pub(crate) rtp: Option<SocketAddr>,
    /// Where it receives RTCP.
    pub(crate) rtcp: Option<SocketAddr>,
    /// Payload types it lists.
    pub(crate) payloads: PayloadSet,
    /// Whether it sends.
    pub(crate) sends: bool,
    /// Whether it receives.
    pub(crate) receives: bool,
    /// Clock of its first format, in Hz.
    pub(crate) clock_hz: u32,
}

/// What is known about the network between us and a leg's far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Where its signalling comes from.
    pub(crate) signalling: IpAddr,
    /// It may sit behind an address translator: an address in its descriptions that is not the one that its signalling
    /// comes from is not believed.
    pub(crate) client: bool,
}

/// Sockets lent for one leg of one media line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) id: LeaseId,
    /// Own RTP address, as it stands in our descriptions.
    pub(crate) rtp: SocketAddr,
    /// Own RTCP address.
    pub(crate) rtcp: Option<SocketAddr>,
}

/// One leg of one media line.
pub(crate) struct StreamLeg {
    pub(crate) zone: ZoneId,
    pub(crate) family: Family,
    pub(crate) lease: Option<Lease>,
    pub(crate) waiting: Option<RequestId>,
    pub(crate) reach: Option<Reach>,
    pub(crate) described: Option<Described>,
    /// What was described is a lease of our own.
    pub(crate) joined: Option<Joined>,
    /// Our keys of a leg that is to be sealed; `None`: it is in the clear.
    pub(crate) keys: Option<Keys>,
    /// What both sides agreed on of them.
    pub(crate) security: Option<Security>,
    /// When the window for proving the port closes; `None`: no window open.
    pub(crate) window: Option<Instant>,
    /// The relay's rule; kept as it is while a proof is to survive.
    pub(crate) rule: Option<Learn>,
    pub(crate) proved_rtp: Option<SocketAddr>,
    pub(crate) proved_rtcp: Option<SocketAddr>,
    pub(crate) silent: bool,
}

impl StreamLeg {
    /// Whether the far end's description tells where it really is.
    pub(crate) fn believed(&self) -> bool {
        match (
            self.reach,
            self.described.and_then(|described| described.rtp),
        ) {
            (Some(reach), Some(rtp)) => !reach.client || rtp.ip() == reach.signalling,
            _ => false,
        }
    }

    pub(crate) fn in_family(&self, address: SocketAddr) -> bool {
        address.is_ipv4() == (self.family == Family::V4)
    }

    pub(crate) fn signalled_rtp(&self) -> Option<SocketAddr> {
        self.described?
            .rtp
            .filter(|rtp| self.believed() && self.in_family(*rtp))
    }

    pub(crate) fn signalled_rtcp(&self) -> Option<SocketAddr> {
        self.described?
            .rtcp
            .filter(|rtcp| self.believed() && self.in_family(*rtcp))
    }

    /// The host that packets come from: the signalled one if believed, otherwise where the signalling comes from.
    pub(crate) fn host(&self) -> Option<IpAddr> {
        match self.signalled_rtp() {
            Some(rtp) => Some(rtp.ip()),
            None => self.reach.map(|reach| reach.signalling),
        }
        .filter(|host| host.is_ipv4() == (self.family == Family::V4))
    }

    pub(crate) fn send_to(&self) -> Option<SocketAddr> {
        self.described?.rtp?;
        self.signalled_rtp().or(self.proved_rtp)
    }

    pub(crate) fn send_rtcp_to(&self) -> Option<SocketAddr> {
        self.described?.rtp?;
        self.signalled_rtcp().or(self.proved_rtcp)
    }

    pub(crate) fn admit_rtp(&self) -> Admit {
        match (
            self.proved_rtp,
            self.window,
            self.host(),
            self.signalled_rtp(),
        ) {
            (Some(proved), ..) => Admit::Peer(proved),
            (None, Some(_), Some(host), _) => Admit::Host(host),
            (None, None, _, Some(signalled)) => Admit::Peer(signalled),
            _ => Admit::Nobody,
        }
    }

    /// RTCP often comes from a port of its own behind a translator: its host is let in until the port is proved.
    pub(crate) fn admit_rtcp(&self) -> Admit {
        let awaited = self.window.is_some() || self.proved_rtp.is_some();
        match (self.proved_rtcp, self.host(), self.signalled_rtcp()) {
            (Some(proved), ..) => Admit::Peer(proved),
            (None, Some(host), _) if awaited => Admit::Host(host),
            (None, _, Some(signalled)) => Admit::Peer(signalled),
            _ => Admit::Nobody,
        }
    }

    /// A new description: the window opens, unless what comes is handed over and nobody has to be let in.
    pub(crate) fn open_window(&mut self, until: Instant, window_ms: u32) {
        if let Some(Joined { rtp, rtcp, .. }) = self.joined {
            self.window = None;
            self.rule = Some(Learn::Exact { rtp, rtcp });
        } else {
            self.window = Some(until);
            self.rule = self.host().map(|host| Learn::Host { host, window_ms });
        }
    }

    /// The rule of another window, for a far end whose description is not believed and whose port is not proved. It has to
    /// be another rule for the relay to begin anew, so it lasts a millisecond more every second time.
    pub(crate) fn next_window(&self, window_ms: u32) -> Option<Learn> {
        let waits = self.proved_rtp.is_none()
            && self.signalled_rtp().is_none()
            && self
                .described
                .is_some_and(|described| described.rtp.is_some());
        let host = self.host().filter(|_| waits)?;
        let again =
            matches!(self.rule, Some(Learn::Host { window_ms: last, .. }) if last == window_ms);
        Some(Learn::Host {
            host,
            window_ms: window_ms + u32::from(again),
        })
    }

    /// The relay's rule once the window is closed: what was signalled; port 0, which is nobody's, if that is not believed.
    pub(crate) fn signalled_rule(&self) -> Option<Learn> {
        let nobody = SocketAddr::new(self.host()?, 0);
        Some(Learn::Exact {
            rtp: self.signalled_rtp().unwrap_or(nobody),
            rtcp: self.signalled_rtcp().unwrap_or(nobody),
        })
    }
}
