//! One terminal: its size, what it shows, what still has to be written to it. Asks for the size, because a serial line has
//! none, and draws the next frame only when the last one is written: a slow line sees fewer frames, not a longer queue.

use super::{
    app::App,
    key::{Decoder, Key},
    screen::{Screen, Size},
};

/// How long an answer to the question for the size may take, in ms.
const ANSWER_MS: u64 = 900;
/// How long the rest of an escape sequence may take, in ms; slow lines need a few characters' time.
const SEQUENCE_MS: u64 = 80;
/// After so long without a key the size is asked for again: somebody else may sit at the line.
const IDLE_MS: u64 = 10_000;

/// Far corner, then "where is the cursor?" (DSR 6, ECMA-48).
const QUESTION: &[u8] = b"\x1b[999;999H\x1b[6n";

/// See the module.
#[derive(Default)]
pub struct Terminal {
    decoder: Decoder,
    size: Option<Size>,
    /// Until then the answer is waited for.
    answer_by: Option<u64>,
    sequence_by: Option<u64>,
    last_key: u64,
    shown: Option<Screen>,
    pending: Vec<u8>,
}

impl Terminal {
    /// A terminal of unknown size that shows anything.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        let mut terminal = Self {
            last_key: now_ms,
            ..Self::default()
        };
        terminal.ask(now_ms);
        terminal
    }

    fn ask(&mut self, now_ms: u64) {
        self.answer_by = Some(now_ms + ANSWER_MS);
        self.pending.extend_from_slice(QUESTION);
    }

    /// Bytes that came; gives the keys for the console.
    pub fn input(&mut self, bytes: &[u8], now_ms: u64) -> Vec<Key> {
        let mut keys = self.decoder.feed(bytes);
        self.sequence_by = self.decoder.is_waiting().then_some(now_ms + SEQUENCE_MS);
        keys.retain(|key| !self.own(*key));
        if !keys.is_empty() {
            if now_ms.saturating_sub(self.last_key) > IDLE_MS && self.answer_by.is_none() {
                self.ask(now_ms);
            }
            self.last_key = now_ms;
        }
        if keys.contains(&Key::Control('l')) {
            keys.retain(|key| *key != Key::Control('l'));
            self.shown = None;
            self.ask(now_ms);
        }
        keys
    }

    /// The answer to the question is for the terminal alone.
    fn own(&mut self, key: Key) -> bool {
        let Key::Report { row, column } = key else {
            return false;
        };
        if self.answer_by.take().is_some() {
            let size = Size::clamped(usize::from(column), usize::from(row));
            if self.size != Some(size) {
                self.size = Some(size);
                self.shown = None;
            }
        }
        true
    }

    /// Time passed; gives the escape key if that was all.
    pub fn tick(&mut self, now_ms: u64) -> Option<Key> {
        if self.answer_by.is_some_and(|by| by <= now_ms) {
            self.answer_by = None;
            if self.size.is_none() {
                self.size = Some(Size::USUAL);
                self.shown = None;
            }
        }
        if self.sequence_by.is_some_and(|by| by <= now_ms) {
            self.sequence_by = None;
            return self.decoder.pause();
        }
        None
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        self.answer_by.into_iter().chain(self.sequence_by).min()
    }

    /// Draws the console's page, if the terminal is ready for it.
    pub fn show(&mut self, app: &App) {
        let Some(size) = self
            .size
            .filter(|_| self.pending.is_empty() && self.answer_by.is_none())
        else {
            return;
        };
        let (page, view) = app.page();
        let screen = page.draw(&view, size);
        self.pending = screen.draw(self.shown.as_ref());
        self.shown = Some(screen);
    }

    /// What is to be written.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.pending
    }

    /// So much of it was written.
    pub fn written(&mut self, octets: usize) {
        self.pending.drain(..octets.min(self.pending.len()));
    }
}
