//! Header fields of one message on their way to the other side: read once under the rules of the peer that sent it,
//! written under those of the peer that gets it. RFC 3323, 3325, 3326, 5806, 7044, 7433, 8224.

use broker_proto::policy::{AddressField, PolicyField};
use sbc_sip::{
    Params,
    headers::{
        Date, Field, HeaderName, Headers, Identity as Passport, NameAddr, ResourcePriority,
        TokenValue, UserToUser,
    },
    text::Text,
    uri::{Host, Uri},
};

use super::{
    Rules,
    identity::{Identity, anonymous, changed},
    plain,
    privacy::Privacy,
    values,
};

/// Diversions and steps of a history that cross at most.
const STEPS: usize = 10;
/// Characters of a subject or organisation.
const TEXT: usize = 128;
/// RFC 5806 §4.
const DIVERSION: [(&str, &[&str]); 3] = [
    (
        "reason",
        &[
            "unknown",
            "user-busy",
            "no-answer",
            "unavailable",
            "unconditional",
            "time-of-day",
            "do-not-disturb",
            "deflection",
            "follow-me",
            "out-of-service",
            "away",
        ],
    ),
    ("privacy", &["full", "name", "uri", "off"]),
    ("screen", &["yes", "no"]),
];

/// A diversion or step of a history.
#[derive(Clone, Debug)]
struct Step {
    who: Identity,
    /// Of the field.
    params: Params,
    /// Cause of a history's step (RFC 4458).
    cause: Option<u32>,
    hidden: bool,
}

/// What of a message may cross.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crossing {
    asserted: Vec<Identity>,
    preferred: Vec<Identity>,
    privacy: Privacy,
    /// RFC 3323 was taken from the sender.
    private: bool,
    diversions: Vec<Step>,
    history: Vec<Step>,
    reasons: Vec<TokenValue>,
    passports: Vec<Passport>,
    user_to_user: Vec<UserToUser>,
    priorities: Vec<ResourcePriority>,
    date: Option<Date>,
    /// Fields that are text to us, written anew, each with its place in the allow-list.
    texts: Vec<(PolicyField, HeaderName, String)>,
}

impl Crossing {
    /// What may cross of a message from a peer with these rules.
    pub(crate) fn of(from: &Rules<'_>, headers: &Headers) -> Self {
        let mut crossing = Self::default();
        if from.accepts(PolicyField::PAssertedIdentity) {
            crossing.asserted = identities(headers.p_asserted_identity());
        }
        if from.accepts(PolicyField::PPreferredIdentity) {
            crossing.preferred = identities(headers.p_preferred_identity());
        }
        if from.accepts(PolicyField::Privacy) {
            crossing.privacy = Privacy::of(headers);
            crossing.private = true;
        }
        if from.accepts(PolicyField::Diversion) {
            crossing.diversions = steps(headers.diversion(), diversion);
        }
        if from.accepts(PolicyField::HistoryInfo) {
            crossing.history = steps(headers.history_info(), history);
        }
        if from.accepts(PolicyField::Reason) {
            crossing.reasons = values::reasons(headers.reason().unwrap_or_default());
        }
        if from.accepts(PolicyField::Date) {
            crossing.date = headers.date().copied();
        }
        if from.accepts(PolicyField::Identity) {
            let values = headers.identity().unwrap_or_default();
            crossing.passports = values.iter().take(4).filter_map(values::passport).collect();
        }
        if from.accepts(PolicyField::UserToUser) {
            let values = headers.user_to_user().unwrap_or_default();
            crossing.user_to_user = values
                .iter()
                .take(2)
                .filter_map(values::user_to_user)
                .collect();
        }
        if from.accepts(PolicyField::ResourcePriority) {
            let values = headers.resource_priority().unwrap_or_default();
            let values = values.iter().take(4);
            crossing.priorities = values.filter_map(values::resource_priority).collect();
        }
        for (field, name, read) in TEXTS {
            if from.accepts(field) {
                let mut have = headers.fields.iter().filter(|have| have.has_name(&name));
                let value = have.find_map(|have| read(&have.to_string()));
                crossing
                    .texts
                    .extend(value.map(|value| (field, name.clone(), value)));
            }
        }
        crossing
    }

