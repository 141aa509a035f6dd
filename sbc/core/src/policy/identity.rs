//! Who an address means, without where it is: what crosses of a name-addr in P-Asserted-Identity, Diversion and the like.
//! RFC 3325 §9, RFC 3966.

use broker_proto::policy::Rewrite;
use sbc_sip::{
    headers::{DisplayName, NameAddr},
    text::Text,
    uri::{Host, SipUri, TelUri, Uri},
};

use super::plain;
use crate::outgoing;

/// Characters of a user and of a display name that cross.
const USER: usize = 64;
const DISPLAY: usize = 128;

/// A user or number, maybe with a name to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    display: Option<String>,
    /// User part with its escapes resolved, or a global number.
    user: String,
    /// As a tel URI.
    tel: bool,
}

impl Identity {
    /// What an address means; `None`: nobody that could be named on the other side (no user, a local number with a
    /// context, a URI of another kind).
    pub(crate) fn of(address: &NameAddr) -> Option<Self> {
        let display = address
            .display
            .as_ref()
            .and_then(|display| plain::harmless(&display.to_plain(), DISPLAY));
        let (user, tel) = match &address.uri {
            Uri::Sip(uri) => (outgoing::plain_user(uri.user.as_ref()?), false),
            Uri::Tel(uri) => (tel_number(uri)?, true),
            Uri::Absolute(_) => return None,
        };
        // RFC 3261 §19.1.6: parameters of a telephone subscriber in the user part name contexts of the other side.
        let user = user.split(';').next().unwrap_or_default().to_owned();
        (!user.is_empty() && user.len() <= USER).then_some(Self { display, user, tel })
    }

    /// The address at a host of ours.
    pub(crate) fn at(&self, host: &Host, rewrite: Option<&Rewrite>) -> NameAddr {
        let user =
            rewrite.map_or_else(|| self.user.clone(), |rewrite| changed(&self.user, rewrite));
        let named = rewrite.and_then(|rewrite| rewrite.host.as_deref());
        let uri = if self.tel && named.is_none() && is_number(&user) {
            let text = format!("tel:{user}");
            text.parse::<Uri>().ok()
        } else {
            None
        };
        let uri = uri.unwrap_or_else(|| {
            let named = named.and_then(|named| Host::parse_text(named).ok());
            let host = named.unwrap_or_else(|| host.clone());
            Uri::Sip(SipUri::new(host).with_user(&user))
        });
        NameAddr::new(uri).with_display(self.display.as_deref().map(DisplayName::new))
    }
}

/// A user as a rewrite wants it.
pub(crate) fn changed(user: &str, rewrite: &Rewrite) -> String {
    if let Some(fixed) = &rewrite.user {
        return fixed.clone();
    }
    let rest: String = user.chars().skip(usize::from(rewrite.strip)).collect();
    format!("{}{rest}", rewrite.prepend)
}

/// A global number's digits. A local one means something within its context only, which is the other side's.
fn tel_number(uri: &TelUri) -> Option<String> {
    let digits: String = uri
        .number
        .chars()
        .filter(|character| character.is_ascii_digit() || *character == '+')
        .collect();
    is_number(&digits).then_some(digits)
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (1..=32).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit())
    })
}

/// RFC 3323 §4.1.1.3.
pub(crate) fn anonymous() -> NameAddr {
    let host = Host::Name(Text::from_static("anonymous.invalid"));
    NameAddr::new(SipUri::new(host).with_user("anonymous"))
        .with_display(Some(DisplayName::new("Anonymous")))
}

#[cfg(test)]
mod tests {
    use broker_proto::policy::AddressField;

    use super::*;

    fn crossed(text: &str, rewrite: Option<&Rewrite>) -> Option<String> {
        let host = Host::parse_text("gate.test").unwrap();
        Some(
            Identity::of(&text.parse().unwrap())?
                .at(&host, rewrite)
                .to_string(),
        )
    }

    #[test]
    fn an_identity_crosses_without_its_host_and_parameters() {
        for (text, expected) in [
            (
                "\"Bob\" <sip:bob:pw@pbx.lan:5070;x=y?z=1>;q=1",
                Some("\"Bob\" <sip:bob@gate.test>"),
            ),
            ("<tel:+49-30-555>;x=1", Some("<tel:+4930555>")),
            (
                "<sip:+4930;phone-context=pbx.lan@a.b;user=phone>",
                Some("<sip:+4930@gate.test>"),
            ),
            ("<tel:1001;phone-context=pbx.lan>", None),
            ("<sip:pbx.lan>", None),
            ("<urn:service:sos>", None),
        ] {
            assert_eq!(crossed(text, None).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_rewrite_changes_user_and_host() {
        let mut rewrite = Rewrite {
            field: AddressField::PAssertedIdentity,
            user: None,
            host: Some("carrier.example".into()),
            strip: 2,
            prepend: "+49".into(),
        };
        let changed = crossed("<sip:0030555@pbx.lan>", Some(&rewrite));
        assert_eq!(changed.as_deref(), Some("<sip:+4930555@carrier.example>"));
        rewrite.user = Some("+49301".into());
        rewrite.host = None;
        let fixed = crossed("<tel:+1>", Some(&rewrite));
        assert_eq!(fixed.as_deref(), Some("<tel:+49301>"));
    }
}
