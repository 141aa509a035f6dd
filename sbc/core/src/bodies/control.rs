//! `application/media_control+xml`: a picture is asked for. RFC 5168. Nothing of what came in is in what leaves.

use roxmltree::{Document, ParsingOptions};

/// RFC 5168 §7.
pub(super) const PICTURE_FAST_UPDATE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n\
    <media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive></media_control>\r\n";

/// Whether a document asks for a picture.
pub(super) fn asks_for_picture(text: &str) -> bool {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: 64,
    };
    let path = ["media_control", "vc_primitive", "to_encoder"];
    Document::parse_with_options(text, options).is_ok_and(|document| {
        document.descendants().any(|node| {
            let mut above = node.ancestors().skip(1).filter(roxmltree::Node::is_element);
            node.is_element()
                && node.tag_name().name() == "picture_fast_update"
                && path
                    .iter()
                    .rev()
                    .all(|name| above.next().is_some_and(|up| up.tag_name().name() == *name))
        })
    })
}
