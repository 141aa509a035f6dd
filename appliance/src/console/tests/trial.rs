//! A changed configuration on trial.

use broker_proto::control::{Command, RollBack, Trial};

use super::{Session, locked, running};

/// Up to the question.
fn on_trial() -> Session {
    let mut session = running();
    session
        .press("Reconfigure")
        .press("Next")
        .fill("Host name", "other");
    for _ in 0..9 {
        session.press("Next");
    }
    session.sees("Changes:").press("Confirm");
    let (id, text, _) = session.proposal().expect("proposed");
    session.app.configuration(8, &text);
    session.app.answer(id, Ok("revision 8".into()));
    session.app.trial(Trial::Running { seconds: 60 });
    session.settle();
    session
}

#[test]
fn the_seconds_count_down_and_keeping_it_ends_the_trial() {
    let mut session = on_trial();
    session.sees("Keep this configuration?").sees("in 60 s");
    for left in [59, 58, 57] {
        session.now = session.app.due().expect("counts");
        session.settle();
        session.sees(&format!("in {left} s"));
    }
    session.escape().sees("Keep this configuration?");
    session.press("Keep it").sees("Please wait");
    let (id, command) = session.command().expect("asked");
    assert_eq!(command, Command::Keep);
    session.app.answer(id, Ok(String::new()));
    session.app.trial(Trial::Kept);
    session.settle();
    session.sees("kept and stored").press("To the status page");
    session.sees("other").sees("Reconfigure");
}

#[test]
fn nobody_who_keeps_it_gets_the_old_one_back_and_what_was_typed_is_not_lost() {
    let mut session = on_trial();
    session
        .app
        .configuration(7, include_str!("../../../../tests/lab/gatehouse.toml"));
    session.app.trial(Trial::RolledBack(RollBack::TimeUp));
    session.settle();
    session
        .sees("Nobody kept")
        .press("To the status page")
        .press("Reconfigure")
        .press("Next")
        .sees("other");
}

#[test]
fn going_back_can_be_asked_for() {
    let mut session = on_trial();
    session.press("Go back now");
    let (id, command) = session.command().expect("asked");
    assert_eq!(command, Command::GoBack);
    session
        .app
        .configuration(7, include_str!("../../../../tests/lab/gatehouse.toml"));
    session.app.trial(Trial::RolledBack(RollBack::Asked));
    session.app.answer(id, Ok(String::new()));
    session.settle();
    session.sees("old configuration is in force again");
}

#[test]
fn without_a_log_in_a_trial_can_be_watched_but_not_decided() {
    let mut session = locked();
    session.app.trial(Trial::Running { seconds: 30 });
    session.settle();
    session.sees("in 30 s").sees("log in first");
    assert!(!session.screen().contains("[ Keep"));
    session.escape().press("Log in").sees("Password");
    assert!(session.command().is_none());
}
