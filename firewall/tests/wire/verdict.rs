//! What the tests of refusals say of a bench: which counter moved, and how often.

use std::collections::BTreeMap;

use firewall::{
    nftables::names::drop_counter,
    policy::{Policy, Reason},
};

use super::{Bench, lab};

pub(crate) const EXT: usize = 0;
pub(crate) const INT: usize = 1;
pub(crate) const MGMT: usize = 2;
pub(crate) const ZONES: [&str; 3] = ["external", "internal", "management"];

/// One packet refused for this reason, and nothing else.
pub(crate) fn expected(reason: Reason, link: usize) -> BTreeMap<String, u64> {
    [(drop_counter(reason.word(), ZONES[link]), 1)].into()
}

/// Sends packets with all rates forgotten; which counters moved.
pub(crate) fn flood(bench: &mut Bench, link: usize, packets: &[Vec<u8>]) -> BTreeMap<String, u64> {
    bench.forget();
    bench.zero();
    for packet in packets {
        bench.arrive(link, packet);
    }
    bench.await_drops()
}

/// Rates so small that a test reaches them.
pub(crate) fn tight() -> Policy {
    let mut policy = lab();
    policy.limits.syn_rate_per_source = 1;
    policy.limits.flow_rate_per_source = 1;
    policy.limits.sip_rate_per_source = 1;
    policy.limits.media_packet_rate = 1;
    policy.limits.icmp_rate = 1;
    policy.limits.nd_rate = 1;
    policy.limits.connections_per_source = 1;
    policy
}

/// Only `reason` moved, and some packets passed before it did.
pub(crate) fn assert_only(drops: &BTreeMap<String, u64>, reason: Reason, link: usize, sent: usize) {
    let counter = drop_counter(reason.word(), ZONES[link]);
    assert_eq!(drops.keys().collect::<Vec<_>>(), [&counter], "{reason}");
    let refused = usize::try_from(drops[&counter]).unwrap();
    assert!(
        (1..sent).contains(&refused),
        "{reason}: {refused} of {sent}"
    );
}
