//! The journal process; see `appliance::journal`.

use std::{path::Path, process::ExitCode};

use appliance::{journal, process};
use broker_proto::Role;

/// Where the sandbox puts the journal's directory.
const STORE: &str = "/store";

fn main() -> ExitCode {
    process::run(Role::Journal, |control, profile| {
        journal::serve(control, profile, Path::new(STORE))
    })
}
