//! What operators are told of what happens: events by name, records of calls, ladders over both legs, and captured messages
//! at a collector; and that nothing secret is in any of it.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use e2e::{
    agent::{Agent, Dialog, Message, description},
    api,
    hep::{Captured, Collector},
    lab::{pki, product::API_TOKEN, state, topology},
    parties::{GATEWAY_EXTERNAL, Parties},
    secure_agent::{SecureAgent, Trust, connect},
};
use serde_json::Value;

use crate::{Lab, LabTest, calls::register};

pub const TESTS: &[LabTest] = &[
    (
        "a_call_is_told_recorded_and_drawn_over_both_legs_without_a_secret",
        told_and_drawn,
    ),
    (
        "a_wrong_password_a_scanner_and_a_limit_are_told_by_name",
        told_by_name,
    ),
    ("one_question_waits_for_the_next_event", waits),
    ("the_collector_sees_both_legs_without_a_secret", captured),
    (
        "a_second_reader_of_hep_sees_the_same_call",
        captured_by_sngrep,
    ),
    ("calls_go_on_while_the_collector_is_away", collector_is_away),
];

/// Where the laboratory's configuration sends captured messages.
const COLLECTOR: &str = "203.0.113.10:9060";
/// Secrets that a call carries: a digest's response, digits dialled behind a number, a key, a digit pressed.
const RESPONSE: &str = "5ec4e75ec4e75ec4e75ec4e75ec4e7aa";
const PIN: &str = "98765431";
const KEY: &str = "c2VjcmV0a2V5c2VjcmV0a2V5c2VjcmV0a2V5c2Vj";
const PRESSED: &str = "Duration=1837";
const SECRETS: [&str; 4] = [RESPONSE, PIN, KEY, PRESSED];

fn newest(lab: &Lab) -> u64 {
    api::get(&lab.names, "/api/v1/events?limit=1")["newest"]
        .as_u64()
        .unwrap()
}

fn events(lab: &Lab, after: u64, names: &str) -> Vec<Value> {
    let page = api::get(
        &lab.names,
        &format!("/api/v1/events?after={after}&name={names}"),
    );
    page["events"].as_array().unwrap().clone()
}

/// Events of these names after a moment, once one fits.
fn event(lab: &Lab, after: u64, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    let mut last = Vec::new();
    api::eventually(Duration::from_secs(5), || {
        last = events(lab, after, name);
        found = last.iter().find(|event| fits(event)).cloned();
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("no {name}: {last:#?}"))
}

fn text(lab: &Lab, path: &str) -> String {
    let answer = api::request(&lab.names, "GET", path, Some(API_TOKEN)).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.text
}

fn assert_no_secret(what: &str, shown: &str) {
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret} in {what}");
    }
}

/// Looks into every file that the product wrote: its journal, its log, its state.
fn assert_no_secret_on_disk(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files += assert_no_secret_on_disk(&path);
        } else if let Ok(bytes) = fs::read(&path) {
            assert_no_secret(
                &path.display().to_string(),
                &String::from_utf8_lossy(&bytes),
            );
            files += 1;
        }
    }
    files
}

/// A description whose media are sealed by [`KEY`] (RFC 4568).
fn sealed(media: SocketAddr, tag: &str) -> String {
    description(media).replace("RTP/AVP", "RTP/SAVP")
        + &format!("a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n")
}

/// The trunk over TLS, with secrets in all that it says.
struct Sealed {
    trunk: SecureAgent,
    pbx: Agent,
}

/// What a call was: its Call-IDs outside and inside.
struct Carried {
    outside: String,
    inside: String,
}

impl Sealed {
    fn new(lab: &Lab) -> Self {
        let folder = pki::folder();
        let trust = Trust {
            folder: &folder,
            shown: Some("trunk1"),
        };
        let (source, to) = ("198.51.100.20", "198.51.100.1:5061");
        let stream = connect(
            &lab.names.external,
            source.parse().unwrap(),
            to.parse().unwrap(),
        );
        Self {
            trunk: SecureAgent::tls(stream.unwrap(), "sbc.lab.test", &trust).unwrap(),
            pbx: Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap(),
        }
    }

