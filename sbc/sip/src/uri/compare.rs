//! When two URIs mean the same: RFC 3261 §19.1.4 for sip and sips, [`super::TelUri`] says it for tel, octet for octet for all others.

use super::escape::{resolve, resolve_unreserved};
use super::{SipUri, Uri};
use crate::params::Param;

/// Parameters that must be in both or in neither, however insignificant others are.
const ALWAYS_COMPARED: [&str; 4] = ["user", "ttl", "method", "maddr"];

impl Uri {
    /// Whether both name the same resource. Not transitive, as the RFC says itself.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sip(one), Self::Sip(two)) => one.equivalent(two),
            (Self::Tel(one), Self::Tel(two)) => one.equivalent(two),
            (Self::Absolute(one), Self::Absolute(two)) => {
                one.scheme.eq_ignore_ascii_case(&two.scheme) && one.opaque == two.opaque
            }
            _ => false,
        }
    }
}

impl SipUri {
    /// Whether both name the same resource. RFC 3261 §19.1.4.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        self.secure == other.secure
            && same_part(self.user.as_deref(), other.user.as_deref())
            && same_part(self.password.as_deref(), other.password.as_deref())
            && self.host.matches(&other.host)
            && self.port == other.port
            && self.same_params(other)
            && self.same_headers(other)
    }

    fn same_params(&self, other: &Self) -> bool {
        let agrees = |one: &Param, two: Option<&Param>| match two {
            Some(two) => same_value(one, two),
            None => !ALWAYS_COMPARED
                .iter()
                .any(|name| one.name.eq_ignore_ascii_case(name)),
        };
        self.params
            .iter()
            .all(|param| agrees(param, other.params.find(&param.name)))
            && other
                .params
                .iter()
                .all(|param| agrees(param, self.params.find(&param.name)))
    }

    fn same_headers(&self, other: &Self) -> bool {
        let has = |uri: &Self, name: &[u8], value: &[u8]| {
            uri.headers.iter().any(|header| {
                resolve(&header.name).eq_ignore_ascii_case(name)
                    && *resolve(&header.value) == *value
            })
        };
        let covers = |one: &Self, two: &Self| {
            one.headers
                .iter()
                .all(|header| has(two, &resolve(&header.name), &resolve(&header.value)))
        };
        self.headers.len() == other.headers.len() && covers(self, other) && covers(other, self)
    }
}

/// Case matters. An escape equals the character itself, unless that is reserved: `%3B` and `;` are two things.
fn same_part(one: Option<&str>, two: Option<&str>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => resolve_unreserved(one) == resolve_unreserved(two),
        (None, None) => true,
        _ => false,
    }
}

fn same_value(one: &Param, two: &Param) -> bool {
    match (&one.value, &two.value) {
        (Some(one), Some(two)) => {
            resolve(&one.to_plain()).eq_ignore_ascii_case(&resolve(&two.to_plain()))
        }
        (None, None) => true,
        _ => false,
    }
}
