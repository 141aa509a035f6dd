//! Calls through the guest: outside to inside, inside to outside, both hang-ups, both tones, and their records.

use std::{net::SocketAddr, time::Duration};

use e2e::{
    agent::{Agent, Dialog, description},
    api,
    parties::{GATEWAY_INTERNAL, Parties},
    tone::{Heard, Phone},
};
use serde_json::Value;

use crate::MachineTest;
use crate::house::House;

pub const TESTS: &[MachineTest] = &[
    (
        "a_call_from_outside_carries_both_tones_and_either_side_hangs_up",
        from_outside,
    ),
    (
        "a_call_from_inside_to_the_carrier_carries_both_tones",
        from_inside,
    ),
];

const TALK: Duration = Duration::from_secs(2);

fn from_outside(house: &House) {
    house.with_running(|_| {
        api::reset(&house.names);
        for ended_by in ["caller", "callee"] {
            let newest = newest(house);
            let mut parties = Parties::new(&house.names);
            let mut call = parties.connect();
            parties.talk(&call, TALK);
            if ended_by == "caller" {
                parties.trunk.send_in(&mut call.caller, "BYE", "", "");
                answer_bye(&parties.pbx, &parties.trunk);
            } else {
                parties.pbx.send_in(&mut call.callee, "BYE", "", "");
                answer_bye(&parties.trunk, &parties.pbx);
            }
            recorded(house, newest, ended_by, "+4930777");
        }
    });
}

fn from_inside(house: &House) {
    house.with_running(|_| {
        api::reset(&house.names);
        let newest = newest(house);
        let phone = Agent::bind(&house.names.internal, "192.0.2.40:5060", "1002").unwrap();
        let carrier = Agent::bind(&house.names.external, "198.51.100.20:5060", "carrier").unwrap();
        let mut inside = Phone::bind(&house.names.internal, "192.0.2.40:31000").unwrap();
        let mut outside = Phone::bind(&house.names.external, "198.51.100.20:30000").unwrap();
        let gateway: SocketAddr = GATEWAY_INTERNAL.parse().unwrap();
        let (_, mut caller) = phone.invite("sip:+4930123456@lab.test", gateway, inside.local);
        let invite = carrier.expect_request("INVITE");
        carrier.respond(&invite, "200 OK", "c1", "", &description(outside.local));
        let answer = phone.expect_status(200);
        phone.acknowledge(&mut caller, &answer);
        let _ = carrier.expect_request("ACK");
        let mut callee: Dialog = carrier.dialog_of(&invite, "c1");
        let (to_outside, to_inside) = (invite.audio().unwrap(), answer.audio().unwrap());
        let (there, here) = std::thread::scope(|scope| {
            let (outside, inside) = (&mut outside, &mut inside);
            let there = scope.spawn(move || outside.talk(to_outside, 440.0, TALK));
            let here = scope.spawn(move || inside.talk(to_inside, 880.0, TALK));
            (there.join().unwrap(), here.join().unwrap())
        });
        hears("the carrier", &there, 880.0, 440.0);
        hears("the phone", &here, 440.0, 880.0);
        carrier.send_in(&mut callee, "BYE", "", "");
        answer_bye(&phone, &carrier);
        recorded(house, newest, "callee", "1002");
    });
}

/// Who is called says yes to the BYE, who hung up hears it.
pub fn answer_bye(other: &Agent, own: &Agent) {
    let bye = other.expect_request("BYE");
    other.respond(&bye, "200 OK", "", "", "");
    let _ = own.expect_status(200);
}

fn hears(who: &str, heard: &Heard, hz: f64, own: f64) {
    let expected = (TALK.as_millis() / 20) as usize;
    assert!(
        heard.packets * 10 >= expected * 8,
        "{who} heard {} of {expected} packets",
        heard.packets
    );
    assert!(heard.share(hz) > 0.8, "{who}: {:.2}", heard.share(hz));
    assert!(heard.share(own) < 0.05, "{who} heard its own tone");
}

fn newest(house: &House) -> u64 {
    api::get(&house.names, "/api/v1/records?limit=1")["newest"]
        .as_u64()
        .unwrap()
}

/// The record of the end of the one call since `newest`.
fn recorded(house: &House, newest: u64, ended_by: &str, calling: &str) {
    let path = format!("/api/v1/records?kind=call&after={newest}");
    let mut record = Value::Null;
    let there = api::eventually(Duration::from_secs(10), || {
        let records = api::get(&house.names, &path);
        let ended = records["records"]
            .as_array()
            .unwrap()
            .iter()
            .find(|record| record["call"]["phase"] == "end")
            .cloned();
        record = ended.unwrap_or(records);
        record["call"]["phase"] == "end"
    });
    assert!(there, "{record}");
    let call = &record["call"];
    assert_eq!(call["status"], 200, "{record}");
    assert_eq!(call["ended_by"], ended_by, "{record}");
    assert_eq!(call["calling"], calling, "{record}");
    for leg in call["legs"].as_array().unwrap() {
        assert!(leg["packets_received"].as_u64() > Some(50), "{record}");
        assert!(leg["packets_sent"].as_u64() > Some(50), "{record}");
    }
    println!(
        "  record: {} to {}, {} ms, ended by {ended_by}, {} packets each way at least",
        call["calling"], call["called"], call["duration_ms"], call["legs"][0]["packets_received"]
    );
}