    /// INVITE, 200, ACK, INFO and BYE of the trunk.
    fn call(&mut self, name: &str) -> Carried {
        let uri = "sip:+49305551002@lab.test";
        let user = "+4930777";
        let credentials = format!(
            "Authorization: Digest username=\"u\", realm=\"lab.test\", nonce=\"n\", uri=\"{uri}\", response=\"{RESPONSE}\"\r\n\
             P-Asserted-Identity: <sip:{user},,{PIN}@lab.test>\r\n"
        );
        let offer = sealed("198.51.100.20:30000".parse().unwrap(), "1");
        let invite = self
            .trunk
            .request(("INVITE", uri), user, name, 1, &credentials, &offer);
        let outside = Message::read(invite.as_bytes(), self.trunk.local)
            .header("call-id")
            .to_owned();
        self.trunk.send(&invite).unwrap();
        let inside = self.pbx.expect_request("INVITE");
        let answer = description("192.0.2.10:31000".parse().unwrap());
        self.pbx.respond(&inside, "200 OK", "p", "", &answer);
        let ok = self.trunk.expect("200", |message| message.status() == 200);
        let target = e2e::agent::uri_of(ok.header("contact")).to_owned();
        for (number, method) in [(1, "ACK"), (2, "INFO"), (3, "BYE")] {
            let more = match method {
                "BYE" => "Reason: Q.850;cause=16\r\n",
                _ => "",
            };
            let body = match method {
                "INFO" => format!("Signal=7\r\n{PRESSED}\r\n"),
                _ => String::new(),
            };
            let text = self
                .trunk
                .request((method, &target), user, name, number, more, &body)
                .replace("application/sdp", "application/dtmf-relay")
                .replace(
                    &format!("To: <{target}>"),
                    &format!("To: {}", ok.header("to")),
                );
            self.trunk.send(&text).unwrap();
            let request = self.pbx.expect_request(method);
            if method != "ACK" {
                self.pbx.respond(&request, "200 OK", "", "", "");
                let _ = self.trunk.expect("200", |message| {
                    message.status() == 200 && message.header("cseq").ends_with(method)
                });
            }
        }
        Carried {
            outside,
            inside: inside.header("call-id").to_owned(),
        }
    }
}

fn told_and_drawn(lab: &Lab) {
    let before = newest(lab);
    let carried = Sealed::new(lab).call("told-and-drawn");
    let of_call = |event: &Value| event["call"]["legs"][0]["call_id"] == carried.outside.as_str();
    let end = event(lab, before, "call-end", of_call);
    let names = "call-attempt,call-start,call-end";
    let told: Vec<Value> = events(lab, before, names)
        .into_iter()
        .filter(of_call)
        .collect();
    let told: Vec<&str> = told
        .iter()
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["call-attempt", "call-start", "call-end"]);
    let call = &end["call"];
    assert_eq!(
        call["legs"][1]["call_id"],
        carried.inside.as_str(),
        "{call}"
    );
    assert_eq!(call["ended_by"], "caller");
    assert_eq!(call["status"], 200);
    assert_eq!(call["reason"], "Q.850;cause=16");
    for leg in call["legs"].as_array().unwrap() {
        let codecs = leg["codecs"].as_str().unwrap();
        assert_eq!(codecs, "PCMA/8000,PCMU/8000,telephone-event/8000", "{leg}");
    }
    for moment in ["invited_at", "answered_at", "ended_at"] {
        assert!(call[moment].as_str().unwrap().ends_with('Z'), "{call}");
    }
    assert_eq!(call["legs"][0]["transport"], "tls");

    let id = call["id"].as_u64().unwrap();
    let ladder = api::get(&lab.names, &format!("/api/v1/calls/{id}/ladder"));
    let steps = ladder["steps"].as_array().unwrap();
    let has = |kind: &str, zone: &str, start: &str| {
        steps.iter().any(|step| {
            step["kind"] == kind
                && step["zone"] == zone
                && step["summary"].as_str().unwrap().starts_with(start)
        })
    };
    for (kind, zone, start) in [
        ("received", "external", "INVITE sip:+49305551002@lab.test"),
        ("decision", "", "route direct-dial: "),
        (
            "decision",
            "",
            "tries sip:1002@lab.test at 192.0.2.10:5060 by udp",
        ),
        ("decision", "", "answered with PCMA/8000,"),
        ("sent", "internal", "INVITE sip:1002@"),
        ("received", "internal", "200 OK (1 INVITE)"),
        ("sent", "external", "200 OK (1 INVITE)"),
        ("received", "external", "BYE "),
        ("decision", "", "the call ends: caller"),
        ("sent", "internal", "BYE "),
    ] {
        assert!(has(kind, zone, start), "{kind} {zone} {start}: {ladder:#}");
    }
    let path = format!("/api/v1/calls/{id}/ladder?format=text");
    let drawing = text(lab, &path);
    println!("{drawing}");
    let first = drawing.lines().next().unwrap();
    assert!(first.contains("(external)") && first.contains("192.0.2.10:5060 (internal)"));
    assert!(drawing.contains("* route direct-dial"));
    assert!(drawing.contains("* the call ends: caller"));
    assert_no_secret("the ladder", &format!("{ladder} {drawing}"));
    for path in [
        "/api/v1/events?limit=1000",
        "/api/v1/records?limit=1000",
        "/metrics",
    ] {
        assert_no_secret(path, &text(lab, path));
    }
    assert!(assert_no_secret_on_disk(&state()) > 3);
    let answer = api::request(
        &lab.names,
        "GET",
        "/api/v1/calls/999999/ladder",
        Some(API_TOKEN),
    );
    assert_eq!(answer.unwrap().status, 404);
    let answer = api::request(&lab.names, "GET", &path, None);
    assert_eq!(answer.unwrap().status, 401);
}

