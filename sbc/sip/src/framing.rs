//! Where messages end on a stream: Content-Length (RFC 3261 §18.3, §20.14), keep-alives between messages (RFC 5626
//! §3.5.1). One per connection, owned by the core; when framing is lost the connection is closed.

use crate::error::ParseError;
use crate::headers::HeaderName;
use crate::limits::Limits;
use crate::reader::steps;

/// What came out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message, to be read with [`crate::message::Framing::Stream`].
    Message(Vec<u8>),
    /// A keep-alive that wants [`PONG`] as an answer.
    Ping,
    /// The answer to a keep-alive of ours.
    Pong,
}

/// A keep-alive of ours.
pub const PING: &[u8] = b"\r\n\r\n";
/// The answer to a keep-alive.
pub const PONG: &[u8] = b"\r\n";

/// Octets of one stream that are no whole message yet.
#[derive(Clone, Debug)]
pub struct Stream {
    limits: Limits,
    buffer: Vec<u8>,
    /// Octets of the buffer that hold no end of a head.
    searched: usize,
    /// Length of the message at the front, once its head is there.
    length: Option<usize>,
    lost: Option<ParseError>,
}

impl Stream {
    /// A new stream.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
            searched: 0,
            length: None,
            lost: None,
        }
    }

    /// Takes octets in; [`Self::poll`] until it gives none. Nothing is kept once framing is lost.
    pub fn handle(&mut self, octets: &[u8]) {
        if self.lost.is_none() {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// The next frame. Fails, and goes on failing, once the end of a message cannot be known: close the connection.
    pub fn poll(&mut self) -> Result<Option<Frame>, ParseError> {
        if let Some(error) = &self.lost {
            return Err(error.clone());
        }
        self.next().inspect_err(|error| {
            self.lost = Some(error.clone());
            self.buffer = Vec::new();
        })
    }

    /// Whether a message has begun and not ended, so that the time for it runs.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn next(&mut self) -> Result<Option<Frame>, ParseError> {
        if let Some(frame) = self.keep_alive() {
            return Ok(Some(frame));
        }
        if self.length.is_none() {
            self.find_length()?;
        }
        match self.length {
            Some(length) if self.buffer.len() >= length => {
                self.length = None;
                Ok(Some(Frame::Message(self.take(length))))
            }
            _ => Ok(None),
        }
    }

    /// Line breaks before a message: two are a ping, one is a pong unless more may come.
    fn keep_alive(&mut self) -> Option<Frame> {
        if self.length.is_some() {
            return None;
        }
        if self.buffer.starts_with(PING) {
            self.take(PING.len());
            return Some(Frame::Ping);
        }
        // Half a ping may be under way: a lone line break counts as a pong, and its second half as another, which does
        // no harm; a line break before a message is thrown away (RFC 3261 §7.5).
        if self.buffer.starts_with(PONG) && self.buffer.get(2) != Some(&b'\r') {
            self.take(PONG.len());
            return Some(Frame::Pong);
        }
        None
    }

    fn find_length(&mut self) -> Result<(), ParseError> {
        if self.buffer.starts_with(b"\r") {
            // The start of a keep-alive, or a bare carriage return.
            return match self.buffer.get(..3) {
                None | Some(b"\r\n\r") => Ok(()),
                Some(_) => Err(ParseError::BareLineBreak),
            };
        }
        // The end may lie across what was searched and what is new.
        let from = self.searched.saturating_sub(3);
        let fresh = self.buffer.get(from..).unwrap_or_default();
        steps::count(fresh.len());
        let Some(end) = fresh
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .map(|at| from + at)
        else {
            self.searched = self.buffer.len();
            return if self.buffer.len() > self.limits.head {
                Err(ParseError::HeadTooLarge)
            } else {
                Ok(())
            };
        };
        if end > self.limits.head {
            return Err(ParseError::HeadTooLarge);
        }
        let body = content_length(self.buffer.get(..end).unwrap_or_default())?;
        let length = (end + 4)
            .checked_add(body)
            .ok_or(ParseError::BodyTooLarge)?;
        if body > self.limits.body || length > self.limits.message {
            return Err(ParseError::BodyTooLarge);
        }
        self.length = Some(length);
        Ok(())
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.searched = 0;
        let rest = self.buffer.split_off(length.min(self.buffer.len()));
        core::mem::replace(&mut self.buffer, rest)
    }
}

