//! Reading tables of the document so that one reading finds every offence: a wrong value is noted and reading goes on.
//! The types of this crate build themselves from a [`Section`]; [`Report`] collects what was wrong and where keys stand.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    error::{ConfigError, Sentence, say},
    value::{Scalar, kind, nearest, shown},
};

/// More offences than this are not listed: the reader has seen enough, and a hostile document stays small in memory.
pub(crate) const MAX_ERRORS: usize = 100;

/// Offences found so far, and the line of every key that was read.
pub(crate) struct Report<'a> {
    file: &'a str,
    /// Offsets at which the lines begin, ascending.
    line_starts: Vec<usize>,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
    places: BTreeMap<String, u32>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, text: &str) -> Self {
        let line_starts = core::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            file,
            line_starts,
            errors: Vec::new(),
            warnings: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    /// Line of a byte offset, counted from 1.
    pub(crate) fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.line_starts.partition_point(|start| *start <= offset))
            .unwrap_or(u32::MAX)
    }

    /// Where a key stands; the nearest table around it if it was left out; 0 in a document without text.
    pub(crate) fn place(&self, key: &str) -> u32 {
        let mut key = key;
        loop {
            if let Some(line) = self.places.get(key) {
                return *line;
            }
            let Some(cut) = key.rfind(['.', '[']) else {
                return 0;
            };
            key = key.get(..cut).unwrap_or("");
        }
    }

    /// Whether a key was there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    pub(crate) fn remember(&mut self, key: String, offset: usize) {
        let line = self.line(offset);
        self.places.insert(key, line);
    }

    pub(crate) fn error_at(&mut self, offset: usize, key: &str, sentence: Sentence) {
        let line = self.line(offset);
        self.push(line, key, sentence);
    }

    /// An offence at a key that was read, or in the table where it is missing.
    pub(crate) fn error(&mut self, key: &str, sentence: Sentence) {
        self.push(self.place(key), key, sentence);
    }

    /// Something that is allowed and probably not meant.
    pub(crate) fn warn(&mut self, key: &str, sentence: Sentence) {
        if self.warnings.len() < MAX_ERRORS {
            self.warnings.push(ConfigError {
                file: self.file.to_owned(),
                line: self.place(key),
                key: key.to_owned(),
                sentence,
            });
        }
    }

    fn push(&mut self, line: u32, key: &str, sentence: Sentence) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(ConfigError {
                file: self.file.to_owned(),
                line,
                key: key.to_owned(),
                sentence,
            });
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// What was warned of, in the order of the lines.
    pub(crate) fn into_warnings(mut self) -> Vec<ConfigError> {
        self.warnings
            .sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        self.warnings
    }

    /// Everything found, in the order of the lines.
    pub(crate) fn into_errors(mut self) -> Vec<ConfigError> {
        self.errors
            .sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        self.errors.dedup();
        self.errors
    }
}

/// A table of the document and the path of its key.
pub(crate) struct Section<'t, 'i> {
    table: &'t DeTable<'i>,
    pub(crate) path: String,
    offset: usize,
}

impl<'t, 'i> Section<'t, 'i> {
    pub(crate) fn root(table: &'t Spanned<DeTable<'i>>) -> Self {
        Self {
            table: table.get_ref(),
            path: String::new(),
            offset: 0,
        }
    }