fn told_by_name(lab: &Lab) {
    let before = newest(lab);
    let gateway: SocketAddr = GATEWAY_EXTERNAL.parse().unwrap();
    let alice = Agent::bind(&lab.names.external, "198.51.100.10:5060", "1001").unwrap();
    let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();

    // A wrong password: the registrar challenges again.
    let credentials = format!(
        "Expires: 300\r\nAuthorization: Digest username=\"1001\", realm=\"lab.test\", nonce=\"n1\", uri=\"sip:lab.test\", response=\"{RESPONSE}\"\r\n"
    );
    let (request, _) = alice.request("REGISTER", "sip:lab.test", gateway, &credentials, "");
    let request = request.replace("To: <sip:lab.test>", "To: <sip:1001@lab.test>");
    alice.send(gateway, request.as_bytes()).unwrap();
    let is_ours = |message: &Message| {
        let mut headers = message.headers.iter();
        headers.any(|(name, value)| name == "authorization" && value.contains(RESPONSE))
    };
    // One of an earlier test may still be sent again.
    let inside = std::iter::repeat_with(|| pbx.expect_request("REGISTER"))
        .find(is_ours)
        .unwrap();
    let challenge = "WWW-Authenticate: Digest realm=\"lab.test\", nonce=\"n2\", algorithm=MD5, qop=\"auth\"\r\n";
    pbx.respond(&inside, "401 Unauthorized", "r1", challenge, "");
    let _ = alice.expect_status(401);
    let failed = event(lab, before, "auth-failed", |_| true);
    assert_eq!(failed["fields"]["user"], "1001");
    assert_eq!(failed["fields"]["remote"], "198.51.100.10:5060");
    assert_eq!(failed["fields"]["zone"], "external");

    // A scanner: no answer, and why.
    let scanner = Agent::bind(&lab.names.external, "198.51.100.66:5060", "100").unwrap();
    let mark = "User-Agent: friendly-scanner\r\n";
    let (probe, _) = scanner.request("OPTIONS", "sip:100@198.51.100.1", gateway, mark, "");
    scanner.send(gateway, probe.as_bytes()).unwrap();
    let drop = event(lab, before, "drop", |event| {
        event["fields"]["remote"] == "198.51.100.66:5060"
    });
    assert_eq!(drop["fields"]["reason"], "scanner");
    assert!(scanner.hears_nothing(Duration::from_millis(100)));

    // A registered phone: new, one call too many, gone.
    let _ = register(&alice, &pbx, gateway);
    let new = event(lab, before, "reg-new", |_| true);
    assert_eq!(new["fields"]["user"], "1001");
    let media: SocketAddr = "198.51.100.10:30000".parse().unwrap();
    let mut ringing: Vec<(String, Dialog, Message)> = Vec::new();
    for _ in 0..20 {
        let (text, dialog) = alice.invite("sip:1002@lab.test", gateway, media);
        ringing.push((text, dialog, pbx.expect_request("INVITE")));
    }
    let (invite, _) = alice.invite("sip:1002@lab.test", gateway, media);
    let refused = alice.expect_status(503);
    alice.acknowledge_failure(&invite, &refused);
    let limit = event(lab, before, "limit", |_| true);
    assert_eq!(limit["fields"]["reason"], "calls-per-source", "{limit}");
    assert_eq!(limit["fields"]["remote"], "198.51.100.10:5060");
    let told = event(lab, before, "call-refused", |_| true);
    assert_eq!(told["fields"]["status"], "503");
    assert_eq!(told["fields"]["called"], "1002");
    // It never was a call, and has its ladder all the same.
    let id = told["fields"]["id"].as_str().unwrap();
    let drawn = text(lab, &format!("/api/v1/calls/{id}/ladder?format=text"));
    assert!(
        drawn.contains("INVITE") && drawn.contains("refused: 503"),
        "{drawn}"
    );
    for (text, _, invite) in &ringing {
        pbx.respond(invite, "486 Busy Here", "b", "", "");
        let busy = alice.expect_status(486);
        alice.acknowledge_failure(text, &busy);
        let _ = pbx.expect_request("ACK");
    }
    let end = event(lab, before, "call-end", |_| true);
    assert_eq!(end["call"]["status"], 486);
    assert_eq!(end["call"]["ended_by"], "refused");

    // Named events alone, of this moment on, and in the metrics.
    let only = events(lab, before, "auth-failed,limit");
    let names: Vec<&str> = only
        .iter()
        .filter_map(|event| event["name"].as_str())
        .collect();
    assert_eq!(names, ["auth-failed", "limit"]);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let path = format!("/api/v1/events?name=limit&since={}", now + 60);
    assert_eq!(
        api::get(&lab.names, &path)["events"],
        Value::Array(Vec::new())
    );
    let path = format!(
        "/api/v1/events?name=limit,drop&since={}&format=ndjson",
        now - 60
    );
    let lines = self::text(lab, &path);
    assert!(
        lines
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
    assert!(lines.lines().count() >= 2, "{lines}");
    let metrics = self::text(lab, "/metrics");
    for line in [
        "gatehouse_events_total{event=\"auth-failed\",reason=\"\"} 1",
        "gatehouse_events_total{event=\"drop\",reason=\"scanner\"} 1",
        "gatehouse_events_total{event=\"limit\",reason=\"calls-per-source\"} 1",
        "gatehouse_events_total{event=\"call-end\",reason=\"refused\"} 20",
    ] {
        assert!(
            metrics.lines().any(|have| have == line),
            "{line}: {metrics}"
        );
    }
    for wrong in ["name=Limit", "since=yesterday", "format=xml"] {
        let path = format!("/api/v1/events?{wrong}");
        let answer = api::request(&lab.names, "GET", &path, Some(API_TOKEN)).unwrap();
        assert_eq!(answer.status, 400, "{wrong}");
    }
}

fn waits(lab: &Lab) {
    let before = newest(lab);
    let path = format!("/api/v1/events?after={before}&name=reg-del&wait=8");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| api::get(&lab.names, &path));
        let gateway: SocketAddr = GATEWAY_EXTERNAL.parse().unwrap();
        let alice = Agent::bind(&lab.names.external, "198.51.100.10:5060", "1001").unwrap();
        let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();
        let _ = register(&alice, &pbx, gateway);
        let (text, _) = alice.request("REGISTER", "sip:lab.test", gateway, "Expires: 0\r\n", "");
        let text = text.replace("To: <sip:lab.test>", "To: <sip:1001@lab.test>");
        alice.send(gateway, text.as_bytes()).unwrap();
        let inside = pbx.expect("REGISTER", |message| {
            message.method() == "REGISTER" && message.text().contains("xpires: 0")
        });
        pbx.respond(&inside, "200 OK", "r3", "", "");
        let _ = alice.expect_status(200);
        let page = waiting.join().unwrap();
        assert_eq!(page["events"][0]["name"], "reg-del", "{page}");
        assert_eq!(page["events"][0]["fields"]["reason"], "unregistered");
    });
}

