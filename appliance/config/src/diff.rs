//! What changes from one document to another, key by key, for the operator who is about to apply it.

use std::collections::BTreeMap;

use toml::Value;

use crate::document::Document;

/// One changed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path of the key, `zone.external.ipv4.gateway`.
    pub key: String,
    /// Before; `None`: the key is new.
    pub old: Option<String>,
    /// After; `None`: the key is gone.
    pub new: Option<String>,
}

impl core::fmt::Display for Change {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (&self.old, &self.new) {
            (None, Some(new)) => write!(f, "+ {} = {new}", self.key),
            (Some(old), None) => write!(f, "- {} = {old}", self.key),
            (old, new) => {
                write!(
                    f,
                    "~ {} = {} -> {}",
                    self.key,
                    old.as_deref().unwrap_or(""),
                    new.as_deref().unwrap_or("")
                )
            }
        }
    }
}

/// Every key that differs, in the order of the keys; empty exactly if the documents are equal.
#[must_use]
pub fn diff(old: &Document, new: &Document) -> Vec<Change> {
    let (old, mut new) = (flat(old), flat(new));
    let mut changes = Vec::new();
    for (key, before) in old {
        let after = new.remove(&key);
        if after.as_ref() != Some(&before) {
            changes.push(Change {
                key,
                old: Some(before),
                new: after,
            });
        }
    }
    changes.extend(new.into_iter().map(|(key, after)| Change {
        key,
        old: None,
        new: Some(after),
    }));
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

fn flat(document: &Document) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    if let Ok(value) = Value::try_from(document) {
        walk(String::new(), &value, &mut out);
    }
    order(
        "zone",
        document.zones.iter().map(|zone| &zone.name),
        &mut out,
    );
    order(
        "route",
        document.routes.iter().map(|route| &route.name),
        &mut out,
    );
    order(
        "trunk",
        document.trunks.iter().map(|trunk| &trunk.name),
        &mut out,
    );
    out
}

/// Named tables are compared by name, so their order is a key of its own: of routes it decides who answers.
fn order<'a>(
    key: &str,
    names: impl Iterator<Item = &'a String>,
    out: &mut BTreeMap<String, String>,
) {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if !names.is_empty() {
        out.insert(format!("{key} (order)"), names.join(", "));
    }
}

fn walk(path: String, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(path, value, out);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                walk(format!("{path}{}", label(index, item)), item, out);
            }
        }
        other => {
            out.insert(path, other.to_string());
        }
    }
}

/// How an entry of a list is told from its neighbours: by name, by what a listener is, else by its place.
fn label(index: usize, item: &Value) -> String {
    let text = |key: &str| item.get(key).and_then(Value::as_str);
    if let Some(name) = text("name") {
        return format!(".{name}");
    }
    match (
        text("zone"),
        text("service"),
        item.get("port").and_then(Value::as_integer),
    ) {
        (Some(zone), Some(service), Some(port)) => format!(".{zone}/{service}/{port}"),
        _ => format!("[{index}]"),
    }
}
