//! From `main` to serving, in the only right order: confine, take the control channel, make everything that needs the
//! kernel's leave (runtime, threads, randomness), seal, serve. Called by the binary alone.

use std::{io, thread};

use broker_proto::Role;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sandbox::{Profile, channel::Channel};
use sbc_core::Core;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    health::Pulse,
    media::pool::Pool,
    signalling::{self, Handshaking},
    tls::{desk::Desk, handshakes::Handshakes, profile},
};

/// Events of the media threads that wait for the core.
const MEDIA_EVENTS: usize = 4096;
/// Outcomes of handshakes that wait for the signalling thread.
const OUTCOMES: usize = 256;

/// Serves until init says stop. Every error ends the process: init starts it again.
///
/// # Errors
/// Whatever stands between here and serving, in words.
pub fn run() -> Result<(), Box<dyn std::error::Error>> {
    let profile = Profile::for_role(Role::Sbc.name()).ok_or("no sandbox profile for this role")?;
    sandbox::confine(&profile)?;
    let control = Channel::control()?;
    log_to_standard_error()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let terminate = {
        let _inside = runtime.enter();
        signal(SignalKind::terminate())?
    };
    let (sender, events) = mpsc::channel(MEDIA_EVENTS);
    let pool = Pool::start(thread::available_parallelism()?.get(), &sender)?;
    let pulse = Pulse::default();
    pulse.start(pool.counters())?;
    let handshaking = handshaking()?;
    let mut seed = [0; 32];
    sandbox::random::fill(&mut seed)?;
    sandbox::seal(&profile)?;
    // The settings may come again, the core is made once: its seed is used once.
    let factory = Box::new(move |settings, now, unix_ms| Core::new(settings, seed, now, unix_ms));
    runtime.block_on(signalling::serve(
        control,
        factory,
        pool,
        events,
        handshaking,
        pulse,
        terminate,
    ))?;
    Ok(())
}

/// The handshake threads: two at least, because each may wait for the keyholder.
fn handshaking() -> Result<Handshaking, Box<dyn std::error::Error>> {
    profile::prime()?;
    let desk = Desk::default();
    let (sender, outcomes) = mpsc::channel(OUTCOMES);
    let threads = thread::available_parallelism()?.get().max(2);
    Ok(Handshaking {
        threads: Handshakes::start(threads, &sender)?,
        desk,
        outcomes,
    })
}

/// Lines go to the pipe that init reads. If init is behind, they are lost: a line must never stop a call.
fn log_to_standard_error() -> io::Result<()> {
    let pipe = io::stderr();
    let flags = OFlag::from_bits_truncate(fcntl(&pipe, FcntlArg::F_GETFL)?);
    fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
    Ok(())
}
