//! What happens, as operators name it: one stream of typed events, each in the journal, in the process's log and among the
//! counters. The records of a call belong to the same stream: a call's attempt, start and end are its records themselves
//! (`broker_proto::journal::CallPhase::event`), which no rate holds back.
//!
//! Whoever sends rubbish must not fill the journal: for each name and reason so many are written and the rest is counted,
//! and how many were left out is told with the next one, or by [`Context::tell_suppressed`] once the flood is over. No
//! event carries a secret: no credentials, no keys, and numbers without the digits dialled behind them ([`number`]).

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use broker_proto::journal::Severity;

use crate::{
    admission::{Bucket, Rate},
    context::Context,
    trace::number,
    transport::{self, Flow},
};

/// Something that happened. Borrowed: most of what happens in a flood is counted and never written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// A known peer's INVITE was refused before it became a call.
    CallRefused {
        /// By which its ladder is asked for; `None`: none is kept.
        id: Option<u64>,
        flow: &'a Flow,
        calling: &'a str,
        called: &'a str,
        call_id: &'a str,
        status: u16,
        reason: &'static str,
    },
    /// Any other request of a known peer was refused.
    Refused {
        flow: &'a Flow,
        method: &'static str,
        status: u16,
        reason: &'static str,
    },
    /// A message was passed over in silence.
    Drop {
        flow: &'a Flow,
        reason: &'static str,
    },
    /// A limit is reached: of the whole, a source, or the subject that is named.
    Limit {
        flow: &'a Flow,
        reason: &'static str,
        subject: Option<(&'static str, &'a str)>,
    },
    /// A phone is registered that was not before.
    RegNew { flow: &'a Flow, user: &'a str },
    /// A registration is over.
    RegDel {
        flow: &'a Flow,
        user: &'a str,
        reason: &'static str,
    },
    /// A registration was refused, by us or by the registrar.
    RegRefused {
        flow: &'a Flow,
        user: &'a str,
        reason: &'static str,
    },
    /// The registrar did not believe a password.
    AuthFailed { flow: &'a Flow, user: &'a str },
    /// A trunk's address or the registrar does not answer any more.
    PeerDown {
        peer: &'a str,
        address: Option<SocketAddr>,
    },
    /// It answers again.
    PeerUp {
        peer: &'a str,
        address: Option<SocketAddr>,
        seconds_away: Option<u64>,
    },
    /// We are registered at a trunk.
    TrunkRegistered { trunk: &'a str },
    /// We are not.
    TrunkRegistrationFailed {
        trunk: &'a str,
        reason: &'static str,
    },
    /// A peer that is known by name is at these places now.
    NameResolved {
        peer: &'a str,
        host: &'a str,
        transport: &'static str,
        places: &'a str,
    },
    /// Name servers do not say where it is, or say that it is nowhere.
    NameUnresolved {
        peer: &'a str,
        host: &'a str,
        reason: &'static str,
        /// What was known stays in use.
        stays: bool,
    },
    /// They say that it is at places where it may not be.
    NameRefused {
        peer: &'a str,
        host: &'a str,
        places: &'a str,
    },
}

/// Honest and many: every phone after a power cut.
const MANY: Rate = Rate {
    per_second: 50,
    burst: 1_000,
};
/// What a known peer may cause.
const SOME: Rate = Rate {
    per_second: 20,
    burst: 200,
};
/// What anybody may cause.
const FEW: Rate = Rate {
    per_second: 1,
    burst: 20,
};

