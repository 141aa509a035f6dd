//! The message loop of the small synchronous processes (journal, keyholder): waits on the control channel and on every
//! channel that init handed over, and gives out whole messages with the role at the other end. One per process.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use broker_proto::{
    MAX_MESSAGE, Role,
    control::{ChannelKind, FromChild, ToChild},
    decode, encode,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox::channel::Channel;
use serde::Serialize;

/// Most messages taken from one channel before the others get their turn.
const BATCH: usize = 64;

/// What came in.
pub enum Incoming {
    /// From init, with the descriptors beside it; `Peer` messages are handled before this.
    Control(ToChild, Vec<OwnedFd>),
    /// From a neighbour; descriptors beside it were closed unread.
    Peer(Role, ChannelKind, Vec<u8>),
}

/// See the module.
pub struct Dispatch {
    control: Channel,
    peers: Vec<(Role, ChannelKind, Channel)>,
    buffer: Vec<u8>,
}

impl Dispatch {
    /// Takes over the control channel.
    #[must_use]
    pub fn new(control: Channel) -> Self {
        Self {
            control,
            peers: Vec::new(),
            buffer: vec![0; MAX_MESSAGE],
        }
    }

    /// Tells init.
    ///
    /// # Errors
    /// The channel's: init is gone or does not read.
    pub fn tell_init(&self, message: &FromChild) -> io::Result<()> {
        self.control
            .send(&encode(message).map_err(io::Error::other)?, &[])
    }

    /// Answers a neighbour. A neighbour that does not read its answers loses its channel: no process waits for another.
    pub fn answer<T: Serialize>(&mut self, role: Role, kind: ChannelKind, message: &T) {
        let Some(place) = self
            .peers
            .iter()
            .position(|(peer, channel, _)| (*peer, *channel) == (role, kind))
        else {
            return;
        };
        let Ok(bytes) = encode(message) else { return };
        let sent = self
            .peers
            .get(place)
            .map(|(_, _, channel)| channel.send(&bytes, &[]));
        if let Some(Err(error)) = sent {
            tracing::warn!(peer = role.name(), %error, "answer not taken, channel closed");
            self.peers.remove(place);
        }
    }

