//! What a key does to the page that is shown: the focus moves, text scrolls, a field is typed into, a choice goes on, a button
//! is pressed. What a button means is [`super::app`]'s.

use super::{
    app::App,
    draft::Id,
    key::Key,
    page::{Kind, Page},
};

/// Characters in a field, at most.
const MAX_FIELD: usize = 200;

impl App {
    /// A key.
    pub fn key(&mut self, key: Key) {
        self.last_key_ms = self.now_ms;
        let (page, view) = self.page();
        self.view = view;
        match key {
            Key::Control('c') => self.interrupt(),
            Key::Escape => self.back(),
            Key::Tab | Key::Down if !self.scrolls(&page, key) => self.move_focus(&page, 1),
            Key::BackTab | Key::Up if !self.scrolls(&page, key) => self.move_focus(&page, -1),
            Key::Down => self.scroll(&page, 1),
            Key::Up => self.scroll(&page, -1),
            Key::PageDown => self.scroll(&page, 10),
            Key::PageUp => self.scroll(&page, -10),
            Key::Enter => match page.field(self.view.focus) {
                Some(_) => self.move_focus(&page, 1),
                None => self.press(self.view.focus),
            },
            other => match page.field(self.view.focus) {
                Some((Kind::Choice(options), value)) => self.choose(options, value, other),
                Some((Kind::Text, _)) => self.edit(other),
                None => match other {
                    Key::Left => self.move_focus(&page, -1),
                    Key::Right => self.move_focus(&page, 1),
                    Key::Char(' ') => self.press(self.view.focus),
                    _ => {}
                },
            },
        }
    }

    /// Whether up and down scroll: on pages of text, where only buttons can have the focus.
    fn scrolls(&self, page: &Page, key: Key) -> bool {
        matches!(key, Key::Up | Key::Down) && page.focusable().len() == page.buttons.len()
    }

    fn scroll(&mut self, page: &Page, lines: isize) {
        let most = page.height(&self.view, 80).saturating_sub(4);
        self.view.scroll = self.view.scroll.saturating_add_signed(lines).min(most);
    }

    fn move_focus(&mut self, page: &Page, by: isize) {
        let focusable = page.focusable();
        let length = focusable.len().max(1);
        let at = focusable
            .iter()
            .position(|id| *id == self.view.focus)
            .unwrap_or(0);
        let to = (at + length).saturating_add_signed(by) % length;
        if let Some(id) = focusable.get(to) {
            self.focus_on(page, *id);
        }
    }

    fn choose(&mut self, options: &[(String, String)], value: &str, key: Key) {
        let at = options
            .iter()
            .position(|(option, _)| option == value)
            .unwrap_or(0);
        let to = match key {
            Key::Right | Key::Char(' ') => (at + 1) % options.len().max(1),
            Key::Left => (at + options.len().max(1) - 1) % options.len().max(1),
            _ => return,
        };
        if let Some((option, _)) = options.get(to) {
            self.typed(self.view.focus, option.clone());
        }
    }

    fn edit(&mut self, key: Key) {
        let id = self.view.focus;
        let mut text: Vec<char> = self.draft.value(id).chars().collect();
        // What is not shown has no cursor that could be moved.
        let cursor = if id.is_secret() {
            text.len()
        } else {
            self.view.cursor.min(text.len())
        };
        let to = match key {
            Key::Char(c)
                if text.len() < MAX_FIELD
                    && (c == ' '
                        || c.is_ascii_graphic()
                        || ('\u{a1}'..='\u{17f}').contains(&c)) =>
            {
                text.insert(cursor, c);
                cursor + 1
            }
            Key::Backspace if cursor > 0 => {
                text.remove(cursor - 1);
                cursor - 1
            }
            Key::Delete if cursor < text.len() => {
                text.remove(cursor);
                cursor
            }
            Key::Control('u') => {
                text.clear();
                0
            }
            Key::Left => {
                self.view.cursor = cursor.saturating_sub(1);
                return;
            }
            Key::Right => {
                self.view.cursor = (cursor + 1).min(text.len());
                return;
            }
            Key::Home | Key::Control('a') => {
                self.view.cursor = 0;
                return;
            }
            Key::End | Key::Control('e') => {
                self.view.cursor = text.len();
                return;
            }
            _ => return,
        };
        self.typed(id, text.iter().collect());
        text.fill('\0');
        self.view.cursor = to;
    }

    fn typed(&mut self, id: Id, value: String) {
        self.draft.set(id, value);
        self.dirty |= !matches!(id, Id::Word | Id::LogIn);
        self.problems.retain(|(of, _)| *of != id);
    }
}
