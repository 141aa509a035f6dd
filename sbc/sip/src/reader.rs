//! The one way in which grammar is read: a cursor that takes from the front and never indexes. RFC 3261 §25.1.
//! One per header field value, URI or SDP line; made by the parsers of this crate only.

use std::sync::Arc;

use crate::error::Syntax;
use crate::text::Text;

/// Where the text comes from, so that a piece of it can be shared instead of copied.
#[derive(Clone, Copy, Default)]
pub(crate) struct Origin<'a> {
    buffer: Option<&'a Arc<str>>,
}

impl<'a> Origin<'a> {
    /// Pieces share `buffer`, of which all text read is a part.
    pub(crate) fn shared(buffer: &'a Arc<str>) -> Self {
        Self {
            buffer: Some(buffer),
        }
    }

    /// `piece` as a value that may outlive the reader.
    pub(crate) fn text(self, piece: &str) -> Text {
        let shared = self.buffer.and_then(|buffer| {
            let start = (piece.as_ptr() as usize).checked_sub(buffer.as_ptr() as usize)?;
            Text::part_of(buffer, start, start.checked_add(piece.len())?)
        });
        match shared {
            _ if piece.is_empty() => Text::default(),
            Some(text) => text,
            None => Text::from(piece),
        }
    }
}

/// A cursor over one value.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    origin: Origin<'a>,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(origin: Origin<'a>, text: &'a str) -> Self {
        Self { origin, rest: text }
    }

    /// A reader whose pieces are copies.
    pub(crate) fn copying(text: &'a str) -> Self {
        Self::new(Origin::default(), text)
    }

    pub(crate) fn origin(&self) -> Origin<'a> {
        self.origin
    }

    pub(crate) fn text(&self, piece: &str) -> Text {
        self.origin.text(piece)
    }

    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.as_bytes().first().copied()
    }

    /// Takes `octet` if it is next.
    pub(crate) fn eat(&mut self, octet: u8) -> bool {
        match self.rest.as_bytes().split_first() {
            // Only ASCII is asked for, so the rest begins on a character boundary.
            Some((first, _)) if *first == octet && octet.is_ascii() => {
                self.advance(1);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn expect(&mut self, octet: u8, offence: Syntax) -> Result<(), Syntax> {
        if self.eat(octet) {
            Ok(())
        } else {
            Err(offence)
        }
    }

    /// Takes octets as long as `accept` says so. `accept` treats all octets from 0x80 alike.
    pub(crate) fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a str {
        let length = self
            .rest
            .bytes()
            .position(|octet| !accept(octet))
            .unwrap_or(self.rest.len());
        self.advance(length)
    }

    /// Takes `length` octets, or all if fewer are left or the cut would fall into a character.
    pub(crate) fn advance(&mut self, length: usize) -> &'a str {
        steps::count(length);
        let (piece, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        piece
    }

    /// Takes everything that is left.
    pub(crate) fn take_rest(&mut self) -> &'a str {
        self.advance(self.rest.len())
    }

    /// Skips optional white space; line folding is already undone.
    pub(crate) fn skip_space(&mut self) {
        self.take_while(is_space);
    }

    /// Takes a token of at least one character.
    pub(crate) fn token(&mut self) -> Result<&'a str, Syntax> {
        match self.take_while(is_token) {
            "" => Err(Syntax::Token),
            token => Ok(token),
        }
    }

    /// Takes `separator` with optional white space on both sides.
    pub(crate) fn separator(&mut self, separator: u8) -> bool {
        let before = self.clone();
        self.skip_space();
        if self.eat(separator) {
            self.skip_space();
            return true;
        }
        *self = before;
        false
    }

    /// Takes a quoted string and gives what stands between the quotes, escapes untouched. RFC 3261 §25.1 `quoted-string`.
    pub(crate) fn quoted(&mut self) -> Result<&'a str, Syntax> {
        self.expect(b'"', Syntax::QuotedString)?;
        let mut escaped = false;
        for (length, octet) in self.rest.bytes().enumerate() {
            match octet {
                // quoted-pair = "\" (%x00-09 / %x0B-0C / %x0E-7F)
                b'\r' | b'\n' => return Err(Syntax::QuotedString),
                _ if escaped => {
                    if !octet.is_ascii() {
                        return Err(Syntax::QuotedString);
                    }
                    escaped = false;
                }
                b'\\' => escaped = true,
                b'"' => {
                    let inside = self.advance(length);
                    self.advance(1);
                    return Ok(inside);
                }
                b'\t' => {}
                0x00..0x20 | 0x7f => return Err(Syntax::QuotedString),
                _ => {}
            }
        }
        steps::count(self.rest.len());
        Err(Syntax::QuotedString)
    }

    /// Takes decimal digits as a number of at most `u64`.
    pub(crate) fn number(&mut self) -> Result<u64, Syntax> {
        match self.take_while(|octet| octet.is_ascii_digit()) {
            "" => Err(Syntax::Number),
            digits => digits.parse().map_err(|_| Syntax::Range),
        }
    }

    /// Takes a number that fits 32 bits.
    pub(crate) fn number_u32(&mut self) -> Result<u32, Syntax> {
        u32::try_from(self.number()?).map_err(|_| Syntax::Range)
    }

    /// Fails unless everything but white space was taken.
    pub(crate) fn finish(mut self) -> Result<(), Syntax> {
        self.skip_space();
        if self.is_empty() {
            Ok(())
        } else {
            Err(Syntax::Trailing)
        }
    }
}

/// SP or HTAB.
pub(crate) const fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// RFC 3261 §25.1 `token`.
pub(crate) const fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        )
}

/// RFC 3261 §25.1 `word`, of which a Call-ID is made.
pub(crate) const fn is_word(octet: u8) -> bool {
    is_token(octet)
        || matches!(
            octet,
            b'(' | b')'
                | b'<'
                | b'>'
                | b':'
                | b'\\'
                | b'"'
                | b'/'
                | b'['
                | b']'
                | b'?'
                | b'{'
                | b'}'
        )
}

/// RFC 3261 §25.1 `TEXT-UTF8-TRIM` with white space inside: everything but control characters.
pub(crate) const fn is_printable(octet: u8) -> bool {
    !octet.is_ascii_control() || octet == b'\t'
}

/// Work done, counted in tests to show that it grows with the length of the input and no faster.
pub(crate) mod steps {
    #[cfg(test)]
    thread_local! {
        static TAKEN: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
    }

    #[inline]
    #[cfg_attr(not(test), allow(clippy::missing_const_for_fn))]
    pub(crate) fn count(_octets: usize) {
        #[cfg(test)]
        TAKEN.with(|taken| taken.set(taken.get() + _octets + 1));
    }

    #[cfg(test)]
    pub(crate) fn taken() -> usize {
        TAKEN.with(core::cell::Cell::get)
    }
}