    /// From of a request that leaves, without tag: anonymous where the caller wants that of a peer like this one.
    pub(crate) fn from(&self, to: &Rules<'_>, own: NameAddr) -> NameAddr {
        if self.privacy.hides_identity() && !to.is_trusted() {
            return anonymous();
        }
        let Some(rewrite) = to.rewrite(AddressField::From) else {
            return own;
        };
        let NameAddr {
            display,
            uri,
            params,
        } = own;
        let uri = match uri {
            Uri::Sip(mut uri) => {
                let user = uri.user.as_ref().map(crate::outgoing::plain_user);
                let user = changed(&user.unwrap_or_default(), rewrite);
                let host = rewrite.host.as_deref();
                if let Some(host) = host.and_then(|host| Host::parse_text(host).ok()) {
                    uri.host = host;
                    uri.port = None;
                }
                Uri::Sip(if user.is_empty() {
                    uri
                } else {
                    uri.with_user(&user)
                })
            }
            other => other,
        };
        NameAddr {
            display,
            uri,
            params,
        }
    }

    /// Write what a peer with these rules may have into a message whose From host, on that side, is `host`.
    pub(crate) fn write(&self, to: &Rules<'_>, host: &Host, headers: &mut Headers) {
        headers.fields.extend(self.fields(to, host));
    }

    /// The same as a list.
    pub(crate) fn fields(&self, to: &Rules<'_>, host: &Host) -> Vec<Field> {
        let mut fields = Vec::new();
        let at = |who: &Identity, field| who.at(host, to.rewrite(field));
        if to.sends(PolicyField::PAssertedIdentity) && !self.asserted.is_empty() {
            let list = self.asserted.iter();
            let list = list.map(|who| at(who, AddressField::PAssertedIdentity));
            fields.push(Field::PAssertedIdentity(list.collect()));
        }
        if to.sends(PolicyField::PPreferredIdentity) && !self.preferred.is_empty() {
            let list = self.preferred.iter();
            let list = list.map(|who| at(who, AddressField::PPreferredIdentity));
            fields.push(Field::PPreferredIdentity(list.collect()));
        }
        let privacy = self.privacy.values();
        if self.private && to.sends(PolicyField::Privacy) && !privacy.is_empty() {
            fields.push(Field::Privacy(privacy));
        }
        let shown =
            |step: &&Step| to.is_trusted() || !(step.hidden || self.privacy.hides_history());
        if to.sends(PolicyField::Diversion) {
            let list: Vec<NameAddr> = self
                .diversions
                .iter()
                .filter(shown)
                .map(|step| with_params(at(&step.who, AddressField::Diversion), &step.params))
                .collect();
            if !list.is_empty() {
                fields.push(Field::Diversion(list));
            }
        }
        if to.sends(PolicyField::HistoryInfo) {
            let list: Vec<NameAddr> = self
                .history
                .iter()
                .filter(shown)
                .map(|step| step_of_history(at(&step.who, AddressField::HistoryInfo), step))
                .collect();
            if !list.is_empty() {
                fields.push(Field::HistoryInfo(list));
            }
        }
        if to.sends(PolicyField::Reason) && !self.reasons.is_empty() {
            fields.push(Field::Reason(self.reasons.clone()));
        }
        if to.sends(PolicyField::Identity) && !self.passports.is_empty() {
            fields.push(Field::Identity(self.passports.clone()));
        }
        if to.sends(PolicyField::UserToUser) && !self.user_to_user.is_empty() {
            fields.push(Field::UserToUser(self.user_to_user.clone()));
        }
        if to.sends(PolicyField::ResourcePriority) && !self.priorities.is_empty() {
            fields.push(Field::ResourcePriority(self.priorities.clone()));
        }
        if to.sends(PolicyField::Date) {
            fields.extend(self.date.map(Field::Date));
        }
        let texts = self.texts.iter().filter(|(field, ..)| to.sends(*field));
        fields.extend(texts.map(|(_, name, value)| Field::text(name.clone(), value)));
        fields
    }
}

