//! `gatehouse-config` as operators call it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::process::{Command, Output};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/lab/gatehouse.toml");

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_gatehouse-config"))
        .args(arguments)
        .output()
        .unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn a_good_document_is_ok() {
    let (status, said, noted) = run(&["check", LAB]);
    assert_eq!((status, said.as_str()), (Some(0), "ok\n"));
    // What is probably not meant is allowed, and said.
    assert!(
        noted
            .lines()
            .all(|line| line.starts_with("warning: ") && line.contains("no route takes")),
        "{noted}"
    );
}

#[test]
fn a_bad_document_is_refused_with_a_line_for_each_offence() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = std::fs::read_to_string(LAB).unwrap();
    std::fs::write(
        file.path(),
        text.replace("198.51.100.1/24", "198.51.100.1/99") + "\nnonsense = 1\n",
    )
    .unwrap();
    let (code, out, said) = run(&["check", file.path().to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(said.lines().count() >= 2 && said.contains(":"), "{said}");
}

#[test]
fn the_ruleset_is_the_one_that_is_committed() {
    let golden = include_str!("golden/lab.nft");
    assert_eq!(
        run(&["ruleset", LAB]),
        (Some(0), golden.into(), String::new())
    );
}

#[test]
fn a_difference_names_keys_and_rules() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = std::fs::read_to_string(LAB).unwrap();
    std::fs::write(file.path(), text.replacen("port = 5060", "port = 5070", 1)).unwrap();
    let changed = file.path().to_str().unwrap();
    let (code, out, _) = run(&["diff", changed, "--against", LAB]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("5060 -> 5070") || out.contains("= 5070"),
        "{out}"
    );
    assert!(
        out.contains("  + udp dport 5070 goto listen/external"),
        "{out}"
    );
    let (code, out, _) = run(&["diff", LAB, "--against", LAB]);
    assert_eq!(
        (code, out.as_str()),
        (
            Some(0),
            "# configuration: no change\n# ruleset: no change\n"
        )
    );
}

#[test]
fn what_it_does_not_know_it_does_not_do() {
    assert_eq!(run(&["apply", LAB]).0, Some(2));
    assert_eq!(run(&["check", "/nonexistent.toml"]).0, Some(1));
}
