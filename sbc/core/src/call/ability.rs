//! What a leg's far end can do, as its Allow, Supported and Require say. RFC 3261 §20.5, §20.32 and §20.37. One in each
//! leg; asked before anything is sent that not everybody understands.

use sbc_sip::{headers::Headers, method::Method, text::Text};

/// Extensions of a far end. Nothing is taken for granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ability {
    /// It takes UPDATE (RFC 3311).
    pub(crate) update: bool,
    /// It confirms provisional responses (RFC 3262).
    pub(crate) reliable: bool,
    /// It wants no provisional response that is not confirmed.
    pub(crate) reliable_only: bool,
    /// It keeps session timers (RFC 4028).
    pub(crate) timer: bool,
    /// It wants to hear of early dialogs that end (RFC 6228).
    pub(crate) early_terminated: bool,
    /// It replaces a dialog by another (RFC 3891).
    pub(crate) replaces: bool,
    /// It takes REFER (RFC 3515).
    pub(crate) refer: bool,
}

impl Ability {
    /// Take note of what a message says. What it is silent about stays as it was.
    pub(crate) fn learn(&mut self, headers: &Headers) {
        if let Some(methods) = headers.allow() {
            self.update = methods.contains(&Method::Update);
            self.refer = methods.contains(&Method::Refer);
        }
        let required = headers.require().unwrap_or_default();
        if let Some(supported) = headers.supported() {
            let has = |tag| has(supported, tag) || has(required, tag);
            self.reliable = has("100rel");
            self.timer = has("timer");
            self.early_terminated = has("199");
            self.replaces = has("replaces");
        }
        self.reliable |= has(required, "100rel");
        self.reliable_only |= has(required, "100rel");
        self.timer |= has(required, "timer");
    }
}

/// Whether an option tag is in a list.
pub(crate) fn has(tags: &[Text], tag: &str) -> bool {
    tags.iter().any(|have| have.eq_ignore_ascii_case(tag))
}

#[cfg(test)]
mod tests {
    use sbc_sip::{
        headers::{CallId, Cseq, Field, NameAddr},
        uri::{Host, SipUri},
    };

    use super::*;

    fn headers(fields: Vec<Field>) -> Headers {
        let address = NameAddr::new(SipUri::new(Host::Address("192.0.2.1".parse().unwrap())));
        let cseq = Cseq {
            number: 1,
            method: Method::Invite,
        };
        let mut headers =
            Headers::new(Vec::new(), address.clone(), address, CallId::new("x"), cseq);
        headers.fields = fields;
        headers
    }

    #[test]
    fn a_later_message_that_says_nothing_takes_nothing_away() {
        let mut ability = Ability::default();
        ability.learn(&headers(vec![
            Field::Allow(vec![Method::Update]),
            Field::Supported(vec!["timer".into()]),
        ]));
        ability.learn(&headers(Vec::new()));
        assert!(ability.update && ability.timer && !ability.reliable);
        ability.learn(&headers(vec![Field::Allow(vec![Method::Invite])]));
        assert!(!ability.update && ability.timer);
    }

    #[test]
    fn what_is_required_is_supported_whatever_supported_says() {
        let mut ability = Ability::default();
        ability.learn(&headers(vec![
            Field::Supported(Vec::new()),
            Field::Require(vec!["100REL".into()]),
        ]));
        assert!(ability.reliable);
    }
}
