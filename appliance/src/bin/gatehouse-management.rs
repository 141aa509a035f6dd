//! The management process; see `appliance::management`.

use std::process::ExitCode;

use appliance::{management, process};
use broker_proto::Role;

fn main() -> ExitCode {
    process::run(Role::Management, management::serve)
}
