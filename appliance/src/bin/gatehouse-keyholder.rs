//! The keyholder process; see `appliance::keyholder`.

use std::process::ExitCode;

use appliance::{keyholder, process};
use broker_proto::Role;

fn main() -> ExitCode {
    process::run(Role::Keyholder, keyholder::serve)
}
