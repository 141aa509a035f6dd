//! What a caller wants hidden: RFC 3323 §4.2 and RFC 3325 §9.3. Privacy of headers and of the session needs no request:
//! nothing that leaves holds a header or description of the other side.

use sbc_sip::{headers::Headers, text::Text};

/// The values of a Privacy field that mean something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Privacy {
    id: bool,
    user: bool,
    header: bool,
    session: bool,
    history: bool,
    none: bool,
    critical: bool,
}

impl Privacy {
    /// Of a message.
    pub(crate) fn of(headers: &Headers) -> Self {
        let mut privacy = Self::default();
        for value in headers.privacy().unwrap_or_default() {
            privacy.add(value);
        }
        privacy
    }

    /// Of the text in an address's own header part, `Privacy=history`.
    pub(crate) fn add(&mut self, value: &str) {
        let slot = match value.to_ascii_lowercase().as_str() {
            "id" => &mut self.id,
            "user" => &mut self.user,
            "header" => &mut self.header,
            "session" => &mut self.session,
            "history" => &mut self.history,
            "none" => &mut self.none,
            "critical" => &mut self.critical,
            _ => return,
        };
        *slot = true;
    }

    /// Whether the identity is told to nobody outside the trust domain.
    pub(crate) const fn hides_identity(&self) -> bool {
        (self.id || self.user || self.header) && !self.none
    }

    /// Whether the way that a call took is told to nobody outside the trust domain.
    pub(crate) const fn hides_history(&self) -> bool {
        (self.history || self.header) && !self.none
    }

    /// The values as they are sent on, in one order; empty: nothing was asked for.
    pub(crate) fn values(&self) -> Vec<Text> {
        let all = [
            (self.none, "none"),
            (self.header, "header"),
            (self.session, "session"),
            (self.user, "user"),
            (self.id, "id"),
            (self.history, "history"),
            (self.critical, "critical"),
        ];
        all.into_iter()
            .filter(|(asked, _)| *asked)
            .map(|(_, word)| Text::from_static(word))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_known_words_alone() {
        let mut privacy = Privacy::default();
        for value in ["ID", "critical", "pbx.lan"] {
            privacy.add(value);
        }
        assert!(privacy.hides_identity() && !privacy.hides_history());
        let values: Vec<_> = privacy.values().iter().map(Text::to_string).collect();
        assert_eq!(values, ["id", "critical"]);
        privacy.add("none");
        assert!(!privacy.hides_identity());
    }
}