/// A field of text: its place in the allow-list, its name, and what of its value crosses.
type TextField = (PolicyField, HeaderName, fn(&str) -> Option<String>);

const TEXTS: [TextField; 6] = [
    (PolicyField::Subject, HeaderName::Subject, text),
    (PolicyField::Organization, HeaderName::Organization, text),
    (
        PolicyField::AcceptLanguage,
        HeaderName::AcceptLanguage,
        values::languages,
    ),
    (PolicyField::Priority, HeaderName::Priority, priority),
    (
        PolicyField::PEarlyMedia,
        HeaderName::PEarlyMedia,
        values::early_media,
    ),
    (
        PolicyField::PAccessNetworkInfo,
        HeaderName::PAccessNetworkInfo,
        values::access_network,
    ),
];

fn text(text: &str) -> Option<String> {
    plain::harmless(text, TEXT)
}

fn priority(text: &str) -> Option<String> {
    values::word(text, &["emergency", "urgent", "normal", "non-urgent"]).map(str::to_owned)
}

fn identities(list: Option<&[NameAddr]>) -> Vec<Identity> {
    list.unwrap_or_default()
        .iter()
        .filter_map(Identity::of)
        .collect()
}

fn steps(list: Option<&[NameAddr]>, read: fn(&NameAddr) -> Option<Step>) -> Vec<Step> {
    let list = list.unwrap_or_default().iter().take(STEPS);
    list.filter_map(read).collect()
}

fn diversion(address: &NameAddr) -> Option<Step> {
    let mut params = values::words(&address.params, &DIVERSION);
    let hidden = params
        .plain("privacy")
        .is_some_and(|value| matches!(value.as_str(), "full" | "uri"));
    for name in ["counter", "limit"] {
        if let Some(count) = address
            .params
            .plain(name)
            .and_then(|text| values::number(text))
        {
            params.set_plain(Text::from_static(name), count.min(99).to_string());
        }
    }
    Some(Step {
        who: Identity::of(address)?,
        params,
        cause: None,
        hidden,
    })
}

/// RFC 7044 §5: index, and the cause in the URI. What led to a step (`rc`, `mp`, `np`) counts steps of the other side.
fn history(address: &NameAddr) -> Option<Step> {
    let mut params = Params::new();
    let index = address.params.plain("index").filter(|index| {
        index.len() <= 32
            && index
                .bytes()
                .all(|octet| octet.is_ascii_digit() || octet == b'.')
    });
    if let Some(index) = index {
        params.set_plain(Text::from_static("index"), index.detached());
    }
    let uri = address.uri.sip();
    let cause = uri.and_then(|uri| values::number(uri.params.plain("cause")?));
    let mut privacy = Privacy::default();
    for header in uri.map(|uri| &uri.headers[..]).unwrap_or_default() {
        if header.name.eq_ignore_ascii_case("Privacy") {
            privacy.add(&header.value);
        }
    }
    Some(Step {
        who: Identity::of(address)?,
        params,
        cause: cause.filter(|cause| (100..=699).contains(cause)),
        hidden: privacy.hides_history(),
    })
}

fn with_params(mut address: NameAddr, params: &Params) -> NameAddr {
    address.params = params.clone();
    address
}

fn step_of_history(address: NameAddr, step: &Step) -> NameAddr {
    let mut address = with_params(address, &step.params);
    if let (Some(cause), Uri::Sip(uri)) = (step.cause, &mut address.uri) {
        uri.params
            .set_plain(Text::from_static("cause"), cause.to_string());
    }
    address
}
