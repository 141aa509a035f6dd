//! What management asks of the running processes: live calls of the sbc, bans and drops of the firewall, processes of init.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::RequestId;

/// From management.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToStatus {
    /// To the sbc: calls from the `offset`-th on, in order of their names.
    Calls {
        /// Pairs the answer.
        id: RequestId,
        /// How many to pass over.
        offset: u32,
    },
    /// To the sbc: what happened in a call that lives or ended lately, from the `offset`-th step on.
    Ladder {
        /// Pairs the answer.
        id: RequestId,
        /// The product's own name of the call.
        call: u64,
        /// How many steps to pass over.
        offset: u32,
    },
    /// To the sbc and the firewall: named counters for `/metrics`.
    Counters {
        /// Pairs the answer.
        id: RequestId,
    },
    /// To the firewall: bans from the `offset`-th on.
    Bans {
        /// Pairs the answer.
        id: RequestId,
        /// How many to pass over.
        offset: u32,
    },
    /// To the firewall: lift a ban by the `key` text of its `BanInfo`.
    Unban {
        /// Pairs the answer.
        id: RequestId,
        /// As listed.
        key: String,
    },
    /// To the firewall: drops by reason and zone.
    Drops {
        /// Pairs the answer.
        id: RequestId,
    },
    /// To init: the processes.
    Processes {
        /// Pairs the answer.
        id: RequestId,
    },
    /// To sbc and firewall, only if the configuration says `lab = true`: clear bans, counters, registrations.
    Reset {
        /// Pairs the answer.
        id: RequestId,
    },
}

/// To management.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromStatus {
    /// Answer to `Calls`.
    Calls {
        /// Of the request.
        id: RequestId,
        /// At most 64.
        calls: Vec<CallInfo>,
        /// There are more.
        more: bool,
    },
    /// Answer to `Ladder`; `Refused` if no such call is kept.
    Ladder {
        /// Of the request.
        id: RequestId,
        /// At most 32, in order.
        steps: Vec<LadderStep>,
        /// There are more.
        more: bool,
    },
    /// Answer to `Counters`.
    Counters {
        /// Of the request.
        id: RequestId,
        /// Name with Prometheus labels (`sip_requests_total{method="INVITE"}`), and value. At most 512.
        counters: Vec<(String, u64)>,
    },
    /// Answer to `Bans`.
    Bans {
        /// Of the request.
        id: RequestId,
        /// At most 128.
        bans: Vec<BanInfo>,
        /// There are more.
        more: bool,
    },
    /// Answer to `Drops`.
    Drops {
        /// Of the request.
        id: RequestId,
        /// One per reason and zone.
        drops: Vec<DropInfo>,
    },
    /// Answer to `Processes`.
    Processes {
        /// Of the request.
        id: RequestId,
        /// One each.
        processes: Vec<ProcessInfo>,
    },
    /// Answer to `Unban`, `Reset`.
    Done {
        /// Of the request.
        id: RequestId,
    },
    /// Not known, not permitted.
    Refused {
        /// Of the request.
        id: RequestId,
    },
}

/// One leg of a live call (lab contract §4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegInfo {
    /// Zone's name.
    pub zone: String,
    /// Signalling address of the far end.
    pub remote: SocketAddr,
    /// `udp`, `tcp`, …
    pub transport: String,
    /// Call-ID on this leg.
    pub call_id: String,
    /// Own media ports (RTP, RTCP, per stream).
    pub media_ports: Vec<u16>,
}

/// A live call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallInfo {
    /// The product's own name of it.
    pub id: u64,
    /// `trying`, `ringing`, `answered`, `ending`.
    pub state: String,
    /// User part of From.
    pub calling: String,
    /// User part of the Request-URI.
    pub called: String,
    /// ms since the INVITE.
    pub age_ms: u64,
    /// Caller's, then callee's.
    pub legs: Vec<LegInfo>,
}

/// What a step of a ladder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LadderKind {
    /// A message that came in.
    Received,
    /// A message that left.
    Sent,
    /// Something that was decided.
    Decision,
}

/// One step of a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LadderStep {
    /// ms since the Unix epoch.
    pub unix_ms: u64,
    /// What it is.
    pub kind: LadderKind,
    /// Zone's name; empty of a decision.
    pub zone: String,
    /// The far end; none of a decision.
    pub remote: Option<SocketAddr>,
    /// `udp`, `tcp`, …; empty of a decision.
    pub transport: String,
    /// The message without its secrets, or the decision.
    pub text: String,
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanInfo {
    /// Text form of the key, `198.51.100.66` or `198.51.100.66:5060`.
    pub key: String,
    /// Why.
    pub reason: String,
    /// Who asked for it and how often.
    pub evidence: String,
    /// Seconds left.
    pub expires_in_seconds: u32,
}

/// The last packet dropped for a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDrop {
    /// ms since the Unix epoch.
    pub unix_ms: u64,
    /// Source address, and port if any.
    pub source: String,
    /// Destination address, and port if any.
    pub destination: String,
    /// `udp`, `tcp`, `icmp`, `icmpv6`, or a number.
    pub protocol: String,
}

/// Packets dropped for one reason in one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropInfo {
    /// Stable word, `spoofed-source`.
    pub reason: String,
    /// Zone's name, empty if none.
    pub zone: String,
    /// Packets since start or reset.
    pub count: u64,
    /// The last one that was logged.
    pub last: Option<LastDrop>,
}

/// A process of the house.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Role's name.
    pub name: String,
    /// In init's pid namespace; 0 while it does not run.
    pub pid: u32,
    /// Resident set in KiB.
    pub rss_kib: u64,
    /// Open descriptors.
    pub open_fds: u32,
    /// How often it was started again.
    pub restarts: u32,
}
