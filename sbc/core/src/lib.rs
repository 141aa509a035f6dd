//! The back-to-back user agent, admission, routing: pure. No socket, clock, thread or randomness of its own.
//!
//! `(now, Input)` goes in by `Core::handle`, [`Output`]s come out of `Core::poll`, `Core::poll_timeout` says when to
//! call again. Two legs of a call are two dialogs with nothing in common but the media relay between them: whatever
//! leaves is built from typed fields, never from the text that came in.
//!
//! | module | noun |
//! |---|---|
//! | [`io`] | the contract with the shell |
//! | `surroundings` | settings in force: zones, own addresses, who is whose address |
//! | `admission` | how far a source is trusted; scanners; rates and limits |
//! | `routing` | numbers and routes |
//! | `transport` | flows, streams cut into messages, where answers go |
//! | `registration` | REGISTER relayed to the registrar, bindings |
//! | `trunk_registration` | our own REGISTER at a carrier |
//! | `call` | two legs, from INVITE to the record |
//! | `offer_answer` | session descriptions of one leg made for the other |
//! | `media_session` | leases, pinholes and relay streams of one call |

#![cfg_attr(
    not(test),
    forbid(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)
)]

pub mod io;

pub use io::{BrokerAnswer, ConnectionId, Input, Output};
