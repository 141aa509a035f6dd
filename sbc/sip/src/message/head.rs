//! The head of a message as lines: where it ends, every line break CRLF, folding undone. RFC 3261 §7. Used by the parser.

use crate::error::ParseError;
use crate::limits::Limits;
use crate::reader::{is_space, steps};

// RFC 3261 §7.5: line breaks before the start line are ignored.
pub(super) fn skip_line_breaks(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes
}

pub(super) struct Split<'a> {
    /// Without the empty line and the line break before it.
    pub(super) head: &'a [u8],
    /// What follows the empty line.
    pub(super) body: &'a [u8],
    /// Whether a line is folded.
    pub(super) folded: bool,
}

/// Finds the empty line; on the way every line break is seen to be CRLF.
pub(super) fn split_head<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Split<'a>, ParseError> {
    let mut folded = false;
    let mut position = 0;
    let mut line_is_empty = true;
    let mut octets = bytes.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        if position >= limits.head {
            return Err(ParseError::HeadTooLarge);
        }
        position += 1;
        match octet {
            b'\r' => {
                if octets.next() != Some(b'\n') {
                    return Err(ParseError::BareLineBreak);
                }
                position += 1;
                if line_is_empty {
                    steps::count(position);
                    let (head, body) = bytes.split_at_checked(position).unwrap_or((bytes, &[]));
                    let head = head.get(..position.saturating_sub(4)).unwrap_or_default();
                    return Ok(Split { head, body, folded });
                }
                line_is_empty = true;
                folded |= octets.peek().copied().is_some_and(is_space);
            }
            b'\n' => return Err(ParseError::BareLineBreak),
            _ => line_is_empty = false,
        }
    }
    Err(ParseError::HeadNotEnded)
}

/// Joins folded lines: the line break and all white space round it become one space. RFC 3261 §7.3.1.
pub(super) fn unfold(head: &str) -> String {
    let mut whole = String::with_capacity(head.len());
    for (index, line) in head.split("\r\n").enumerate() {
        steps::count(line.len());
        if line.bytes().next().is_some_and(is_space) {
            whole.truncate(whole.trim_end_matches([' ', '\t']).len());
            whole.push(' ');
            whole.push_str(line.trim_start_matches([' ', '\t']));
        } else {
            if index > 0 {
                whole.push_str("\r\n");
            }
            whole.push_str(line);
        }
    }
    whole
}
