//! What a terminal shows: a grid of characters, and the bytes that bring a terminal from one grid to the next. Only the
//! escapes of a VT100, no alternate screen, every frame drawn from known ground, so that a disturbed line is one Ctrl-L
//! away from a good one.

/// How a character looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// As the terminal has it.
    #[default]
    Plain,
    /// Bold.
    Bold,
    /// Light on dark turned round: title, focus.
    Reverse,
    /// Underlined: where something is typed.
    Underline,
}

impl Style {
    const fn escape(self) -> &'static str {
        match self {
            Self::Plain => "\x1b[m",
            Self::Bold => "\x1b[0;1m",
            Self::Reverse => "\x1b[0;7m",
            Self::Underline => "\x1b[0;4m",
        }
    }
}

/// One place of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    character: char,
    style: Style,
}

const BLANK: Cell = Cell {
    character: ' ',
    style: Style::Plain,
};

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

impl Size {
    /// Of a terminal that does not say.
    pub const USUAL: Self = Self {
        columns: 80,
        rows: 24,
    };

    /// A size that can be drawn on, whatever was claimed.
    #[must_use]
    pub fn clamped(columns: usize, rows: usize) -> Self {
        Self {
            columns: columns.clamp(16, 300),
            rows: rows.clamp(6, 120),
        }
    }
}

/// A grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    size: Size,
    cells: Vec<Cell>,
    /// Row and column of the cursor, if it is to be seen.
    pub cursor: Option<(usize, usize)>,
}

impl Screen {
    /// All blank.
    #[must_use]
    pub fn blank(size: Size) -> Self {
        Self {
            size,
            cells: vec![BLANK; size.columns * size.rows],
            cursor: None,
        }
    }

    /// Its size.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Writes a text from a place on, as far as the row goes; characters that no terminal shows in one place become `?`.
    /// Returns the column behind it.
    pub fn put(&mut self, row: usize, column: usize, text: &str, style: Style) -> usize {
        let mut column = column;
        for character in text.chars() {
            if column >= self.size.columns || row >= self.size.rows {
                break;
            }
            if let Some(cell) = self.cells.get_mut(row * self.size.columns + column) {
                *cell = Cell {
                    character: shown(character),
                    style,
                };
            }
            column += 1;
        }
        column
    }

    /// Gives a whole row one style.
    pub fn paint(&mut self, row: usize, style: Style) {
        for column in 0..self.size.columns {
            if let Some(cell) = self.cells.get_mut(row * self.size.columns + column) {
                cell.style = style;
            }
        }
    }

    /// A row as text, blanks at its end cut off.
    #[must_use]
    pub fn text(&self, row: usize) -> String {
        let text: String = self.row(row).iter().map(|cell| cell.character).collect();
        text.trim_end().to_owned()
    }

    fn row(&self, row: usize) -> &[Cell] {
        self.cells
            .get(row * self.size.columns..(row + 1) * self.size.columns)
            .unwrap_or_default()
    }

    /// Bytes that make a terminal that shows `before` (`None`: anything) show this.
    #[must_use]
    pub fn draw(&self, before: Option<&Self>) -> Vec<u8> {
        let before = before.filter(|before| before.size == self.size);
        let mut out = String::new();
        if before.is_none() {
            out.push_str("\x1b[?25l\x1b[m\x1b[r\x1b[H\x1b[2J");
        } else if before == Some(self) {
            return Vec::new();
        } else {
            out.push_str("\x1b[?25l");
        }
        for row in 0..self.size.rows {
            if before.is_none_or(|before| before.row(row) != self.row(row)) {
                self.draw_row(row, before.is_none(), &mut out);
            }
        }
        out.push_str("\x1b[m");
        if let Some((row, column)) = self.cursor {
            out.push_str(&format!("\x1b[{};{}H\x1b[?25h", row + 1, column + 1));
        }
        out.into_bytes()
    }

    fn draw_row(&self, row: usize, cleared: bool, out: &mut String) {
        let cells = self.row(row);
        let used = cells
            .iter()
            .rposition(|cell| *cell != BLANK)
            .map_or(0, |last| last + 1);
        if used == 0 && cleared {
            return;
        }
        out.push_str(&format!("\x1b[{};1H", row + 1));
        let mut style = Style::Plain;
        out.push_str(style.escape());
        // The last place of the last row is left alone: writing it makes many terminals scroll.
        let last = row + 1 == self.size.rows;
        let used = if last {
            used.min(self.size.columns - 1)
        } else {
            used
        };
        for cell in cells.iter().take(used) {
            if cell.style != style {
                style = cell.style;
                out.push_str(style.escape());
            }
            out.push(cell.character);
        }
        if style != Style::Plain {
            out.push_str(Style::Plain.escape());
        }
        if used < self.size.columns && !cleared {
            out.push_str("\x1b[K");
        }
    }
}

