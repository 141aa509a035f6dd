//! The console process; see `appliance::console`.

use std::process::ExitCode;

use appliance::{console, process};
use broker_proto::Role;

fn main() -> ExitCode {
    process::run(Role::Console, console::serve)
}
