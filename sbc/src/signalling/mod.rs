//! The signalling thread: one runtime, one [`Shell`] that all its tasks share. A task waits for one descriptor, hands
//! what came to the core and carries out what the core wants, without a pause in between.
//!
//! | module | noun |
//! |---|---|
//! | [`shell`] | the core and everything that it may use |
//! | [`udp`] | SIP listeners over UDP |
//! | [`names`] | questions to name servers |
//! | [`connection`] | SIP connections |
//! | [`secure`] | their TLS and WebSocket, certificates |
//! | [`broker`] | answers of the firewall and their descriptors |
//! | [`peers`] | the other processes: init, journal, keyholder, management |

mod adoption;
pub mod broker;
pub mod connection;
pub mod names;
pub mod peers;
pub mod secure;
pub mod shell;
pub mod udp;
mod unproved;

use std::{cell::RefCell, rc::Rc, time::Duration};

use broker_proto::journal::Severity;
use sandbox::channel::Channel;
use sbc_core::Input;
use sbc_media::relay::MediaEvent;
use tokio::{
    signal::unix::Signal,
    sync::{Notify, mpsc},
    task::{AbortHandle, LocalSet},
    time::{MissedTickBehavior, interval, timeout},
};

pub use secure::Handshaking;
use secure::Secure;
pub use shell::{Factory, Shell};

use crate::{engine::Engine, health::Pulse, media::pool::Pool};

/// The state that the tasks of the signalling thread share. Never borrowed across an `await`.
pub type Shared<E> = Rc<RefCell<Shell<E>>>;

/// How often the thread shows that it lives and looks at the core's timers.
const BEAT: Duration = Duration::from_millis(10);
/// How often the core hears the wall clock.
const WALL_CLOCK: Duration = Duration::from_secs(1);
/// How long an orderly stop may take.
const STOP_TIME: Duration = Duration::from_secs(3);
/// Media events that the core takes at one beat.
const MEDIA_EVENTS: usize = 1024;

/// A task that ends with its owner.
pub struct Task(AbortHandle);

impl Task {
    /// Starts it on this thread.
    pub fn spawn(future: impl Future<Output = ()> + 'static) -> Self {
        Self(tokio::task::spawn_local(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves until init says stop, or is gone. Runs on a runtime of one thread.
///
/// # Errors
/// What the kernel says to the control channel.
pub async fn serve<E: Engine + 'static>(
    control: Channel,
    factory: Factory<E>,
    pool: Pool,
    events: mpsc::Receiver<MediaEvent>,
    handshaking: Handshaking,
    pulse: Pulse,
    terminate: Signal,
) -> Result<(), crate::link::LinkError> {
    let local = LocalSet::new();
    local
        .run_until(async move {
            let finished = Rc::new(Notify::new());
            let Handshaking {
                desk,
                threads,
                outcomes,
            } = handshaking;
            let shell = Shell::new(
                factory,
                pool,
                pulse.clone(),
                Secure::new(desk, threads),
                Rc::clone(&finished),
            );
            let shared = Rc::new(RefCell::new(shell));
            let _tasks = [
                Task::spawn(beat(Rc::clone(&shared), pulse, events)),
                Task::spawn(tell_wall_clock(Rc::clone(&shared))),
                Task::spawn(secure::hear(Rc::clone(&shared), outcomes)),
            ];
            peers::ready(&control)?;
            peers::obey(&shared, control, terminate).await;
            shared.borrow_mut().stop();
            if timeout(STOP_TIME, finished.notified()).await.is_err() {
                shell::log(Severity::Warning, "stop-cut-short", &[]);
            }
            Ok(())
        })
        .await
}

/// Shows that the thread lives, wakes the core when it asked to be woken, and brings it what the media threads saw. The
/// timers of SIP begin at half a second (RFC 3261 §17.1.1.1) and reports have no haste: a beat later harms nobody, and a
/// thousand of them within a beat cost one waking instead of a thousand.
async fn beat<E: Engine>(shared: Shared<E>, pulse: Pulse, mut events: mpsc::Receiver<MediaEvent>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        pulse.beat();
        let mut shell = shared.borrow_mut();
        for _ in 0..MEDIA_EVENTS {
            let Ok(event) = events.try_recv() else { break };
            shell.handle(Input::Media(event));
        }
        if shell.is_due() {
            shell.handle(Input::Tick);
        }
    }
}

async fn tell_wall_clock<E: Engine>(shared: Shared<E>) {
    let mut seconds = interval(WALL_CLOCK);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let mut shell = shared.borrow_mut();
        shell.handle(Input::WallClock { unix_ms: unix_ms() });
        shell.secure.refill();
        shell.flush();
    }
}

/// What the wall clock says, in ms since the Unix epoch; 0 before it was ever set.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
