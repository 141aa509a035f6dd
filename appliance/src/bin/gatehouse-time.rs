//! The time process; see `appliance::time`.

use std::process::ExitCode;

use appliance::{process, time};
use broker_proto::Role;

fn main() -> ExitCode {
    process::run(Role::Time, time::serve)
}
