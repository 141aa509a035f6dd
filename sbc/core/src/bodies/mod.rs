//! Bodies besides session descriptions on their way to the other side: read by their type, written anew from what may
//! cross, with our host in every address. A type that is not listed, or one that does not read as it should, is refused.
//! Used by subscriptions, messages, publications and INFO.
//!
//! | module | noun |
//! |---|---|
//! | `document` | XML taken apart and put together by a list of what is in it |
//! | `dialog_info`, `presence`, `conference` | RFC 4235, RFC 3863 with RFC 4480, RFC 4575 |
//! | `summary` | RFC 3842 |
//! | `control` | RFC 5168 |
//! | `told` | names of dialogs that subscribers were told of |

mod conference;
mod control;
mod dialog_info;
mod document;
mod presence;
mod summary;
mod told;

use broker_proto::policy::EventPackage;
use sbc_sip::{headers::MediaType, message::BodyPart, text::Text, uri::Host};

use crate::identity::Identity;

pub(crate) use told::Told;

/// Octets of a body that is read at most.
const OCTETS: usize = 32_768;

/// A body as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) kind: MediaType,
    pub(crate) bytes: Vec<u8>,
}

/// How names of one side are written for the other.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    /// Our host on the side that the body goes to.
    pub(crate) host: &'a Host,
    /// Draws names of our own for identifiers.
    pub(crate) identity: &'a Identity,
}

/// The only body type of an event package that crosses: type and subtype.
pub(crate) const fn kind_of(package: EventPackage) -> (&'static str, &'static str) {
    match package {
        EventPackage::MessageSummary => ("application", "simple-message-summary"),
        EventPackage::Presence => ("application", "pidf+xml"),
        EventPackage::Dialog => ("application", "dialog-info+xml"),
        EventPackage::Conference => ("application", "conference-info+xml"),
    }
}

/// The media type of a package's body.
pub(crate) fn media_type(package: EventPackage) -> MediaType {
    let (kind, subtype) = kind_of(package);
    MediaType::new(Text::from_static(kind), Text::from_static(subtype))
}

/// The state of a package for the other side; `None`: it is of another type or does not read as one.
pub(crate) fn state(package: EventPackage, body: &BodyPart<'_>, names: Names<'_>) -> Option<Body> {
    let (kind, subtype) = kind_of(package);
    if !body.kind.is(kind, subtype) || body.encoded || body.bytes.len() > OCTETS {
        return None;
    }
    let text = std::str::from_utf8(body.bytes).ok()?;
    let written = match package {
        EventPackage::MessageSummary => summary::rewritten(text, names)?,
        EventPackage::Presence => document::rewritten(text, &presence::PRESENCE, names)?,
        EventPackage::Dialog => document::rewritten(text, &dialog_info::DIALOG_INFO, names)?,
        EventPackage::Conference => document::rewritten(text, &conference::CONFERENCE, names)?,
    };
    Some(Body {
        kind: media_type(package),
        bytes: written.into_bytes(),
    })
}

/// RFC 3428: text that people read crosses as it is, with nothing but its characters. `None`: another type.
pub(crate) fn plain_text(body: &BodyPart<'_>) -> Option<Body> {
    let charset = body.kind.params.value("charset");
    let utf8 = charset.is_none_or(|charset| {
        charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
    });
    let text = std::str::from_utf8(body.bytes).ok()?;
    let good = body.kind.is("text", "plain") && utf8 && !body.encoded && !text.contains('\0');
    let params =
        sbc_sip::Params::new().with(Text::from_static("charset"), Text::from_static("utf-8"));
    good.then(|| Body {
        kind: MediaType {
            params,
            ..MediaType::new(Text::from_static("text"), Text::from_static("plain"))
        },
        bytes: body.bytes.to_vec(),
    })
}

