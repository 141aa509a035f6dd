//! Hostile SIP from `testdata/sip-torture` on the wire: the code that `expect.tsv` says to the trunk, silence to a stranger,
//! no crash, and service right after.

use std::{fs, path::PathBuf, time::Duration};

use e2e::{
    agent::{Agent, Message, parameter},
    lab::{product, root},
    parties::{GATEWAY_EXTERNAL, Parties},
};

use crate::{Lab, LabTest, media::answers_again};

pub const TESTS: &[LabTest] = &[
    (
        "torture_messages_get_the_expected_codes_from_a_trunk",
        from_trunk,
    ),
    (
        "torture_messages_from_a_stranger_get_silence",
        from_stranger,
    ),
];

struct Case {
    name: String,
    bytes: Vec<u8>,
    action: String,
    codes: Vec<u16>,
}

fn cases() -> Vec<Case> {
    let data = std::env::var_os("GH_TESTDATA")
        .map_or_else(|| root().join("../shared/testdata"), PathBuf::from);
    let mut cases = Vec::new();
    for folder in ["rfc4475", "rfc5118"] {
        let folder = data.join("sip-torture").join(folder);
        let Ok(table) = fs::read_to_string(folder.join("expect.tsv")) else {
            println!("    skipped: no test data at {}", folder.display());
            continue;
        };
        for line in table.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [name, _class, _section, action, status, ..] = columns.as_slice() else {
                continue;
            };
            cases.push(Case {
                name: (*name).to_owned(),
                bytes: fs::read(folder.join(name)).unwrap(),
                action: (*action).to_owned(),
                codes: status
                    .split(',')
                    .filter_map(|code| code.parse().ok())
                    .collect(),
            });
        }
    }
    cases
}

/// What is wrong with the answers, if anything.
fn verdict(case: &Case, finals: &[u16]) -> Option<String> {
    let complaint = |what: &str| {
        Some(format!(
            "{}: {what}, got {finals:?}, expected {} {:?}",
            case.name, case.action, case.codes
        ))
    };
    let listed = finals.iter().any(|code| case.codes.contains(code));
    let bad = finals
        .iter()
        .any(|code| *code == 400 || *code >= 500 && *code < 600);
    match case.action.as_str() {
        "ignore" if !finals.is_empty() => complaint("was answered"),
        "reject" if !listed => complaint("was not refused as it should be"),
        "accept" if bad && !listed => complaint("was refused as malformed"),
        _ => None,
    }
}

fn from_trunk(lab: &Lab) {
    let agent = Agent::bind(&lab.names.external, "198.51.100.20:5060", "trunk1").unwrap();
    let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();
    let gateway = GATEWAY_EXTERNAL.parse().unwrap();
    let before = product::pid_of("sbc");
    let mut complaints = Vec::new();
    for case in cases() {
        agent.send(gateway, &case.bytes).unwrap();
        let mut finals = Vec::new();
        let wait = if case.action == "reject" {
            Duration::from_millis(700)
        } else {
            Duration::from_millis(250)
        };
        while let Some(message) = agent.receive(wait) {
            // A late answer to the case before is none to this one. (Two cases share a branch: to the product the second is
            // the first once more, and gets its answer.)
            let own = Message::read(&case.bytes, agent.local);
            let branch =
                |message: &Message| parameter(message.header("via"), "branch").map(str::to_owned);
            let answers_this = own.header("call-id").is_empty()
                || own.header("call-id") == message.header("call-id")
                || branch(&own).is_some_and(|own| branch(&message) == Some(own));
            if message.status() >= 200 && answers_this {
                finals.push(message.status());
                if message.header("cseq").ends_with("INVITE") {
                    agent.acknowledge_failure(&String::from_utf8_lossy(&case.bytes), &message);
                }
                break;
            }
        }
        while let Some(request) = pbx.receive(Duration::from_millis(1)) {
            if !["", "ACK"].contains(&request.method()) {
                pbx.respond(&request, "404 Not Found", "t", "", "");
            }
        }
        complaints.extend(verdict(&case, &finals));
        while agent.receive(Duration::from_millis(1)).is_some() {}
    }
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    assert_eq!(product::pid_of("sbc"), before, "the sbc was started again");
}

fn from_stranger(lab: &Lab) {
    let agent = Agent::bind(&lab.names.external, "198.51.100.66:5060", "stranger").unwrap();
    let pbx = Agent::bind(&lab.names.internal, "192.0.2.10:5060", "pbx").unwrap();
    let gateway = GATEWAY_EXTERNAL.parse().unwrap();
    let before = product::pid_of("sbc");
    for case in cases() {
        let is_register = case.bytes.starts_with(b"REGISTER");
        agent.send(gateway, &case.bytes).unwrap();
        let answer = agent.receive(Duration::from_millis(60));
        // A stranger's REGISTER for the domain is relayed to the PBX; these are for other domains.
        assert!(
            answer.is_none() || is_register,
            "{} was answered: {answer:?}",
            case.name
        );
    }
    drop((agent, pbx));
    assert!(answers_again(&Parties::new(&lab.names)));
    assert_eq!(product::pid_of("sbc"), before, "the sbc was started again");
}
