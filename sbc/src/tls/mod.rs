//! SIP over TLS (RFC 3261 §26.3, RFC 5630): rustls does the protocol, the keyholder has the keys. A handshake costs a key
//! exchange and waits for a signature, so it is done by threads of its own and never by the signalling thread; what follows
//! it (records) is.
//!
//! | module | noun |
//! |---|---|
//! | [`profile`] | versions, cipher suites, groups |
//! | [`desk`] | signatures asked of the keyholder |
//! | [`certificates`] | our chains, which of them is shown |
//! | [`peer_name`] | whom a certificate speaks for (RFC 5922) |
//! | [`sessions`] | what may be resumed |
//! | [`verifier`] | who must show a certificate, and which |
//! | [`contexts`] | settings and chains as rustls wants them |
//! | [`handshakes`] | the threads |

pub mod certificates;
pub mod contexts;
pub mod desk;
pub mod handshakes;
pub mod peer_name;
pub mod profile;
pub mod sessions;
pub mod verifier;
