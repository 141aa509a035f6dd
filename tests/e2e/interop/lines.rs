//! Every maker over each transport and family against a telephone at the PBX; each transport and family against each other.

use std::{net::IpAddr, time::Duration};

use e2e::{
    api,
    lab::{
        peers::{ACCOUNTS, Account, TELEPHONES},
        phones::{Answers, Line, Make, Order, Over, Telephone},
    },
};

use super::{Outcome, Run, press, talk};
use crate::Lab;

/// Alice, whose telephones are outside.
pub const ALICE: Account = ACCOUNTS[0];
/// Bob, at the PBX.
pub const BOB: Account = ACCOUNTS[1];
/// The conference room's telephone, at the PBX.
pub const ROOM: Account = ACCOUNTS[3];

/// A telephone outside: the n-th of alice's, with a tone by its place.
pub fn outside(lab: &Lab, make: Make, over: Over, six: bool, place: u16) -> Line<'_> {
    let (address, registrar) = if six {
        ("2001:db8:e::10", "2001:db8:e::1")
    } else {
        ("198.51.100.10", "198.51.100.1")
    };
    Line {
        make,
        over,
        account: ALICE,
        namespace: &lab.names.external,
        address: ip(address),
        registrar: ip(registrar),
        tone_hz: 400 + 150 * u32::from(place),
        place,
        answers: Answers::AtOnce,
        reliable: false,
    }
}

