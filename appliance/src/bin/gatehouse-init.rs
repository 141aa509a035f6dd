//! PID 1 of the appliance, and the supervisor of the laboratory; see `appliance::init`.

use std::process::ExitCode;

use appliance::init::{self, Options};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::FAILURE;
        }
    };
    match init::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        // PID 1 that ends is a panic of the kernel: the machine restarts, closed.
        Err(error) => {
            eprintln!("init: {error}");
            ExitCode::FAILURE
        }
    }
}
