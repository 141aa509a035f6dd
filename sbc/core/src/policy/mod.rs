//! What may pass between two peers besides a call itself: RFC 3323, 3325 and the allow-lists of the configuration. Asked
//! by whoever builds a message for one side out of what came from the other.
//!
//! A peer has the first policy of the configuration that names it; what that leaves out, and every peer without one, has
//! the values built in for its kind. Nothing here copies text: each field crosses as its typed parts.
//!
//! | module | noun |
//! |---|---|
//! | `fields` | header fields of one message on their way to the other side |
//! | `identity` | addresses in them |
//! | `privacy` | what a caller wants hidden |
//! | `session_id`, `mediasec` | RFC 7989; RFC 3329 as German carriers want it |
//! | `values` | small fields: Reason, User-to-User, languages and others |
//! | `formats`, `parameters` | codecs and what a description says about them |
//! | `plain` | text that people read |

pub(crate) mod fields;
pub(crate) mod formats;
pub(crate) mod identity;
pub(crate) mod mediasec;
mod parameters;
pub(crate) mod plain;
pub(crate) mod privacy;
pub(crate) mod session_id;
pub(crate) mod values;

use broker_proto::{
    policy::{
        AddedField, AddressField, EventPackage, InfoKind, Party, Policy, PolicyField, Rewrite,
        Transfer,
    },
    settings::ZoneId,
};

use crate::surroundings::{Peer, Surroundings};

/// What a peer is to its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Registrar,
    Trunk,
    /// A host of the organisation, or a registered phone.
    Phone,
}

/// The rules for one peer.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    kind: Kind,
    policy: Option<&'a Policy>,
}

const FROM_REGISTRAR: [PolicyField; 6] = [
    PolicyField::PAssertedIdentity,
    PolicyField::Privacy,
    PolicyField::Reason,
    PolicyField::AcceptLanguage,
    PolicyField::Priority,
    PolicyField::PEarlyMedia,
];
const FROM_TRUNK: [PolicyField; 5] = [
    PolicyField::PAssertedIdentity,
    PolicyField::Privacy,
    PolicyField::Reason,
    PolicyField::AcceptLanguage,
    PolicyField::Priority,
];
const FROM_PHONE: [PolicyField; 5] = [
    PolicyField::PPreferredIdentity,
    PolicyField::Privacy,
    PolicyField::Reason,
    PolicyField::AcceptLanguage,
    PolicyField::Priority,
];
const TO_REGISTRAR: [PolicyField; 6] = [
    PolicyField::PAssertedIdentity,
    PolicyField::PPreferredIdentity,
    PolicyField::Privacy,
    PolicyField::Reason,
    PolicyField::AcceptLanguage,
    PolicyField::Priority,
];
const TO_TRUNK: [PolicyField; 4] = [
    PolicyField::PAssertedIdentity,
    PolicyField::Privacy,
    PolicyField::Reason,
    PolicyField::Priority,
];
const TO_PHONE: [PolicyField; 4] = [
    PolicyField::PAssertedIdentity,
    PolicyField::Privacy,
    PolicyField::Reason,
    PolicyField::Priority,
];
const ALL_EVENTS: [EventPackage; 4] = [
    EventPackage::MessageSummary,
    EventPackage::Presence,
    EventPackage::Dialog,
    EventPackage::Conference,
];
const INFO: [InfoKind; 2] = [InfoKind::Dtmf, InfoKind::PictureFastUpdate];
/// RFC 3428 §8: at most this over transports without congestion control.
const MESSAGE_OCTETS: u32 = 1_300;

/// The rules for a peer in a zone.
pub(crate) fn rules(surroundings: &Surroundings, peer: Peer, zone: ZoneId) -> Rules<'_> {
    let kind = match peer {
        Peer::Registrar => Kind::Registrar,
        Peer::Trunk(_) => Kind::Trunk,
        Peer::Internal | Peer::Stranger => Kind::Phone,
    };
    let means = |party: &Party| match (party, peer) {
        (Party::Registrar, Peer::Registrar) => true,
        (Party::Trunk(name), Peer::Trunk(index)) => surroundings
            .trunk(index)
            .is_some_and(|trunk| trunk.name == *name),
        (Party::Zone(have), Peer::Internal | Peer::Stranger) => *have == zone,
        _ => false,
    };
    let policy = surroundings
        .settings()
        .policies
        .iter()
        .find(|policy| policy.parties.iter().any(means));
    Rules { kind, policy }
}

