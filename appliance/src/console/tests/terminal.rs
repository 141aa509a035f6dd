//! Terminals of any size and temper, and people who type anything.

use appliance_config::Document;
use broker_proto::control::LogIn;
use proptest::prelude::*;

use super::{Session, running};
use crate::console::{
    app::{App, Place},
    screen::Size,
    steps::Step,
    terminal::Terminal,
};

#[test]
fn a_disturbed_line_is_redrawn_whole_by_control_l() {
    let mut session = Session::first();
    let before = session.screen();
    session
        .emulator
        .process(b"\x1b[3;1Hkernel: noise\r\n\r\nmore noise\x1b[7m");
    assert_ne!(session.screen(), before);
    session.keys("\x0c");
    assert_eq!(session.screen(), before);
}

#[test]
fn a_terminal_that_never_answers_is_taken_for_80_by_24() {
    let mut app = App::default();
    app.configuration(0, "");
    let mut terminal = Terminal::new(0);
    terminal.written(terminal.output().len());
    terminal.show(&app);
    assert!(
        terminal.output().is_empty(),
        "nothing is drawn while the answer may come"
    );
    assert_eq!(terminal.due(), Some(900));
    terminal.tick(900);
    terminal.show(&app);
    let mut emulator = vt100::Parser::new(24, 80, 0);
    emulator.process(terminal.output());
    assert!(emulator.screen().contents().contains("Language"));
}

#[test]
fn a_slow_line_gets_the_newest_frame_and_no_queue() {
    let mut app = App::default();
    app.configuration(0, "");
    let mut terminal = Terminal::new(0);
    terminal.tick(900);
    terminal.written(terminal.output().len());
    terminal.show(&app);
    let first = terminal.output().len();
    for key in terminal.input(&[b'\t'; 5000], 1000) {
        app.key(key);
        terminal.show(&app);
    }
    assert_eq!(
        terminal.output().len(),
        first,
        "the frame that is being written stays alone"
    );
}

#[test]
fn hostile_text_from_the_outside_cannot_leave_the_page() {
    let mut session = running();
    session.app.status(vec![(
        "warning\x1b[2J".into(),
        "\x1b]0;title\x07 \u{202e}\r\n\x1b[6n".repeat(50),
    )]);
    session.written.clear();
    session.settle();
    let written = String::from_utf8_lossy(&session.written).into_owned();
    assert!(
        !written.contains("\x1b]0")
            && !written.contains("\x1b[6n")
            && !written.contains('\u{202e}')
    );
    session.sees("Reconfigure");
}

#[test]
fn every_page_can_be_used_on_any_size() {
    for (columns, rows) in [(16, 6), (20, 8), (40, 12), (80, 24), (132, 43), (300, 120)] {
        let size = Size { columns, rows };
        let mut session = Session::new(size);
        session.app.configuration(0, "");
        session.settle();
        for step in Step::ALL {
            session.app.go(Place::Step(step));
            session.settle();
            // The focus can be brought to each field and is seen there.
            let count = session.app.page().0.focusable().len();
            for _ in 0..count {
                session.keys("\t");
                let (row, column) = session.emulator.screen().cursor_position();
                assert!(
                    usize::from(row) >= 1
                        && usize::from(row) < rows
                        && usize::from(column) < columns
                );
                assert!(
                    !session.emulator.screen().hide_cursor(),
                    "{step:?} at {columns}x{rows}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is typed, at any size: no panic, the screen of the emulator is the page, and nothing is ever proposed that
    /// would not pass the check.
    #[test]
    fn any_keys_keep_the_console_whole(
        keys in proptest::collection::vec(prop_oneof![
            4 => Just("\t".to_owned()), 4 => Just("\r".to_owned()), 2 => Just("\x1b[C".to_owned()), 1 => Just("\x1b[A".to_owned()),
            1 => Just("\x1b[Z".to_owned()), 1 => Just("\x03".to_owned()), 1 => Just("\x1b".to_owned()), 1 => Just("\x15".to_owned()),
            1 => Just("\x0c".to_owned()), 1 => Just("\x7f".to_owned()), 1 => Just("\x1b[5~".to_owned()), 1 => Just("\x1b[6~".to_owned()),
            2 => "[0-9./:]{1,9}", 2 => "\\PC{1,6}", 1 => Just("192.0.2.1/24".to_owned()),
        ], 0..120),
        columns in 16_usize..120, rows in 6_usize..50, set_up in any::<bool>(),
    ) {
        let mut session = Session::new(Size { columns, rows });
        session.app.configuration(u64::from(set_up), if set_up { include_str!("../../../../tests/lab/gatehouse.toml") } else { "" });
        session.settle();
        for (n, key) in keys.iter().enumerate() {
            session.keys(key);
            if n % 5 == 0 {
                session.now += 100;
                if let Some(key) = session.terminal.tick(session.now) {
                    session.app.key(key);
                    session.settle();
                }
            }
            while let Some((id, text, _)) = session.proposal() {
                prop_assert!(Document::parse(&text, "proposed").is_ok());
                session.app.answer(id, Err(vec!["no".into()]));
                session.settle();
            }
            while let Some((id, _)) = session.command() {
                session.app.answer(id, Ok("done".into()));
                session.settle();
            }
            if session.answer_log_in(LogIn::Opened).is_some() {
                session.settle();
            }
            let (page, view) = session.app.page();
            let wanted = page.draw(&view, Size::clamped(columns, rows));
            let shown: Vec<String> = session.emulator.screen().rows(0, 300).map(|row| row.trim_end().to_owned()).collect();
            for (row, line) in shown.iter().enumerate() {
                let mut expected = wanted.text(row);
                if row + 1 == rows && expected.chars().count() == columns {
                    // The last place of the last row is never written.
                    expected = expected.chars().take(columns - 1).collect::<String>().trim_end().to_owned();
                }
                prop_assert_eq!(line, &expected, "row {} after {:?}", row, key);
            }
        }
    }
}
