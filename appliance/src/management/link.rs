//! Management's ends of its channels. [`Link`] asks a neighbour and awaits the answer that carries the same number;
//! [`KeyholderLink`] waits in place, because a TLS library signs in a synchronous call. One of each per neighbour, for the
//! life of the process: when a neighbour is started again, init sends a new channel and the link goes on with it.

use std::{
    collections::BTreeMap,
    io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use broker_proto::{
    MAX_MESSAGE, RequestId, decode, encode,
    journal::FromJournal,
    keyholder::{FromKeyholder, ToKeyholder},
    status::FromStatus,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox::channel::Channel;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::unix::AsyncFd, sync::oneshot};

/// How long a neighbour may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most questions that wait for an answer at once on one link.
const MAX_WAITING: usize = 64;

/// The neighbour is not there, does not answer in time, or has too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process does not answer")]
pub(super) struct Unavailable;

/// An answer that names its question.
pub(super) trait Answer: DeserializeOwned + Send + 'static {
    /// Number of the question.
    fn id(&self) -> RequestId;
}

impl Answer for FromStatus {
    fn id(&self) -> RequestId {
        match self {
            Self::Calls { id, .. }
            | Self::Ladder { id, .. }
            | Self::Counters { id, .. }
            | Self::Bans { id, .. }
            | Self::Drops { id, .. }
            | Self::Processes { id, .. }
            | Self::Done { id }
            | Self::Refused { id } => *id,
        }
    }
}

impl Answer for FromJournal {
    fn id(&self) -> RequestId {
        match self {
            Self::Records { id, .. } | Self::Refused { id } => *id,
        }
    }
}

/// Asks and awaits; see the module.
pub(super) struct Link<A> {
    channel: Mutex<Option<Arc<AsyncFd<Channel>>>>,
    waiting: Mutex<BTreeMap<u32, oneshot::Sender<A>>>,
    next: AtomicU32,
}

impl<A: Answer> Default for Link<A> {
    fn default() -> Self {
        Self {
            channel: Mutex::default(),
            waiting: Mutex::default(),
            next: AtomicU32::new(1),
        }
    }
}

impl<A: Answer> Link<A> {
    /// Goes on with a new channel. The task that reads answers ends with the channel.
    ///
    /// # Errors
    /// The runtime cannot watch the descriptor.
    pub(super) fn connect(self: &Arc<Self>, channel: Channel) -> io::Result<()> {
        let channel = Arc::new(watch(channel)?);
        *lock(&self.channel) = Some(Arc::clone(&channel));
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let mut buffer = vec![0; MAX_MESSAGE];
            while let Some((length, _)) = receive(&channel, &mut buffer).await {
                let answer = decode::<A>(buffer.get(..length).unwrap_or_default());
                let Ok(answer) = answer else {
                    tracing::warn!("an answer was refused: malformed");
                    continue;
                };
                if let Some(waiting) = lock(&link.waiting).remove(&answer.id().0) {
                    let _ = waiting.send(answer);
                }
            }
        });
        Ok(())
    }

    /// Sends the question that `question` makes of a fresh number, and awaits its answer.
    ///
    /// # Errors
    /// [`Unavailable`], after [`PATIENCE`] at the latest.
    pub(super) async fn ask<Q: Serialize>(
        &self,
        question: impl FnOnce(RequestId) -> Q,
    ) -> Result<A, Unavailable> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let channel = lock(&self.channel).clone().ok_or(Unavailable)?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.len() >= MAX_WAITING {
                return Err(Unavailable);
            }
            waiting.insert(id, sender);
        }
        let sent = encode(&question(RequestId(id)))
            .map_err(io::Error::other)
            .and_then(|bytes| channel.get_ref().send(&bytes, &[]));
        let answer = match sent {
            Ok(()) => tokio::time::timeout(PATIENCE, receiver)
                .await
                .ok()
                .and_then(Result::ok),
            Err(_) => None,
        };
        lock(&self.waiting).remove(&id);
        answer.ok_or(Unavailable)
    }
}

/// A channel that the runtime watches.
///
/// # Errors
/// The runtime cannot watch the descriptor.
// A `Channel` owns its descriptor and always gives the same one, which is what the newer, unsafe constructor asks for.
#[allow(deprecated)]
pub(super) fn watch(channel: Channel) -> io::Result<AsyncFd<Channel>> {
    AsyncFd::new(channel)
}