/// RFC 5168: the one request that a picture be sent anew. `None`: anything else.
pub(crate) fn picture_fast_update(body: &BodyPart<'_>) -> Option<Body> {
    let text = std::str::from_utf8(body.bytes).ok()?;
    let asked = body.kind.is("application", "media_control+xml")
        && body.bytes.len() <= OCTETS
        && control::asks_for_picture(text);
    asked.then(|| Body {
        kind: MediaType::new(
            Text::from_static("application"),
            Text::from_static("media_control+xml"),
        ),
        bytes: control::PICTURE_FAST_UPDATE.as_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(package: EventPackage, text: &str) -> Option<String> {
        let host = Host::parse_text("gate.test").unwrap();
        let names = Names {
            host: &host,
            identity: &Identity::new([7; 32]),
        };
        let body = BodyPart::new(media_type(package), text.as_bytes());
        state(package, &body, names).map(|body| String::from_utf8(body.bytes).unwrap())
    }

    #[test]
    fn a_message_summary_keeps_its_counts_alone() {
        let crossed = crossed(
            EventPackage::MessageSummary,
            "Messages-Waiting: yes\r\nMessage-Account: sip:1001@pbx.lan;x=pbx\r\nVoice-Message: 2/8 (0/2)\r\n\
             X-Pbx: 1/2\r\nFax-Message: pbx\r\n\r\nSubject: pbx\r\n",
        );
        assert_eq!(
            crossed.as_deref(),
            Some(
                "Messages-Waiting: yes\r\nMessage-Account: sip:1001@gate.test\r\nVoice-Message: 2/8 (0/2)\r\n"
            )
        );
        assert_eq!(
            super::tests::crossed(EventPackage::MessageSummary, "Voice-Message: 1/1\r\n"),
            None
        );
    }

    #[test]
    fn dialog_information_names_people_and_no_dialog_of_the_other_side() {
        let text = "<?xml version=\"1.0\"?><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"3\" \
            state=\"full\" entity=\"sip:1001@pbx.lan\"><dialog id=\"pbx-1\" call-id=\"pbx-2\" local-tag=\"pbx-3\" \
            direction=\"recipient\"><state event=\"pbx\" code=\"180\">early</state><local><identity display=\"Bob\">\
            sip:1001@10.0.0.1</identity><target uri=\"sip:1001@10.0.0.1:5070;x=pbx\"><param pname=\"pbx\"/></target>\
            </local><remote><identity display=\"pbx.lan\">tel:+4930</identity><session-description>pbx\
            </session-description></remote><route-set><hop>pbx</hop></route-set></dialog><pbx/></dialog-info>";
        let crossed = crossed(EventPackage::Dialog, text).unwrap();
        assert!(
            !crossed.contains("pbx") && !crossed.contains("10.0.0.1"),
            "{crossed}"
        );
        for kept in [
            "version=\"3\" state=\"full\" entity=\"sip:1001@gate.test\"",
            "direction=\"recipient\"><state code=\"180\">early</state><local><identity display=\"Bob\">\
             sip:1001@gate.test</identity><target uri=\"sip:1001@gate.test\"/></local>",
            "<remote><identity>tel:+4930</identity></remote>",
        ] {
            assert!(crossed.contains(kept), "{kept}\n{crossed}");
        }
    }

    #[test]
    fn presence_keeps_status_note_and_activity() {
        let text = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:d=\"urn:ietf:params:xml:ns:pidf:data-model\" \
            xmlns:r=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"pres:bob@pbx.lan\"><tuple id=\"pbx\"><status><basic>open\
            </basic><x:pbx xmlns:x=\"pbx\">pbx</x:pbx></status><contact priority=\"0.8\">sip:bob@10.0.0.1:5070</contact>\
            <note>Gone &amp; back</note><timestamp>2026-01-02T03:04:05Z</timestamp></tuple><d:person id=\"pbx\">\
            <r:activities><r:on-the-phone/><r:pbx/></r:activities></d:person></presence>";
        let crossed = crossed(EventPackage::Presence, text).unwrap();
        assert!(
            !crossed.contains("pbx") && !crossed.contains("10.0.0.1"),
            "{crossed}"
        );
        for kept in [
            "entity=\"sip:bob@gate.test\"",
            "<basic>open</basic>",
            "<contact priority=\"0.8\">sip:bob@gate.test</contact><note>Gone &amp; back</note>",
            "<timestamp>2026-01-02T03:04:05Z</timestamp>",
            "<rpid:activities><rpid:on-the-phone/></rpid:activities>",
        ] {
            assert!(crossed.contains(kept), "{kept}\n{crossed}");
        }
    }

    #[test]
    fn a_conference_keeps_its_participants() {
        let text = "<conference-info xmlns=\"urn:ietf:params:xml:ns:conference-info\" entity=\"sip:c1@pbx.lan\" \
            state=\"full\" version=\"1\"><conference-description><display-text>Monday</display-text><conf-uris><entry>\
            <uri>tel:pbx</uri></entry></conf-uris></conference-description><host-info><web-page>http://pbx</web-page>\
            </host-info><users><user entity=\"sip:bob@pbx.lan\" state=\"full\"><display-text>Bob</display-text><endpoint \
            entity=\"sip:bob@10.0.0.1\"><status>connected</status><call-info><sip><call-id>pbx</call-id></sip></call-info>\
            <media id=\"pbx\"><type>audio</type><src-id>12</src-id></media></endpoint></user></users></conference-info>";
        let crossed = crossed(EventPackage::Conference, text).unwrap();
        assert!(
            !crossed.contains("pbx") && !crossed.contains("10.0.0.1"),
            "{crossed}"
        );
        assert!(crossed.contains(
            "<user entity=\"sip:bob@gate.test\" state=\"full\"><display-text>Bob</display-text>"
        ));
        assert!(crossed.contains("<status>connected</status>"), "{crossed}");
    }

    #[test]
    fn documents_of_another_shape_are_refused() {
        for text in [
            "",
            "<a/>",
            "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\"/>",
            "<!DOCTYPE p [<!ENTITY e \"x\">]><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:a@b\"/>",
            "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:a@b\">",
        ] {
            assert_eq!(crossed(EventPackage::Presence, text), None, "{text}");
        }
        let deep = format!(
            "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:a@b\">{}{}</presence>",
            "<x>".repeat(5_000),
            "</x>".repeat(5_000)
        );
        assert_eq!(crossed(EventPackage::Presence, &deep), None);
    }

    #[test]
    fn a_picture_is_asked_for_in_our_own_words() {
        let kind = MediaType::new("application", "media_control+xml");
        let asked = "<media_control><vc_primitive><to_encoder><picture_fast_update>pbx</picture_fast_update></to_encoder>\
            </vc_primitive></media_control>";
        let body = picture_fast_update(&BodyPart::new(kind.clone(), asked.as_bytes())).unwrap();
        assert_eq!(body.bytes, control::PICTURE_FAST_UPDATE.as_bytes());
        for other in ["<media_control/>", "<picture_fast_update/>", "pbx"] {
            assert!(picture_fast_update(&BodyPart::new(kind.clone(), other.as_bytes())).is_none());
        }
    }
}