    /// Waits for messages, at most `timeout_ms` if given; an empty result means that time is up.
    ///
    /// # Errors
    /// `UnexpectedEof` when init is gone: the process must end, closed.
    pub fn wait(&mut self, timeout_ms: Option<u16>) -> io::Result<Vec<Incoming>> {
        let timeout = timeout_ms.map_or(PollTimeout::NONE, PollTimeout::from);
        let ready: Vec<bool> = {
            let borrowed: Vec<BorrowedFd<'_>> = std::iter::once(self.control.as_fd())
                .chain(self.peers.iter().map(|(_, _, channel)| channel.as_fd()))
                .collect();
            let mut polled: Vec<PollFd<'_>> = borrowed
                .iter()
                .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
                .collect();
            match poll(&mut polled, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            polled.iter().map(|fd| fd.any().unwrap_or(false)).collect()
        };
        let mut incoming = Vec::new();
        let mut flags = ready.into_iter();
        if flags.next().unwrap_or(false) {
            self.drain_control(&mut incoming)?;
        }
        // `drain_control` may have replaced channels: only those that were polled and still stand are read; a new one is
        // polled in the next round.
        let mut gone = Vec::new();
        for (place, ready) in flags.enumerate() {
            if ready && !self.drain_peer(place, &mut incoming) {
                gone.push(place);
            }
        }
        for place in gone.into_iter().rev() {
            self.peers.remove(place);
        }
        Ok(incoming)
    }

    /// Lets neighbours write for `time_ms` without being woken by each of them; a word of init ends the pause.
    ///
    /// # Errors
    /// What poll(2) says.
    pub fn pause(&self, time_ms: u16) -> io::Result<()> {
        let mut control = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
        match poll(&mut control, PollTimeout::from(time_ms)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn drain_control(&mut self, incoming: &mut Vec<Incoming>) -> io::Result<()> {
        for _ in 0..BATCH {
            let received = match self.control.recv(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let bytes = self.buffer.get(..received.length).unwrap_or_default();
            let message: ToChild = decode(bytes).map_err(io::Error::other)?;
            match message {
                ToChild::Peer { role, channel } => {
                    let Some(fd) = received.descriptors.into_iter().next() else {
                        continue;
                    };
                    let end = Channel::from_fd(fd);
                    match self
                        .peers
                        .iter_mut()
                        .find(|(peer, kind, _)| (*peer, *kind) == (role, channel))
                    {
                        Some(entry) => entry.2 = end,
                        None => self.peers.push((role, channel, end)),
                    }
                }
                other => incoming.push(Incoming::Control(other, received.descriptors)),
            }
        }
        Ok(())
    }

    /// Whether the channel at `place` still stands.
    fn drain_peer(&mut self, place: usize, incoming: &mut Vec<Incoming>) -> bool {
        let Some((role, kind, channel)) = self.peers.get(place) else {
            return true;
        };
        for _ in 0..BATCH {
            match channel.recv(&mut self.buffer) {
                Ok(received) => {
                    let bytes = self
                        .buffer
                        .get(..received.length)
                        .unwrap_or_default()
                        .to_vec();
                    incoming.push(Incoming::Peer(*role, *kind, bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sbc's channel, from init.
    fn hand_over(init: &Channel, far: Channel) {
        let peer = ToChild::Peer {
            role: Role::Sbc,
            channel: ChannelKind::Journal,
        };
        init.send(&encode(&peer).unwrap(), &[far.as_fd()]).unwrap();
    }

    #[test]
    fn a_neighbour_that_was_started_again_speaks_by_its_new_channel() {
        let (init, child) = Channel::pair().unwrap();
        let mut dispatch = Dispatch::new(child);
        for word in [b"one", b"two"] {
            let (near, far) = Channel::pair().unwrap();
            hand_over(&init, far);
            assert!(dispatch.wait(Some(1000)).unwrap().is_empty());
            near.send(word, &[]).unwrap();
            let got = dispatch.wait(Some(1000)).unwrap();
            assert!(
                matches!(&got[..], [Incoming::Peer(Role::Sbc, ChannelKind::Journal, bytes)] if bytes == word)
            );
        }
        assert_eq!(dispatch.peers.len(), 1);
    }

    #[test]
    fn a_word_of_init_ends_a_pause_and_one_of_a_neighbour_does_not() {
        let (init, child) = Channel::pair().unwrap();
        let mut dispatch = Dispatch::new(child);
        let (near, far) = Channel::pair().unwrap();
        hand_over(&init, far);
        assert!(dispatch.wait(Some(1000)).unwrap().is_empty());
        near.send(b"one", &[]).unwrap();
        let before = std::time::Instant::now();
        dispatch.pause(20).unwrap();
        assert!(before.elapsed() >= std::time::Duration::from_millis(20));
        assert_eq!(dispatch.wait(Some(1000)).unwrap().len(), 1);
        init.send(&encode(&ToChild::Stop).unwrap(), &[]).unwrap();
        dispatch.pause(u16::MAX).unwrap();
        assert_eq!(dispatch.wait(Some(1000)).unwrap().len(), 1);
    }

    #[test]
    fn without_init_the_loop_ends() {
        let (init, child) = Channel::pair().unwrap();
        let mut dispatch = Dispatch::new(child);
        drop(init);
        assert!(dispatch.wait(Some(1000)).is_err());
    }

    #[test]
    fn a_neighbour_that_ends_is_forgotten() {
        let (init, child) = Channel::pair().unwrap();
        let mut dispatch = Dispatch::new(child);
        let (near, far) = Channel::pair().unwrap();
        hand_over(&init, far);
        dispatch.wait(Some(1000)).unwrap();
        drop(near);
        dispatch.wait(Some(1000)).unwrap();
        assert!(dispatch.peers.is_empty());
    }
}
