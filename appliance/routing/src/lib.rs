//! Where a call goes and why: the dial plan of [`broker_proto::settings`] as pure functions. The sbc's core decides by it,
//! and `gatehouse-config route` prints its steps, so that what an operator reads is what happens.
//!
//! | module | noun |
//! |---|---|
//! | [`caller`] | who calls, and by whose habits the number was dialled |
//! | [`number`] | a dialled user or tel URI as an E.164 number, and back (RFC 3966) |
//! | `pattern` | whether a number fits a route |
//! | [`clock`] | whether a route is for this hour |
//! | [`table`] | the first route, its trunks in their order |
//! | [`explain`] | the steps of a decision |
//!
//! No clock, socket or randomness: what lives (which trunk is up, how many calls it has, the lot) comes by [`table::Live`].

#![cfg_attr(
    not(test),
    forbid(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::disallowed_macros
    )
)]

pub mod caller;
pub mod clock;
pub mod explain;
pub mod number;
mod pattern;
pub mod table;

pub use caller::Caller;
pub use explain::{Explain, Silent, Step};
pub use number::{Dialled, format, normalise, plain};
pub use pattern::{class_matches, fits};
pub use table::{
    Called, Goal, Live, NoWay, TrunkState, TrunkTry, Way, calling_for, find, is_emergency,
};
