//! The escape suite in the place of each sandboxed role (GH_ISO.1 to .4, .9): what it tries is in `e2e::escape`. It needs
//! the firewall's program beside its own: that of `GH_BIN` (`make e2e`), or else what `cargo build -p firewall` made.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{path::Path, process::Command};

fn every_attempt_in_the_place_of(role: &str) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP escape {role}: not root");
        return;
    }
    let built = std::env::var_os("GH_BIN")
        .map(|folder| Path::new(&folder).join("gatehouse-escape"))
        .filter(|suite| suite.exists());
    let suite = built.unwrap_or_else(|| env!("CARGO_BIN_EXE_gatehouse-escape").into());
    let output = Command::new(suite).arg(role).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{role}: {report}");
    assert!(
        output.status.success(),
        "{report}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(report.contains("every attempt was refused"));
}

#[test]
fn the_sbc_gets_nowhere() {
    every_attempt_in_the_place_of("sbc");
}

#[test]
fn the_keyholder_gets_nowhere() {
    every_attempt_in_the_place_of("keyholder");
}

#[test]
fn the_journal_gets_no_further_than_its_directory() {
    every_attempt_in_the_place_of("journal");
}

#[test]
fn management_gets_nowhere() {
    every_attempt_in_the_place_of("management");
}

#[test]
fn the_time_process_gets_nowhere() {
    every_attempt_in_the_place_of("time");
}

#[test]
fn the_console_gets_nowhere() {
    every_attempt_in_the_place_of("console");
}

#[test]
fn the_dhcp_client_gets_nowhere() {
    every_attempt_in_the_place_of("dhcp");
}
