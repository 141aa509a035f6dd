//! Policies: the peers that they name, each named once, and lists that say something.

use std::collections::BTreeMap;

use super::Known;
use crate::{
    document::Document,
    error::say,
    policy::{Codec, Party, Policy},
    table::Report,
};

/// Most octets of a MESSAGE: RFC 3261 §18.1.1 and the sbc's own messages leave no more.
const MESSAGE_OCTETS: u32 = 32_768;

pub(super) fn check(document: &Document, known: &Known, report: &mut Report<'_>) {
    let mut parties: BTreeMap<&Party, usize> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (index, policy) in document.policies.iter().enumerate() {
        let path = known.policies.at(index).to_owned();
        if names.insert(&policy.name, ()).is_some() {
            let name = &policy.name;
            report.error(
                &format!("{path}.name"),
                say!(
                    "two policies are called `{name}`",
                    "zwei Regelwerke heißen `{name}`"
                ),
            );
        }
        if policy.parties.is_empty() {
            report.error(
                &format!("{path}.for"),
                say!(
                    "names nobody, so the policy is for nobody; possible: zone:NAME, trunk:NAME, registrar",
                    "nennt niemanden, das Regelwerk gilt also für niemanden; möglich: zone:NAME, trunk:NAME, registrar"
                ),
            );
        }
        for (place, party) in policy.parties.iter().enumerate() {
            let key = format!("{path}.for[{place}]");
            if let Some(earlier) = parties.insert(party, index) {
                let other = known.policies.at(earlier);
                report.error(
                    &key,
                    say!(
                        "has a policy already: `{other}`",
                        "hat schon ein Regelwerk: `{other}`"
                    ),
                );
            }
            reference(document, known, party, &key, report);
        }
        values(policy, &path, report);
    }
}

fn reference(
    document: &Document,
    known: &Known,
    party: &Party,
    key: &str,
    report: &mut Report<'_>,
) {
    match party {
        Party::Zone(name) => {
            let zones: Vec<&str> = document
                .zones
                .iter()
                .map(|zone| zone.name.as_str())
                .collect();
            if !zones.contains(&name.as_str()) && known.zones.unread.is_empty() {
                report.error(key, super::unknown_name(name, &zones, ("zone", "Zone")));
            }
        }
        Party::Trunk(name) => {
            let trunks: Vec<&str> = document
                .trunks
                .iter()
                .map(|trunk| trunk.name.as_str())
                .collect();
            if !trunks.contains(&name.as_str()) && known.trunks.unread.is_empty() {
                report.error(key, super::unknown_name(name, &trunks, ("trunk", "Trunk")));
            }
        }
        Party::Registrar if document.sip.registrar.is_none() && known.sip => {
            report.error(
                key,
                say!(
                    "needs a PBX, and there is no [sip.registrar]",
                    "braucht eine Telefonanlage, und [sip.registrar] fehlt"
                ),
            );
        }
        Party::Registrar => {}
    }
}

fn values(policy: &Policy, path: &str, report: &mut Report<'_>) {
    if policy
        .message_octets
        .is_some_and(|octets| octets > MESSAGE_OCTETS)
    {
        report.error(
            &format!("{path}.message_octets"),
            say!(
                "a MESSAGE has at most {MESSAGE_OCTETS} octets",
                "eine MESSAGE hat höchstens {MESSAGE_OCTETS} Oktette"
            ),
        );
    }
    for (place, map) in policy.response_map.iter().enumerate() {
        let earlier = policy.response_map.iter().take(place);
        if earlier.clone().any(|other| other.from == map.from) {
            let from = map.from;
            report.error(
                &format!("{path}.response_map[{place}]"),
                say!("{from} is mapped twice", "{from} wird zweimal abgebildet"),
            );
        }
    }
    for (key, list, video) in [
        ("audio_codecs", &policy.audio_codecs, false),
        ("video_codecs", &policy.video_codecs, true),
    ] {
        for (place, codec) in list.iter().enumerate() {
            codec_of(
                policy,
                *codec,
                video,
                &format!("{path}.{key}[{place}]"),
                report,
            );
            if list.iter().take(place).any(|other| other == codec) {
                report.error(
                    &format!("{path}.{key}[{place}]"),
                    say!("stands twice in the list", "steht zweimal in der Liste"),
                );
            }
        }
    }
    for (place, rewrite) in policy.rewrite.iter().enumerate() {
        let key = format!("{path}.rewrite[{place}]");
        if policy
            .rewrite
            .iter()
            .take(place)
            .any(|other| other.field == rewrite.field)
        {
            let field = rewrite.field;
            report.error(
                &key,
                say!(
                    "{field} is rewritten twice",
                    "{field} wird zweimal umgeschrieben"
                ),
            );
        }
        if rewrite.user.is_some() && (rewrite.strip != 0 || !rewrite.prepend.is_empty()) {
            report.error(
                &format!("{key}.user"),
                say!(
                    "a fixed user leaves nothing for strip and prepend",
                    "bei festem user bleibt für strip und prepend nichts"
                ),
            );
        }
    }
}

fn codec_of(policy: &Policy, codec: Codec, video: bool, key: &str, report: &mut Report<'_>) {
    if codec.is_video() != video {
        let (kind, art) = if video {
            ("audio_codecs", "audio_codecs")
        } else {
            ("video_codecs", "video_codecs")
        };
        report.error(
            key,
            say!("{codec} belongs to {kind}", "{codec} gehört zu {art}"),
        );
    }
    if policy.denied_codecs.contains(&codec) {
        report.error(
            key,
            say!(
                "{codec} stands in denied_codecs too",
                "{codec} steht auch in denied_codecs"
            ),
        );
    }
}
