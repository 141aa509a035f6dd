//! Who calls: what the routes' `from` is compared with, and by whose habits the number was dialled.

use broker_proto::settings::{Numbering, Origin, Settings, Trunk, Zone, ZoneId};

/// A caller as the dial plan sees it.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Zone that the call came from; `None`: not known, as of a registered user that may be anywhere.
    pub zone: Option<ZoneId>,
    /// What it counts as in the routing table; nothing: a stranger.
    pub origins: &'a [Origin],
}

impl Caller<'_> {
    /// The trunk that calls, if it is one.
    #[must_use]
    pub fn trunk<'s>(&self, settings: &'s Settings) -> Option<&'s Trunk> {
        self.origins.iter().find_map(|origin| match origin {
            Origin::Trunk(name) => settings.trunks.iter().find(|trunk| trunk.name == *name),
            _ => None,
        })
    }

    /// The zone by whose habits numbers are dialled: an account's are those of the PBX wherever its phone is.
    #[must_use]
    pub fn home<'s>(&self, settings: &'s Settings) -> Option<&'s Zone> {
        let registrar = settings.registrar.as_ref().map(|registrar| registrar.zone);
        let id = match self.origins.contains(&Origin::Registered) {
            true => registrar.or(self.zone),
            false => self.zone,
        };
        zone(settings, id?)
    }

    /// How its numbers are to be read.
    #[must_use]
    pub fn habits<'s>(&self, settings: &'s Settings) -> Option<&'s Numbering> {
        match self.trunk(settings) {
            Some(trunk) => trunk_numbering(settings, trunk),
            None => self.home(settings)?.policy.numbering.as_ref(),
        }
    }

    /// Numbers that no limit stops when it calls them. A carrier makes no emergency calls through us.
    #[must_use]
    pub fn emergency_numbers<'s>(&self, settings: &'s Settings) -> &'s [String] {
        if self.origins.is_empty() || self.trunk(settings).is_some() {
            return &[];
        }
        self.home(settings)
            .map_or(&[], |zone| &zone.policy.emergency)
    }

    /// Whether a Resource-Priority value (RFC 4412 §3.1) of this caller is believed.
    #[must_use]
    pub fn may_claim(&self, settings: &Settings, value: &str) -> bool {
        let believed = match self.trunk(settings) {
            Some(trunk) => &trunk.policy.resource_priority,
            None if self.origins.is_empty() => return false,
            None => match self.home(settings) {
                Some(zone) => &zone.policy.resource_priority,
                None => return false,
            },
        };
        believed.iter().any(|pattern| claims(pattern, value))
    }
}

/// Whether a Resource-Priority value is one that the pattern names: the value itself, or `namespace.*`.
#[must_use]
pub fn claims(pattern: &str, value: &str) -> bool {
    match pattern.strip_suffix('*') {
        // Namespace and dot, so that `wps.*` is not `wpsx.0`.
        Some(namespace) => value
            .get(..namespace.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(namespace)),
        None => pattern.eq_ignore_ascii_case(value),
    }
}

/// How numbers are written towards a trunk and read from it: its own way, else its zone's.
#[must_use]
pub fn trunk_numbering<'s>(settings: &'s Settings, trunk: &'s Trunk) -> Option<&'s Numbering> {
    let own = trunk.policy.numbering.as_ref();
    own.or_else(|| zone(settings, trunk.zone)?.policy.numbering.as_ref())
}

/// How numbers are written towards the PBX and its phones.
#[must_use]
pub fn registrar_numbering(settings: &Settings) -> Option<&Numbering> {
    let registrar = settings.registrar.as_ref()?;
    zone(settings, registrar.zone)?.policy.numbering.as_ref()
}

fn zone(settings: &Settings, id: ZoneId) -> Option<&Zone> {
    settings.zones.iter().find(|zone| zone.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_compared_with_its_namespace_whole() {
        assert!(claims("esnet.0", "ESNET.0"));
        assert!(!claims("esnet.0", "esnet.1"));
        assert!(claims("wps.*", "wps.3"));
        assert!(!claims("wps.*", "wpsx.3"));
        assert!(!claims("wps.*", "wp"));
    }
}
