//! `application/dialog-info+xml`: who talks to whom. RFC 4235. Route sets and descriptions of the other side's dialogs stay
//! behind; identifier, Call-ID and tags become names of ours, by which a phone may ask for a call of a colleague (`told`).

use super::document::{Element, Schema, Shape, leaf, needed, optional};

pub(super) const DIALOG_INFO: Schema = Schema {
    namespaces: &[("", "urn:ietf:params:xml:ns:dialog-info")],
    root: &ROOT,
};

const ROOT: Element = Element {
    namespace: 0,
    name: "dialog-info",
    attributes: &[
        needed("version", Shape::Number),
        needed("state", Shape::Words(&["full", "partial"])),
        needed("entity", Shape::Address),
    ],
    text: None,
    children: &[&DIALOG],
    words: &[],
};

const DIALOG: Element = Element {
    namespace: 0,
    name: "dialog",
    attributes: &[
        needed("id", Shape::Name),
        optional("call-id", Shape::Dialog),
        optional("local-tag", Shape::Dialog),
        optional("remote-tag", Shape::Dialog),
        optional("direction", Shape::Words(&["initiator", "recipient"])),
    ],
    text: None,
    children: &[&STATE, &leaf("duration", Shape::Number), &LOCAL, &REMOTE],
    words: &[],
};

const STATE: Element = Element {
    attributes: &[
        optional(
            "event",
            Shape::Words(&[
                "cancelled",
                "rejected",
                "replaced",
                "local-bye",
                "remote-bye",
                "error",
                "timeout",
            ]),
        ),
        optional("code", Shape::Number),
    ],
    ..leaf(
        "state",
        Shape::Words(&["trying", "proceeding", "early", "confirmed", "terminated"]),
    )
};

const LOCAL: Element = Element {
    text: None,
    children: &[&IDENTITY, &TARGET],
    ..leaf("local", Shape::Number)
};

const REMOTE: Element = Element {
    text: None,
    children: &[&IDENTITY, &TARGET],
    ..leaf("remote", Shape::Number)
};

const IDENTITY: Element = Element {
    attributes: &[optional("display", Shape::Plain)],
    ..leaf("identity", Shape::Address)
};

const TARGET: Element = Element {
    attributes: &[needed("uri", Shape::Address)],
    text: None,
    ..leaf("target", Shape::Number)
};
