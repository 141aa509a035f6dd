//! The escape suite as a program: see `e2e::escape`. Started by a person or by init it supervises, in the place of the sbc
//! or of the role that its argument names; started by itself, in the sandbox, it attacks.

use std::process::ExitCode;

use e2e::escape::{inside, outside};

fn main() -> ExitCode {
    match inside::role() {
        Some(role) => inside::run(&role),
        None => outside::run(std::env::args().nth(1).as_deref().unwrap_or("sbc")),
    }
}
