//! The back-to-back user agent, admission, routing: pure. No socket, clock, thread or randomness of its own.
//!
//! `(now, Input)` goes in by [`Core::handle`], [`Output`]s come out of [`Core::poll`], [`Core::poll_timeout`] says when to
//! call again. Two legs of a call are two dialogs with nothing in common but the media relay between them: whatever
//! leaves is built from typed fields, never from the text that came in.
//!
//! | module | noun |
//! |---|---|
//! | [`io`] | the contract with the shell |
//! | `core`, `dispatch`, `stream`, `invite` | the whole; a message and whom it is for; connections; a new call |
//! | `surroundings` | settings in force: zones, own addresses, who is whose address |
//! | `admission` | scanners, rates |
//! | `health` | which addresses of trunks are alive |
//! | `ledger`, `priority` | limits of zones, trunks and accounts; calls that none stops |
//! | `target` | what the dial plan (crate `routing`) makes of a call, as places to try |
//! | [`resolve`] | peers that are known by name: RFC 3263 |
//! | `transport`, `transactions` | ways for octets to leave; RFC 3261 §17 |
//! | `event` | what happens, as operators name it |
//! | `quality` | how media sounded |
//! | `registration`, `trunk_registration`, `digest` | REGISTER relayed to the registrar; our own at a carrier |
//! | `call` | two legs, from INVITE to the record |
//! | `subscription`, `message` | RFC 6665 in two dialogs; MESSAGE, PUBLISH |
//! | `bodies` | what they carry, written anew |
//! | `offer_answer`, `keys`, `media_session`, `stream_leg`, `pinhole` | descriptions of one leg made for the other; their keys; leases, pinholes and relay streams |
//! | `policy` | what passes besides a call: fields, codecs |
//! | `outgoing` | everything that leaves, built from typed fields |
//! | `requests`, `timers`, `identity`, `counters`, `context` | what all of them use |

#![cfg_attr(
    not(test),
    forbid(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::disallowed_macros
    )
)]

mod admission;
mod bodies;
mod call;
mod context;
mod core;
mod counters;
mod digest;
mod dispatch;
mod dtmf;
mod event;
mod health;
mod identity;
mod invite;
pub mod io;
mod keys;
mod ledger;
mod media_session;
mod message;
mod offer_answer;
mod outgoing;
mod own_leases;
mod pinhole;
mod policy;
mod priority;
mod quality;
mod registration;
mod requests;
pub mod resolve;
mod stream;
mod stream_leg;
mod subscription;
mod surroundings;
mod target;
#[cfg(test)]
mod testing;
mod timers;
mod trace;
mod transactions;
mod transfer;
mod transport;
mod trunk_registration;

pub use crate::core::Core;
pub use io::{BrokerAnswer, ConnectionId, Input, Output};
