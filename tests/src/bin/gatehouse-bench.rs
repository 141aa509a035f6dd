//! `gatehouse-bench relay|sip|register|tls|endurance|all`: the promised figures beside a peer. What a bench needs stands in
//! tests/packages.txt; one peer comes from the Python package index. Prints a table for each bench and one line of JSON at
//! the end.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use e2e::bench::{endurance, namespace, register, relay, sip, sip_peers, subject, tls};
use serde_json::json;

const USAGE: &str = "usage: gatehouse-bench relay [--calls N]... [--seconds N] [--rounds N]
       gatehouse-bench sip [--rate N] [--calls N]
       gatehouse-bench register [--phones N] [--rounds N]
       gatehouse-bench tls [--handshakes N] [--idle N] [--rounds N]
       gatehouse-bench endurance [--minutes N]
       gatehouse-bench all";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatehouse-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    match words {
        ["subject", calls, a, b] => {
            let phones: [SocketAddr; 2] = [a.parse()?, b.parse()?];
            subject::run(calls.parse()?, phones)?;
        }
        ["relay", options @ ..] => {
            namespace::enter(&[])?;
            println!("{}", json!({ "relay": relays(options)? }));
        }
        ["sip", options @ ..] => {
            let sippy = sippy();
            namespace::enter(&sip::ADDRESSES)?;
            println!("{}", json!({ "sip": sip(options, sippy.as_deref())? }));
        }
        ["register", options @ ..] => {
            namespace::enter(&sip::ADDRESSES)?;
            println!("{}", json!({ "register": register(options)? }));
        }
        ["tls", options @ ..] => {
            namespace::enter(&sip::ADDRESSES)?;
            println!("{}", json!({ "tls": tls(options)? }));
        }
        ["endurance", options @ ..] => {
            let minutes = match options {
                [] => 60,
                ["--minutes", minutes] => minutes.parse()?,
                _ => return Err(USAGE.into()),
            };
            namespace::enter(&sip::ADDRESSES)?;
            let time = Duration::from_secs(60 * minutes);
            println!("{}", json!({ "endurance": endurance::run(time)? }));
        }
        ["all"] => {
            let sippy = sippy();
            namespace::enter(&sip::ADDRESSES)?;
            let all = json!({
                "relay": relays(&[])?,
                "sip": sip(&[], sippy.as_deref())?,
                "register": register(&[])?,
                "tls": tls(&[])?,
            });
            println!("{all}");
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

fn relays(options: &[&str]) -> Result<Vec<serde_json::Value>, Box<dyn std::error::Error>> {
    let (mut calls, mut seconds, mut rounds) = (Vec::new(), 8, 3);
    for option in options.chunks(2) {
        match option {
            ["--calls", count] => calls.push(count.parse()?),
            ["--seconds", count] => seconds = count.parse()?,
            ["--rounds", count] => rounds = count.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    if calls.is_empty() {
        calls = vec![500, 1000];
    }
    let time = Duration::from_secs(seconds);
    Ok(calls
        .into_iter()
        .map(|calls| {
            relay::run(relay::Plan {
                calls,
                time,
                rounds,
            })
        })
        .collect::<Result<_, _>>()?)
}

/// Before this process enters a namespace without a network.
fn sippy() -> Option<PathBuf> {
    sip_peers::install_sippy()
        .inspect_err(|error| eprintln!("without sippy: {error}"))
        .ok()
}

fn sip(
    options: &[&str],
    sippy: Option<&Path>,
) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let mut plan = sip::Plan {
        rate: 200,
        calls: 3000,
    };
    for option in options.chunks(2) {
        match option {
            ["--rate", count] => plan.rate = count.parse()?,
            ["--calls", count] => plan.calls = count.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(sip::run(plan, sippy)?)
}

fn register(options: &[&str]) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let mut plan = register::Plan {
        phones: 5_000,
        rounds: 20,
    };
    for option in options.chunks(2) {
        match option {
            ["--phones", count] => plan.phones = count.parse()?,
            ["--rounds", count] => plan.rounds = count.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(register::run(plan)?)
}

fn tls(options: &[&str]) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let mut plan = tls::Plan {
        handshakes: 2_000,
        idle: 2_000,
        rounds: 2,
    };
    for option in options.chunks(2) {
        match option {
            ["--handshakes", count] => plan.handshakes = count.parse()?,
            ["--idle", count] => plan.idle = count.parse()?,
            ["--rounds", count] => plan.rounds = count.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(tls::run(plan)?)
}
