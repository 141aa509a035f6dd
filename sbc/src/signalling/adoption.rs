//! Media sockets that outlive the firewall that lent them: its successor takes them back one by one, and the calls go on.
//! Between the two lives the kernel's sets are empty, so nothing passes.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
};

use broker_proto::{
    RequestId,
    broker::{LeaseId, Refusal, ToBroker},
    journal::Severity,
};
use sbc_core::{BrokerAnswer, Input};

use super::shell::{Shell, log};
use crate::engine::Engine;

/// Until the core renews it, as it does any lease.
const TTL_SECONDS: u32 = 120;

/// What the firewall of today was asked to take back.
#[derive(Debug, Default)]
pub(super) struct Adoption {
    /// It has its configuration: before, it would refuse everything.
    begun: bool,
    asked: BTreeMap<RequestId, u64>,
    count: u32,
}

impl Adoption {
    pub(super) const fn begin(&mut self) {
        self.begun = true;
    }

    /// Numbers from the far end of those that the core gives.
    fn issue(&mut self, lease: u64) -> RequestId {
        self.count = self.count.wrapping_add(1);
        let id = RequestId(u32::MAX - self.count);
        self.asked.insert(id, lease);
        id
    }
}

impl<E: Engine> Shell<E> {
    /// Offers the firewall what it does not know, as far as there is room; the rest when it is called again.
    pub(super) fn offer_orphans(&mut self) {
        if !self.adoption.begun {
            return;
        }
        while let Some((name, lease)) = self.leases.next_orphan() {
            let Some(peer) = &self.peers.broker else {
                return;
            };
            let id = self.adoption.issue(name);
            let request = ToBroker::AdoptMedia {
                id,
                lease: LeaseId(name),
                zone: lease.zone,
                rtp: lease.flows[0],
                rtcp: lease.flows[1],
                ttl_seconds: TTL_SECONDS,
            };
            let sockets: Vec<BorrowedFd<'_>> = std::iter::once(&lease.sockets.rtp)
                .chain(&lease.sockets.rtcp)
                .map(AsFd::as_fd)
                .collect();
            if peer.link.send_with(&request, &sockets).is_err() {
                // No room now; a far end that is gone is noticed by the task that reads it.
                self.adoption.asked.remove(&id);
                return;
            }
            self.leases.offered(name);
        }
    }

    /// Whether this was the answer to an offer.
    pub(super) fn adopted(&mut self, id: RequestId) -> bool {
        self.adoption.asked.remove(&id).is_some()
    }

    /// Whether this was the answer to an offer: then its lease is over.
    pub(super) fn not_adopted(&mut self, id: RequestId, reason: Refusal) -> bool {
        let Some(lease) = self.adoption.asked.remove(&id) else {
            return false;
        };
        log(
            Severity::Warning,
            "media-not-taken-back",
            &[("reason", reason.to_string())],
        );
        self.leases.close(lease);
        self.handle(Input::Broker(BrokerAnswer::LeaseEnded {
            lease: LeaseId(lease),
        }));
        true
    }
}
