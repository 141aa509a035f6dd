//! What tests share: where the test data lies, a request from text, abilities of a border element.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test looks for its data and says when there is none"
)]

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

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

/// A point in time to count from.
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// A small generator with one order: a failure is found again by its seed. xorshift64*, for which no crate is needed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `below`; 0 for 0.
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % below.max(1)
    }
}
