//! Keys of one media line on one leg by SDES: what we give and what we take. RFC 4568; RFC 7714 and RFC 6188 for the suites.
//!
//! A leg that is to be sealed never falls back: without a key that both sides know the line is refused. Keys go by a leg
//! only where its signalling is sealed itself, or inside the organisation's own zone.

use sbc_media::srtp::{MasterKey, Security, Suite};
use sbc_sip::{
    sdp::{Attribute, Crypto, Media},
    text::Text,
};
use zeroize::Zeroizing;

use crate::identity::Identity;

/// Key lines of one description that are looked at.
const LINES: usize = 16;
/// Session parameters that change nothing that we send (RFC 4568 §6.3.6); any other refuses its line.
const HARMLESS: &str = "WSH=";

/// Protocol of a line that is sealed by keys in the description, and of one in the clear.
pub(crate) const SEALED: &str = "RTP/SAVP";
/// See [`SEALED`].
pub(crate) const CLEAR: &str = "RTP/AVP";

/// Our keys of a line on a leg, each under the tag and suite that it stands for.
#[derive(Clone)]
pub(crate) struct Keys {
    ours: Vec<(u32, MasterKey)>,
}

impl Keys {
    /// For an offer of ours: one of each suite, best first.
    pub(crate) fn offering(identity: &mut Identity) -> Self {
        let ours = (1..)
            .zip(Suite::ALL)
            .filter_map(|(tag, suite)| Some((tag, identity.master_key(suite)?)))
            .collect();
        Self { ours }
    }

    /// For an answer of ours to the best of their keys; a key of ours that stood under the same tag and suite stays.
    /// `None`: there is none that we may take.
    pub(crate) fn answering(
        identity: &mut Identity,
        offered: &Media,
        before: Option<&Self>,
    ) -> Option<Self> {
        let (tag, theirs) = given(offered).min_by_key(|(tag, key)| (key.suite(), *tag))?;
        let suite = theirs.suite();
        let ours = match before.and_then(|before| before.ours(tag, suite)) {
            Some(kept) => kept.clone(),
            None => identity.master_key(suite)?,
        };
        Some(Self {
            ours: vec![(tag, ours)],
        })
    }

    /// The lines that a description of ours has.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = Attribute> + '_ {
        self.ours.iter().map(|(tag, key)| {
            let inline = Zeroizing::new(format!("inline:{}", key.to_base64().as_str()));
            let suite = Text::from_static(key.suite().name());
            Attribute::Crypto(Crypto::new(*tag, suite, inline))
        })
    }

    /// Both directions, as far as their description agrees with ours.
    pub(crate) fn agreed(&self, described: &Media) -> Option<Security> {
        given(described)
            .filter_map(|(tag, theirs)| {
                let ours = self.ours(tag, theirs.suite())?;
                Some(Security {
                    inward: theirs,
                    outward: ours.clone(),
                })
            })
            .min_by_key(|security| security.inward.suite())
    }

    fn ours(&self, tag: u32, suite: Suite) -> Option<&MasterKey> {
        self.ours
            .iter()
            .find(|(own, key)| *own == tag && key.suite() == suite)
            .map(|(_, key)| key)
    }
}

/// Whether a line is to be sealed.
pub(crate) fn is_sealed(line: &Media) -> bool {
    line.proto.eq_ignore_ascii_case(SEALED)
}

/// Whether a line can be sealed with one of its keys.
pub(crate) fn has_key(line: &Media) -> bool {
    given(line).next().is_some()
}

/// Their keys that we may take.
fn given(line: &Media) -> impl Iterator<Item = (u32, MasterKey)> + '_ {
    line.attributes
        .iter()
        .filter_map(|attribute| match attribute {
            Attribute::Crypto(crypto) => Some(crypto),
            _ => None,
        })
        .take(LINES)
        .filter_map(|crypto| Some((crypto.tag, key_of(crypto)?)))
}

/// One key, with a lifetime maybe. Several keys and master key identifiers are not spoken.
fn key_of(crypto: &Crypto) -> Option<MasterKey> {
    let suite = Suite::of(&crypto.suite)?;
    if !crypto.session.iter().all(|word| word.starts_with(HARMLESS)) {
        return None;
    }
    let text = crypto.dangerous_keys().strip_prefix("inline:")?;
    let (key, rest) = text.split_once('|').unwrap_or((text, ""));
    // A lifetime has no colon; a master key identifier has (RFC 4568 §6.1).
    if key.contains(';') || rest.contains([':', ';', '|']) {
        return None;
    }
    MasterKey::from_base64(suite, key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer_answer;

    fn line(crypto: &str) -> Media {
        let text = format!(
            "v=0\r\no=- 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 8\r\n{crypto}"
        );
        offer_answer::read(text.as_bytes()).unwrap().media.remove(0)
    }

    const KEY_128: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    fn identity() -> Identity {
        Identity::new([3; 32])
    }

    #[test]
    fn the_answer_takes_the_best_suite_under_its_tag() {
        let gcm = "A".repeat(38) + "==";
        let offered = line(&format!(
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_128}\r\na=crypto:7 AEAD_AES_128_GCM inline:{gcm}\r\n"
        ));
        let keys = Keys::answering(&mut identity(), &offered, None).unwrap();
        let ours: Vec<_> = keys.attributes().collect();
        assert!(
            matches!(&ours[..], [Attribute::Crypto(own)] if own.tag == 7 && own.suite == "AEAD_AES_128_GCM")
        );
        let agreed = keys.agreed(&offered).unwrap();
        assert_eq!(agreed.inward.suite(), Suite::AeadAes128Gcm);
        assert_ne!(agreed.inward, agreed.outward);
    }

    #[test]
    fn our_key_stays_when_the_same_suite_is_offered_again() {
        let offered = line(&format!(
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_128}\r\n"
        ));
        let mut identity = identity();
        let first = Keys::answering(&mut identity, &offered, None).unwrap();
        let again = Keys::answering(&mut identity, &offered, Some(&first)).unwrap();
        assert_eq!(
            first.agreed(&offered).unwrap(),
            again.agreed(&offered).unwrap()
        );
    }

    #[test]
    fn what_weakens_a_key_refuses_it() {
        for refused in [
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_128} UNENCRYPTED_SRTP\r\n"),
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_128} UNAUTHENTICATED_SRTP\r\n"),
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_128}|2^20|1:4\r\n"),
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_128};inline:{KEY_128}\r\n"),
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:{KEY_128}\r\n"),
            format!("a=crypto:1 F8_128_HMAC_SHA1_80 inline:{KEY_128}\r\n"),
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2hvcnQ=\r\n".to_owned(),
            String::new(),
        ] {
            assert!(!has_key(&line(&refused)), "{refused}");
        }
        let lifetime = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_128}|2^20\r\n");
        assert!(has_key(&line(&lifetime)));
        let hint = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_128} WSH=64\r\n");
        assert!(has_key(&line(&hint)));
    }

    #[test]
    fn an_answer_under_another_tag_or_suite_agrees_to_nothing() {
        let keys = Keys::offering(&mut identity());
        let cm = Suite::ALL
            .iter()
            .position(|suite| *suite == Suite::AesCm128HmacSha1)
            .unwrap()
            + 1;
        let answer = |tag: usize| {
            line(&format!(
                "a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY_128}\r\n"
            ))
        };
        assert!(keys.agreed(&answer(cm)).is_some());
        assert!(keys.agreed(&answer(cm - 1)).is_none());
        assert!(keys.agreed(&answer(9)).is_none());
    }
}
