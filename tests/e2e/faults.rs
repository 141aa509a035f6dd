//! Processes that die: each is started again, calls of the others live on, and what is closed stays closed meanwhile.

use std::time::Duration;

use e2e::{
    agent::{Agent, description},
    api,
    lab::product,
    parties::{GATEWAY_EXTERNAL, GATEWAY_INTERNAL, Parties},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Lab, LabTest, calls::register, media::answers_again};

pub const TESTS: &[LabTest] = &[
    (
        "a_call_outlives_the_death_of_journal_keyholder_management_and_time",
        others_die,
    ),
    (
        "a_call_outlives_the_death_of_the_firewall_and_service_comes_back",
        firewall_dies,
    ),
    (
        "a_phone_that_has_not_registered_again_rings_after_the_death_of_the_sbc",
        registrations_live_on,
    ),
    ("a_stopped_sbc_is_cut_off_and_replaced", sbc_stops),
];

fn restarted(process: &str, old: i32) -> bool {
    api::eventually(Duration::from_secs(15), || {
        product::pid_of(process).is_some_and(|pid| pid != old)
    })
}

fn others_die(lab: &Lab) {
    let mut parties = Parties::new(&lab.names);
    let mut call = parties.connect();
    parties.talk(&call, Duration::from_millis(500));
    for process in ["journal", "keyholder", "management", "time"] {
        let Some(pid) = product::pid_of(process) else {
            panic!("{process} does not run")
        };
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        parties.talk(&call, Duration::from_millis(700));
        assert!(restarted(process, pid), "{process} was not started again");
    }
    let listed = api::eventually(Duration::from_secs(5), || {
        api::request(&lab.names, "GET", "/api/v1/calls", Some(product::API_TOKEN)).is_ok_and(
            |answer| {
                answer
                    .json
                    .as_array()
                    .is_some_and(|calls| calls.iter().any(|call| call["state"] == "answered"))
            },
        )
    });
    assert!(listed, "the call is not listed after the restarts");
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    let bye = parties.pbx.expect_request("BYE");
    parties.pbx.respond(&bye, "200 OK", "", "", "");
    let _ = parties.trunk.expect_status(200);
}

fn firewall_dies(lab: &Lab) {
    let mut parties = Parties::new(&lab.names);
    let mut call = parties.connect();
    parties.talk(&call, Duration::from_millis(500));
    let pid = product::pid_of("firewall").expect("the firewall runs");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert!(
        restarted("firewall", pid),
        "the firewall was not started again"
    );
    assert!(
        answers_again(&parties),
        "no service after the firewall's death"
    );
    // Its successor took the media back: both hear each other, and hang up as ever.
    parties.talk(&call, Duration::from_millis(700));
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    let bye = parties.pbx.expect_request("BYE");
    parties.pbx.respond(&bye, "200 OK", "", "", "");
    let _ = parties.trunk.expect_status(200);
    let ready = api::eventually(Duration::from_secs(15), || {
        api::request(&lab.names, "GET", "/healthz", None).is_ok_and(|answer| answer.status == 200)
    });
    assert!(ready, "management does not come back");
}

fn registrations_live_on(lab: &Lab) {
    let (outside, inside) = (
        GATEWAY_EXTERNAL.parse().unwrap(),
        GATEWAY_INTERNAL.parse().unwrap(),
    );
    let alice = Agent::bind(&lab.names.external, "198.51.100.10:5060", "1001").unwrap();
    let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();
    let contact = register(&alice, &pbx, outside);
    let left = api::eventually(Duration::from_secs(5), || {
        let path = "/metrics";
        api::request(&lab.names, "GET", path, Some(product::API_TOKEN)).is_ok_and(|answer| {
            let mut lines = answer.text.lines();
            lines.any(|line| line.contains("firewall_bindings_kept") && line.ends_with(" 1"))
        })
    });
    assert!(left, "the firewall keeps no binding");
    let pid = product::pid_of("sbc").expect("the sbc runs");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let died = std::time::Instant::now();
    assert!(restarted("sbc", pid), "the sbc was not started again");
    // The PBX calls whom it believes to be there, again and again as RFC 3261 §17.1.1.2 has it, until it rings.
    let media = "192.0.2.10:31000".parse().unwrap();
    let mut rings = None;
    let rang = api::eventually(Duration::from_secs(15), || {
        let _ = pbx.invite(&contact, inside, media);
        rings = alice.receive(Duration::from_millis(300));
        rings
            .as_ref()
            .is_some_and(|message| message.method() == "INVITE")
    });
    assert!(rang, "the phone does not ring: {rings:?}");
    println!("    it rings {:?} after the sbc was killed", died.elapsed());
    let invite = rings.unwrap();
    assert!(
        invite.uri().contains("1001@198.51.100.10"),
        "{}",
        invite.uri()
    );
    alice.respond(&invite, "486 Busy Here", "a1", "", "");
    let _ = alice.expect_request("ACK");
    // She calls as one that is registered: it goes to the PBX, no stranger's call would.
    let media = "198.51.100.10:30000".parse().unwrap();
    let (text, _) = alice.invite("sip:1002@lab.test", outside, media);
    let invite = pbx.expect("the call of the phone", |message| {
        message.method() == "INVITE" && message.uri().starts_with("sip:1002@")
    });
    pbx.respond(
        &invite,
        "200 OK",
        "p1",
        "",
        &description("192.0.2.10:31000".parse().unwrap()),
    );
    let answer = alice.expect_status(200);
    let call_id = answer.header("call-id");
    assert!(text.contains(call_id), "{call_id}");
}

fn sbc_stops(lab: &Lab) {
    let parties = Parties::new(&lab.names);
    let _call = parties.connect();
    let pid = product::pid_of("sbc").expect("the sbc runs");
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    assert!(restarted("sbc", pid), "the silent sbc was not replaced");
    assert!(answers_again(&parties), "no new sbc answers");
}
