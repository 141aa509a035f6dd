//! A phone's registration as the sbc leaves it with the firewall, which outlives it: what the next sbc needs to find the
//! phone again, and nothing that proves anything. No secret, no credential. Sent in batches by `KeepBindings`, asked back
//! by `RecallBindings`.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::settings::{Transport, ZoneId};

/// Octets of all texts of one binding at most; the firewall refuses a longer one.
pub const MAX_OCTETS: usize = 1024;

/// Bindings (kept and forgotten together) of one message at most.
pub const MAX_BATCH: usize = 48;

/// Seconds that one is kept for at most, whatever is said: what a captured sbc leaves behind ends by then.
pub const MAX_SECONDS: u32 = 7200;

/// Name of a binding: the user part of its contact at the registrar.
pub type BindingToken = [u8; 12];

/// One binding. RFC 3261 §10, RFC 5626.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBinding {
    /// Its name.
    pub token: BindingToken,
    /// Zone of the way to the phone.
    pub zone: ZoneId,
    /// Transport of the listener that it came by.
    pub transport: Transport,
    /// Own end.
    pub local: SocketAddr,
    /// Far end.
    pub peer: SocketAddr,
    /// User part of the address-of-record.
    pub user: String,
    /// Contact as the phone gave it: a SIP URI.
    pub contact: String,
    /// Proxies between us and the phone (RFC 3327).
    pub path: Vec<String>,
    /// Instance and number of the flow (RFC 5626).
    pub outbound: Option<(String, u32)>,
    /// Preference in thousandths.
    pub q: u16,
    /// Seconds that the phone was told.
    pub told: u32,
    /// Seconds that the registrar granted.
    pub granted: u32,
    /// Seconds until the registrar's own binding ends.
    pub left: u32,
    /// Call-ID of the REGISTER that it was confirmed by.
    pub call_id: String,
    /// CSeq of that.
    pub cseq: u32,
}

impl KeptBinding {
    /// Octets of its texts, each proxy and each text with a little for its own length.
    #[must_use]
    pub fn octets(&self) -> usize {
        let path = self.path.iter().map(|proxy| proxy.len() + 8).sum::<usize>();
        let instance = self.outbound.as_ref().map_or(0, |(name, _)| name.len());
        self.user.len() + self.contact.len() + path + instance + self.call_id.len()
    }
}
