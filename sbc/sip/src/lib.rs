//! SIP and SDP grammar, transactions, dialogs: pure. RFC 3261 and its extensions, RFC 8866. No socket, clock, thread or
//! random source: time is an argument, octets go in and out. Imports nothing of ours; `sbc-core` is built on it.
//!
//! | module | noun |
//! |---|---|
//! | [`message`] | requests and responses: parser, writer, what is left of a malformed one |
//! | [`headers`] | header fields as types |
//! | [`uri`] | sip, sips, tel and other URIs, their comparison |
//! | [`verdict`] | what a strict element does with a message before any policy |
//! | [`framing`] | where messages end on a stream |
//! | [`transaction`] | client and server transactions, their matching and timers |
//! | [`dialog`] | dialogs, and a 2xx that waits for its ACK |
//! | [`sdp`] | session descriptions, offer and answer |
//! | [`digest`] | challenges and credentials |
//! | [`limits`], [`error`] | how much there may be; each offence and its status code |
//!
//! Whatever is written comes from types; a value that was read is kept octet for octet (escapes, quoted pairs), and no
//! value can start a line of its own. Work grows with the length of the input and no faster.

#![cfg_attr(
    not(test),
    forbid(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::disallowed_macros
    )
)]

pub mod dialog;
pub mod digest;
pub mod error;
pub mod framing;
pub mod headers;
pub mod limits;
pub mod message;
pub mod method;
mod params;
mod reader;
pub mod sdp;
pub mod status;
#[cfg(test)]
mod testing;
pub mod text;
pub mod transaction;
pub mod uri;
pub mod verdict;

pub use params::{Param, Params, Quoted, Value};
