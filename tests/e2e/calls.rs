//! Calls by hand-made agents: both directions, both hang-ups, refusals, CANCEL, registration through the product, hidden
//! topology, IPv6, and the record of a call.

use std::{net::SocketAddr, time::Duration};

use e2e::{
    agent::{Agent, Message, description, parameter},
    api,
    parties::{GATEWAY_EXTERNAL, GATEWAY_INTERNAL, Parties},
    tone::Phone,
};
use serde_json::Value;

use crate::{Lab, LabTest};

pub const TESTS: &[LabTest] = &[
    (
        "a_trunk_call_carries_both_tones_and_the_caller_hangs_up",
        caller_hangs_up,
    ),
    (
        "a_trunk_call_ends_when_the_callee_hangs_up",
        callee_hangs_up,
    ),
    (
        "a_call_between_ipv6_and_ipv4_carries_both_tones",
        across_families,
    ),
    ("busy_and_cancel_reach_the_other_side", busy_and_cancel),
    (
        "a_phone_registers_by_the_pbx_challenge_and_is_called",
        registration,
    ),
    ("nothing_of_one_side_shows_on_the_other", hidden_topology),
    (
        "a_call_is_listed_while_it_lasts_and_recorded_after_it",
        listed_and_recorded,
    ),
    ("premium_numbers_are_refused", premium),
];

const TALK: Duration = Duration::from_millis(1_500);

fn caller_hangs_up(lab: &Lab) {
    let mut parties = Parties::new(&lab.names);
    let mut call = parties.connect();
    parties.talk(&call, TALK);
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    let bye = parties.pbx.expect_request("BYE");
    parties.pbx.respond(&bye, "200 OK", "", "", "");
    let _ = parties.trunk.expect_status(200);
}

fn callee_hangs_up(lab: &Lab) {
    let mut parties = Parties::new(&lab.names);
    let mut call = parties.connect();
    parties.talk(&call, TALK);
    parties.pbx.send_in(&mut call.callee, "BYE", "", "");
    let bye = parties.trunk.expect_request("BYE");
    parties.trunk.respond(&bye, "200 OK", "", "", "");
    let _ = parties.pbx.expect_status(200);
}

fn across_families(lab: &Lab) {
    let mut parties = Parties::at(&lab.names, "[2001:db8:e::20]", "[2001:db8:e::1]:5060");
    let mut call = parties.connect();
    assert!(call.media_outside.is_ipv6() && call.media_inside.is_ipv4());
    parties.talk(&call, TALK);
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    let bye = parties.pbx.expect_request("BYE");
    parties.pbx.respond(&bye, "200 OK", "", "", "");
    let _ = parties.trunk.expect_status(200);
}

fn busy_and_cancel(lab: &Lab) {
    let parties = Parties::new(&lab.names);
    let uri = "sip:+49305551002@lab.test";
    let (text, _) = parties
        .trunk
        .invite(uri, parties.gateway, parties.outside.local);
    let invite = parties.pbx.expect_request("INVITE");
    parties.pbx.respond(&invite, "486 Busy Here", "b", "", "");
    let _ = parties.pbx.expect_request("ACK");
    let busy = parties.trunk.expect_status(486);
    parties.trunk.acknowledge_failure(&text, &busy);

    let (text, dialog) = parties
        .trunk
        .invite(uri, parties.gateway, parties.outside.local);
    let invite = parties.pbx.expect_request("INVITE");
    parties.pbx.respond(&invite, "180 Ringing", "c", "", "");
    let _ = parties.trunk.expect_status(180);
    let via = Message::read(text.as_bytes(), parties.trunk.local)
        .header("via")
        .to_owned();
    let cancel = format!(
        "CANCEL {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n",
        dialog.local, dialog.remote, dialog.call_id
    );
    parties
        .trunk
        .send(parties.gateway, cancel.as_bytes())
        .unwrap();
    let _ = parties.trunk.expect("200 to CANCEL", |m| {
        m.status() == 200 && m.header("cseq").ends_with("CANCEL")
    });
    let cancel = parties.pbx.expect_request("CANCEL");
    parties.pbx.respond(&cancel, "200 OK", "c", "", "");
    parties
        .pbx
        .respond(&invite, "487 Request Terminated", "c", "", "");
    let _ = parties.pbx.expect_request("ACK");
    let ended = parties.trunk.expect_status(487);
    parties.trunk.acknowledge_failure(&text, &ended);
}

