//! What tests share: where the test data lies, a request from text, abilities of a border element.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test looks for its data and says when there is none"
)]

use std::path::PathBuf;

use crate::limits::Limits;
use crate::message::{Framing, Message, Request, parse};
use crate::method::Method;
use crate::verdict::Abilities;

/// What the product serves.
pub(crate) const ABILITIES: Abilities<'static> = Abilities {
    methods: &[
        Method::Invite,
        Method::Ack,
        Method::Bye,
        Method::Cancel,
        Method::Options,
        Method::Register,
        Method::Info,
    ],
    extensions: &[],
    bodies: &[("application", "sdp"), ("application", "dtmf-relay")],
};

/// The folder of the test data, by `GH_TESTDATA` or beside the workspace; none, with a line printed, if it is absent.
pub(crate) fn testdata() -> Option<PathBuf> {
    let beside = || {
        PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/testdata"
        ))
    };
    let folder = std::env::var_os("GH_TESTDATA").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no test data at {}", folder.display());
    None
}

/// A message from text; panics on what is none.
pub(crate) fn message(text: &str) -> Message {
    parse(text.as_bytes(), Framing::Datagram, &Limits::default())
        .unwrap_or_else(|rejected| panic!("{rejected:?}: {text}"))
}

/// A request from text; panics on what is none.
pub(crate) fn request(text: &str) -> Request {
    match message(text) {
        Message::Request(request) => *request,
        Message::Response(_) => panic!("a response: {text}"),
    }
}