impl Event<'_> {
    /// Its name in the stream.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::CallRefused { .. } => "call-refused",
            Self::Refused { .. } => "refused",
            Self::Drop { .. } => "drop",
            Self::Limit { .. } => "limit",
            Self::RegNew { .. } => "reg-new",
            Self::RegDel { .. } => "reg-del",
            Self::RegRefused { .. } => "reg-refused",
            Self::AuthFailed { .. } => "auth-failed",
            Self::PeerDown { .. } => "peer-down",
            Self::PeerUp { .. } => "peer-up",
            Self::TrunkRegistered { .. } => "trunk-registered",
            Self::TrunkRegistrationFailed { .. } => "trunk-registration-failed",
            Self::NameResolved { .. } => "name-resolved",
            Self::NameUnresolved { .. } => "name-unresolved",
            Self::NameRefused { .. } => "name-outside-networks",
        }
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::CallRefused { reason, .. }
            | Self::Refused { reason, .. }
            | Self::Drop { reason, .. }
            | Self::Limit { reason, .. }
            | Self::RegDel { reason, .. }
            | Self::RegRefused { reason, .. }
            | Self::TrunkRegistrationFailed { reason, .. }
            | Self::NameUnresolved { reason, .. } => reason,
            Self::RegNew { .. }
            | Self::AuthFailed { .. }
            | Self::PeerDown { .. }
            | Self::PeerUp { .. }
            | Self::TrunkRegistered { .. }
            | Self::NameResolved { .. }
            | Self::NameRefused { .. } => "",
        }
    }

    const fn severity(&self) -> Severity {
        match self {
            Self::RegNew { .. } | Self::RegDel { .. } | Self::TrunkRegistered { .. } => {
                Severity::Info
            }
            Self::PeerDown { .. }
            | Self::TrunkRegistrationFailed { .. }
            | Self::NameUnresolved { .. }
            | Self::NameRefused { .. } => Severity::Warning,
            _ => Severity::Notice,
        }
    }

    const fn rate(&self) -> Rate {
        match self {
            Self::RegNew { .. }
            | Self::RegDel { .. }
            | Self::PeerDown { .. }
            | Self::PeerUp { .. }
            | Self::TrunkRegistered { .. }
            | Self::TrunkRegistrationFailed { .. } => MANY,
            Self::CallRefused { .. } => SOME,
            // Name servers are strangers.
            Self::NameResolved { .. } | Self::NameUnresolved { .. } | Self::NameRefused { .. } => {
                FEW
            }
            Self::Refused { .. }
            | Self::Drop { .. }
            | Self::Limit { .. }
            | Self::RegRefused { .. }
            | Self::AuthFailed { .. } => FEW,
        }
    }

    const fn flow(&self) -> Option<&Flow> {
        match self {
            Self::CallRefused { flow, .. }
            | Self::Refused { flow, .. }
            | Self::Drop { flow, .. }
            | Self::Limit { flow, .. }
            | Self::RegNew { flow, .. }
            | Self::RegDel { flow, .. }
            | Self::RegRefused { flow, .. }
            | Self::AuthFailed { flow, .. } => Some(flow),
            Self::PeerDown { .. }
            | Self::PeerUp { .. }
            | Self::TrunkRegistered { .. }
            | Self::TrunkRegistrationFailed { .. }
            | Self::NameResolved { .. }
            | Self::NameUnresolved { .. }
            | Self::NameRefused { .. } => None,
        }
    }

    /// What it says besides its reason and the way that it came.
    fn details(&self) -> Vec<(&'static str, String)> {
        let at = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        let mut details = Vec::new();
        match *self {
            Self::CallRefused {
                id,
                calling,
                called,
                call_id,
                status,
                ..
            } => {
                details.extend(id.map(|id| ("id", id.to_string())));
                details.extend([
                    ("calling", number(calling)),
                    ("called", number(called)),
                    ("call_id", call_id.to_owned()),
                    ("status", status.to_string()),
                ]);
            }
            Self::Refused { method, status, .. } => details.extend([
                ("method", method.to_owned()),
                ("status", status.to_string()),
            ]),
            Self::Limit {
                subject: Some((word, name)),
                ..
            } => details.extend([("of", word.to_owned()), ("name", number(name))]),
            Self::RegNew { user, .. }
            | Self::RegDel { user, .. }
            | Self::RegRefused { user, .. }
            | Self::AuthFailed { user, .. } => details.push(("user", number(user))),
            Self::PeerDown { peer, address } => {
                details.push(("peer", peer.to_owned()));
                details.extend(at(address).map(|address| ("address", address)));
            }
            Self::PeerUp {
                peer,
                address,
                seconds_away,
            } => {
                details.push(("peer", peer.to_owned()));
                details.extend(at(address).map(|address| ("address", address)));
                details.extend(seconds_away.map(|seconds| ("seconds_away", seconds.to_string())));
            }
            Self::TrunkRegistered { trunk } | Self::TrunkRegistrationFailed { trunk, .. } => {
                details.push(("trunk", trunk.to_owned()));
            }
            Self::NameResolved {
                peer,
                host,
                transport,
                places,
            } => details.extend([
                ("peer", peer.to_owned()),
                ("host", host.to_owned()),
                ("transport", transport.to_owned()),
                ("addresses", places.to_owned()),
            ]),
            Self::NameUnresolved {
                peer, host, stays, ..
            } => details.extend([
                ("peer", peer.to_owned()),
                ("host", host.to_owned()),
                ("known_places_stay", stays.to_string()),
            ]),
            Self::NameRefused { peer, host, places } => details.extend([
                ("peer", peer.to_owned()),
                ("host", host.to_owned()),
                ("addresses", places.to_owned()),
            ]),
            Self::Drop { .. } | Self::Limit { subject: None, .. } => {}
        }
        details
    }
}

