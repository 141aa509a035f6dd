//! Commits: a thread of its own reads the document, renders the ruleset and has it loaded, so that the broker goes on
//! answering, and pinholes go on closing in time, while the kernel is at it. One commit at a time, in order.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use broker_proto::settings::Settings;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::network_test::TestZone;
use crate::broker::permissions::Permissions;

/// Commits that may wait.
const MAX_WAITING: usize = 8;

/// What loads rulesets.
pub trait Ruleset: Send + 'static {
    /// Loads the ruleset under which nothing passes.
    ///
    /// # Errors
    /// Why the kernel did not take it, for a person.
    fn close(&mut self) -> Result<(), String>;

    /// Loads the ruleset of a document. On an error the one before it stands.
    ///
    /// # Errors
    /// Why the document or its ruleset was refused, for a person.
    fn commit(&mut self, revision: u64, document: &str) -> Result<Committed, String>;
}

/// What a commit leads to.
#[derive(Debug)]
pub struct Committed {
    /// For the broker.
    pub permissions: Permissions,
    /// For the sbc.
    pub settings: Settings,
    /// For the network test.
    pub test_zones: Vec<TestZone>,
}

/// How a commit went.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) revision: u64,
    pub(super) result: Result<Box<Committed>, String>,
}

/// The thread that commits.
#[derive(Debug)]
pub(super) struct Committer {
    jobs: SyncSender<(u64, String)>,
    outcomes: Receiver<Outcome>,
    wake: Arc<EventFd>,
}

impl Committer {
    /// `begin` runs first in the thread; if it fails, nothing is ever committed.
    pub(super) fn start(
        mut ruleset: impl Ruleset,
        begin: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<(u64, String)>(MAX_WAITING);
        let (done, outcomes) = sync_channel(MAX_WAITING + 2);
        let wake = Arc::new(EventFd::from_value_and_flags(
            0,
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?);
        let waker = Arc::clone(&wake);
        thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                if let Err(error) = begin() {
                    tracing::error!(%error, "the committing thread ends");
                    return;
                }
                for (revision, document) in waiting {
                    let result = ruleset.commit(revision, &document).map(Box::new);
                    if done.send(Outcome { revision, result }).is_err() || waker.write(1).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            jobs,
            outcomes,
            wake,
        })
    }

    /// Readable when there is an outcome.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Hands a document over.
    ///
    /// # Errors
    /// Why not, for a person: too many wait, or the thread is gone.
    pub(super) fn begin(&self, revision: u64, document: String) -> Result<(), String> {
        self.jobs
            .try_send((revision, document))
            .map_err(|error| match error {
                TrySendError::Full(_) => "too many commits are waiting".to_owned(),
                TrySendError::Disconnected(_) => "the committing thread has ended".to_owned(),
            })
    }

    /// The next outcome, if there is one.
    pub(super) fn take(&self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok();
        if outcome.is_none() {
            // Nothing left: reading sets the counter to zero, so that the descriptor is quiet again.
            let _ = self.wake.read();
        }
        outcome
    }
}
