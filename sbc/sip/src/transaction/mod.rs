//! Transactions: RFC 3261 §17 with the Accepted states of RFC 6026. [`ClientTransaction`] and [`ServerTransaction`] are one
//! state machine each, [`Layer`] matches messages to them and keeps their clock. Who owns a layer drains `poll_transmit` and
//! `poll_event` after each input and calls `handle_timeout` when `poll_timeout` says so.

mod client;
mod key;
mod layer;
mod server;
#[cfg(test)]
mod tests;
mod timers;

pub use client::{ClientEvent, ClientState, ClientTransaction, ack_for, cancel_for};
pub use layer::{
    ClientId, Event, Flow, Inbound, Layer, LayerLimits, Outcome, ServerId, TableFull, Transmit,
};
pub use server::{ServerEvent, ServerState, ServerTransaction};
pub use timers::Timers;