/// Events of one name and reason.
struct Kind {
    severity: Severity,
    rate: Rate,
    count: u64,
    bucket: Bucket,
    suppressed: u64,
}

/// How often what happened. Bounded: names and reasons come from the code.
#[derive(Default)]
pub(crate) struct Events {
    kinds: BTreeMap<(&'static str, &'static str), Kind>,
    /// Some were left out and nobody was told.
    suppressing: bool,
}

impl Events {
    /// Some were left out of the journal, and how many is still to be told.
    pub(crate) const fn is_suppressing(&self) -> bool {
        self.suppressing
    }

    /// Counters for the metrics.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        let mut list = Vec::new();
        for ((name, reason), kind) in &self.kinds {
            let labels = format!("event=\"{name}\",reason=\"{reason}\"");
            list.push((format!("events_total{{{labels}}}"), kind.count));
        }
        list
    }

    /// Back to nothing.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A call's record was written, which is an event too.
    pub(crate) fn recorded(&mut self, now: Instant, name: &'static str, reason: &'static str) {
        let kind = self.kind(now, (name, reason), (Severity::Info, MANY));
        kind.count = kind.count.saturating_add(1);
    }

    fn kind(
        &mut self,
        now: Instant,
        key: (&'static str, &'static str),
        (severity, rate): (Severity, Rate),
    ) -> &mut Kind {
        self.kinds.entry(key).or_insert_with(|| Kind {
            severity,
            rate,
            count: 0,
            bucket: Bucket::full(rate, now),
            suppressed: 0,
        })
    }

    /// Count one; if it is to be written, how many were left out before it.
    fn admit(&mut self, now: Instant, event: &Event<'_>) -> Option<u64> {
        let rate = event.rate();
        let key = (event.name(), event.reason());
        let kind = self.kind(now, key, (event.severity(), rate));
        kind.count = kind.count.saturating_add(1);
        if kind.bucket.take(rate, now) {
            return Some(std::mem::take(&mut kind.suppressed));
        }
        kind.suppressed = kind.suppressed.saturating_add(1);
        self.suppressing = true;
        None
    }
}

impl Context {
    /// Something happened: counted always, written as far as its rate goes.
    pub(crate) fn event(&mut self, event: &Event<'_>) {
        let Some(suppressed) = self.events.admit(self.now, event) else {
            self.counters
                .count("events_suppressed_total", "event", event.name());
            return;
        };
        let mut fields = Vec::with_capacity(8);
        if !event.reason().is_empty() {
            fields.push(("reason", event.reason().to_owned()));
        }
        if let Some(flow) = event.flow() {
            fields.push(("zone", self.zone_name(flow.zone)));
            fields.push(("remote", flow.peer.to_string()));
            fields.push(("transport", transport::word(flow.transport).to_owned()));
        }
        fields.extend(event.details());
        if suppressed > 0 {
            fields.push(("suppressed", suppressed.to_string()));
        }
        self.record(event.severity(), event.name(), fields);
    }

    /// Tell of events that were left out since the last one of their kind, if nothing came after them.
    pub(crate) fn tell_suppressed(&mut self) {
        let now = self.now;
        let mut told = Vec::new();
        self.events.suppressing = false;
        for ((name, reason), kind) in &mut self.events.kinds {
            if kind.suppressed == 0 {
                continue;
            }
            if kind.bucket.take(kind.rate, now) {
                let count = std::mem::take(&mut kind.suppressed);
                told.push((kind.severity, *name, *reason, count));
            } else {
                self.events.suppressing = true;
            }
        }
        for (severity, name, reason, count) in told {
            let fields = vec![
                ("reason", reason.to_owned()),
                ("suppressed", count.to_string()),
            ];
            self.record(severity, name, fields);
        }
    }
}
