//! Signatures asked of the keyholder by the handshake threads. A thread waits at the desk; the signalling thread, which
//! reads the keyholder's channel, hands the answer over. One desk for the process.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use broker_proto::{
    RequestId, encode,
    keyholder::{FromKeyholder, ToKeyholder},
};
use sandbox::channel::Channel;

/// How long the keyholder may take for one signature.
const PATIENCE: Duration = Duration::from_secs(1);
/// Set in the numbers of the desk's requests, so that they are none of the core's.
const MARK: u32 = 1 << 31;

/// The keyholder did not sign: it is not there, refused, or took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keyholder did not sign")]
pub struct Unsigned;

/// Asks and hands over.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    channel: Option<Arc<Channel>>,
    last: u32,
    /// At most one for each handshake thread.
    waiting: BTreeMap<u32, SyncSender<Vec<u8>>>,
}

impl Desk {
    /// Asks by this channel from now on; by none: refuses at once. Who waits for an earlier channel waits no longer.
    pub fn set_channel(&self, channel: Option<Arc<Channel>>) {
        let mut state = self.lock();
        state.channel = channel;
        state.waiting.clear();
    }

    /// A signature over `message` with the key of this name under a TLS signature scheme. Waits in place, at most
    /// a second.
    ///
    /// # Errors
    /// [`Unsigned`].
    pub fn sign(&self, key: &str, scheme: u16, message: &[u8]) -> Result<Vec<u8>, Unsigned> {
        let (sender, answer) = sync_channel(1);
        let number = {
            let mut state = self.lock();
            let number = state.last.wrapping_add(1) | MARK;
            let request = ToKeyholder::Sign {
                id: RequestId(number),
                key: key.to_owned(),
                scheme,
                message: message.to_vec(),
            };
            let channel = state.channel.as_ref().ok_or(Unsigned)?;
            encode(&request)
                .map_err(io::Error::other)
                .and_then(|bytes| channel.send(&bytes, &[]))
                .map_err(|_| Unsigned)?;
            state.last = number;
            state.waiting.insert(number, sender);
            number
        };
        let signature = answer.recv_timeout(PATIENCE);
        self.lock().waiting.remove(&number);
        signature.map_err(|_| Unsigned)
    }

    /// Hands over an answer; false if nobody at the desk asked for it.
    pub fn answer(&self, answer: &FromKeyholder) -> bool {
        match answer {
            FromKeyholder::Signature { id, signature } if id.0 & MARK != 0 => {
                if let Some(waiting) = self.lock().waiting.remove(&id.0) {
                    // It may have lost its patience this moment.
                    let _ = waiting.try_send(signature.clone());
                }
                true
            }
            // The sender is dropped, which tells who waits.
            FromKeyholder::Refused { id } if id.0 & MARK != 0 => {
                self.lock().waiting.remove(&id.0);
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::{MAX_MESSAGE, decode};
    use sandbox::channel::Channel;

    use super::*;

    #[test]
    fn answers_find_who_asked_and_strange_ones_are_left_to_the_core() {
        let (near, far) = Channel::pair().unwrap();
        let desk = Desk::default();
        desk.set_channel(Some(Arc::new(near)));
        let threads = [b"a", b"b"].map(|message| {
            let desk = desk.clone();
            std::thread::spawn(move || desk.sign("sip", 0x0403, message))
        });
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut answered = 0;
        while answered < 2 {
            let Ok(received) = far.recv(&mut buffer) else {
                std::thread::yield_now();
                continue;
            };
            let Ok(ToKeyholder::Sign { id, message, .. }) = decode(&buffer[..received.length])
            else {
                panic!("no request to sign")
            };
            assert!(desk.answer(&FromKeyholder::Signature {
                id,
                signature: message
            }));
            answered += 1;
        }
        let signatures = threads.map(|thread| thread.join().unwrap());
        assert_eq!(signatures, [Ok(b"a".to_vec()), Ok(b"b".to_vec())]);
        let of_core = FromKeyholder::Refused { id: RequestId(7) };
        assert!(!desk.answer(&of_core));
    }

    #[test]
    fn without_a_keyholder_nobody_waits() {
        let desk = Desk::default();
        assert_eq!(desk.sign("sip", 0x0403, b"x"), Err(Unsigned));
        let (near, _far) = Channel::pair().unwrap();
        desk.set_channel(Some(Arc::new(near)));
        let waits = {
            let desk = desk.clone();
            std::thread::spawn(move || desk.sign("sip", 0x0403, b"x"))
        };
        while desk.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
        desk.set_channel(None);
        assert_eq!(waits.join().unwrap(), Err(Unsigned));
    }
}
