//! Processes that die: each is started again, calls of the others live on, and what is closed stays closed meanwhile.

use std::time::Duration;

use e2e::{api, lab::product, parties::Parties};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Lab, LabTest, media::answers_again};

pub const TESTS: &[LabTest] = &[
    (
        "a_call_outlives_the_death_of_journal_keyholder_management_and_time",
        others_die,
    ),
    (
        "a_call_outlives_the_death_of_the_firewall_and_service_comes_back",
        firewall_dies,
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

fn sbc_stops(lab: &Lab) {
    let parties = Parties::new(&lab.names);
    let _call = parties.connect();
    let pid = product::pid_of("sbc").expect("the sbc runs");
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    assert!(restarted("sbc", pid), "the silent sbc was not replaced");
    assert!(answers_again(&parties), "no new sbc answers");
}
