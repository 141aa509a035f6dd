//! The shell: descriptors, clock, threads; no decision longer than an if.
//!
//! One signalling thread runs the core, one media thread for each core relays, one health thread tells the firewall that
//! all of them move. Every descriptor comes from another process by message; nothing is opened here.
//!
//! | module | noun |
//! |---|---|
//! | [`start`] | from `main` to serving, in the only right order |
//! | [`signalling`] | the signalling thread: inputs in, outputs out |
//! | [`engine`] | the core as the shell sees it |
//! | [`media`] | the media threads |
//! | [`health`] | the health thread |
//! | [`link`] | message channels to other processes |
//! | [`socket`] | lent descriptors |

pub mod engine;
pub mod health;
pub mod link;
pub mod media;
pub mod signalling;
pub mod socket;
pub mod start;
