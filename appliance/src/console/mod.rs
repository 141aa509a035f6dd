//! The person at the serial line or screen: set-up wizard, status, repair menu. One process, `gatehouse-console`, sandboxed;
//! it has a control channel to init and the terminals that init hands over, and can ask for what `control::Command` names.
//!
//! | module | noun |
//! |---|---|
//! | [`key`] | bytes of a terminal → keys |
//! | [`screen`] | grid of characters → bytes of a terminal |
//! | [`terminal`] | one terminal: size, frames |
//! | [`page`] | texts, fields, buttons → grid |
//! | [`draft`] | what was typed → document, problems |
//! | `build` | draft → document, part by part |
//! | [`plan`] | dial plan that the wizard writes |
//! | [`steps`] | pages of the wizard |
//! | [`rules`] | document → words |
//! | [`menu`] | pages around the wizard |
//! | `operator` | log-in |
//! | `trial` | keep the new configuration or go back |
//! | `network` | network test → words |
//! | [`app`] | keys and messages in, page and messages out |
//! | `typing` | what a key does to the page that is shown |
//! | `shell` | descriptors and clock |
//!
//! # What init sends
//! - `Configuration` once at the start (empty: first set-up) and after each commit.
//! - `File { name: "console:…" }` with the terminal, opened for reading and writing and `O_NONBLOCK`.
//! - `Status`: lines `(key, value)` shown as they are. `warning`: shown above all else and on the wizard's first page;
//!   `certificate`: fingerprint of the management certificate, shown in the wizard too.
//! - `LogIn`, `Trial`, `NetworkTested`: what came of a log-in, a changed configuration, a network test.
//! - `Answer`: to `Ports` lines `name mac driver link`, where `Identify` counts those lines from 0 (its answer is
//!   `BLINKS` or such a list); to all others lines for the person.

pub mod app;
mod build;
pub mod draft;
pub mod key;
pub mod menu;
mod network;
mod operator;
pub mod page;
pub mod plan;
pub mod rules;
pub mod screen;
mod shell;
pub mod steps;
pub mod terminal;
#[cfg(test)]
mod tests;
mod trial;
mod typing;

pub use shell::serve;
