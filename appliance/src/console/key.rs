//! Keys from the bytes of a VT100-like terminal: plain characters (UTF-8), control characters, cursor keys, and the answer
//! to the question for the cursor's place. One decoder per terminal; what it does not know is dropped.

/// A key, or the terminal's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character that can be shown.
    Char(char),
    /// Return.
    Enter,
    /// Tabulator.
    Tab,
    /// Tabulator backwards.
    BackTab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// Escape alone.
    Escape,
    /// Control and a small letter.
    Control(char),
    /// Cursor position report (ECMA-48 CPR): row and column, counted from 1.
    Report {
        /// Row.
        row: u16,
        /// Column.
        column: u16,
    },
}

/// Octets of an escape sequence, at most; longer ones are noise.
const MAX_SEQUENCE: usize = 24;

/// See the module.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    /// The last octet was a carriage return: a line feed behind it is the same key.
    after_return: bool,
}

impl Decoder {
    /// Keys of some more bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for byte in bytes {
            self.pending.push(*byte);
            self.reduce(&mut keys);
        }
        keys
    }

    /// Whether an escape sequence or character has begun: if nothing follows soon, [`Self::pause`] ends it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Nothing followed for a while: a lone escape is the key of that name, any other beginning is dropped.
    pub fn pause(&mut self) -> Option<Key> {
        let lone = self.pending == [0x1b];
        self.pending.clear();
        lone.then_some(Key::Escape)
    }

    /// Takes a complete key from the pending bytes, if there is one.
    fn reduce(&mut self, keys: &mut Vec<Key>) {
        let Some(first) = self.pending.first().copied() else {
            return;
        };
        let key = match first {
            0x1b => match self.escape() {
                Step::More => return,
                Step::Done(key) => key,
                Step::Again => {
                    // ESC ESC: the first was the key, the second begins anew.
                    keys.push(Key::Escape);
                    self.pending.remove(0);
                    return;
                }
            },
            0x80.. => match core::str::from_utf8(&self.pending) {
                Ok(text) => text
                    .chars()
                    .next()
                    .filter(|c| !c.is_control())
                    .map(Key::Char),
                Err(error) if error.error_len().is_none() && self.pending.len() < 4 => return,
                Err(_) => None,
            },
            _ => self.control(first),
        };
        self.after_return = first == b'\r';
        self.pending.clear();
        keys.extend(key);
    }

    fn control(&self, byte: u8) -> Option<Key> {
        match byte {
            b'\r' => Some(Key::Enter),
            b'\n' => (!self.after_return).then_some(Key::Enter),
            b'\t' => Some(Key::Tab),
            0x08 | 0x7f => Some(Key::Backspace),
            0x01..=0x1a => Some(Key::Control(char::from(byte + b'a' - 1))),
            0x20..=0x7e => Some(Key::Char(char::from(byte))),
            _ => None,
        }
    }

    fn escape(&self) -> Step {
        match self.pending.get(1) {
            None => Step::More,
            Some(0x1b) => Step::Again,
            Some(b'[') => {
                let body = self.pending.get(2..).unwrap_or_default();
                // The Linux console sends its function keys as ESC [ [ letter.
                if body.first() == Some(&b'[') {
                    return if body.len() < 2 {
                        Step::More
                    } else {
                        Step::Done(None)
                    };
                }
                match body.split_last() {
                    Some((last, parameters)) if (0x40..=0x7e).contains(last) => {
                        Step::Done(csi(parameters, *last))
                    }
                    _ if self.pending.len() >= MAX_SEQUENCE => Step::Done(None),
                    _ => Step::More,
                }
            }
            Some(b'O') => match self.pending.get(2) {
                None => Step::More,
                Some(last) => Step::Done(csi(&[], *last)),
            },
            Some(_) => Step::Done(None),
        }
    }
}

enum Step {
    More,
    Again,
    Done(Option<Key>),
}

fn csi(parameters: &[u8], last: u8) -> Option<Key> {
    let text = core::str::from_utf8(parameters).ok()?;
    Some(match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'Z' => Key::BackTab,
        b'R' => {
            let (row, column) = text.split_once(';')?;
            Key::Report {
                row: row.parse().ok()?,
                column: column.parse().ok()?,
            }
        }
        b'~' => match text.split(';').next()? {
            "1" | "7" => Key::Home,
            "3" => Key::Delete,
            "4" | "8" => Key::End,
            "5" => Key::PageUp,
            "6" => Key::PageDown,
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        Decoder::default().feed(bytes)
    }

    #[test]
    fn cursor_keys_of_both_modes_and_reports_are_recognised() {
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[1;5C\x1b[3~\x1b[Z"),
            [Key::Up, Key::Down, Key::Right, Key::Delete, Key::BackTab]
        );
        assert_eq!(
            keys(b"\x1b[24;80R"),
            [Key::Report {
                row: 24,
                column: 80
            }]
        );
    }

    #[test]
    fn a_return_with_line_feed_is_one_key() {
        assert_eq!(
            keys(b"\r\na\n\r"),
            [Key::Enter, Key::Char('a'), Key::Enter, Key::Enter]
        );
    }

    #[test]
    fn escape_alone_shows_only_after_a_pause() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert!(decoder.is_waiting());
        assert_eq!(decoder.pause(), Some(Key::Escape));
        assert_eq!(decoder.feed(b"x"), [Key::Char('x')]);
    }

    #[test]
    fn letters_outside_ascii_arrive_whole_and_broken_ones_not_at_all() {
        assert_eq!(keys("ü€".as_bytes()), [Key::Char('ü'), Key::Char('€')]);
        assert_eq!(keys(b"\xff\xc3a"), []);
        assert_eq!(keys(b"\xffa"), [Key::Char('a')]);
        assert_eq!(keys(b"\x03\x7f"), [Key::Control('c'), Key::Backspace]);
    }

    #[test]
    fn noise_never_grows_the_buffer() {
        let mut decoder = Decoder::default();
        for round in 0..50_000_u32 {
            let byte = u8::try_from(round.wrapping_mul(2_654_435_761) >> 24).expect("one octet");
            let _ = decoder.feed(&[0x1b, b'[', byte, byte ^ 0x55]);
            assert!(decoder.pending.len() <= MAX_SEQUENCE);
        }
        let _ = decoder.feed(&[b'0'; 1000]);
        assert!(decoder.pending.len() <= MAX_SEQUENCE);
    }
}
