//! `gatehouse-config check|diff|ruleset|route FILE`: what a configuration is worth and what it would do, before it does it. For
//! operators and tests; it needs no rights and changes nothing.
//!
//! | command | prints | exit |
//! |---|---|---|
//! | `check FILE` | every offence, one a line; `ok` if there is none, and warnings | 0, or 1 |
//! | `route --from CALLER --to URI [--as USER] [--at TIME] FILE` | step by step where a call would go | 0, or 1 if nowhere |
//! | `ruleset FILE` | the table in nft's language | 0, or 1 |
//! | `diff FILE [--against RUNNING]` | changed keys, then changed rules; without `--against`: from an empty box | 0, or 1 |

use std::{
    io::{self, Write},
    process::ExitCode,
};

use appliance_config::{Document, MAX_DOCUMENT, diff};
use firewall::{
    nftables::{difference::difference, render},
    policy::{Policy, settings::to_settings},
    route_explained::{Journey, explain},
};

const USAGE: &str = "usage: gatehouse-config check FILE | ruleset FILE | diff FILE [--against RUNNING] \
     | route --from ZONE|trunk:NAME|registered:USER|registrar --to URI [--as USER] [--at 2026-11-24T08:30Z] FILE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["check", file] => read(file).map(|_| {
            warn(file);
            "ok\n".to_owned()
        }),
        ["route", rest @ ..] => match Journey::of(rest) {
            Some((journey, file)) => read(file).and_then(|document| {
                explain(&to_settings(&document, 0), &journey).map_err(|steps| vec![steps])
            }),
            None => {
                complain(USAGE);
                return ExitCode::from(2);
            }
        },
        ["ruleset", file] => read(file).map(|document| render(&Policy::of(&document)).text()),
        ["diff", file] => read(file).map(|new| changes(None, &new)),
        ["diff", file, "--against", running] | ["diff", "--against", running, file] => {
            read(running).and_then(|old| read(file).map(|new| changes(Some(&old), &new)))
        }
        _ => {
            complain(USAGE);
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("standard output: {error}"));
                ExitCode::FAILURE
            }
        },
        Err(offences) => {
            offences.iter().for_each(|offence| complain(offence));
            ExitCode::FAILURE
        }
    }
}

/// A checked document, or its offences, one a line.
fn read(file: &str) -> Result<Document, Vec<String>> {
    let said = |error: io::Error| vec![format!("{file}: {error}")];
    let size = std::fs::metadata(file).map_err(said)?.len();
    if size > MAX_DOCUMENT as u64 {
        return Err(vec![format!(
            "{file}: is larger than {MAX_DOCUMENT} octets"
        )]);
    }
    let text = std::fs::read_to_string(file).map_err(said)?;
    Document::parse(&text, file)
        .map_err(|offences| offences.iter().map(ToString::to_string).collect())
}

/// What is allowed and probably not meant.
fn warn(file: &str) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    for warning in Document::warnings(&text, file) {
        complain(&format!("warning: {warning}"));
    }
}

fn changes(old: Option<&Document>, new: &Document) -> String {
    let keys: Vec<String> = match old {
        Some(old) => diff(old, new).iter().map(ToString::to_string).collect(),
        None => new
            .canonical()
            .lines()
            .map(|line| format!("+ {line}"))
            .collect(),
    };
    let before = old.map_or_else(Policy::closed, Policy::of);
    let rules = difference(&render(&before), &render(&Policy::of(new)));
    let mut out = String::new();
    for (title, lines) in [("configuration", keys), ("ruleset", rules)] {
        out.push_str(&format!(
            "# {title}: {}\n",
            if lines.is_empty() {
                "no change"
            } else {
                "changes"
            }
        ));
        for line in lines {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

/// A line on standard error. That nobody can read it is no reason to do otherwise.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
