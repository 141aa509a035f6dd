//! What a customer does with telephones besides calling: one of two answers, early media, transfers.

use std::time::Duration;

use e2e::lab::{
    peers::TELEPHONES,
    phones::{Answers, Line, Make, Order, Over, Telephone},
};

use super::{
    Configured, Outcome, Run,
    lines::{ALICE, BOB, ROOM, connect, inside, outside, start, still_hears, tail},
    press, talk,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Two telephones of one number; a telephone that is heard before it answers.
pub fn ringing(run: &Run<'_>) {
    for (first, second) in [
        (Make::Baresip, Make::Baresip),
        (Make::Pjsua, Make::Linphone),
    ] {
        let rings = Line {
            answers: Answers::WhenTold,
            ..outside(run.lab, first, Over::Udp, false, 1)
        };
        let answers = outside(run.lab, second, Over::Tls, true, 2);
        let who = format!("{rings} and {answers}");
        run.row(&who, "fork: one answers, the other stops ringing", || {
            forked(run, &rings, &answers)
        });
    }
    // baresip 1.0 sends nothing before it answers, whatever it says.
    let early = Line {
        answers: Answers::EarlyMedia,
        ..outside(run.lab, Make::Pjsua, Over::Udp, false, 1)
    };
    run.row(
        &early.to_string(),
        "early media (183) outwards, then the answer",
        || heard_early(run, &early),
    );
}

fn forked(run: &Run<'_>, rings: &Line<'_>, answers: &Line<'_>) -> Outcome {
    let bob = inside(run.lab, Make::Baresip, BOB, 0);
    let [ringing, mut answering, mut caller] = start([rings, answers, &bob])?;
    let heard = connect(run, (&mut caller, &bob), (&mut answering, answers))?;
    let words = match rings.make {
        Make::Baresip => "session closed",
        Make::Linphone | Make::Pjsua => "CANCEL",
    };
    if !ringing.says(words, 1, PATIENCE) {
        return Err(format!("it was not cancelled: {}", tail(&ringing.log())));
    }
    run.has_calls(1)?;
    press(&mut caller, Order::HangUp)?;
    run.is_idle()?;
    Ok(heard)
}

fn heard_early(run: &Run<'_>, early: &Line<'_>) -> Outcome {
    let bob = inside(run.lab, Make::Baresip, BOB, 0);
    let [mut callee, mut caller] = start([early, &bob])?;
    press(
        &mut caller,
        Order::Dial(&format!("sip:{}@lab.test", ALICE.number)),
    )?;
    let before = caller.hears(early.tone_hz);
    if before < 0.5 {
        return Err(format!(
            "{before:.2} heard before the answer: {}",
            tail(&caller.log())
        ));
    }
    if run.answered() > 0 {
        return Err("it was answered".to_owned());
    }
    press(&mut callee, Order::Accept)?;
    run.has_calls(1)?;
    let heard = talk((&mut caller, bob.tone_hz), (&mut callee, early.tone_hz))?;
    press(&mut caller, Order::HangUp)?;
    run.is_idle()?;
    Ok(format!("{before:.2} heard before the answer; {heard}"))
}

/// Transfers, resolved by the product and passed on by it.
pub fn transfers(run: &Run<'_>) {
    let every = "baresip linphone pjsua udp tcp tls IPv4 IPv6 resolved passed \
                 blind attended transfer of it, by a telephone inside to another outside";
    if !run.wants(every) {
        return;
    }
    for (handling, word) in [("resolve", "resolved"), ("pass", "passed")] {
        let opened = Configured::to_transfer(run.lab, handling);
        // What is passed on has to be understood there: baresip 1.0 knows no Replaces, and keeps its first call.
        let within = if handling == "pass" {
            Make::Pjsua
        } else {
            Make::Baresip
        };
        for (make, over, six) in [
            (Make::Baresip, Over::Udp, false),
            (Make::Linphone, Over::Tcp, true),
            (Make::Pjsua, Over::Tls, false),
        ] {
            let outer = outside(run.lab, make, over, six, 0);
            run.row(
                &format!("{outer} {word}"),
                "blind transfer of a telephone inside to another",
                || blind_outside(run, &outer, within),
            );
        }
        let outer = outside(run.lab, Make::Baresip, Over::Tls, false, 0);
        run.row(
            &format!("{outer} {word}"),
            "blind transfer of it, by a telephone inside to another outside",
            || blind_to_outside(run, &outer),
        );
        run.row(
            &format!("{outer} {word}"),
            "blind transfer of it, by a telephone inside to another inside",
            || blind_to_inside(run, &outer),
        );
        for (make, over, six) in [
            (Make::Pjsua, Over::Tcp, false),
            (Make::Pjsua, Over::Tls, false),
            (Make::Linphone, Over::Udp, false),
        ] {
            let outer = outside(run.lab, make, over, six, 0);
            run.row(
                &format!("{outer} {word}"),
                "attended transfer of a telephone inside to another",
                || attended(run, &outer, within),
            );
        }
        drop(opened);
    }
}

/// The two others go on talking, and the one who transferred has no call any more.
fn joined(
    run: &Run<'_>,
    one: (&mut Telephone, &Line<'_>),
    other: (&mut Telephone, &Line<'_>),
    left: &Telephone,
) -> Outcome {
    let (here, there) = (one.1.tone_hz, other.1.tone_hz);
    let heard = still_hears(one.0, one.1, there)
        .and_then(|first| Ok((first, still_hears(other.0, other.1, here)?)))
        .map_err(|why| format!("after the transfer: {why}: {}", tail(&left.log())))?;
    press(one.0, Order::HangUp)?;
    run.is_idle()?;
    Ok(format!("{} and {} heard", heard.0, heard.1))
}

fn blind_outside(run: &Run<'_>, outer: &Line<'_>, within: Make) -> Outcome {
    let (bob, room) = (
        inside(run.lab, within, BOB, 0),
        inside(run.lab, within, ROOM, 1),
    );
    let [mut alice, mut first, mut second] = start([outer, &bob, &room])?;
    connect(run, (&mut alice, outer), (&mut first, &bob))?;
    press(
        &mut alice,
        Order::Transfer(&format!("sip:{}@lab.test", ROOM.number)),
    )?;
    joined(run, (&mut first, &bob), (&mut second, &room), &alice)
}

/// Who transfers sits at the PBX, and so does who is called next.
fn blind_to_inside(run: &Run<'_>, outer: &Line<'_>) -> Outcome {
    let (bob, room) = (
        inside(run.lab, Make::Baresip, BOB, 0),
        inside(run.lab, Make::Baresip, ROOM, 1),
    );
    let [mut alice, mut first, mut second] = start([outer, &bob, &room])?;
    connect(run, (&mut alice, outer), (&mut first, &bob))?;
    let target = format!("sip:{}@lab.test", ROOM.number);
    press(&mut first, Order::Transfer(&target))?;
    joined(run, (&mut alice, outer), (&mut second, &room), &first)
}

fn blind_to_outside(run: &Run<'_>, outer: &Line<'_>) -> Outcome {
    let bob = inside(run.lab, Make::Baresip, BOB, 0);
    let other = Line {
        account: TELEPHONES[0],
        ..outside(run.lab, Make::Baresip, Over::Udp, true, 3)
    };
    let [mut alice, mut first, mut second] = start([outer, &bob, &other])?;
    connect(run, (&mut alice, outer), (&mut first, &bob))?;
    let target = format!("sip:{}@lab.test", other.account.number);
    press(&mut first, Order::Transfer(&target))?;
    joined(run, (&mut alice, outer), (&mut second, &other), &first)
}

fn attended(run: &Run<'_>, outer: &Line<'_>, within: Make) -> Outcome {
    let (bob, room) = (
        inside(run.lab, within, BOB, 0),
        inside(run.lab, within, ROOM, 1),
    );
    let [mut alice, mut first, mut second] = start([outer, &bob, &room])?;
    connect(run, (&mut alice, outer), (&mut first, &bob))?;
    press(&mut alice, Order::Hold)?;
    if !first.misses(outer.tone_hz) {
        return Err("held, and still heard".to_owned());
    }
    press(
        &mut alice,
        Order::Consult(&format!("sip:{}@lab.test", ROOM.number)),
    )?;
    run.has_calls(2)?;
    talk((&mut alice, outer.tone_hz), (&mut second, room.tone_hz))
        .map_err(|why| format!("consultation: {why}"))?;
    press(&mut alice, Order::Join)?;
    joined(run, (&mut first, &bob), (&mut second, &room), &alice)
}
