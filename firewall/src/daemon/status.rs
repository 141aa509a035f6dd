//! Answers management: counters, bans, drops. Everything here only reads, but for `Unban` and the laboratory's `Reset`.

use std::time::Instant;

use broker_proto::status::{FromStatus, ToStatus};

use super::drops::Drops;
use crate::broker::{Broker, kernel::Kernel};

/// Most counters in one answer.
const MAX_COUNTERS: usize = 512;

/// The answer to a request.
pub(super) fn answer<K: Kernel>(
    now: Instant,
    request: ToStatus,
    broker: &mut Broker<K>,
    drops: &mut Drops,
) -> FromStatus {
    match request {
        ToStatus::Counters { id } => {
            let mut counters = broker.counters();
            counters.extend(drops.list(now).into_iter().map(|drop| {
                let name = format!(
                    "firewall_drops_total{{reason=\"{}\",zone=\"{}\"}}",
                    drop.reason, drop.zone
                );
                (name, drop.count)
            }));
            counters.truncate(MAX_COUNTERS);
            FromStatus::Counters { id, counters }
        }
        ToStatus::Bans { id, offset } => {
            let (bans, more) = broker.bans(now, offset);
            FromStatus::Bans { id, bans, more }
        }
        ToStatus::Unban { id, key } => {
            if broker.unban(now, &key) {
                FromStatus::Done { id }
            } else {
                FromStatus::Refused { id }
            }
        }
        ToStatus::Drops { id } => FromStatus::Drops {
            id,
            drops: drops.list(now),
        },
        ToStatus::Reset { id } if broker.is_lab() => {
            broker.reset(now);
            drops.zero();
            FromStatus::Done { id }
        }
        ToStatus::Reset { id }
        | ToStatus::Calls { id, .. }
        | ToStatus::Ladder { id, .. }
        | ToStatus::Processes { id } => FromStatus::Refused { id },
    }
}
