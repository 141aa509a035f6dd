//! A page: texts, fields and buttons, and how they are laid out on any terminal. Title on top, buttons and help below, the
//! rest scrolls so that what has the focus is always seen.

use super::{
    draft::Id,
    screen::{Screen, Size, Style, wrap},
};

/// How a field is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Typed.
    Text,
    /// One of these: value and what is shown.
    Choice(Vec<(String, String)>),
}

/// One line or more of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// To be read.
    Text(String),
    /// To be read first.
    Warning(String),
    /// An empty line.
    Gap,
    /// To be filled in.
    Field {
        /// Which.
        id: Id,
        /// In front of it.
        label: String,
        /// How.
        kind: Kind,
        /// What is in it; of a secret only whether there is something.
        value: String,
        /// What is wrong with it.
        error: Option<String>,
    },
    /// A line that can be pressed.
    Line {
        /// Which.
        id: Id,
        /// What it says.
        text: String,
    },
}

/// What is to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// On top.
    pub title: String,
    /// At the right of the title, `3/10`.
    pub progress: String,
    /// From top to bottom.
    pub items: Vec<Item>,
    /// Below.
    pub buttons: Vec<(Id, String)>,
    /// What just happened.
    pub message: Option<String>,
    /// Keys.
    pub help: String,
}

/// Where the person is on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What keys go to.
    pub focus: Id,
    /// Characters before the cursor in a text field.
    pub cursor: usize,
    /// First line shown of a page that has no field in focus.
    pub scroll: usize,
}

impl Page {
    /// What can have the focus, in the order of the tabulator.
    #[must_use]
    pub fn focusable(&self) -> Vec<Id> {
        let items = self.items.iter().filter_map(|item| match item {
            Item::Field { id, .. } | Item::Line { id, .. } => Some(*id),
            _ => None,
        });
        items
            .chain(self.buttons.iter().map(|(id, _)| *id))
            .collect()
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, wanted: Id) -> Option<(&Kind, &str)> {
        self.items.iter().find_map(|item| match item {
            Item::Field {
                id, kind, value, ..
            } if *id == wanted => Some((kind, value.as_str())),
            _ => None,
        })
    }

    /// Lays the page out.
    #[must_use]
    pub fn draw(&self, view: &View, size: Size) -> Screen {
        let mut screen = Screen::blank(size);
        let tall = size.rows >= 12;
        self.draw_title(&mut screen);
        let first = if tall { 2 } else { 1 };
        let below = self.draw_footer(&mut screen, view, tall);
        let room = below.saturating_sub(first);
        let body = self.lines(view, size.columns);
        let scroll = scroll(&body, view, room);
        for (row, line) in body.iter().skip(scroll).take(room).enumerate() {
            line.draw(&mut screen, first + row);
        }
        self.draw_more(&mut screen, first, room, scroll, body.len());
        screen
    }

    fn draw_title(&self, screen: &mut Screen) {
        let columns = screen.size().columns;
        screen.put(0, 1, &self.title, Style::Reverse);
        let at = columns.saturating_sub(self.progress.chars().count() + 1);
        screen.put(0, at, &self.progress, Style::Reverse);
        screen.paint(0, Style::Reverse);
    }

    /// Buttons, message and help; returns the first row they take.
    fn draw_footer(&self, screen: &mut Screen, view: &View, tall: bool) -> usize {
        let size = screen.size();
        let mut row = size.rows;
        if tall {
            row -= 1;
            screen.put(row, 1, &self.help, Style::Plain);
        }
        // Buttons break into further rows where they do not fit side by side.
        let mut lines: Vec<Vec<(bool, String)>> = vec![Vec::new()];
        let mut column = 1;
        for (id, label) in &self.buttons {
            let text = format!("[ {label} ]");
            let width = text.chars().count() + 2;
            if column > 1 && column + width > size.columns {
                lines.push(Vec::new());
                column = 1;
            }
            column += width;
            if let Some(line) = lines.last_mut() {
                line.push((*id == view.focus, text));
            }
        }
        lines.retain(|line| !line.is_empty());
        lines.truncate(size.rows / 3);
        row -= lines.len();
        for (offset, line) in lines.iter().enumerate() {
            let mut column = 1;
            for (focus, text) in line {
                if *focus {
                    screen.cursor = Some((row + offset, column.min(size.columns - 1)));
                }
                column = screen.put(
                    row + offset,
                    column,
                    text,
                    if *focus { Style::Reverse } else { Style::Plain },
                ) + 2;
            }
        }
        if let Some(message) = &self.message {
            let lines = wrap(message, size.columns - 2);
            let most = (size.rows / 3).max(1);
            row -= lines.len().min(most);
            for (offset, line) in lines.iter().take(most).enumerate() {
                screen.put(row + offset, 1, line, Style::Bold);
            }
        }
        if tall { row - 1 } else { row }
    }

    /// Says at the edge that there is more above or below.
    fn draw_more(
        &self,
        screen: &mut Screen,
        first: usize,
        room: usize,
        scroll: usize,
        total: usize,
    ) {
        let edge = screen.size().columns - 1;
        if scroll > 0 && room > 0 {
            screen.put(first, edge, "^", Style::Bold);
        }
        if scroll + room < total && room > 0 {
            screen.put(first + room - 1, edge, "v", Style::Bold);
        }
    }