/// A telephone at the PBX.
pub fn inside(lab: &Lab, make: Make, account: Account, place: u16) -> Line<'_> {
    Line {
        make,
        over: Over::Udp,
        account,
        namespace: &lab.names.internal,
        address: ip("192.0.2.40"),
        registrar: ip("192.0.2.10"),
        tone_hz: 2_000 + 200 * u32::from(place),
        place,
        answers: Answers::AtOnce,
        reliable: false,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Starts telephones and waits until all are registered.
pub fn start<const N: usize>(lines: [&Line<'_>; N]) -> Result<[Telephone; N], String> {
    let mut phones = Vec::new();
    for line in lines {
        phones.push(Telephone::start(line).map_err(|error| format!("{line}: {error}"))?);
    }
    for (phone, line) in phones.iter().zip(lines) {
        if !phone.is_registered() {
            return Err(format!("{line} is not registered"));
        }
    }
    phones.try_into().map_err(|_| "no telephones".to_owned())
}

const EVERY: [(Over, bool); 6] = [
    (Over::Udp, false),
    (Over::Udp, true),
    (Over::Tcp, false),
    (Over::Tcp, true),
    (Over::Tls, false),
    (Over::Tls, true),
];

/// Three makers by six lines.
pub fn all(run: &Run<'_>) {
    for make in [Make::Baresip, Make::Linphone, Make::Pjsua] {
        // The PJSIP that PyPI has is built without IPv6.
        let lines = EVERY.into_iter();
        for (over, six) in lines.filter(|(_, six)| make != Make::Pjsua || !six) {
            pair(run, &outside(run.lab, make, over, six, 0));
        }
    }
}

/// Some of them.
pub fn quick(run: &Run<'_>) {
    for (make, over, six) in [
        (Make::Baresip, Over::Udp, false),
        (Make::Baresip, Over::Tls, false),
        (Make::Linphone, Over::Tcp, true),
    ] {
        pair(run, &outside(run.lab, make, over, six, 0));
    }
}

fn pair(run: &Run<'_>, outer: &Line<'_>) {
    let inner = inside(run.lab, Make::Baresip, BOB, 0);
    let who = format!("{outer} – {inner}");
    if !run.wants(&format!(
        "{who} registration call inwards, hold, resume outwards end of registration"
    )) {
        return;
    }
    if !outer.make.is_installed() {
        return run.row(&who, "everything", || Err("not installed".to_owned()));
    }
    let started = start([outer, &inner]);
    let said = started
        .as_ref()
        .map(|_| String::new())
        .map_err(Clone::clone);
    run.row(&who, "registration", || said);
    let Ok([mut a, mut b]) = started else { return };
    run.row(&who, "call inwards, hold, resume", || {
        held(run, (&mut a, outer), (&mut b, &inner))
    });
    run.row(&who, "call outwards", || {
        plain(run, (&mut b, &inner), (&mut a, outer))
    });
    run.row(&who, "end of registration", || {
        let before = unregistered(run.lab);
        drop(a);
        let gone = api::eventually(Duration::from_secs(5), || unregistered(run.lab) > before);
        gone.then(String::new)
            .ok_or_else(|| "the product still has it".to_owned())
    });
}

/// How often a telephone of alice's has unregistered.
/// How often alice's telephones took their registration back.
fn unregistered(lab: &Lab) -> usize {
    let page = api::get(&lab.names, "/api/v1/events?name=reg-del&limit=1000");
    let events = page["events"].as_array().cloned().unwrap_or_default();
    let hers = events.iter().filter(|event| {
        event["fields"]["user"] == ALICE.number && event["fields"]["reason"] == "unregistered"
    });
    hers.count()
}

/// One calls the other; both talk; the caller hangs up.
pub fn plain(
    run: &Run<'_>,
    caller: (&mut Telephone, &Line<'_>),
    callee: (&mut Telephone, &Line<'_>),
) -> Outcome {
    let outcome = connect(run, (&mut *caller.0, caller.1), (&mut *callee.0, callee.1));
    let ended = press(caller.0, Order::HangUp).and_then(|()| run.is_idle());
    let heard = outcome?;
    ended.map(|()| heard)
}

/// One calls the other, and both talk.
pub fn connect(
    run: &Run<'_>,
    caller: (&mut Telephone, &Line<'_>),
    callee: (&mut Telephone, &Line<'_>),
) -> Outcome {
    let uri = format!("sip:{}@lab.test", callee.1.account.number);
    let (here, there) = (caller.1.tone_hz, callee.1.tone_hz);
    press(caller.0, Order::Dial(&uri))?;
    let up = api::eventually(Duration::from_secs(10), || run.answered() > 0);
    if !up {
        return Err(format!("no answer: {}", tail(&caller.0.log())));
    }
    talk((caller.0, here), (callee.0, there))
}

fn held(
    run: &Run<'_>,
    caller: (&mut Telephone, &Line<'_>),
    callee: (&mut Telephone, &Line<'_>),
) -> Outcome {
    counted(run, 1, caller, callee)
}

/// A call that is so many of the product's: held, taken back and ended.
fn counted(
    run: &Run<'_>,
    calls: usize,
    caller: (&mut Telephone, &Line<'_>),
    callee: (&mut Telephone, &Line<'_>),
) -> Outcome {
    let (here, there) = (caller.1.tone_hz, callee.1.tone_hz);
    let outcome =
        connect(run, (&mut *caller.0, caller.1), (&mut *callee.0, callee.1)).and_then(|heard| {
            run.has_calls(calls)?;
            press(caller.0, Order::Hold)?;
            if !callee.0.misses(here) {
                return Err("held, and still heard".to_owned());
            }
            press(caller.0, Order::Resume)?;
            let mut again = Vec::new();
            for (phone, line, hz) in [
                (&mut *caller.0, caller.1, there),
                (&mut *callee.0, callee.1, here),
            ] {
                again.push(
                    still_hears(phone, line, hz)
                        .map_err(|why| format!("{line} after hold: {why}"))?,
                );
            }
            let again = again.join(" and ");
            Ok(format!("{heard}; after hold {again}"))
        });
    let ended = press(caller.0, Order::HangUp).and_then(|()| run.is_idle());
    let heard = outcome?;
    ended.map(|()| heard)
}

/// What a telephone hears after a re-INVITE.
pub fn still_hears(phone: &mut Telephone, line: &Line<'_>, hz: u32) -> Outcome {
    if line.make != Make::Baresip {
        phone.mark();
        let share = phone.hears(hz);
        return if share < 0.5 {
            Err(format!("{share:.2} heard"))
        } else {
            Ok(format!("{share:.2}"))
        };
    }
    let mut last = Err("not looked".to_owned());
    api::eventually(Duration::from_secs(10), || {
        last = match phone.receives(hz).map_err(|error| error.to_string()) {
            Ok(None) => Ok("sealed packets".to_owned()),
            Ok(Some(share)) if share > 0.5 => Ok(format!("{share:.2} (wire)")),
            Ok(Some(share)) => Err(format!("{share:.2} on the wire")),
            Err(why) => Err(why),
        };
        last.is_ok()
    });
    last
}

/// Two telephones outside call each other through a PBX that relays no media: each of the product's two calls is given an
/// address of the other one.
pub fn met(run: &Run<'_>) {
    for (one, other) in [
        ((Over::Udp, false), (Over::Udp, true)),
        ((Over::Tls, false), (Over::Tcp, true)),
        ((Over::Tls, false), (Over::Tls, true)),
    ] {
        let line = |account, (over, six), place| Line {
            account,
            ..outside(run.lab, Make::Baresip, over, six, place)
        };
        let (caller, callee) = (line(ALICE, one, 0), line(TELEPHONES[0], other, 1));
        run.row(
            &format!("{caller} – {callee} through a PBX without media"),
            "call, hold, resume",
            || {
                let [mut a, mut b] = start([&caller, &callee])?;
                let heard = counted(run, 2, (&mut a, &caller), (&mut b, &callee))?;
                run.has_calls(0)?;
                Ok(heard)
            },
        );
    }
}

/// Each transport and family calls each other one: both legs pass the product, the PBX between them.
pub fn crossed(run: &Run<'_>) {
    let lines: Vec<Line<'_>> = (0_u16..)
        .zip(EVERY)
        .zip(TELEPHONES)
        .map(|((place, (over, six)), account)| Line {
            account,
            ..outside(run.lab, Make::Baresip, over, six, place)
        })
        .collect();
    let name = |line: &Line<'_>, other: &Line<'_>| format!("{line} – {other} through the PBX");
    if !lines.iter().any(|line| {
        lines
            .iter()
            .any(|other| run.wants(&format!("{} call", name(line, other))))
    }) {
        return;
    }
    let Ok(lines) = <[Line<'_>; 6]>::try_from(lines) else {
        return;
    };
    let mut phones = match start(lines.each_ref()) {
        Ok(phones) => phones,
        Err(why) => return run.row("six telephones", "registration", || Err(why)),
    };
    for from in 0..lines.len() {
        for to in (0..lines.len()).filter(|to| *to != from) {
            let Ok([caller, callee]) = phones.get_disjoint_mut([from, to]) else {
                continue;
            };
            run.row(&name(&lines[from], &lines[to]), "call", || {
                plain(run, (caller, &lines[from]), (callee, &lines[to]))
            });
        }
    }
}

/// The end of a log, in one line.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(4)
        .collect();
    lines
        .into_iter()
        .rev()
        .map(|line| line.chars().take(160).collect::<String>())
        .collect::<Vec<_>>()
        .join(" / ")
}
