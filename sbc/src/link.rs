//! A message channel to another process as the signalling thread uses it: asynchronous to read, bounded to write.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use broker_proto::{MAX_MESSAGE, Packet, decode, decode_together, encode};
use sandbox::channel::Channel;
use tokio::io::unix::AsyncFd;

use crate::socket::watch;

/// Messages that wait for a process that does not read.
const WAITING: usize = 1024;
/// Octets of them in all.
const WAITING_OCTETS: usize = 4 * 1024 * 1024;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The far end does not read, and as many as may wait are waiting.
    #[error("too many messages wait")]
    Full,
    /// The far end is gone, or the message has no encoding.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The far end speaks no sense.
    #[error(transparent)]
    Protocol(#[from] broker_proto::ProtocolError),
}

/// One end of a channel.
pub struct Link {
    channel: AsyncFd<Arc<Channel>>,
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Vec<u8>>,
    octets: usize,
}

impl Link {
    /// Watches a channel. Only inside the runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(channel: Channel) -> io::Result<Self> {
        let channel = watch(Arc::new(channel))?;
        Ok(Self {
            channel,
            waiting: RefCell::default(),
        })
    }

    /// The channel, for another thread to send by.
    #[must_use]
    pub fn share(&self) -> Arc<Channel> {
        Arc::clone(self.channel.get_ref())
    }

    /// Sends, or keeps until [`Self::flush`] finds room.
    ///
    /// # Errors
    /// `Full` when too many wait, `Io` when the far end is gone, `Protocol` for a message that is too long.
    pub fn send<T: serde::Serialize>(&self, message: &T) -> Result<(), LinkError> {
        self.post(encode(message)?)
    }

    /// The same for several messages in one packet.
    ///
    /// # Errors
    /// As [`Self::send`]; then none of them was taken.
    pub fn send_together(&self, packet: Packet) -> Result<(), LinkError> {
        self.post(packet.into_bytes())
    }

    fn post(&self, bytes: Vec<u8>) -> Result<(), LinkError> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.messages.is_empty() {
            match self.channel.get_ref().send(&bytes, &[]) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        if waiting.messages.len() >= WAITING || waiting.octets + bytes.len() > WAITING_OCTETS {
            return Err(LinkError::Full);
        }
        waiting.octets += bytes.len();
        waiting.messages.push_back(bytes);
        Ok(())
    }

    /// Sends with descriptors beside it, or not at all: `Full` says that there is no room at the moment.
    ///
    /// # Errors
    /// `Full` when others wait or the far end has no room, `Io` when it is gone, `Protocol` for a message that is too long.
    pub fn send_with<T: serde::Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), LinkError> {
        let bytes = encode(message)?;
        if !self.waiting.borrow().messages.is_empty() {
            return Err(LinkError::Full);
        }
        match self.channel.get_ref().send(&bytes, descriptors) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(LinkError::Full),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what waits, as far as the far end has room.
    ///
    /// # Errors
    /// `Io` when the far end is gone.
    pub fn flush(&self) -> Result<(), LinkError> {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(bytes) = waiting.messages.front() {
            let octets = bytes.len();
            match self.channel.get_ref().send(bytes, &[]) {
                Ok(()) => {
                    waiting.octets -= octets;
                    waiting.messages.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for the next message. `buffer` holds at least [`MAX_MESSAGE`] octets. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Io` (`UnexpectedEof`) when the far end is gone; `Protocol`, or `Io` (`InvalidData`), for a message that is none,
    /// after which the next one may be asked for.
    pub async fn receive<T: serde::de::DeserializeOwned>(
        &self,
        buffer: &mut [u8; MAX_MESSAGE],
    ) -> Result<(T, Vec<OwnedFd>), LinkError> {
        let (length, descriptors) = self.packet(buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        Ok((decode(bytes)?, descriptors))
    }

    /// The same for a packet of one or more messages, at least one.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub async fn receive_together<T: serde::de::DeserializeOwned>(
        &self,
        buffer: &mut [u8; MAX_MESSAGE],
    ) -> Result<(Vec<T>, Vec<OwnedFd>), LinkError> {
        let (length, descriptors) = self.packet(buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        Ok((decode_together(bytes)?, descriptors))
    }

    async fn packet(
        &self,
        buffer: &mut [u8; MAX_MESSAGE],
    ) -> Result<(usize, Vec<OwnedFd>), LinkError> {
        loop {
            let mut ready = self.channel.readable().await?;
            let Ok(received) = ready.try_io(|watched| watched.get_ref().recv(buffer)) else {
                continue;
            };
            let received = received?;
            return Ok((received.length, received.descriptors));
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::broker::ToBroker;

    use super::*;

    fn on_runtime<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn messages_wait_while_the_far_end_does_not_read_and_leave_in_order() {
        on_runtime(async {
            let (near, far) = Channel::pair().unwrap();
            let link = Link::new(near).unwrap();
            let mut sent = 0;
            let refused = loop {
                match link.send(&ToBroker::Health { sequence: sent }) {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(refused, LinkError::Full));
            let mut buffer = [0; MAX_MESSAGE];
            for expected in 0..sent {
                let received = far.recv(&mut buffer).unwrap();
                let message: ToBroker = decode(&buffer[..received.length]).unwrap();
                assert_eq!(message, ToBroker::Health { sequence: expected });
                link.flush().unwrap();
            }
        });
    }

    #[test]
    fn a_message_of_nonsense_is_an_error_and_the_next_one_is_read() {
        on_runtime(async {
            let (near, far) = Channel::pair().unwrap();
            let link = Link::new(near).unwrap();
            far.send(&[99, 1, 2], &[]).unwrap();
            far.send(&encode(&ToBroker::Health { sequence: 7 }).unwrap(), &[])
                .unwrap();
            let mut buffer = [0; MAX_MESSAGE];
            assert!(matches!(
                link.receive::<ToBroker>(&mut buffer).await,
                Err(LinkError::Protocol(_))
            ));
            let (message, _) = link.receive::<ToBroker>(&mut buffer).await.unwrap();
            assert_eq!(message, ToBroker::Health { sequence: 7 });
            drop(far);
            let gone = link.receive::<ToBroker>(&mut buffer).await;
            assert!(
                matches!(gone, Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof)
            );
        });
    }
}
