//! RFC 4475 and RFC 5118 messages from a carrier's address: no crash, no leak, and the answer that a strict border element
//! gives. The messages are shared test data and not part of this tree.

use std::path::PathBuf;

use super::*;

/// The folder of the test data, if it is there.
#[allow(clippy::disallowed_methods, reason = "tests read shared data")]
fn folder() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var("GH_TESTDATA")
        .map_or_else(|_| root.join("../shared/testdata"), PathBuf::from);
    let folder = folder.join("sip-torture");
    folder.is_dir().then_some(folder)
}

/// Final statuses that one message brings from the product, and whether anything is left afterwards.
fn answers(message: &[u8]) -> Vec<u16> {
    let mut world = World::new(90);
    let pbx = pbx(&mut world);
    world.agent(pbx).script.challenge = false;
    let trunk = trunk1(&mut world);
    world.agent(trunk).script.alive = false;
    world.datagram(trunk, message);
    world.run(seconds(2));
    let statuses: Vec<u16> = world
        .agent(trunk)
        .inbox
        .iter()
        .filter_map(crate::testing::Message::status)
        .filter(|status| *status >= 200)
        .collect();
    // Whatever it was, the next request is served and nothing stays behind.
    let other = world.add("198.51.100.21:5060", "x", Script::default());
    world.act(other, |agent, now, gateway| agent.options(now, gateway));
    world.run(seconds(1));
    assert_eq!(
        world.agent(other).answers.last(),
        Some(&("OPTIONS".to_owned(), 200))
    );
    world.run(seconds(5 * 3600));
    assert_tidy(&mut world);
    statuses
}

#[test]
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests read shared data and say so if they cannot"
)]
fn torture_messages_get_the_answer_of_a_strict_border_element() {
    let Some(folder) = folder() else {
        println!("skipped: no shared test data");
        return;
    };
    let mut wrong = Vec::new();
    let mut count = 0;
    for rfc in ["rfc4475", "rfc5118"] {
        let table = std::fs::read_to_string(folder.join(rfc).join("expect.tsv")).unwrap();
        for line in table.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let (file, action, listed) = (columns[0], columns[3], columns[4]);
            let message = std::fs::read(folder.join(rfc).join(file)).unwrap();
            let got = answers(&message);
            count += 1;
            let listed: Vec<u16> = listed
                .split(',')
                .filter_map(|code| code.parse().ok())
                .collect();
            let accepted = !got.is_empty()
                && got
                    .iter()
                    .all(|status| *status != 400 && *status < 500 || *status == 603);
            let refused = got.first().is_some_and(|status| listed.contains(status));
            let silent = got.is_empty();
            let right = match action {
                "accept" => accepted,
                "ignore" => silent,
                "reject" => refused,
                "reject or accept" => accepted || refused,
                "reject or ignore" => refused || silent,
                "accept or ignore" => accepted || silent || refused,
                _ => accepted || refused,
            };
            if !right {
                wrong.push(format!("{file}: {action} {listed:?}, got {got:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
