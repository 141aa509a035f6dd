//! A piece of text out of a message: cheap to clone, immutable, UTF-8. Every name and value that the parser hands out is
//! one; who keeps a piece for longer than the message lives calls [`Text::detached`].

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;
use std::borrow::Borrow;
use std::sync::Arc;

/// A shared piece of text; cloning never allocates.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Static(&'static str),
    /// `start..end` lies on character boundaries of `buffer`: only [`Text::part_of`] builds this from offsets.
    Shared {
        buffer: Arc<str>,
        start: u32,
        end: u32,
    },
}

impl Text {
    /// Text that lives as long as the program; never allocates.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Repr::Static(text))
    }

    /// The text as a slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Static(text) => text,
            Repr::Shared { buffer, start, end } => buffer
                .get(*start as usize..*end as usize)
                .unwrap_or_default(),
        }
    }

    /// The same text in a buffer of its own, so that it does not keep the message alive that it came from.
    #[must_use]
    pub fn detached(&self) -> Self {
        match &self.0 {
            Repr::Static(text) => Self(Repr::Static(text)),
            Repr::Shared { buffer, .. } if buffer.len() == self.as_str().len() => self.clone(),
            Repr::Shared { .. } => Self::from(self.as_str()),
        }
    }

    /// Octets `start..end` of a shared buffer; none if they are no text of it.
    pub(crate) fn part_of(buffer: &Arc<str>, start: usize, end: usize) -> Option<Self> {
        buffer.get(start..end)?;
        let (start, end) = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
        Some(Self(Repr::Shared {
            buffer: Arc::clone(buffer),
            start,
            end,
        }))
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::from_static("")
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if text.is_empty() {
            Self::default()
        } else {
            Self::from(Arc::<str>::from(text))
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Arc<str>> for Text {
    fn from(buffer: Arc<str>) -> Self {
        match u32::try_from(buffer.len()) {
            Ok(end) => Self(Repr::Shared {
                buffer,
                start: 0,
                end,
            }),
            // No text of a message is that long; keep the invariant rather than wrap round.
            Err(_) => Self::default(),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_cuts_a_character_is_no_text() {
        let buffer: Arc<str> = Arc::from("aé");
        assert!(Text::part_of(&buffer, 0, 2).is_none());
        assert_eq!(Text::part_of(&buffer, 1, 3).unwrap(), "é");
    }

    #[test]
    fn detached_text_lets_the_message_go() {
        let buffer: Arc<str> = Arc::from("tag=abc");
        let part = Text::part_of(&buffer, 4, 7).unwrap();
        let own = part.detached();
        drop(part);
        assert_eq!(Arc::strong_count(&buffer), 1);
        assert_eq!(own, "abc");
    }
}
