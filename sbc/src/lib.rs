//! The shell: descriptors, clock, threads; no decision longer than an if.
//!
//! One signalling thread runs the core, one media thread for each core relays, a few threads do TLS handshakes, one health
//! thread tells the firewall that signalling and media move. Every descriptor comes from another process by message; nothing is opened here.
//!
//! | module | noun |
//! |---|---|
//! | [`start`] | from `main` to serving, in the only right order |
//! | [`signalling`] | the signalling thread: inputs in, outputs out |
//! | [`engine`] | the core as the shell sees it |
//! | [`media`] | the media threads |
//! | [`stack`] | TLS and WebSocket between a connection and SIP |
//! | [`tls`] | certificates, verification, handshake threads |
//! | [`websocket`] | SIP over WebSocket |
//! | [`health`] | the health thread |
//! | [`link`] | message channels to other processes |
//! | [`socket`] | lent descriptors |

pub mod engine;
pub mod health;
pub mod link;
pub mod media;
pub mod signalling;
pub mod socket;
pub mod stack;
pub mod start;
pub mod tls;
pub mod websocket;
