//! Interworking: telephones of different makers over each transport and family, Kamailio as the PBX, calls both ways with a
//! tone each, hold and resume. Run by `make interop`, as it is long; `GATEHOUSE_INTEROP` holds words that a pair must have. The table of what passed is printed and kept in `target/lab/interop.md`.

use std::{fs, net::IpAddr, time::Duration};

use e2e::{
    api,
    lab::{
        peers::{self, ACCOUNTS},
        phones::{Line, Make, Over, Telephone},
        state,
    },
};

use crate::{Lab, LabTest, peers::Peers};

pub const TESTS: &[LabTest] = &[(
    "telephones_of_two_makers_talk_over_every_transport_and_family",
    matrix,
)];

/// Tone of the telephone outside, and of the one inside.
const TONES: (u32, u32) = (440, 880);
/// How long one talks.
const TALK: Duration = Duration::from_millis(2500);

/// One line of the table.
struct Row {
    pair: String,
    what: &'static str,
    result: Result<(f64, f64), String>,
}

fn matrix(lab: &Lab) {
    let running = Peers;
    peers::start_pbx(&lab.names).unwrap();
    let (alice, bob) = (ACCOUNTS[0], ACCOUNTS[1]);
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut rows = Vec::new();
    let within = Line {
        make: Make::Baresip,
        over: Over::Udp,
        account: bob,
        namespace: &lab.names.internal,
        address: address("192.0.2.40"),
        registrar: address("192.0.2.10"),
        tone_hz: TONES.1,
    };
    for make in [Make::Baresip, Make::Linphone] {
        for over in [Over::Udp, Over::Tcp, Over::Tls] {
            for (own, product) in [
                ("198.51.100.10", "198.51.100.1"),
                ("2001:db8:e::10", "2001:db8:e::1"),
            ] {
                let outside = Line {
                    make,
                    over,
                    account: alice,
                    namespace: &lab.names.external,
                    address: address(own),
                    registrar: address(product),
                    tone_hz: TONES.0,
                };
                if !wanted(&outside) {
                    continue;
                }
                api::reset(&lab.names);
                rows.extend(pair(lab, &outside, &within));
            }
        }
    }
    drop(running);
    let table = table(&rows);
    println!("{table}");
    fs::write(state().join("interop.md"), &table).unwrap();
    let failed = rows.iter().filter(|row| row.result.is_err()).count();
    assert_eq!(failed, 0, "{failed} of {} did not pass", rows.len());
}

/// Whether every word of `GATEHOUSE_INTEROP` is in the line's name.
fn wanted(line: &Line<'_>) -> bool {
    let words = std::env::var("GATEHOUSE_INTEROP").unwrap_or_default();
    let name = line.to_string();
    words
        .split_whitespace()
        .all(|word| word == "all" || name.contains(word))
}

fn table(rows: &[Row]) -> String {
    let mut table =
        "| outside – inside (IPv4, UDP) | what | heard outside | heard inside |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let line = match &row.result {
            Ok((outside, inside)) => {
                format!(
                    "| {} | {} | {outside:.2} | {inside:.2} |\n",
                    row.pair, row.what
                )
            }
            Err(why) => format!("| {} | {} | FAILED | {why} |\n", row.pair, row.what),
        };
        table.push_str(&line);
    }
    table
}

/// Both start and register; one calls the other, then the other way round.
fn pair(lab: &Lab, outside: &Line<'_>, inside: &Line<'_>) -> Vec<Row> {
    let name = format!("{outside} – {inside}");
    let row = |what, result| Row {
        pair: name.clone(),
        what,
        result,
    };
    let call = |from_outside: bool, hold: bool| -> Result<(f64, f64), String> {
        let mut outer = Telephone::start(outside).map_err(|error| error.to_string())?;
        let mut inner = Telephone::start(inside).map_err(|error| error.to_string())?;
        for (phone, who) in [(&outer, "outside"), (&inner, "inside")] {
            if !phone.is_registered() {
                return Err(format!("{who} is not registered: {}", tail(&phone.log())));
            }
        }
        let (caller, uri) = if from_outside {
            (&mut outer, "sip:1002@lab.test")
        } else {
            (&mut inner, "sip:1001@lab.test")
        };
        caller.dial(uri).map_err(|error| error.to_string())?;
        if !api::eventually(Duration::from_secs(10), || answered(lab)) {
            return Err(format!("no answer: {}", tail(&caller.log())));
        }
        std::thread::sleep(TALK);
        if hold {
            caller.hold().map_err(|error| error.to_string())?;
            std::thread::sleep(Duration::from_millis(700));
            caller.resume().map_err(|error| error.to_string())?;
            std::thread::sleep(TALK);
            if !answered(lab) {
                return Err("the call ended on hold".to_owned());
            }
        }
        caller.hang_up().map_err(|error| error.to_string())?;
        if !api::eventually(Duration::from_secs(5), || !answered(lab)) {
            return Err("the call does not end".to_owned());
        }
        let heard = (
            outer.heard(f64::from(inside.tone_hz)),
            inner.heard(f64::from(outside.tone_hz)),
        );
        if heard.0 < 0.5 || heard.1 < 0.5 {
            return Err(format!("heard {:.2} and {:.2}", heard.0, heard.1));
        }
        Ok(heard)
    };
    vec![
        row("call inwards, hold, resume", call(true, true)),
        row("call outwards", call(false, false)),
    ]
}

fn answered(lab: &Lab) -> bool {
    let calls = api::get(&lab.names, "/api/v1/calls");
    calls
        .as_array()
        .is_some_and(|calls| calls.iter().any(|call| call["state"] == "answered"))
}

fn tail(log: &str) -> String {
    let from = log.len().saturating_sub(300);
    let from = (from..log.len())
        .find(|at| log.is_char_boundary(*at))
        .unwrap_or(0);
    log[from..].replace(['\n', '|'], " ")
}
