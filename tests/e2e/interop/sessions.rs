//! Reliable provisional responses (RFC 3262), session timers (RFC 4028) and early media, by PJSIP at both ends.

use std::time::Duration;

use e2e::lab::phones::{Answers, Line, Make, Order, Over};

use super::{
    Configured, Outcome, Run,
    lines::{ALICE, BOB, inside, outside, start, tail},
    press, talk,
};

/// A session of 90 s is refreshed after half of it.
const REFRESH: Duration = Duration::from_secs(60);

/// What PJSIP does at both ends.
pub fn all(run: &Run<'_>) {
    for (over, six) in [(Over::Udp, false), (Over::Tls, false)] {
        let outer = Line {
            reliable: true,
            answers: Answers::EarlyMedia,
            ..outside(run.lab, Make::Pjsua, over, six, 0)
        };
        // It rings: who answers at once has nothing to be confirmed.
        let inner = Line {
            reliable: true,
            answers: Answers::WhenTold,
            ..inside(run.lab, Make::Pjsua, BOB, 0)
        };
        let who = format!("{outer} – {inner}");
        run.row(&who, "PRACK inwards", || reliable(run, &outer, &inner));
        run.row(&who, "early media (183) outwards with PRACK", || {
            early(run, &outer, &inner)
        });
    }
    let outer = outside(run.lab, Make::Pjsua, Over::Tcp, false, 0);
    let inner = inside(run.lab, Make::Pjsua, BOB, 0);
    let (who, what) = (
        format!("{outer} – {inner}"),
        "session timer of 90 s, refreshed on both legs",
    );
    if run.wants(&format!("{who} {what}")) {
        // Each leg has a session of its own: inside, the product says how long.
        let short = "[limits]\nsession_expires_seconds = 90\n";
        let configured = Configured::with(run.lab, short);
        run.row(&who, what, || refreshed(run, &outer, &inner));
        drop(configured);
    }
}

fn reliable(run: &Run<'_>, outer: &Line<'_>, inner: &Line<'_>) -> Outcome {
    let [mut a, mut b] = start([outer, inner])?;
    press(&mut a, Order::Dial(&format!("sip:{}@lab.test", BOB.number)))?;
    if !a.says("CALL EARLY 180", 1, Duration::from_secs(10)) {
        return Err(format!("it does not ring: {}", tail(&a.log())));
    }
    press(&mut b, Order::Accept)?;
    run.has_calls(1)?;
    let heard = talk((&mut a, outer.tone_hz), (&mut b, inner.tone_hz))?;
    press(&mut a, Order::HangUp)?;
    run.is_idle()?;
    for (phone, line) in [(&a, outer), (&b, inner)] {
        if !phone.says("PRACK sip:", 1, Duration::from_secs(1)) {
            return Err(format!("{line}: no PRACK"));
        }
    }
    Ok(heard)
}

fn early(run: &Run<'_>, outer: &Line<'_>, inner: &Line<'_>) -> Outcome {
    let [mut a, mut b] = start([outer, inner])?;
    press(
        &mut b,
        Order::Dial(&format!("sip:{}@lab.test", ALICE.number)),
    )?;
    let before = b.hears(outer.tone_hz);
    if before < 0.5 || run.answered() > 0 {
        return Err(format!(
            "{before:.2} heard before the answer: {}",
            tail(&b.log())
        ));
    }
    press(&mut a, Order::Accept)?;
    run.has_calls(1)?;
    let heard = talk((&mut a, outer.tone_hz), (&mut b, inner.tone_hz))?;
    press(&mut b, Order::HangUp)?;
    run.is_idle()?;
    if !a.says("PRACK sip:", 1, Duration::from_secs(1)) {
        return Err("no PRACK".to_owned());
    }
    Ok(format!("{before:.2} heard before the answer; {heard}"))
}

fn refreshed(run: &Run<'_>, outer: &Line<'_>, inner: &Line<'_>) -> Outcome {
    let [mut a, mut b] = start([outer, inner])?;
    super::lines::connect(run, (&mut a, outer), (&mut b, inner))?;
    for (phone, line) in [(&a, outer), (&b, inner)] {
        if !phone.says("UPDATE sip:", 1, REFRESH) {
            return Err(format!("{line}: no refresh"));
        }
    }
    let heard = talk((&mut a, outer.tone_hz), (&mut b, inner.tone_hz))?;
    press(&mut a, Order::HangUp)?;
    run.is_idle()?;
    Ok(heard)
}
