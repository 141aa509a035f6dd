//! The sbc process; see `sbc::start`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match sbc::start::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sbc ends: {error}");
            ExitCode::FAILURE
        }
    }
}
