//! What is wrong with a document: one [`ConfigError`] per offence, with file, line, key and a sentence that helps, in the
//! two languages of the product. Made by the reader and by the checks, shown by `gatehouse-config`, init and the console.

use core::fmt;

/// A sentence in both languages of the product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// English; what logs and command line tools print.
    pub english: String,
    /// German; what the console prints if that is its language.
    pub german: String,
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.english)
    }
}

/// A [`Sentence`] from two format strings over the same variables.
macro_rules! say {
    ($english:literal, $german:literal $(,)?) => {
        $crate::error::Sentence {
            english: format!($english),
            german: format!($german),
        }
    };
}
pub(crate) use say;

/// One offence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.line_of_text())]
pub struct ConfigError {
    /// The name under which the document was given to [`crate::Document::parse`].
    pub file: String,
    /// Line, counted from 1; 0: the document as a whole, or a document that has no text (yet).
    pub line: u32,
    /// Path of the key, `zone.external.ipv4.gateway`; empty: the document as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub sentence: Sentence,
}

impl ConfigError {
    fn line_of_text(&self) -> String {
        let mut text = self.file.clone();
        if self.line != 0 {
            text.push_str(&format!(":{}", self.line));
        }
        if !self.key.is_empty() {
            text.push_str(": ");
            text.push_str(&self.key);
        }
        format!("{text}: {}", self.sentence.english)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_file_line_key_and_sentence() {
        let error = ConfigError {
            file: "gatehouse.toml".into(),
            line: 7,
            key: "host.name".into(),
            sentence: say!("is empty", "ist leer"),
        };
        assert_eq!(error.to_string(), "gatehouse.toml:7: host.name: is empty");
    }
}
