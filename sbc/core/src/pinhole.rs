//! What the firewall is asked about a lease once it is granted: to set its pinhole anew, and to take it back. Called by
//! [`crate::media_session`], and by [`crate::core::Core`] for what nobody waits for any more.

use broker_proto::broker::{Flow, LeaseId, ToBroker};

use crate::{context::Context, io::Output, requests::Purpose, stream_leg::StreamLeg};

/// Set both directions of a lease.
pub(crate) fn latch(cx: &mut Context, call: u64, lease: LeaseId, rtp: Flow, rtcp: Flow) {
    let id = cx.requests.issue(Purpose::LatchMedia { call });
    cx.emit(Output::Broker(ToBroker::LatchMedia {
        id,
        lease,
        rtp,
        rtcp,
    }));
}

/// Give a leg's sockets back. One that is still being opened is given back when it comes.
pub(crate) fn give_back(cx: &mut Context, leg: &StreamLeg) {
    if let Some(lease) = leg.lease {
        cx.leases.given_back(lease);
        close_lease(cx, lease.id);
    }
}

/// Ask the firewall to close a lease.
pub(crate) fn close_lease(cx: &mut Context, lease: LeaseId) {
    let id = cx.requests.issue(Purpose::CloseMedia);
    cx.emit(Output::Broker(ToBroker::CloseMedia { id, lease }));
}