/// The next message of a channel, and the descriptors beside it; `None` when the far end is gone.
pub(super) async fn receive(
    channel: &AsyncFd<Channel>,
    buffer: &mut [u8],
) -> Option<(usize, Vec<std::os::fd::OwnedFd>)> {
    loop {
        let mut guard = channel.readable().await.ok()?;
        match guard.try_io(|channel| channel.get_ref().recv(buffer)) {
            Ok(Ok(received)) => return Some((received.length, received.descriptors)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(%error, "message refused")
            }
            Ok(Err(_)) => return None,
            Err(_would_block) => {}
        }
    }
}

/// Asks the keyholder and waits in place, at most [`PATIENCE`].
#[derive(Default)]
pub(super) struct KeyholderLink {
    channel: Mutex<Option<Channel>>,
    next: AtomicU32,
}

impl KeyholderLink {
    /// Goes on with a new channel.
    pub(super) fn connect(&self, channel: Channel) {
        *lock(&self.channel) = Some(channel);
    }

    /// Sends the question that `question` makes of a fresh number, and waits for its answer. Answers to earlier questions
    /// that came too late are passed over.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(super) fn ask(
        &self,
        question: impl FnOnce(RequestId) -> ToKeyholder,
    ) -> Result<FromKeyholder, Unavailable> {
        let id = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let guard = lock(&self.channel);
        let channel = guard.as_ref().ok_or(Unavailable)?;
        let bytes = encode(&question(id)).map_err(|_| Unavailable)?;
        channel.send(&bytes, &[]).map_err(|_| Unavailable)?;
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            match channel.recv(&mut buffer) {
                Ok(received) => {
                    let answer: FromKeyholder =
                        decode(buffer.get(..received.length).unwrap_or_default())
                            .map_err(|_| Unavailable)?;
                    if id_of(&answer) == id {
                        return Ok(answer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(std::time::Instant::now());
                    if left.is_zero() {
                        return Err(Unavailable);
                    }
                    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                    let mut polled = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
                    if !matches!(
                        poll(&mut polled, timeout),
                        Ok(_) | Err(nix::errno::Errno::EINTR)
                    ) {
                        return Err(Unavailable);
                    }
                }
                Err(_) => return Err(Unavailable),
            }
        }
    }
}

fn id_of(answer: &FromKeyholder) -> RequestId {
    match answer {
        FromKeyholder::Chain { id, .. }
        | FromKeyholder::Signature { id, .. }
        | FromKeyholder::Response { id, .. }
        | FromKeyholder::Verified { id, .. }
        | FromKeyholder::Refused { id } => *id,
        // The sbc's alone.
        FromKeyholder::Changed { .. } => RequestId(0),
    }
}

/// A lock that a panicked holder does not take from the others: the data behind these locks is whole at every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use broker_proto::status::ToStatus;

    use super::*;

    #[tokio::test]
    async fn an_answer_finds_its_question_whatever_the_order() {
        let (near, far) = Channel::pair().unwrap();
        let link = Arc::new(Link::<FromStatus>::default());
        link.connect(near).unwrap();
        let far = watch(far).unwrap();
        let answer = async {
            let mut buffer = vec![0; MAX_MESSAGE];
            let mut ids = Vec::new();
            for _ in 0..2 {
                let (length, _) = receive(&far, &mut buffer).await.unwrap();
                let ToStatus::Counters { id } = decode(&buffer[..length]).unwrap() else {
                    panic!("another question")
                };
                ids.push(id);
            }
            for id in ids.iter().rev() {
                let counters = vec![(format!("asked_{}", id.0), 1)];
                far.get_ref()
                    .send(
                        &encode(&FromStatus::Counters { id: *id, counters }).unwrap(),
                        &[],
                    )
                    .unwrap();
            }
            ids
        };
        let (one, two, ids) = tokio::join!(
            link.ask(|id| ToStatus::Counters { id }),
            link.ask(|id| ToStatus::Counters { id }),
            answer
        );
        for (got, id) in [(one, ids[0]), (two, ids[1])] {
            let FromStatus::Counters { counters, .. } = got.unwrap() else {
                panic!("another answer")
            };
            assert_eq!(counters[0].0, format!("asked_{}", id.0));
        }
    }

    #[tokio::test]
    async fn without_a_neighbour_the_question_fails_at_once() {
        let link = Link::<FromStatus>::default();
        assert!(matches!(
            link.ask(|id| ToStatus::Counters { id }).await,
            Err(Unavailable)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_neighbour_that_never_answers_costs_the_patience_and_no_more() {
        let (near, _far) = Channel::pair().unwrap();
        let link = Arc::new(Link::<FromStatus>::default());
        link.connect(near).unwrap();
        assert!(link.ask(|id| ToStatus::Counters { id }).await.is_err());
        assert!(lock(&link.waiting).is_empty());
    }
}
