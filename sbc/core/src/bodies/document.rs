//! XML taken apart and put together again by a list of what is in it: elements, attributes and text that the list does not
//! name are left out, values must have their shape. No document type, no entity of its own, bounded in nodes and depth.

use roxmltree::{Document, Node, ParsingOptions};
use sbc_sip::{headers::NameAddr, uri::Uri};

use super::{Names, told};
use crate::policy::{identity::Identity, plain};

/// Nodes of a document.
const NODES: u32 = 4_096;
/// Elements inside one another.
const DEPTH: usize = 12;
/// Characters of text that people read.
const PLAIN: usize = 128;

/// The shape of an attribute or text.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// One of these.
    Words(&'static [&'static str]),
    /// At most nine digits.
    Number,
    /// A number from 0 to 1 with at most three decimals.
    Fraction,
    /// `true` or `false`.
    Boolean,
    /// RFC 3339.
    Time,
    /// A URI: its user at our host.
    Address,
    /// Text that people read.
    Plain,
    /// A name that only has to be the same for the same: one of our own.
    Name,
    /// A Call-ID or tag of a dialog: a name of ours by which it may be asked for.
    Dialog,
}

/// An attribute that may be there.
pub(super) struct Attribute {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Without it the element is left out.
    pub(super) needed: bool,
}

/// An element that may be there.
pub(super) struct Element {
    /// Index into the namespaces of its schema.
    pub(super) namespace: usize,
    pub(super) name: &'static str,
    pub(super) attributes: &'static [Attribute],
    /// Shape of its text; without fitting text the element is left out.
    pub(super) text: Option<Shape>,
    pub(super) children: &'static [&'static Element],
    /// Names of children that have neither attributes nor content, in the element's own namespace.
    pub(super) words: &'static [&'static str],
}

/// A document: prefix and name of each namespace, the first without prefix, and the root.
pub(super) struct Schema {
    pub(super) namespaces: &'static [(&'static str, &'static str)],
    pub(super) root: &'static Element,
}

/// An attribute that must be there.
pub(super) const fn needed(name: &'static str, shape: Shape) -> Attribute {
    Attribute {
        name,
        shape,
        needed: true,
    }
}

/// An attribute that may be there.
pub(super) const fn optional(name: &'static str, shape: Shape) -> Attribute {
    Attribute {
        name,
        shape,
        needed: false,
    }
}

/// An element with text alone.
pub(super) const fn leaf(name: &'static str, shape: Shape) -> Element {
    Element {
        namespace: 0,
        name,
        attributes: &[],
        text: Some(shape),
        children: &[],
        words: &[],
    }
}

/// The document for the other side; `None`: it is no such document.
pub(super) fn rewritten(text: &str, schema: &Schema, names: Names<'_>) -> Option<String> {
    // The declaration of another encoding than the octets have is a lie; the octets were UTF-8.
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES,
    };
    let document = Document::parse_with_options(text, options).ok()?;
    let writer = Writer { schema, names };
    let root = document.root_element();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n");
    let body = writer.element(root, schema.root, 0)?;
    out.push_str(&body);
    out.push_str("\r\n");
    Some(out)
}

struct Writer<'a> {
    schema: &'a Schema,
    names: Names<'a>,
}

