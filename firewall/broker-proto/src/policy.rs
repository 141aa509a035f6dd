//! What may pass between two peers besides a call itself: header fields, event packages, messages, codecs, status codes.
//! Part of [`crate::settings::Settings`]; the firewall builds it from `gatehouse.toml`, the sbc applies it.
//!
//! Everything is closed unless named. A value that is left out (`None`) is the one built into the sbc for that kind of
//! peer.

use serde::{Deserialize, Serialize};

use crate::settings::ZoneId;

/// Whom a policy is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Party {
    /// Everybody in that zone who is neither a trunk nor the PBX.
    Zone(ZoneId),
    /// The PBX.
    Registrar,
    /// The trunk of that name.
    Trunk(String),
}

/// A header field that a policy may let pass; each crosses as its typed parts, never as text that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PolicyField {
    /// RFC 3325; between trusted peers only.
    PAssertedIdentity,
    /// RFC 3325; to trusted peers only.
    PPreferredIdentity,
    /// RFC 3323.
    Privacy,
    /// RFC 3326: protocol and cause, no text.
    Reason,
    /// RFC 7433.
    UserToUser,
    /// RFC 7989: own halves on each leg.
    SessionId,
    /// RFC 8224 and RFC 8225.
    Identity,
    /// RFC 5806.
    Diversion,
    /// RFC 7044.
    HistoryInfo,
    /// RFC 3261 §20.36.
    Subject,
    /// RFC 3261 §20.17.
    Date,
    /// RFC 3261 §20.25.
    Organization,
    /// RFC 3261 §20.3.
    AcceptLanguage,
    /// RFC 3261 §20.26.
    Priority,
    /// RFC 5009.
    PEarlyMedia,
    /// RFC 7315 §4.4.
    PAccessNetworkInfo,
    /// RFC 4412.
    ResourcePriority,
}

/// Event packages whose bodies can be written anew without an address of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventPackage {
    /// RFC 3842.
    MessageSummary,
    /// RFC 3856.
    Presence,
    /// RFC 4235.
    Dialog,
    /// RFC 4575.
    Conference,
}

/// What an INFO may carry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InfoKind {
    /// `application/dtmf-relay` and `application/dtmf`.
    Dtmf,
    /// `application/media_control+xml` (RFC 5168): a picture is asked for.
    PictureFastUpdate,
    /// An Info-Package (RFC 6086) of that name, with one of the bodies above.
    Package(String),
}

/// A field that is written to a peer with the same value always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Addresses that a rewrite may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AddressField {
    /// From of what is sent to the peer.
    From,
    /// P-Asserted-Identity.
    PAssertedIdentity,
    /// P-Preferred-Identity.
    PPreferredIdentity,
    /// Diversion.
    Diversion,
    /// History-Info.
    HistoryInfo,
}

/// How an address is changed on its way to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// Of which field.
    pub field: AddressField,
    /// The user that stands in the place of the caller's.
    pub user: Option<String>,
    /// The host that stands in the place of our own.
    pub host: Option<String>,
    /// Characters cut from the front of the user.
    pub strip: u8,
    /// Characters put in front afterwards.
    pub prepend: String,
}

/// What becomes of a REFER from a peer (RFC 3515), and whether it may replace a party by Replaces (RFC 3891).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transfer {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes on to the far side of the call, in that side's names; resolved where that side takes none.
    Pass,
    /// The product calls the target with the referrer's rights and joins the legs.
    Resolve,
}

/// A rule for what passes to and from some peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name in the configuration.
    pub name: String,
    /// Whom it is for; empty: nobody.
    pub parties: Vec<Party>,
    /// Whether it belongs to the trust domain of RFC 3325.
    pub trusted: Option<bool>,
    /// Fields taken from it.
    pub accept: Option<Vec<PolicyField>>,
    /// Fields given to it.
    pub send: Option<Vec<PolicyField>>,
    /// Fields of our own given to it in requests that begin something.
    pub add: Vec<AddedField>,
    /// Addresses given to it.
    pub rewrite: Vec<Rewrite>,
    /// Event packages that it may subscribe to or be subscribed at for.
    pub events: Option<Vec<EventPackage>>,
    /// Whether it may send or get PUBLISH.
    pub publish: Option<bool>,
    /// Octets of a MESSAGE from or to it; 0: none passes.
    pub message_octets: Option<u32>,
    /// What INFO may carry from or to it.
    pub info: Option<Vec<InfoKind>>,
    /// Final status codes that it answers with, and what is told instead.
    pub response_map: Vec<(u16, u16)>,
    /// Audio codecs that pass, the preferred first; empty: all that are known.
    pub audio_codecs: Vec<String>,
    /// Video codecs that pass, the preferred first; empty: all that are known.
    pub video_codecs: Vec<String>,
    /// Codecs that never pass.
    pub denied_codecs: Vec<String>,
    /// What becomes of its REFER.
    pub transfer: Option<Transfer>,
    /// RFC 3329 with the mediasec parameter, as German carriers ask for it.
    pub mediasec: bool,
}
