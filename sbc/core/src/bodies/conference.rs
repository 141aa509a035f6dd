//! `application/conference-info+xml`: who is in a conference. RFC 4575. Addresses to call, service addresses and call
//! information of the other side stay behind.

use super::document::{Attribute, Element, Schema, Shape, leaf, needed, optional};

pub(super) const CONFERENCE: Schema = Schema {
    namespaces: &[("", "urn:ietf:params:xml:ns:conference-info")],
    root: &ROOT,
};

const STATE: Attribute = optional("state", Shape::Words(&["full", "partial", "deleted"]));

const fn branch(
    name: &'static str,
    attributes: &'static [Attribute],
    children: &'static [&'static Element],
) -> Element {
    Element {
        namespace: 0,
        name,
        attributes,
        text: None,
        children,
        words: &[],
    }
}

const ROOT: Element = branch(
    "conference-info",
    &[
        needed("entity", Shape::Address),
        STATE,
        optional("version", Shape::Number),
    ],
    &[&DESCRIPTION, &STANDING, &USERS],
);

const DESCRIPTION: Element = branch(
    "conference-description",
    &[],
    &[
        &leaf("display-text", Shape::Plain),
        &leaf("subject", Shape::Plain),
        &leaf("maximum-user-count", Shape::Number),
    ],
);

const STANDING: Element = branch(
    "conference-state",
    &[],
    &[
        &leaf("user-count", Shape::Number),
        &leaf("active", Shape::Boolean),
        &leaf("locked", Shape::Boolean),
    ],
);

const USERS: Element = branch("users", &[STATE], &[&USER]);

const USER: Element = branch(
    "user",
    &[needed("entity", Shape::Address), STATE],
    &[&leaf("display-text", Shape::Plain), &ENDPOINT],
);

const ENDPOINT: Element = branch(
    "endpoint",
    &[optional("entity", Shape::Address), STATE],
    &[
        &leaf("display-text", Shape::Plain),
        &leaf(
            "status",
            Shape::Words(&[
                "pending",
                "dialing-out",
                "dialing-in",
                "alerting",
                "on-hold",
                "connected",
                "muted-via-focus",
                "disconnecting",
                "disconnected",
            ]),
        ),
        &leaf(
            "joining-method",
            Shape::Words(&["dialed-in", "dialed-out", "focus-owner"]),
        ),
        &leaf(
            "disconnection-method",
            Shape::Words(&["departed", "booted", "failed", "busy"]),
        ),
        &MEDIA,
    ],
);

const MEDIA: Element = branch(
    "media",
    &[needed("id", Shape::Name)],
    &[
        &leaf(
            "type",
            Shape::Words(&["audio", "video", "text", "application", "message"]),
        ),
        &leaf(
            "status",
            Shape::Words(&["sendrecv", "sendonly", "recvonly", "inactive"]),
        ),
    ],
);
