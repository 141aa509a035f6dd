//! Calls that no limit stops: emergency numbers, and what a trusted peer marks by Resource-Priority (RFC 4412). An untrusted
//! mark is not looked at (§4.6.2: a user agent that does not understand a value treats the request as if there was none).

use std::collections::BTreeSet;

use sbc_sip::{headers::Field, message::Request, method::Method};

use crate::{core::Core, dispatch::Source, target};

/// Why a call is spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spared {
    /// It calls for help.
    Emergency,
    /// A trusted peer says so.
    Resource,
}

impl Spared {
    /// Stable word for counters and records.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Resource => "resource-priority",
        }
    }
}

impl Core {
    /// Whether an INVITE is spared from every limit.
    pub(crate) fn spared(&self, source: &Source, request: &Request) -> Option<Spared> {
        if request.method != Method::Invite || !source.is_known() {
            return None;
        }
        let surroundings = &self.cx.surroundings;
        let zone = source.flow.zone;
        let origins = surroundings.origins(source.peer, zone, source.registered);
        let caller = routing::Caller {
            zone: Some(zone),
            origins: &origins,
        };
        let settings = surroundings.settings();
        if routing::is_emergency(settings, &caller, &target::dialled(&request.uri)) {
            return Some(Spared::Emergency);
        }
        claims(request)
            .iter()
            .any(|value| caller.may_claim(settings, value))
            .then_some(Spared::Resource)
    }
}

/// The Resource-Priority values of a request.
pub(crate) fn claims(request: &Request) -> BTreeSet<String> {
    let fields = request.headers.fields.iter();
    let values = fields.filter_map(|field| match field {
        Field::ResourcePriority(values) => Some(values),
        _ => None,
    });
    values
        .flatten()
        .map(|value| format!("{}.{}", value.namespace, value.priority).to_ascii_lowercase())
        .collect()
}