impl<'a> Rules<'a> {
    fn said<T: ?Sized>(&self, value: impl Fn(&'a Policy) -> Option<&'a T>, usual: &'a T) -> &'a T {
        self.policy.and_then(value).unwrap_or(usual)
    }

    /// Whether it belongs to our trust domain (RFC 3325 §4). The PBX does unless told otherwise, nobody else does.
    pub(crate) fn is_trusted(&self) -> bool {
        let usual = self.kind == Kind::Registrar;
        self.policy
            .and_then(|policy| policy.trusted)
            .unwrap_or(usual)
    }

    /// Whether a field is taken from it.
    pub(crate) fn accepts(&self, field: PolicyField) -> bool {
        let usual: &[PolicyField] = match self.kind {
            Kind::Registrar => &FROM_REGISTRAR,
            Kind::Trunk => &FROM_TRUNK,
            Kind::Phone => &FROM_PHONE,
        };
        // RFC 3325 §5: an asserted identity of somebody who is not trusted says nothing.
        (field != PolicyField::PAssertedIdentity || self.is_trusted())
            && self
                .said(|policy| policy.accept.as_deref(), usual)
                .contains(&field)
    }

    /// Whether a field is given to it.
    pub(crate) fn sends(&self, field: PolicyField) -> bool {
        let usual: &[PolicyField] = match self.kind {
            Kind::Registrar => &TO_REGISTRAR,
            Kind::Trunk => &TO_TRUNK,
            Kind::Phone => &TO_PHONE,
        };
        // RFC 3325 §5 and §9.2: never out of the trust domain.
        let identity = matches!(
            field,
            PolicyField::PAssertedIdentity | PolicyField::PPreferredIdentity
        );
        (!identity || self.is_trusted())
            && self
                .said(|policy| policy.send.as_deref(), usual)
                .contains(&field)
    }

    /// Fields of our own for it.
    pub(crate) fn added(&self) -> &'a [AddedField] {
        self.policy.map_or(&[], |policy| &policy.add)
    }

    /// How an address for it is changed.
    pub(crate) fn rewrite(&self, field: AddressField) -> Option<&'a Rewrite> {
        let mut rewrites = self.policy?.rewrite.iter();
        rewrites.find(|rewrite| rewrite.field == field)
    }

    /// Whether an event package passes from or to it. Carriers have none unless the configuration says so.
    pub(crate) fn event(&self, package: EventPackage) -> bool {
        let usual: &[EventPackage] = match self.kind {
            Kind::Trunk => &[],
            _ => &ALL_EVENTS,
        };
        self.said(|policy| policy.events.as_deref(), usual)
            .contains(&package)
    }

    /// The event packages that pass.
    pub(crate) fn events(&self) -> impl Iterator<Item = EventPackage> + '_ {
        ALL_EVENTS
            .into_iter()
            .filter(|package| self.event(*package))
    }

    /// Whether PUBLISH passes; it does not unless the configuration says so.
    pub(crate) fn publishes(&self) -> bool {
        self.policy
            .and_then(|policy| policy.publish)
            .unwrap_or(false)
    }

    /// Octets of a MESSAGE from or to it; 0: none passes.
    pub(crate) fn message_octets(&self) -> u32 {
        let usual = match self.kind {
            Kind::Trunk => 0,
            _ => MESSAGE_OCTETS,
        };
        self.policy
            .and_then(|policy| policy.message_octets)
            .unwrap_or(usual)
    }

    /// Whether INFO of that kind passes.
    pub(crate) fn info(&self, kind: &InfoKind) -> bool {
        self.said(|policy| policy.info.as_deref(), &INFO[..])
            .contains(kind)
    }

    /// The Info-Package of that name, as the configuration spells it.
    pub(crate) fn info_package(&self, name: &str) -> Option<&'a str> {
        self.said(|policy| policy.info.as_deref(), &INFO[..])
            .iter()
            .find_map(|kind| match kind {
                InfoKind::Package(have) if have.eq_ignore_ascii_case(name) => Some(have.as_str()),
                _ => None,
            })
    }

    /// What is told on for a final status that it answered with.
    pub(crate) fn told(&self, status: u16) -> u16 {
        let map = self.policy.map_or(&[][..], |policy| &policy.response_map);
        map.iter()
            .find(|(from, _)| *from == status)
            .map_or(status, |(_, to)| *to)
    }

    /// Its policy's codecs.
    pub(crate) fn codecs(&self) -> formats::Codecs<'a> {
        match self.policy {
            Some(policy) => formats::Codecs {
                audio: &policy.audio_codecs,
                video: &policy.video_codecs,
                denied: &policy.denied_codecs,
            },
            None => formats::Codecs::default(),
        }
    }

    /// What becomes of its REFER. Carriers transfer nothing unless the configuration says so.
    pub(crate) fn transfer(&self) -> Transfer {
        let usual = match self.kind {
            Kind::Registrar => Transfer::Resolve,
            Kind::Phone => Transfer::Pass,
            Kind::Trunk => Transfer::Refuse,
        };
        self.policy
            .and_then(|policy| policy.transfer)
            .unwrap_or(usual)
    }

    /// Whether RFC 3329 with mediasec is spoken to it.
    pub(crate) fn mediasec(&self) -> bool {
        self.policy.is_some_and(|policy| policy.mediasec)
    }
}
