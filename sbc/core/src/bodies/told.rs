//! Names of dialogs of the PBX as subscribers were told of them (RFC 4235), each under a name of ours: a phone that takes a
//! ringing call of a colleague makes its Replaces of them (RFC 3891), which is passed in the PBX's own names. Noted by
//! subscriptions, asked by calls. Bounded: the oldest are forgotten.

use std::collections::{BTreeMap, VecDeque};

use broker_proto::settings::ZoneId;
use roxmltree::{Document, Node, ParsingOptions};
use sbc_sip::headers::Replaces;

use crate::identity::Identity;

/// Names that are remembered.
const MOST: usize = 12_288;
/// Dialogs of one document that are.
const DIALOGS: usize = 64;
/// Octets of a name.
const LENGTH: usize = 256;
/// Nodes of a document.
const NODES: u32 = 4_096;

/// What a Call-ID or tag of the other side's dialogs is called here.
pub(super) fn name(identity: &Identity, text: &str) -> Option<String> {
    let good = (1..=LENGTH).contains(&text.len());
    good.then(|| format!("d{}", identity.derived(&["dialog", text])))
}

/// All names.
#[derive(Default)]
pub(crate) struct Told {
    names: BTreeMap<String, (ZoneId, String)>,
    order: VecDeque<String>,
}

impl Told {
    /// Remembers the dialogs of a document of the PBX in a zone, which was passed on.
    pub(crate) fn note(&mut self, identity: &Identity, zone: ZoneId, document: &[u8]) {
        let options = ParsingOptions {
            allow_dtd: false,
            nodes_limit: NODES,
        };
        let text = std::str::from_utf8(document).ok();
        let Some(document) = text.and_then(|text| Document::parse_with_options(text, options).ok())
        else {
            return;
        };
        let children = document.root_element().children();
        let dialogs = children.filter(|node| node.tag_name().name() == "dialog");
        for dialog in dialogs.filter(|dialog| !is_over(*dialog)).take(DIALOGS) {
            for attribute in ["call-id", "local-tag", "remote-tag"] {
                let Some(text) = dialog.attribute(attribute) else {
                    continue;
                };
                if let Some(name) = name(identity, text) {
                    self.remember(name, zone, text);
                }
            }
        }
    }

    fn remember(&mut self, name: String, zone: ZoneId, text: &str) {
        let told = (zone, text.to_owned());
        if self.names.insert(name.clone(), told).is_some() {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }

    /// A Replaces in the names of the side that told of the dialog; `None`: nobody was told of such a one.
    pub(crate) fn original(&self, replaces: &Replaces) -> Option<(ZoneId, Replaces)> {
        let of = |name: &str| self.names.get(name);
        let (zone, call_id) = of(replaces.call_id.text().as_str())?;
        let (to_zone, to) = of(replaces.to_tag()?.as_str())?;
        let (from_zone, from) = of(replaces.from_tag()?.as_str())?;
        if to_zone != zone || from_zone != zone {
            return None;
        }
        let early = if replaces.early_only() {
            ";early-only"
        } else {
            ""
        };
        // Written as it was told, and read as strictly as anything.
        let text = format!("{call_id};to-tag={to};from-tag={from}{early}");
        Some((*zone, text.parse().ok()?))
    }
}

fn is_over(dialog: Node<'_, '_>) -> bool {
    let mut children = dialog.children();
    let state = children.find(|node| node.tag_name().name() == "state");
    state
        .and_then(|state| state.text())
        .is_some_and(|state| state.trim() == "terminated")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(number: usize, state: &str) -> String {
        format!(
            "<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\"><dialog id=\"1\" call-id=\"c{number}@pbx\" \
             local-tag=\"l{number}\" remote-tag=\"r{number}\"><state>{state}</state></dialog></dialog-info>"
        )
    }

    fn asked(identity: &Identity, call_id: &str, to: &str, from: &str) -> Replaces {
        let name = |text| name(identity, text).unwrap();
        let text = format!(
            "{};to-tag={};from-tag={};early-only",
            name(call_id),
            name(to),
            name(from)
        );
        text.parse().unwrap()
    }

    #[test]
    fn what_was_told_comes_back_in_its_own_names_and_what_was_not_does_not() {
        let (identity, mut told) = (Identity::new([7; 32]), Told::default());
        told.note(&identity, ZoneId(1), document(1, "early").as_bytes());
        told.note(&identity, ZoneId(1), document(2, "terminated").as_bytes());
        told.note(&identity, ZoneId(1), b"<dialog-info");
        let (zone, replaces) = told
            .original(&asked(&identity, "c1@pbx", "r1", "l1"))
            .unwrap();
        assert_eq!(zone, ZoneId(1));
        let text = replaces.to_string();
        assert_eq!(text, "c1@pbx;to-tag=r1;from-tag=l1;early-only");
        for (call_id, to, from) in [
            ("c1@pbx", "r1", "l2"),
            ("c1@pbx", "other", "l1"),
            ("c2@pbx", "r2", "l2"),
        ] {
            let replaces = asked(&identity, call_id, to, from);
            assert!(told.original(&replaces).is_none(), "{call_id} {to} {from}");
        }
        let raw = "c1@pbx;to-tag=r1;from-tag=l1".parse().unwrap();
        assert!(told.original(&raw).is_none(), "the PBX's own names");
    }

    #[test]
    fn a_name_that_is_no_call_id_or_tag_gets_into_no_message() {
        let (identity, mut told) = (Identity::new([7; 32]), Told::default());
        let document = "<dialog-info><dialog call-id=\"a b&#13;&#10;X: y\" local-tag=\"l\" remote-tag=\"r;q=1\"/></dialog-info>";
        told.note(&identity, ZoneId(1), document.as_bytes());
        let replaces = asked(&identity, "a b\r\nX: y", "l", "l");
        assert!(told.original(&replaces).is_none());
    }

    #[test]
    fn the_oldest_names_are_forgotten() {
        let (identity, mut told) = (Identity::new([7; 32]), Told::default());
        for number in 0..5_000 {
            told.note(&identity, ZoneId(1), document(number, "early").as_bytes());
        }
        assert_eq!((told.names.len(), told.order.len()), (MOST, MOST));
        let first = asked(&identity, "c0@pbx", "r0", "l0");
        assert!(told.original(&first).is_none());
        let last = asked(&identity, "c4999@pbx", "r4999", "l4999");
        assert!(told.original(&last).is_some());
    }
}
