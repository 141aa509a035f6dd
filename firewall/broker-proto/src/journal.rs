//! Records for the journal. The journal stamps time and the sender's role itself; the sbc can only append.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::RequestId;

/// To the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToJournal {
    /// Append; not answered. Every role may.
    Append(Record),
    /// Read back; management and init only.
    Query {
        /// Pairs the answer.
        id: RequestId,
        /// Records with a higher sequence number than this.
        after: u64,
        /// At most this many (the journal sends fewer if a message would grow too long).
        limit: u16,
        /// Which ones.
        wanted: Wanted,
    },
}

/// Which records are wanted; the default: all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Only those of these names ([`CallPhase::event`] of a call, `code` of an event); empty: any. At most 16 are heeded.
    pub names: Vec<String>,
    /// Only those from this moment on, in ms since the Unix epoch.
    pub since_unix_ms: u64,
    /// The newest ones, not the oldest; in the order of time all the same.
    pub newest: bool,
}

/// From the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromJournal {
    /// Answer to `Query`: JSON lines as on disk, oldest first.
    Records {
        /// Of the request.
        id: RequestId,
        /// One JSON object each.
        lines: Vec<String>,
        /// Sequence number of the newest record on disk.
        newest: u64,
    },
    /// The role may not ask this.
    Refused {
        /// Of the request.
        id: RequestId,
    },
}

/// Severity as RFC 5424 §6.2.1 counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Action must be taken.
    Alert,
    /// An error.
    Error,
    /// Out of the ordinary.
    Warning,
    /// Normal but of note.
    Notice,
    /// Information.
    Info,
}

/// One record. Text fields are cut to 1,024 octets and escaped by the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Something happened.
    Event {
        /// How grave.
        severity: Severity,
        /// Stable word for machines, `ruleset-committed`.
        code: String,
        /// Details in order.
        fields: Vec<(String, String)>,
    },
    /// A call began, went on, or ended.
    Call(Box<CallRecord>),
}

/// Which of a call's records this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallPhase {
    /// Somebody calls, and a place was found to try.
    Attempt,
    /// Answered.
    Start,
    /// Still going on.
    Interim,
    /// Over.
    End,
}

impl CallPhase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Attempt, Self::Start, Self::Interim, Self::End];

    /// Name of the event that a record of this phase is, as operators know it.
    #[must_use]
    pub const fn event(self) -> &'static str {
        match self {
            Self::Attempt => "call-attempt",
            Self::Start => "call-start",
            Self::Interim => "call-interim",
            Self::End => "call-end",
        }
    }

    /// Stable word in the record.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Start => "start",
            Self::Interim => "interim",
            Self::End => "end",
        }
    }
}

/// One leg of a call in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegRecord {
    /// Zone's name.
    pub zone: String,
    /// Signalling address of the far end.
    pub remote: SocketAddr,
    /// `udp`, `tcp`, `tls`, `ws`, `wss`.
    pub transport: String,
    /// Call-ID on this leg.
    pub call_id: String,
    /// What was agreed on for the media of this leg, `PCMA/8000,telephone-event/8000`; empty before an answer.
    pub codecs: String,
    /// RTP and RTCP packets received on this leg.
    pub packets_received: u64,
    /// RTP and RTCP packets sent on this leg.
    pub packets_sent: u64,
    /// Lost RTP packets by sequence number on what was received.
    pub packets_lost: u64,
    /// Octets of payload received.
    pub octets_received: u64,
    /// Interarrival jitter of what was received, in µs (RFC 3550 §6.4.1).
    pub jitter_us: u32,
    /// How what was received sounded at best, as a mean opinion score in hundredths (ITU-T G.107 from loss and jitter); 0
    /// if it cannot be told.
    pub mos_hundredths: u16,
}

/// A call for the record (calling, called, start, duration, type, why it ended).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The product's own name of the call, the same in all its records.
    pub id: u64,
    /// Which record of the call.
    pub phase: CallPhase,
    /// User part of From.
    pub calling: String,
    /// User part of the Request-URI.
    pub called: String,
    /// Route by name, empty if none.
    pub route: String,
    /// When the INVITE came, in ms since the Unix epoch.
    pub invited_unix_ms: u64,
    /// When it was answered.
    pub answered_unix_ms: Option<u64>,
    /// When it ended.
    pub ended_unix_ms: Option<u64>,
    /// ms since the INVITE.
    pub since_invite_ms: u64,
    /// ms since the answer; `None`: never answered.
    pub duration_ms: Option<u64>,
    /// Final status code of the INVITE, 0 while there is none.
    pub status: u16,
    /// Who or what ended it: `caller`, `callee`, `media-timeout`, `limit`, `refused`, `shutdown`, …; empty while it lasts.
    pub ended_by: String,
    /// The Reason header field (RFC 3326) of whoever ended it, empty if there was none.
    pub reason: String,
    /// Media, `audio` or `audio,video`; empty before an answer.
    pub media: String,
    /// Leg A (caller), then leg B if there was one.
    pub legs: Vec<LegRecord>,
}