/// The one Content-Length of a head. Two, even if they agree, are framing lost: RFC 4475 §3.3.9.
fn content_length(head: &[u8]) -> Result<usize, ParseError> {
    let bad = || ParseError::Header(HeaderName::ContentLength, crate::error::Syntax::Number);
    let mut found = None;
    let mut lines = head.split(|octet| *octet == b'\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else {
            continue;
        };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        let name = name.trim_ascii_end();
        if !name.eq_ignore_ascii_case(b"Content-Length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        if found.is_some() {
            return Err(ParseError::Duplicate(HeaderName::ContentLength));
        }
        // The value may be folded onto the next line.
        let mut digits = value.get(1..).unwrap_or_default().trim_ascii().to_vec();
        while let Some(more) = lines.next_if(|line| {
            line.first()
                .is_some_and(|octet| matches!(octet, b' ' | b'\t'))
        }) {
            digits.extend_from_slice(more.trim_ascii());
        }
        if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(bad());
        }
        found = Some(
            core::str::from_utf8(&digits)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(bad)?,
        );
    }
    found.ok_or(ParseError::ContentLengthMissing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"OPTIONS sip:x SIP/2.0\r\nl :\r\n 3\r\n\r\nabc";

    fn stream() -> Stream {
        Stream::new(Limits {
            head: 200,
            message: 400,
            ..Limits::default()
        })
    }

    fn all(stream: &mut Stream) -> Vec<Frame> {
        core::iter::from_fn(|| stream.poll().unwrap()).collect()
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let octets = [PING, MESSAGE, MESSAGE, PONG].concat();
        for size in 1..octets.len() {
            let mut stream = stream();
            let mut frames = Vec::new();
            for piece in octets.chunks(size) {
                stream.handle(piece);
                frames.extend(all(&mut stream));
            }
            let messages: Vec<_> = frames
                .iter()
                .filter(|frame| matches!(frame, Frame::Message(_)))
                .collect();
            assert_eq!(messages, [&Frame::Message(MESSAGE.to_vec()); 2], "{size}");
            assert!(!stream.is_waiting(), "{size}");
        }
    }

    #[test]
    fn a_ping_is_told_from_a_pong() {
        let mut stream = stream();
        stream.handle(PING);
        assert_eq!(all(&mut stream), [Frame::Ping]);
        stream.handle(PONG);
        assert_eq!(all(&mut stream), [Frame::Pong]);
        stream.handle(b"\r");
        assert_eq!(all(&mut stream), []);
    }

    #[test]
    fn a_ping_that_is_cut_after_three_octets_is_a_ping_all_the_same() {
        let mut stream = stream();
        stream.handle(b"\r\n\r");
        assert_eq!(all(&mut stream), []);
        stream.handle(b"\n");
        assert_eq!(all(&mut stream), [Frame::Ping]);
    }

    #[test]
    fn a_carriage_return_alone_before_a_message_is_framing_lost() {
        for octets in ["\rOPTIONS sip:x SIP/2.0\r\n", "\r\r\n"] {
            let mut stream = stream();
            stream.handle(octets.as_bytes());
            assert_eq!(stream.poll(), Err(ParseError::BareLineBreak), "{octets:?}");
        }
    }

    #[test]
    fn a_short_message_after_one_that_trickled_in_is_found() {
        let mut stream = stream();
        let long = format!(
            "OPTIONS sip:x SIP/2.0\r\nSubject: {}\r\nl: 0\r\n\r\n",
            "y".repeat(100)
        );
        let (last, first) = long.as_bytes().split_last().unwrap();
        for octet in first {
            stream.handle(&[*octet]);
            assert_eq!(all(&mut stream), []);
        }
        stream.handle(&[*last]);
        stream.handle(MESSAGE);
        let expected = [long.as_bytes(), MESSAGE].map(|octets| Frame::Message(octets.to_vec()));
        assert_eq!(all(&mut stream), expected);
    }

    #[test]
    fn without_one_good_content_length_framing_is_lost_for_good() {
        for (lines, error) in [
            ("Via: x", ParseError::ContentLengthMissing),
            (
                "Content-Length: 1\r\nl: 1",
                ParseError::Duplicate(HeaderName::ContentLength),
            ),
            (
                "Content-Length: -1",
                ParseError::Header(HeaderName::ContentLength, crate::error::Syntax::Number),
            ),
            (
                "Content-Length:",
                ParseError::Header(HeaderName::ContentLength, crate::error::Syntax::Number),
            ),
            ("Content-Length: 5000", ParseError::BodyTooLarge),
            (
                "l: 1000000000",
                ParseError::Header(HeaderName::ContentLength, crate::error::Syntax::Number),
            ),
            (
                "l: 99999999999999999999",
                ParseError::Header(HeaderName::ContentLength, crate::error::Syntax::Number),
            ),
        ] {
            let mut stream = stream();
            stream.handle(format!("OPTIONS sip:x SIP/2.0\r\n{lines}\r\n\r\n").as_bytes());
            assert_eq!(stream.poll(), Err(error.clone()), "{lines}");
            stream.handle(MESSAGE);
            assert!(!stream.is_waiting(), "{lines}: octets are kept");
            assert_eq!(stream.poll(), Err(error), "{lines}");
        }
    }

    #[test]
    fn a_head_that_never_ends_is_given_up() {
        let mut stream = stream();
        stream.handle(&[b'x'; 201]);
        assert_eq!(stream.poll(), Err(ParseError::HeadTooLarge));
    }

    #[test]
    fn a_head_that_is_too_long_is_given_up_though_its_end_is_there() {
        let mut stream = stream();
        let subject = "x".repeat(200);
        stream.handle(
            format!("OPTIONS sip:x SIP/2.0\r\nSubject: {subject}\r\nl: 0\r\n\r\n").as_bytes(),
        );
        assert_eq!(stream.poll(), Err(ParseError::HeadTooLarge));
    }

    #[test]
    fn octets_that_trickle_in_are_not_searched_again_and_again() {
        let mut stream = Stream::new(Limits::default());
        let before = steps::taken();
        for _ in 0..40_000 {
            stream.handle(b"x");
            stream.poll().unwrap();
        }
        assert!(steps::taken() - before < 40_000 * 8);
    }
}
