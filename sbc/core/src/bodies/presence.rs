//! `application/pidf+xml`: whether somebody can be reached, RFC 3863, with what the person does, RFC 4479 and RFC 4480.

use super::document::{Element, Schema, Shape, leaf, needed, optional};

pub(super) const PRESENCE: Schema = Schema {
    namespaces: &[
        ("", "urn:ietf:params:xml:ns:pidf"),
        ("dm", "urn:ietf:params:xml:ns:pidf:data-model"),
        ("rpid", "urn:ietf:params:xml:ns:pidf:rpid"),
    ],
    root: &ROOT,
};

const ROOT: Element = Element {
    namespace: 0,
    name: "presence",
    attributes: &[needed("entity", Shape::Address)],
    text: None,
    children: &[&TUPLE, &leaf("note", Shape::Plain), &PERSON],
    words: &[],
};

const TUPLE: Element = Element {
    namespace: 0,
    name: "tuple",
    attributes: &[needed("id", Shape::Name)],
    text: None,
    children: &[
        &STATUS,
        &CONTACT,
        &leaf("note", Shape::Plain),
        &leaf("timestamp", Shape::Time),
    ],
    words: &[],
};

const STATUS: Element = Element {
    namespace: 0,
    name: "status",
    attributes: &[],
    text: None,
    children: &[&leaf("basic", Shape::Words(&["open", "closed"]))],
    words: &[],
};

const CONTACT: Element = Element {
    attributes: &[optional("priority", Shape::Fraction)],
    ..leaf("contact", Shape::Address)
};

const PERSON: Element = Element {
    namespace: 1,
    name: "person",
    attributes: &[needed("id", Shape::Name)],
    text: None,
    children: &[
        &ACTIVITIES,
        &Element {
            namespace: 1,
            ..leaf("note", Shape::Plain)
        },
    ],
    words: &[],
};

const ACTIVITIES: Element = Element {
    namespace: 2,
    name: "activities",
    attributes: &[],
    text: None,
    children: &[],
    words: &[
        "appointment",
        "away",
        "breakfast",
        "busy",
        "dinner",
        "holiday",
        "in-transit",
        "looking-for-work",
        "lunch",
        "meal",
        "meeting",
        "on-the-phone",
        "performance",
        "permanent-absence",
        "playing",
        "presentation",
        "shopping",
        "sleeping",
        "spectator",
        "steering",
        "travel",
        "tv",
        "unknown",
        "vacation",
        "working",
        "worship",
    ],
};