/// Alice registers from outside; the PBX (here) challenges, then accepts. Returns the contact that the PBX sees.
pub fn register(alice: &Agent, pbx: &Agent, gateway: SocketAddr) -> String {
    let contact = "Expires: 300\r\nAuthorization: Digest {}\r\n";
    let (text, mut dialog) =
        alice.request("REGISTER", "sip:lab.test", gateway, "Expires: 300\r\n", "");
    let text = text.replace("To: <sip:lab.test>", "To: <sip:1001@lab.test>");
    alice.send(gateway, text.as_bytes()).unwrap();
    let request = pbx.expect_request("REGISTER");
    let challenge = "WWW-Authenticate: Digest realm=\"lab.test\", nonce=\"abc123\", algorithm=MD5, qop=\"auth\"\r\n";
    pbx.respond(&request, "401 Unauthorized", "r1", challenge, "");
    let refused = alice.expect_status(401);
    assert_eq!(
        parameter(refused.header("www-authenticate"), "nonce"),
        Some("abc123")
    );
    dialog.sequence = 2;
    let credentials = "username=\"1001\", realm=\"lab.test\", nonce=\"abc123\", uri=\"sip:lab.test\", response=\"0123456789abcdef0123456789abcdef\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"xyz\"";
    let text = alice.write("REGISTER", &dialog, &contact.replace("{}", credentials), "");
    let text = text.replace("To: <sip:lab.test>", "To: <sip:1001@lab.test>");
    alice.send(gateway, text.as_bytes()).unwrap();
    let request = pbx.expect_request("REGISTER");
    let passed = request.header("authorization");
    assert_eq!(
        parameter(passed, "response"),
        Some("0123456789abcdef0123456789abcdef"),
        "{passed}"
    );
    assert_eq!(parameter(passed, "cnonce"), Some("xyz"), "{passed}");
    let contact = request
        .header("contact")
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    assert!(
        contact.contains("@192.0.2.1"),
        "the PBX sees our own contact: {contact}"
    );
    pbx.respond(
        &request,
        "200 OK",
        "r2",
        &format!("Expires: 300\r\nX-Contact: {contact}\r\n"),
        "",
    );
    let _ = alice.expect_status(200);
    e2e::agent::uri_of(&contact).to_owned()
}

fn registration(lab: &Lab) {
    let gateway: SocketAddr = GATEWAY_EXTERNAL.parse().unwrap();
    let alice = Agent::bind(&lab.names.external, "198.51.100.10:5060", "1001").unwrap();
    let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();
    let mut outside = Phone::bind(&lab.names.external, "198.51.100.10:30000").unwrap();
    let mut inside = Phone::bind(&lab.names.internal, "192.0.2.10:31000").unwrap();
    let contact = register(&alice, &pbx, gateway);

    // The PBX calls the binding.
    let (_, mut caller) = pbx.invite(&contact, GATEWAY_INTERNAL.parse().unwrap(), inside.local);
    let invite = alice.expect_request("INVITE");
    assert!(
        invite.uri().contains("1001@198.51.100.10"),
        "{}",
        invite.uri()
    );
    alice.respond(&invite, "200 OK", "a1", "", &description(outside.local));
    let answer = pbx.expect_status(200);
    pbx.acknowledge(&mut caller, &answer);
    let _ = alice.expect_request("ACK");
    let (to_outside, to_inside) = (invite.audio().unwrap(), answer.audio().unwrap());
    let (there, here) = std::thread::scope(|scope| {
        let (outside, inside) = (&mut outside, &mut inside);
        let there = scope.spawn(move || outside.talk(to_outside, 440.0, TALK));
        let here = scope.spawn(move || inside.talk(to_inside, 880.0, TALK));
        (there.join().unwrap(), here.join().unwrap())
    });
    assert!(
        there.share(880.0) > 0.8 && here.share(440.0) > 0.8,
        "{:?} {:?}",
        there.packets,
        here.packets
    );
    pbx.send_in(&mut caller, "BYE", "", "");
    let bye = alice.expect_request("BYE");
    alice.respond(&bye, "200 OK", "", "", "");
    let _ = pbx.expect_status(200);

    // Registered, she may call, and is answered by OPTIONS.
    let (text, _) = alice.request("OPTIONS", "sip:lab.test", gateway, "", "");
    alice.send(gateway, text.as_bytes()).unwrap();
    let _ = alice.expect_status(200);
    let (text, _) = alice.invite("sip:1002@lab.test", gateway, outside.local);
    let invite = pbx.expect_request("INVITE");
    assert!(invite.uri().starts_with("sip:1002@"), "{}", invite.uri());
    pbx.respond(
        &invite,
        "407 Proxy Authentication Required",
        "p1",
        "Proxy-Authenticate: Digest realm=\"lab.test\", nonce=\"n2\"\r\n",
        "",
    );
    let _ = pbx.expect_request("ACK");
    let challenged = alice.expect_status(407);
    assert_eq!(
        parameter(challenged.header("proxy-authenticate"), "nonce"),
        Some("n2")
    );
    alice.acknowledge_failure(&text, &challenged);
}