    /// How many lines the page has, and how many fit: for scrolling by pages.
    #[must_use]
    pub fn height(&self, view: &View, columns: usize) -> usize {
        self.lines(view, columns).len()
    }

    fn lines(&self, view: &View, columns: usize) -> Vec<Row> {
        let width = columns - 3;
        let mut rows = Vec::new();
        for item in &self.items {
            match item {
                Item::Text(text) => rows.extend(
                    wrap(text, width)
                        .into_iter()
                        .map(|line| Row::plain(line, Style::Plain)),
                ),
                Item::Warning(text) => rows.extend(
                    wrap(text, width)
                        .into_iter()
                        .map(|line| Row::plain(line, Style::Bold)),
                ),
                Item::Gap => rows.push(Row::plain(String::new(), Style::Plain)),
                Item::Line { id, text } => {
                    let focus = *id == view.focus;
                    let mut row = Row::plain(String::new(), Style::Plain);
                    row.focus = focus;
                    row.cursor = focus.then_some(1);
                    row.parts.push((
                        1,
                        text.chars().take(width).collect(),
                        if focus { Style::Reverse } else { Style::Plain },
                    ));
                    rows.push(row);
                }
                Item::Field {
                    id,
                    label,
                    kind,
                    value,
                    error,
                } => {
                    field(&mut rows, view, width, (*id, label), (kind, value));
                    for line in error
                        .iter()
                        .flat_map(|error| wrap(error, width.saturating_sub(4)))
                    {
                        rows.push(Row {
                            parts: vec![(3, format!("! {line}"), Style::Bold)],
                            focus: *id == view.focus,
                            cursor: None,
                        });
                    }
                }
            }
        }
        rows
    }
}

/// A laid-out line: column, text, style.
struct Row {
    parts: Vec<(usize, String, Style)>,
    /// Belongs to what has the focus.
    focus: bool,
    cursor: Option<usize>,
}

impl Row {
    fn plain(text: String, style: Style) -> Self {
        Self {
            parts: vec![(1, text, style)],
            focus: false,
            cursor: None,
        }
    }

    fn draw(&self, screen: &mut Screen, row: usize) {
        for (column, text, style) in &self.parts {
            screen.put(row, *column, text, *style);
        }
        if let Some(column) = self.cursor {
            screen.cursor = Some((row, column.min(screen.size().columns - 1)));
        }
    }
}

/// Lays a field out: label and value side by side, or one below the other where the terminal is narrow.
fn field(
    rows: &mut Vec<Row>,
    view: &View,
    width: usize,
    (id, label): (Id, &str),
    (kind, value): (&Kind, &str),
) {
    let focus = id == view.focus;
    let narrow = width < 50;
    let at = if narrow { 3 } else { 30 };
    let mut row = Row {
        parts: Vec::new(),
        focus,
        cursor: None,
    };
    let label_width = if narrow { width } else { at - 2 };
    row.parts.push((
        1,
        label.chars().take(label_width).collect(),
        if focus { Style::Bold } else { Style::Plain },
    ));
    if narrow {
        rows.push(row);
        row = Row {
            parts: Vec::new(),
            focus,
            cursor: None,
        };
    }
    let room = (width + 1).saturating_sub(at).max(4);
    match kind {
        Kind::Choice(options) => {
            let shown = options
                .iter()
                .find(|(option, _)| option == value)
                .map_or("-", |(_, shown)| shown);
            let shown: String = shown.chars().take(room.saturating_sub(4)).collect();
            row.cursor = focus.then_some(at);
            row.parts.push((
                at,
                format!("< {shown} >"),
                if focus { Style::Reverse } else { Style::Plain },
            ));
        }
        Kind::Text => {
            let (cursor, shown) = window(
                value,
                if id.is_secret() { 0 } else { view.cursor },
                room.min(46),
                focus,
            );
            row.cursor = focus.then_some(at + cursor);
            row.parts.push((at, shown, Style::Underline));
        }
    }
    rows.push(row);
}

/// The part of a text that fits with the cursor in it, padded; and where the cursor is in that part.
fn window(value: &str, cursor: usize, room: usize, focus: bool) -> (usize, String) {
    let length = value.chars().count();
    let cursor = if focus { cursor.min(length) } else { 0 };
    let from = if cursor >= room { cursor + 1 - room } else { 0 };
    let shown: String = value.chars().skip(from).take(room).collect();
    (cursor - from, format!("{shown:room$}"))
}

/// First line to show: the one asked for, moved so that the focus is seen.
fn scroll(body: &[Row], view: &View, room: usize) -> usize {
    let most = body.len().saturating_sub(room);
    let Some(first) = body.iter().position(|row| row.focus) else {
        return view.scroll.min(most);
    };
    let last = body.iter().rposition(|row| row.focus).unwrap_or(first);
    // The whole beginning is shown while the focus lies in it; then the focus moves to the middle.
    if last < room {
        0
    } else {
        first
            .saturating_sub(room / 2)
            .max((last + 1).saturating_sub(room))
            .min(first)
            .min(most)
    }
}
