//! SRTP (RFC 3711) with the suites of RFC 4568, RFC 6188 and RFC 7714: one [`Session`] for each direction of a leg.
//! Packets are changed in place; nothing is allocated after a session's first packets of each source.
//!
//! | module | noun |
//! |---|---|
//! | `suite` | what is spoken, and its sizes |
//! | `master` | a master key, read and written as SDES has it |
//! | `keys` | session keys out of a master key |
//! | `window` | which indices were seen |
//! | `session` | packets of one direction: sealed or opened |

mod keys;
mod master;
mod session;
mod suite;
#[cfg(test)]
mod tests;
mod window;

pub use master::MasterKey;
pub use session::{Refused, Session};
pub use suite::Suite;

/// Octets that sealing adds to a packet at most: tag and SRTCP index.
pub const OVERHEAD: usize = 20;

/// Both directions of a leg.
#[derive(Clone, PartialEq, Eq)]
pub struct Security {
    /// Opens what the far end sends.
    pub inward: MasterKey,
    /// Seals what is sent to it.
    pub outward: MasterKey,
}

impl core::fmt::Debug for Security {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.inward.suite().name())
    }
}
