//! RTP, RTCP and SRTP: pure. Bytes and events go in with their `now`, verdicts and events come out; sockets, clock and threads
//! belong to the shell.
//!
//! | module | noun | standard |
//! |---|---|---|
//! | [`demux`] | what a datagram is by its first octets | RFC 7983, 5761 |
//! | [`rtp`] | the header of a media packet | RFC 3550 §5.1 |
//! | [`rtcp`] | a compound of reports | RFC 3550 §6.1 |
//! | [`reception`] | loss and jitter of one source | RFC 3550 A.1, A.3, A.8 |
//! | [`srtp`] | packets sealed and opened | RFC 3711, 4568, 6188, 7714 |
//! | [`relay`] | streams of two legs, the contract with the core | RFC 7092 |

#![cfg_attr(
    not(test),
    forbid(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::disallowed_macros
    )
)]

pub mod demux;
mod reader;
pub mod reception;
pub mod relay;
pub mod rtcp;
pub mod rtp;
pub mod srtp;

/// The one moment from which every test counts.
#[cfg(test)]
#[allow(clippy::disallowed_methods)]
pub(crate) fn epoch() -> std::time::Instant {
    std::time::Instant::now()
}