/// Both legs of a call as a collector has them.
fn assert_captured(messages: &[Captured], carried: &Carried) {
    let starts = |source: &str, destination: &str, call_id: &str, start: &str| {
        let ip = |at: &SocketAddr| at.ip().to_string();
        messages.iter().any(|message| {
            ip(&message.source) == source
                && ip(&message.destination) == destination
                && message.correlation == call_id
                && message.payload.starts_with(start)
        })
    };
    for start in ["INVITE sip:+49305551002@lab.test", "ACK ", "BYE "] {
        assert!(
            starts("198.51.100.20", "198.51.100.1", &carried.outside, start),
            "{start}: {messages:#?}"
        );
    }
    assert!(starts(
        "198.51.100.1",
        "198.51.100.20",
        &carried.outside,
        "SIP/2.0 200 "
    ));
    assert!(starts(
        "192.0.2.1",
        "192.0.2.10",
        &carried.inside,
        "INVITE sip:1002@"
    ));
    assert!(starts(
        "192.0.2.10",
        "192.0.2.1",
        &carried.inside,
        "SIP/2.0 200 "
    ));
}

fn captured(lab: &Lab) {
    let collector = Collector::bind(&lab.names.management, COLLECTOR).unwrap();
    let carried = Sealed::new(lab).call("captured");
    let messages = collector.collect();
    assert_captured(&messages, &carried);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for message in &messages {
        assert_no_secret("a captured message", &message.payload);
        assert!(u64::from(message.seconds).abs_diff(now) < 60);
        let sealed = message.correlation == carried.outside;
        assert_eq!(message.protocol, if sealed { 6 } else { 17 }, "{message:?}");
    }
    println!("{} messages captured, no secret among them", messages.len());
}

