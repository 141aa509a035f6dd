//! What every sandboxed process of this crate does first and last: find its profile, shut itself in, log to the pipe that
//! init reads. Called by each `main` in `src/bin`.

use std::process::ExitCode;

use broker_proto::Role;
use sandbox::{Profile, channel::Channel};

/// Confines the process (Landlock), takes the control channel and runs `serve` with it and the profile; `serve` seals the
/// process (seccomp) when its threads and its crypto library are ready. Any error ends the process: init sees it, says so
/// and starts it again with a back-off.
pub fn run(
    role: Role,
    serve: impl FnOnce(Channel, &Profile) -> Result<(), Box<dyn std::error::Error>>,
) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
    let result = (|| {
        let profile = Profile::for_role(role.name()).ok_or("no sandbox profile for this role")?;
        sandbox::confine(&profile)?;
        serve(Channel::control()?, &profile)
    })();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(process = role.name(), %error, "ends");
            ExitCode::FAILURE
        }
    }
}