impl Writer<'_> {
    fn is(&self, node: Node<'_, '_>, element: &Element) -> bool {
        let namespace = self.schema.namespaces.get(element.namespace);
        node.is_element()
            && node.tag_name().name() == element.name
            && node.tag_name().namespace() == namespace.map(|(_, name)| *name)
    }

    fn tag(&self, element: &Element, name: &str) -> String {
        match self.schema.namespaces.get(element.namespace) {
            Some((prefix, _)) if !prefix.is_empty() => format!("{prefix}:{name}"),
            _ => name.to_owned(),
        }
    }

    /// An element as it is written; `None`: it is left out.
    fn element(&self, node: Node<'_, '_>, element: &Element, depth: usize) -> Option<String> {
        if !self.is(node, element) || depth >= DEPTH {
            return None;
        }
        let tag = self.tag(element, element.name);
        let mut out = format!("<{tag}");
        if depth == 0 {
            for (prefix, name) in self.schema.namespaces {
                let colon = if prefix.is_empty() { "" } else { ":" };
                out.push_str(&format!(" xmlns{colon}{prefix}=\"{name}\""));
            }
        }
        for attribute in element.attributes {
            let value = node
                .attribute(attribute.name)
                .and_then(|value| self.value(value, attribute.shape));
            match value {
                Some(value) => {
                    out.push_str(&format!(" {}=\"{}\"", attribute.name, escaped(&value)));
                }
                None if attribute.needed => return None,
                None => {}
            }
        }
        let mut content = String::new();
        if let Some(shape) = element.text {
            let text = self.value(node.text().unwrap_or_default().trim(), shape)?;
            content.push_str(&escaped(&text));
        }
        for child in node.children().filter(Node::is_element) {
            if let Some(known) = element.children.iter().find(|known| self.is(child, known)) {
                content.extend(self.element(child, known, depth + 1));
            }
            let same = child.tag_name().namespace() == node.tag_name().namespace();
            let word = element.words.iter();
            let word = word
                .copied()
                .find(|word| same && *word == child.tag_name().name());
            if let Some(word) = word {
                content.push_str(&format!("<{}/>", self.tag(element, word)));
            }
        }
        if content.is_empty() {
            out.push_str("/>");
        } else {
            out.push_str(&format!(">{content}</{tag}>"));
        }
        Some(out)
    }

    fn value(&self, text: &str, shape: Shape) -> Option<String> {
        match shape {
            Shape::Words(words) => words
                .iter()
                .find(|word| **word == text)
                .map(|word| (*word).to_owned()),
            Shape::Number => {
                let good = (1..=9).contains(&text.len()) && digits(text);
                good.then(|| text.to_owned())
            }
            Shape::Fraction => {
                let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
                let good = matches!(whole, "0" | "1") && rest.len() <= 3 && digits(rest);
                good.then(|| text.to_owned())
            }
            Shape::Boolean => matches!(text, "true" | "false").then(|| text.to_owned()),
            Shape::Time => is_time(text).then(|| text.to_owned()),
            Shape::Address => address(text, self.names),
            Shape::Plain => plain::harmless(text, PLAIN),
            Shape::Dialog => told::name(self.names.identity, text),
            Shape::Name => {
                let good = (1..=256).contains(&text.len());
                good.then(|| format!("n{}", self.names.identity.derived(&["name", text])))
            }
        }
    }
}

/// The user of a URI at our host; a presentity that wants no name stays one (RFC 3323).
pub(super) fn address(text: &str, names: Names<'_>) -> Option<String> {
    let uri: Uri = match text.strip_prefix("pres:") {
        Some(rest) => format!("sip:{rest}").parse().ok()?,
        None => text.parse().ok()?,
    };
    let hidden = uri
        .host()
        .is_some_and(|host| host.to_string().eq_ignore_ascii_case("anonymous.invalid"));
    if hidden {
        return Some("sip:anonymous@anonymous.invalid".to_owned());
    }
    let written = Identity::of(&NameAddr::new(uri))?.at(names.host, None);
    Some(written.uri.to_string())
}

fn digits(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit())
}

/// `2026-01-02T03:04:05Z`, with a fraction or an offset.
fn is_time(text: &str) -> bool {
    let shape = b"0000-00-00T00:00:00";
    let Some((head, rest)) = text.split_at_checked(shape.len()) else {
        return false;
    };
    let fits = |(octet, shape): (u8, &u8)| match shape {
        b'0' => octet.is_ascii_digit(),
        _ => octet == *shape,
    };
    text.len() <= 40
        && head.bytes().zip(shape).all(fits)
        && !rest.is_empty()
        && rest.bytes().all(|octet| {
            octet.is_ascii_digit() || matches!(octet, b'.' | b'+' | b'-' | b':' | b'Z')
        })
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ if character.is_control() => out.push(' '),
            _ => out.push(character),
        }
    }
    out
}
