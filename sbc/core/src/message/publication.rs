//! Entity tags of publications: the compositor's tag stays on its side, the publisher gets one of ours for it.
//! RFC 3903 §5.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sbc_sip::text::Text;

use crate::identity::Identity;

/// Publications at once.
const PUBLICATIONS: usize = 10_000;
/// Octets of a tag.
const TAG: usize = 256;

/// Tags of ours, each with the other side's and when it is over.
#[derive(Default)]
pub(super) struct Publications(BTreeMap<String, (Text, Instant)>);

impl Publications {
    /// A tag of ours for one that lasts so many seconds. `None`: the publication is over or there is no room.
    pub(super) fn ours(
        &mut self,
        now: Instant,
        seconds: u32,
        theirs: &Text,
        identity: &mut Identity,
    ) -> Option<Text> {
        self.0.retain(|_, (_, until)| *until > now);
        if seconds == 0 || self.0.len() >= PUBLICATIONS || theirs.len() > TAG {
            return None;
        }
        let ours = identity.name();
        let until = now + Duration::from_secs(u64::from(seconds));
        self.0.insert(ours.clone(), (theirs.detached(), until));
        Some(Text::from(ours))
    }

    /// The other side's tag for one of ours.
    pub(super) fn theirs(&self, now: Instant, ours: &str) -> Option<Text> {
        let (theirs, until) = self.0.get(ours)?;
        (*until > now).then(|| theirs.clone())
    }
}
