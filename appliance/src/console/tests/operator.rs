//! The log-in of a box that is set up.

use broker_proto::control::{Command, FromChild, LogIn};

use super::{Session, locked, running};
use crate::console::{app::Place, steps::Step};

#[test]
fn without_a_log_in_the_status_is_shown_and_nothing_else_is_offered() {
    let mut session = locked();
    session.sees("calls").sees("AB:CD:EF").sees("[ Log in ]");
    for word in [
        "Reconfigure",
        "Network test",
        "Self-test",
        "Factory",
        "Power",
    ] {
        assert!(!session.screen().contains(word), "{word}");
    }
    session.keys("\r\x1b[C\t \x03");
    assert!(session.sent.is_empty());
}

#[test]
fn the_right_password_opens_and_logging_out_closes() {
    let mut session = locked();
    session
        .press("Log in")
        .fill("Password", "correct horse battery")
        .sees("(typed, not shown)")
        .press("Log in")
        .sees("being checked");
    assert!(
        !session.screen().contains("(typed"),
        "what was sent is forgotten"
    );
    let password = session.answer_log_in(LogIn::Opened).expect("asked");
    assert_eq!(password, b"correct horse battery");
    session.sees("Reconfigure").sees("Log out").press("Log out");
    session.sees("[ Log in ]");
    assert_eq!(session.command().map(|(_, c)| c), Some(Command::LogOut));
    let written = String::from_utf8_lossy(&session.written).into_owned();
    assert!(!written.contains("horse"));
}

#[test]
fn a_wrong_password_says_how_long_to_wait() {
    let mut session = locked();
    session
        .press("Log in")
        .press("Log in")
        .sees("Type the password");
    session
        .fill("Password", "guess guess guess")
        .press("Log in");
    session
        .answer_log_in(LogIn::Wrong { wait_seconds: 4 })
        .expect("asked");
    session.sees("not the password").sees("in 4 s");
    session.fill("Password", "once more").press("Log in");
    session
        .answer_log_in(LogIn::TooSoon { wait_seconds: 3 })
        .expect("asked");
    session
        .sees("Too soon")
        .sees("3 s")
        .escape()
        .sees("[ Log in ]");
    assert!(!session.app.operator);
}

#[test]
fn an_answer_that_nobody_waits_for_opens_nothing() {
    let mut session = locked();
    session
        .app
        .logged_in(broker_proto::RequestId(99), LogIn::Opened);
    assert!(!session.app.operator);
}

#[test]
fn whoever_goes_away_is_logged_out_and_his_work_forgotten() {
    let mut session = running();
    session
        .press("Reconfigure")
        .press("Next")
        .fill("Host name", "half-done");
    let due = session.app.due().expect("waits for time");
    session.now = due - 1;
    session.settle();
    session.sees("half-done");
    session.now = due;
    session.settle();
    session.sees("no key was pressed").sees("[ Log in ]");
    assert!(!session.app.dirty && session.app.place == Place::Status);
    let left = session.sent.iter().any(|message| {
        matches!(
            message,
            FromChild::Command {
                command: Command::LogOut,
                ..
            }
        )
    });
    assert!(left, "init is told");
}

#[test]
fn the_first_set_up_needs_no_log_in_because_there_is_no_password_yet() {
    let mut session = Session::first();
    session.app.go(Place::Step(Step::Host));
    session.settle();
    session.sees("Host name");
    session.now += super::super::operator::IDLE_MS * 2;
    session.settle();
    session.sees("Host name");
}
