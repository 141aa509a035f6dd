//! Tells the firewall that this process lives, from a thread of its own: every 25 ms, but only if the signalling thread
//! and every media thread have made progress since the last time. What hangs goes silent, and the firewall takes
//! everything back within 100 ms.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use broker_proto::broker::ToBroker;
use sandbox::channel::Channel;

use crate::media::counters::Counters;

/// Time between two messages (`ToBroker::Health`).
pub const INTERVAL: Duration = Duration::from_millis(25);

/// Where the messages go and what must move between two of them.
#[derive(Clone, Default)]
pub struct Pulse {
    broker: Arc<Mutex<Option<Arc<Channel>>>>,
    signalling: Arc<AtomicU64>,
}

impl Pulse {
    /// Sends to this firewall from now on; to none: is silent.
    pub fn set_broker(&self, channel: Option<Arc<Channel>>) {
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }

    /// The signalling thread has gone through its loop.
    pub fn beat(&self) {
        self.signalling.fetch_add(1, Relaxed);
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// What the kernel says when it refuses a thread.
    pub fn start(&self, media: Vec<Arc<Counters>>) -> io::Result<()> {
        let pulse = self.clone();
        let (started, starts) = sync_channel(1);
        thread::Builder::new()
            .name("health".to_owned())
            .spawn(move || {
                let mut watch = Watch::new(media.len());
                // `start` waits for it, so somebody receives.
                let _ = started.send(());
                loop {
                    thread::sleep(INTERVAL);
                    let beats = media.iter().map(|thread| thread.progress());
                    if let Some(sequence) = watch.look(pulse.signalling.load(Relaxed), beats) {
                        pulse.say(sequence);
                    }
                }
            })?;
        // What the thread needs of the kernel to begin with, it has by now: the process may be sealed.
        starts.recv().map_err(io::Error::other)
    }

    fn say(&self, sequence: u64) {
        let Ok(message) = broker_proto::encode(&ToBroker::Health { sequence }) else {
            return;
        };
        let broker = self
            .broker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(channel) = broker {
            // A firewall that does not read, or is gone, draws its own conclusion.
            let _ = channel.send(&message, &[]);
        }
    }
}

/// Who stood where when the last message left.
struct Watch {
    signalling: u64,
    media: Vec<u64>,
    sequence: u64,
}

impl Watch {
    fn new(media: usize) -> Self {
        Self {
            signalling: 0,
            media: vec![0; media],
            sequence: 0,
        }
    }

    /// The number of the message to send, if everyone has moved since the last one.
    fn look(&mut self, signalling: u64, media: impl Iterator<Item = u64> + Clone) -> Option<u64> {
        let moved = signalling != self.signalling
            && self
                .media
                .iter()
                .zip(media.clone())
                .all(|(&old, new)| old != new);
        if !moved {
            return None;
        }
        self.signalling = signalling;
        self.media.clear();
        self.media.extend(media);
        self.sequence += 1;
        Some(self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_while_any_thread_stands_still() {
        let mut watch = Watch::new(2);
        assert_eq!(watch.look(1, [1, 1].into_iter()), Some(1));
        assert_eq!(
            watch.look(2, [2, 1].into_iter()),
            None,
            "a media thread stands"
        );
        assert_eq!(watch.look(3, [3, 2].into_iter()), Some(2));
        assert_eq!(
            watch.look(3, [4, 3].into_iter()),
            None,
            "the signalling thread stands"
        );
        assert_eq!(watch.look(4, [4, 3].into_iter()), Some(3));
    }
}
