//! The DHCP process; see `appliance::dhcp`.

use std::process::ExitCode;

use appliance::{dhcp, process};
use broker_proto::Role;

fn main() -> ExitCode {
    process::run(Role::Dhcp, dhcp::serve)
}
