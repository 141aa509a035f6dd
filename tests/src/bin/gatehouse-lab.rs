//! `gatehouse-lab up|net|down|status|peers|pki`: the laboratory from the command line, as `make lab` and its sisters call it.

use std::{io, process::ExitCode};

use e2e::lab::{peers, pki, product, topology};

fn main() -> ExitCode {
    let names = topology::Names::default();
    let result = match std::env::args().nth(1).as_deref() {
        Some("up") => topology::up(&names).and_then(|()| product::start(&names, &product::configuration())).map(|()| {
            println!("laboratory up: SIP at 198.51.100.1 and 192.0.2.1 (5060), API at https://203.0.113.1:8443/api/v1");
        }),
        Some("net") => topology::up(&names),
        Some("peers") => peers::start_pbx(&names).and_then(|()| phones(&names)),
        Some("down") => {
            product::down();
            Ok(())
        }
        Some("status") => return status(),
        Some("pki") => pki::ensure().map(|folder| println!("certificates in {}", folder.display())),
        _ => Err(io::Error::other("usage: gatehouse-lab up|net|down|status|peers|pki")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatehouse-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn phones(names: &topology::Names) -> io::Result<()> {
    let [alice, bob, ..] = peers::ACCOUNTS;
    peers::start_phone(
        &names.external,
        alice,
        "198.51.100.10",
        "198.51.100.1:5060",
        440,
    )?;
    peers::start_phone(&names.internal, bob, "192.0.2.40", "192.0.2.10:5060", 880)?;
    println!(
        "PBX at 192.0.2.10; telephones alice (1001) outside and bob (1002) inside; each answers by itself"
    );
    println!(
        "call bob from alice: echo /dial sip:1002@lab.test through her control port 198.51.100.10:4444"
    );
    Ok(())
}

fn status() -> ExitCode {
    let running = product::pid().is_some();
    match product::status() {
        Some(status) if running => {
            println!("{status}");
            let healthy = status
                .get("ready")
                .and_then(serde_json::Value::as_bool)
                .unwrap_or(false);
            if healthy {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        _ => {
            println!("{{\"ready\":false}}");
            ExitCode::FAILURE
        }
    }
}
