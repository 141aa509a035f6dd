//! The firewall's process. Init starts it first of all, with the control channel at descriptor 3; it takes no arguments.

use std::{os::fd::AsFd, process::ExitCode};

use firewall::{
    daemon::{Daemon, privilege},
    nftables::Loader,
};
use sandbox::channel::Channel;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // A reader that does not read must not hold the firewall: lines that find no room are lost.
    privilege::never_wait_for_a_reader(std::io::stderr().as_fd());
    // Init stamps the lines and bounds their rate; they stay plain text.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .log_internal_errors(false)
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the firewall ends; what stands in the kernel stays");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let control = Channel::control()?;
    privilege::go_first();
    let daemon = Daemon::start(control, Loader::open()?, || {
        privilege::go_second();
        privilege::drop_capabilities()
    })?;
    privilege::drop_capabilities()?;
    daemon.run()?;
    Ok(())
}
