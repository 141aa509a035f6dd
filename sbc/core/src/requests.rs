//! Requests to the firewall that are under way, and what each is for.

use std::collections::BTreeMap;

use broker_proto::{
    RequestId,
    settings::{Transport, ZoneId},
};
use sbc_media::relay::Side;

/// What an answer of the firewall is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A listener's sockets.
    Listen(ZoneId, Transport, u16),
    /// Media sockets of a call: of which stream, on which leg.
    OpenMedia {
        /// Of the call.
        call: u64,
        /// Index of the media line.
        line: usize,
        /// Of the leg.
        side: Side,
    },
    /// A pinhole of a call set anew.
    LatchMedia {
        /// Of the call.
        call: u64,
    },
    /// A lease of a call pushed out.
    RenewMedia {
        /// Of the call.
        call: u64,
    },
    /// A lease given back.
    CloseMedia,
    /// A connection to a trunk or registrar.
    Connect,
    /// Bindings handed over to the firewall.
    KeepBindings,
    /// Bindings that an earlier life left.
    RecallBindings,
    /// A socket to the collector of captured messages.
    Collector,
    /// A socket for one question to a name server.
    NameServer,
}

impl Purpose {
    /// Stable word for counters and logs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Listen(..) => "listen",
            Self::OpenMedia { .. } => "open-media",
            Self::LatchMedia { .. } => "latch-media",
            Self::RenewMedia { .. } => "renew-media",
            Self::CloseMedia => "close-media",
            Self::Connect => "connect",
            Self::KeepBindings => "keep-bindings",
            Self::RecallBindings => "recall-bindings",
            Self::Collector => "collector",
            Self::NameServer => "name-server",
        }
    }
}

/// The table. Every answer takes its entry out; a lost channel takes all.
#[derive(Default)]
pub(crate) struct Requests {
    last: u32,
    waiting: BTreeMap<RequestId, Purpose>,
    /// Pinholes under way by call.
    latching: BTreeMap<u64, u32>,
}

impl Requests {
    /// A number for a new request.
    pub(crate) fn issue(&mut self, purpose: Purpose) -> RequestId {
        loop {
            self.last = self.last.wrapping_add(1);
            let id = RequestId(self.last);
            if let std::collections::btree_map::Entry::Vacant(entry) = self.waiting.entry(id) {
                entry.insert(purpose);
                if let Purpose::LatchMedia { call } = purpose {
                    *self.latching.entry(call).or_default() += 1;
                }
                return id;
            }
        }
    }

    /// What the answer with this number is for; `None`: nothing that we asked.
    pub(crate) fn answered(&mut self, id: RequestId) -> Option<Purpose> {
        let purpose = self.waiting.remove(&id);
        if let Some(Purpose::LatchMedia { call }) = purpose
            && let Some(count) = self.latching.get_mut(&call)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.latching.remove(&call);
            }
        }
        purpose
    }

    /// Whether a pinhole of a call is asked for and not answered.
    pub(crate) fn is_latching(&self, call: u64) -> bool {
        self.latching.contains_key(&call)
    }

    /// A listener stands: its request is answered.
    pub(crate) fn listening(&mut self, zone: ZoneId, transport: Transport, port: u16) {
        self.waiting
            .retain(|_, purpose| *purpose != Purpose::Listen(zone, transport, port));
    }

    /// Whether a listener has been asked for.
    pub(crate) fn listens(&self, zone: ZoneId, transport: Transport, port: u16) -> bool {
        self.waiting
            .values()
            .any(|purpose| *purpose == Purpose::Listen(zone, transport, port))
    }

    /// All that will not be answered any more.
    pub(crate) fn all_lost(&mut self) -> BTreeMap<RequestId, Purpose> {
        self.latching.clear();
        std::mem::take(&mut self.waiting)
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}