    /// Path of a key of this table.
    pub(crate) fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Refuses every key that is not in `known`, with the nearest known one.
    pub(crate) fn only(&self, report: &mut Report<'_>, known: &[&str]) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let written = shown(name);
            let sentence = match nearest(name, known) {
                Some(near) => {
                    say!(
                        "there is no key `{written}` here; did you mean `{near}`?",
                        "den Schlüssel `{written}` gibt es hier nicht; ist `{near}` gemeint?"
                    )
                }
                None => {
                    let list = known.join(", ");
                    say!(
                        "there is no key `{written}` here; possible: {list}",
                        "den Schlüssel `{written}` gibt es hier nicht; möglich: {list}"
                    )
                }
            };
            report.error_at(key.span().start, &self.key(&written), sentence);
        }
    }

    fn value(&self, report: &mut Report<'_>, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        let (name, value) = self.table.get_key_value(key)?;
        report.remember(self.key(key), name.span().start);
        Some(value)
    }

    /// A value that may be left out: `Some(None)`. `None`: it was wrong, and that is reported.
    pub(crate) fn optional<T: Scalar>(
        &self,
        report: &mut Report<'_>,
        key: &str,
    ) -> Option<Option<T>> {
        self.optional_with(report, key, T::read)
    }

    pub(crate) fn optional_with<T>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Sentence>,
    ) -> Option<Option<T>> {
        let Some(value) = self.value(report, key) else {
            return Some(None);
        };
        match read(value.get_ref()) {
            Ok(value) => Some(Some(value)),
            Err(sentence) => {
                report.error_at(value.span().start, &self.key(key), sentence);
                None
            }
        }
    }

    /// A value that may be left out and then is `default`. `None`: it was wrong, and that is reported.
    pub(crate) fn or<T: Scalar>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        default: T,
    ) -> Option<T> {
        self.optional(report, key)
            .map(|value| value.unwrap_or(default))
    }

    /// A value that must be there. `None`: missing or wrong, and that is reported.
    pub(crate) fn required<T: Scalar>(&self, report: &mut Report<'_>, key: &str) -> Option<T> {
        let value = self.optional(report, key)?;
        if value.is_none() {
            self.missing(report, key);
        }
        value
    }

    pub(crate) fn missing(&self, report: &mut Report<'_>, key: &str) {
        let path = self.key(key);
        report.error_at(self.offset, &path, say!("is missing here", "fehlt hier"));
    }

    /// A list of at most `most` values; left out: empty. `None`: something in it was wrong, and all of that is reported.
    pub(crate) fn list<T: Scalar>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        most: usize,
    ) -> Option<Vec<T>> {
        self.list_with(report, key, most, T::read)
    }

    pub(crate) fn list_with<T>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        most: usize,
        read: impl Fn(&DeValue<'_>) -> Result<T, Sentence>,
    ) -> Option<Vec<T>> {
        let mut out = Vec::new();
        let mut wrong = false;
        let Some(value) = self.value(report, key) else {
            return Some(out);
        };
        let path = self.key(key);
        let DeValue::Array(array) = value.get_ref() else {
            let (english, german) = kind(value.get_ref());
            report.error_at(
                value.span().start,
                &path,
                say!(
                    "must be a list in square brackets, not {english}",
                    "muss eine Liste in eckigen Klammern sein, nicht {german}"
                ),
            );
            return None;
        };
        if array.len() > most {
            report.error_at(value.span().start, &path, too_many(most));
            return None;
        }
        for (index, item) in array.iter().enumerate() {
            let path = format!("{path}[{index}]");
            report.remember(path.clone(), item.span().start);
            match read(item.get_ref()) {
                Ok(item) => out.push(item),
                Err(sentence) => {
                    report.error_at(item.span().start, &path, sentence);
                    wrong = true;
                }
            }
        }
        (!wrong).then_some(out)
    }

    /// A table that may be left out.
    pub(crate) fn table(&self, report: &mut Report<'_>, key: &str) -> Option<Section<'t, 'i>> {
        let value = self.value(report, key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section {
                table,
                path: self.key(key),
                offset: value.span().start,
            }),
            other => {
                let (english, german) = kind(other);
                let path = self.key(key);
                report.error_at(
                    value.span().start,
                    &path,
                    say!(
                        "must be a table, `[{path}]`, not {english}",
                        "muss eine Tabelle sein, `[{path}]`, nicht {german}"
                    ),
                );
                None
            }
        }
    }

    /// A list of at most `most` tables; `name` gives each its path (`zone.external` instead of `zone[0]`).
    pub(crate) fn tables(
        &self,
        report: &mut Report<'_>,
        key: &str,
        most: usize,
    ) -> Vec<Section<'t, 'i>> {
        let mut out = Vec::new();
        let Some(value) = self.value(report, key) else {
            return out;
        };
        let path = self.key(key);
        let DeValue::Array(array) = value.get_ref() else {
            report.error_at(
                value.span().start,
                &path,
                say!(
                    "must be a list of tables: write `[[{path}]]` above each",
                    "muss eine Liste von Tabellen sein: über jeder steht `[[{path}]]`"
                ),
            );
            return out;
        };
        if array.len() > most {
            report.error_at(value.span().start, &path, too_many(most));
            return out;
        }
        for (index, item) in array.iter().enumerate() {
            let offset = item.span().start;
            let DeValue::Table(table) = item.get_ref() else {
                let (english, german) = kind(item.get_ref());
                report.error_at(
                    offset,
                    &format!("{path}[{index}]"),
                    say!(
                        "must be a table, not {english}",
                        "muss eine Tabelle sein, nicht {german}"
                    ),
                );
                continue;
            };
            let name = table
                .get("name")
                .and_then(|name| name.get_ref().as_str())
                .filter(|name| is_name(name));
            let path = name.map_or_else(
                || format!("{path}[{index}]"),
                |name| format!("{path}.{name}"),
            );
            report.remember(path.clone(), offset);
            out.push(Section {
                table,
                path,
                offset,
            });
        }
        out
    }
}

fn too_many(most: usize) -> Sentence {
    say!(
        "has more than {most} entries",
        "hat mehr als {most} Einträge"
    )
}

/// Names of zones, trunks, routes and secrets: so that they can stand in key paths, rules, records and file names.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