fn hidden_topology(lab: &Lab) {
    let parties = Parties::new(&lab.names);
    let mut call = parties.connect();
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    let bye = parties.pbx.expect_request("BYE");
    parties.pbx.respond(&bye, "200 OK", "", "", "");
    let ok = parties.trunk.expect_status(200);
    for (who, message) in [("INVITE", &call.invite), ("BYE", &bye)] {
        let text = message.text();
        assert!(
            !text.contains("198.51.100."),
            "{who} shows an outside address inside:\n{text}"
        );
        assert!(
            !text.contains(&call.caller.call_id),
            "{who} shows the other leg's Call-ID"
        );
        assert!(
            !text.contains("test-session"),
            "{who} shows the other side's session name"
        );
    }
    for (who, message) in [("200", &call.answer), ("200 to BYE", &ok)] {
        let text = message.text();
        assert!(
            !text.contains("192.0.2."),
            "{who} shows an inside address outside:\n{text}"
        );
        assert!(!text.contains("pbx1"), "{who} shows the other leg's tag");
        assert!(
            !text.contains("test-session"),
            "{who} shows the other side's session name"
        );
    }
}

fn listed_and_recorded(lab: &Lab) {
    let mut parties = Parties::new(&lab.names);
    let newest = api::get(&lab.names, "/api/v1/records?limit=1")["newest"]
        .as_u64()
        .unwrap();
    let mut call = parties.connect();
    parties.talk(&call, TALK);
    let calls = api::get(&lab.names, "/api/v1/calls");
    let [listed] = calls.as_array().unwrap().as_slice() else {
        panic!("{calls}")
    };
    assert_eq!(listed["state"], "answered");
    assert_eq!(listed["legs"][0]["zone"], "external");
    assert_eq!(listed["legs"][0]["remote"], "198.51.100.20:5060");
    assert_eq!(listed["legs"][0]["call_id"], call.caller.call_id.as_str());
    assert_eq!(listed["legs"][1]["zone"], "internal");
    assert_eq!(listed["legs"][1]["transport"], "udp");
    let ports = listed["legs"][0]["media_ports"].as_array().unwrap();
    assert!(
        ports.contains(&Value::from(call.media_outside.port())),
        "{ports:?}"
    );
    parties.trunk.send_in(&mut call.caller, "BYE", "", "");
    let bye = parties.pbx.expect_request("BYE");
    parties.pbx.respond(&bye, "200 OK", "", "", "");
    let _ = parties.trunk.expect_status(200);
    let mut record = Value::Null;
    let recorded = api::eventually(Duration::from_secs(5), || {
        let records = api::get(
            &lab.names,
            &format!("/api/v1/records?kind=call&after={newest}"),
        );
        let ended = records["records"]
            .as_array()
            .unwrap()
            .iter()
            .find(|record| record["call"]["phase"] == "end")
            .cloned();
        record = ended.unwrap_or(records);
        record["call"]["phase"] == "end"
    });
    assert!(recorded, "{record}");
    let call = &record["call"];
    assert_eq!(
        (&call["status"], &call["ended_by"]),
        (&Value::from(200), &Value::from("caller")),
        "{record}"
    );
    assert_eq!(call["calling"], "+4930777");
    assert!(call["duration_ms"].as_u64().unwrap() >= 1_400, "{record}");
    for leg in call["legs"].as_array().unwrap() {
        assert!(leg["packets_received"].as_u64().unwrap() > 50, "{record}");
        assert!(leg["packets_sent"].as_u64().unwrap() > 50, "{record}");
    }
    assert_eq!(
        api::get(&lab.names, "/api/v1/calls")
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

fn premium(lab: &Lab) {
    let phone = Agent::bind(&lab.names.internal, "192.0.2.40:5060", "1002").unwrap();
    let gateway: SocketAddr = GATEWAY_INTERNAL.parse().unwrap();
    let media: SocketAddr = "192.0.2.40:30000".parse().unwrap();
    for number in ["+19001234567", "+8821234567890", "0088312345678"] {
        let (text, _) = phone.invite(&format!("sip:{number}@lab.test"), gateway, media);
        let refused = phone.expect("a final response", |message| message.status() >= 200);
        assert_eq!(refused.status(), 403, "{number}");
        phone.acknowledge_failure(&text, &refused);
    }
}
