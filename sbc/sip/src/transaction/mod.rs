//! Transactions: RFC 3261 §17 with the Accepted states of RFC 6026. One state machine for each side, and a [`Layer`] that
//! matches messages to them, bounds their number and keeps their clock. Who owns a layer drains `poll_transmit` and
//! `poll_event` after each input and calls `handle_timeout` when `poll_timeout` says so. `sbc-core` owns one.

mod client;
mod key;
mod layer;
mod server;
#[cfg(test)]
mod tests;
mod timers;

pub use client::ClientEnd;
pub use layer::{ClientId, Event, Flow, Layer, LayerLimits, Of, ServerId, TableFull, Transmit};
pub use server::ServerEnd;
pub use timers::Timers;
