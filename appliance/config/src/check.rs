//! What no single value can show: whether the parts of a document agree. Called by the reader, with the lines of the text.

mod network;
mod policy;
mod routing;
mod service;

use crate::{document::Document, table::Report};

/// Key paths of a list's entries.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// Of those that were read, in the order of the document.
    pub(crate) read: Vec<String>,
    /// Of those in which something was wrong.
    pub(crate) unread: Vec<String>,
}

impl Paths {
    /// Path of the entry with this index.
    fn at(&self, index: usize) -> &str {
        self.read.get(index).map_or("", String::as_str)
    }
}

/// What the reader saw of a document, also where it could not read it: so that one offence does not draw others behind it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) zones: Paths,
    pub(crate) listeners: Paths,
    pub(crate) trunks: Paths,
    pub(crate) routes: Paths,
    pub(crate) policies: Paths,
    /// Whether `[sip]` could be read.
    pub(crate) sip: bool,
}

/// Checks everything that needs more than one value.
pub(crate) fn check(document: &Document, known: &Known, report: &mut Report<'_>) {
    network::check(document, known, report);
    service::check(document, known, report);
    routing::check(document, known, report);
    policy::check(document, known, report);
}

/// The sentence for a reference to something that the document does not have.
fn unknown_name(name: &str, names: &[&str], (what, was): (&str, &str)) -> crate::error::Sentence {
    use crate::error::say;
    let nearest = crate::value::nearest(name, names);
    let name = crate::value::shown(name);
    match nearest {
        Some(near) => say!(
            "there is no {what} `{name}`; did you mean `{near}`?",
            "{was} `{name}` gibt es nicht; ist `{near}` gemeint?"
        ),
        None => {
            let list = if names.is_empty() {
                "-".to_owned()
            } else {
                names.join(", ")
            };
            say!(
                "there is no {what} `{name}`; there are: {list}",
                "{was} `{name}` gibt es nicht; vorhanden: {list}"
            )
        }
    }
}
