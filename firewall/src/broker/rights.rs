//! Who may ask what, and how often: each role has its own kinds of request, each kind its own rate.

use std::{collections::BTreeMap, time::Instant};

use broker_proto::{Role, broker::ToBroker};

use super::{bucket::Bucket, permissions::Bounds};

/// Who may ask what at all.
pub(super) const fn may_ask(role: Role, request: &ToBroker) -> bool {
    match role {
        Role::Sbc => true,
        Role::Management | Role::Dhcp => {
            matches!(request, ToBroker::Listen { .. } | ToBroker::Health { .. })
        }
        Role::Time => matches!(request, ToBroker::Connect { .. } | ToBroker::Health { .. }),
        _ => false,
    }
}

/// Rates per kind of request: per second, and at once; and of all together, with room for refusals. A call takes two
/// leases (more with video), each of which is latched a few times, renewed and closed.
pub(super) fn buckets(now: Instant, bounds: &Bounds) -> (BTreeMap<&'static str, Bucket>, Bucket) {
    let open = bounds.call_rate.saturating_mul(4).max(200);
    let of_calls = bounds.calls.saturating_mul(8);
    let rates = [
        ("listen", 20, 64),
        ("open-media", open, open * 2),
        ("latch-media", open * 4, open * 8),
        ("renew-media", open * 4, of_calls.max(open * 8)),
        // Closing is never refused for its rate before it is a flood: it takes rights away.
        ("close-media", open * 8, of_calls.max(open * 16)),
        // All at once, after this process began anew.
        ("adopt-media", open, of_calls.max(open * 2)),
        ("connect", 20, 64),
        ("ban", 100, 500),
        // In batches; the sbc has one under way at a time.
        ("keep-bindings", 100, 200),
        // All at once, after the sbc began anew.
        ("recall-bindings", 100, bounds.registrations / 16 + 50),
        ("health", 200, 400),
    ];
    let (per_second, burst) = rates.iter().fold(
        (0_u32, 0_u32),
        |(all_rates, all_bursts), (_, rate, burst)| {
            (
                all_rates.saturating_add(*rate),
                all_bursts.saturating_add(*burst),
            )
        },
    );
    let each = rates
        .into_iter()
        .map(|(kind, per_second, burst)| (kind, Bucket::new(now, per_second, burst)));
    (each.collect(), Bucket::new(now, per_second, burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_that_hold_sockets_may_ask_anything() {
        let health = ToBroker::Health { sequence: 1 };
        let may = Role::ALL.map(|role| (role, may_ask(role, &health)));
        let asking: Vec<Role> = may
            .into_iter()
            .filter(|(_, may)| *may)
            .map(|(role, _)| role)
            .collect();
        assert_eq!(
            asking,
            [Role::Dhcp, Role::Sbc, Role::Time, Role::Management]
        );
    }
}