/// sngrep of the distribution, as a collector.
struct Sngrep(Child);

impl Drop for Sngrep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn captured_by_sngrep(lab: &Lab) {
    let file = std::env::temp_dir().join(format!("gatehouse-hep-{}.pcap", std::process::id()));
    let child = topology::command(&lab.names.management, "sngrep")
        .args(["-F", "-N", "-q", "-L", &format!("udp:{COLLECTOR}"), "-O"])
        .arg(&file)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else {
        println!("skipped: no sngrep here");
        return;
    };
    let mut sngrep = Sngrep(child);
    let listens = || {
        let sockets = topology::command(&lab.names.management, "ss")
            .arg("-uln")
            .output();
        sockets.is_ok_and(|sockets| String::from_utf8_lossy(&sockets.stdout).contains(COLLECTOR))
    };
    if !api::eventually(Duration::from_secs(3), listens) {
        println!(
            "skipped: sngrep does not listen here: {:?}",
            sngrep.0.try_wait()
        );
        return;
    }
    let carried = Sealed::new(lab).call("sngrep");
    let has_all = || {
        let shown = String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()).into_owned();
        shown.contains(&carried.outside)
            && shown.contains(&carried.inside)
            && shown.matches("BYE sip:").count() >= 2
    };
    assert!(
        api::eventually(Duration::from_secs(5), has_all),
        "{}",
        file.display()
    );
    drop(sngrep);
    let shown = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
    assert_no_secret("what sngrep wrote", &shown);
    let _ = fs::remove_file(file);
}

fn metric(lab: &Lab, name: &str) -> u64 {
    let metrics = text(lab, "/metrics");
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

fn collector_is_away(lab: &Lab) {
    let before = metric(lab, "gatehouse_hep_packets_total");
    let lost = metric(lab, "gatehouse_hep_unsent_total");
    let parties = Parties::new(&lab.names);
    for _ in 0..20 {
        let mut call = parties.connect();
        parties.trunk.send_in(&mut call.caller, "BYE", "", "");
        let bye = parties.pbx.expect_request("BYE");
        parties.pbx.respond(&bye, "200 OK", "", "", "");
        let _ = parties.trunk.expect_status(200);
    }
    let (packets, lost) = (
        metric(lab, "gatehouse_hep_packets_total").saturating_sub(before),
        metric(lab, "gatehouse_hep_unsent_total").saturating_sub(lost),
    );
    println!("20 calls without a collector: {packets} packets, {lost} of them known to be lost");
    // The kernel says of some that nobody is there; each of these is counted, and no call waited for any.
    assert!(packets >= 20 * 12, "{packets}");
    assert!(lost > 0 && lost <= packets, "{lost}");
    drop(parties);
    // Back again: nothing has to be told to the product.
    captured(lab);
}