/// What stands for a character on the screen: one place wide, never an escape. Outside text reaches the screen by here.
fn shown(character: char) -> char {
    match character {
        ' '..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{17f}' | '–' | '…' => character,
        _ => '?',
    }
}

/// Breaks a text into lines of at most `width` characters, at blanks where there are any.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        // What fits keeps its blanks: columns stay columns.
        if paragraph.chars().count() <= width {
            lines.push(paragraph.to_owned());
            continue;
        }
        let indent: String = paragraph
            .chars()
            .take_while(|c| *c == ' ')
            .take(width / 2)
            .collect();
        let mut line = indent.clone();
        for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            let mut word: Vec<char> = word.chars().collect();
            loop {
                let blank = usize::from(line.chars().count() > indent.len());
                let room = width.saturating_sub(line.chars().count() + blank);
                if word.len() <= room {
                    if blank == 1 {
                        line.push(' ');
                    }
                    line.extend(word.iter());
                    break;
                }
                if blank == 1 {
                    lines.push(core::mem::replace(&mut line, indent.clone()));
                } else {
                    // A word longer than the line is cut.
                    let rest = word.split_off(room.clamp(1, word.len()));
                    line.extend(word.iter());
                    lines.push(core::mem::replace(&mut line, indent.clone()));
                    word = rest;
                }
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size {
        columns: 20,
        rows: 6,
    };

    fn sample(text: &str) -> Screen {
        let mut screen = Screen::blank(SMALL);
        screen.put(0, 0, "Title", Style::Reverse);
        screen.paint(0, Style::Reverse);
        screen.put(2, 3, text, Style::Underline);
        screen.put(5, 0, "full row to the edge", Style::Plain);
        screen.cursor = Some((2, 4));
        screen
    }

    fn rows(parser: &vt100::Parser) -> Vec<String> {
        parser
            .screen()
            .rows(0, 20)
            .map(|row| row.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn a_terminal_shows_what_the_grid_holds_after_any_noise() {
        let mut parser = vt100::Parser::new(6, 20, 0);
        parser.process(b"garbage\r\n\x1b[7mmore\x1b[5;5Hnoise\x1b[2;4r");
        let screen = sample("first");
        parser.process(&screen.draw(None));
        assert_eq!(
            rows(&parser),
            ["Title", "", "   first", "", "", "full row to the edg"]
        );
        assert_eq!(parser.screen().cursor_position(), (2, 4));
        assert!(parser.screen().cell(0, 19).expect("cell").inverse());
    }

    #[test]
    fn a_difference_redraws_only_rows_that_changed() {
        let mut parser = vt100::Parser::new(6, 20, 0);
        let (first, second) = (sample("first value"), sample("2nd"));
        parser.process(&first.draw(None));
        let bytes = second.draw(Some(&first));
        assert!(bytes.len() < 80 && !bytes.windows(5).any(|w| w == b"Title"));
        parser.process(&bytes);
        assert_eq!(
            rows(&parser),
            ["Title", "", "   2nd", "", "", "full row to the edg"]
        );
        assert!(second.draw(Some(&second.clone())).is_empty());
    }

    #[test]
    fn hostile_text_cannot_leave_its_place() {
        let mut screen = Screen::blank(SMALL);
        screen.put(1, 18, "a\x1b[2J\r\nb", Style::Plain);
        screen.put(9, 0, "outside", Style::Plain);
        let bytes = screen.draw(None);
        assert_eq!(screen.text(1), "                  a?");
        assert!(!String::from_utf8(bytes).expect("text").contains("outside"));
    }

    #[test]
    fn long_text_breaks_at_blanks_and_never_runs_over() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("  abcdefghij", 6), ["  abcd", "  efgh", "  ij"]);
        assert_eq!(wrap("a   b", 5), ["a   b"]);
        assert_eq!(wrap("", 5), Vec::<String>::new());
        for width in 1..12 {
            assert!(
                wrap("  the quick brown foxes jump", width)
                    .iter()
                    .all(|line| line.chars().count() <= width.max(2)),
                "{width}"
            );
        }
    }
}
