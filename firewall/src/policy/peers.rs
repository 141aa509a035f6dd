//! Policies of peers in the words of the broker. Called where the sbc's settings are built.

use appliance_config as config;
use broker_proto::{
    policy::{
        AddedField, AddressField, EventPackage, InfoKind, Party, Policy, PolicyField, Rewrite,
        Transfer,
    },
    settings::ZoneId,
};

/// A policy of a checked document.
pub(super) fn policy(policy: &config::Policy, zone_of: &impl Fn(&str) -> Option<ZoneId>) -> Policy {
    let party = |party: &config::Party| match party {
        config::Party::Zone(name) => zone_of(name).map(Party::Zone),
        config::Party::Trunk(name) => Some(Party::Trunk(name.clone())),
        config::Party::Registrar => Some(Party::Registrar),
    };
    let fields = |fields: &Option<Vec<config::PolicyField>>| {
        let fields = fields.as_ref()?;
        Some(fields.iter().copied().map(field).collect())
    };
    let codecs = |codecs: &[config::Codec]| {
        let names = codecs.iter().map(|codec| codec.word().to_owned());
        names.collect()
    };
    Policy {
        name: policy.name.clone(),
        parties: policy.parties.iter().filter_map(party).collect(),
        trusted: policy.trusted,
        accept: fields(&policy.accept),
        send: fields(&policy.send),
        add: policy.add.iter().map(added).collect(),
        rewrite: policy.rewrite.iter().map(rewrite).collect(),
        events: policy
            .events
            .as_ref()
            .map(|events| events.iter().copied().map(event).collect()),
        publish: policy.publish,
        message_octets: policy.message_octets,
        info: policy
            .info
            .as_ref()
            .map(|kinds| kinds.iter().map(info).collect()),
        response_map: policy
            .response_map
            .iter()
            .map(|map| (map.from, map.to))
            .collect(),
        audio_codecs: codecs(&policy.audio_codecs),
        video_codecs: codecs(&policy.video_codecs),
        denied_codecs: codecs(&policy.denied_codecs),
        transfer: policy.transfer.map(transfer),
        mediasec: policy.mediasec,
    }
}

fn added(field: &config::AddedField) -> AddedField {
    AddedField {
        name: field.name.clone(),
        value: field.value.clone(),
    }
}

fn rewrite(rewrite: &config::Rewrite) -> Rewrite {
    use config::AddressField as From;
    Rewrite {
        field: match rewrite.field {
            From::From => AddressField::From,
            From::PAssertedIdentity => AddressField::PAssertedIdentity,
            From::PPreferredIdentity => AddressField::PPreferredIdentity,
            From::Diversion => AddressField::Diversion,
            From::HistoryInfo => AddressField::HistoryInfo,
        },
        user: rewrite.user.clone(),
        host: rewrite.host.clone(),
        strip: rewrite.strip,
        prepend: rewrite.prepend.clone(),
    }
}

const fn transfer(transfer: config::Transfer) -> Transfer {
    match transfer {
        config::Transfer::Refuse => Transfer::Refuse,
        config::Transfer::Pass => Transfer::Pass,
        config::Transfer::Resolve => Transfer::Resolve,
    }
}

const fn event(package: config::EventPackage) -> EventPackage {
    use config::EventPackage as From;
    match package {
        From::MessageSummary => EventPackage::MessageSummary,
        From::Presence => EventPackage::Presence,
        From::Dialog => EventPackage::Dialog,
        From::Conference => EventPackage::Conference,
    }
}

fn info(kind: &config::InfoKind) -> InfoKind {
    match kind {
        config::InfoKind::Dtmf => InfoKind::Dtmf,
        config::InfoKind::PictureFastUpdate => InfoKind::PictureFastUpdate,
        config::InfoKind::Package(name) => InfoKind::Package(name.clone()),
    }
}

const fn field(field: config::PolicyField) -> PolicyField {
    use config::PolicyField as From;
    match field {
        From::PAssertedIdentity => PolicyField::PAssertedIdentity,
        From::PPreferredIdentity => PolicyField::PPreferredIdentity,
        From::Privacy => PolicyField::Privacy,
        From::Reason => PolicyField::Reason,
        From::UserToUser => PolicyField::UserToUser,
        From::SessionId => PolicyField::SessionId,
        From::Identity => PolicyField::Identity,
        From::Diversion => PolicyField::Diversion,
        From::HistoryInfo => PolicyField::HistoryInfo,
        From::Subject => PolicyField::Subject,
        From::Date => PolicyField::Date,
        From::Organization => PolicyField::Organization,
        From::AcceptLanguage => PolicyField::AcceptLanguage,
        From::Priority => PolicyField::Priority,
        From::PEarlyMedia => PolicyField::PEarlyMedia,
        From::PAccessNetworkInfo => PolicyField::PAccessNetworkInfo,
        From::ResourcePriority => PolicyField::ResourcePriority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_policy_reaches_the_sbc() {
        let text = include_str!("../../../appliance/config/example.toml");
        let document = config::Document::parse(text, "example.toml").expect("the example is good");
        let settings = crate::policy::settings::to_settings(&document, 1);
        let [policy] = settings.policies.as_slice() else {
            panic!("{:?}", settings.policies);
        };
        assert_eq!(policy.parties.len(), 2);
        assert_eq!(policy.trusted, Some(true));
        assert_eq!(policy.events, Some(Vec::new()));
        assert_eq!(policy.response_map, [(603, 486)]);
        assert_eq!(policy.audio_codecs, ["G722", "PCMA"]);
        assert_eq!(
            policy.rewrite.first().map(|r| r.field),
            Some(AddressField::From)
        );
    }
}
