//! The laboratory in memory: a clock that jumps, a network drawn from a seed, phones, a PBX and carriers as simple
//! scripted user agents, and a firewall that grants everything it is asked for in order.

mod agent;
mod firewall;
pub(crate) mod marks;
mod scenarios;
mod settings;
mod simulation;
mod text;
mod world;

use std::time::Instant;

pub(crate) use agent::{Agent, Script, State};
pub(crate) use settings::{EXTERNAL, INTERNAL, settings};
pub(crate) use text::{Message, audio, bracketed, parameter};
pub(crate) use world::{Network, Wire, World};

/// The one moment that is taken from the real clock; everything else is counted from it.
#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made in any other way"
)]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}
