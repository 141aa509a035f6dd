//! SIP and SDP grammar, transactions, dialogs: pure. RFC 3261, RFC 8866. No socket, clock, thread or random source: time
//! is an argument, octets go in and out. Imports nothing of ours; `sbc-core` is built on it.

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
