//! What the two network clients, time and dhcp, share: the channel on which they ask the firewall for sockets, and the wait
//! for control, firewall and sockets side by side. One of each per process.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use broker_proto::{
    MAX_MESSAGE, RequestId,
    broker::{FromBroker, ToBroker},
    decode, encode,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use sandbox::channel::Channel;

/// Messages taken from one channel, and datagrams from one socket, at one turn of the loop.
pub const BATCH: usize = 16;
/// Longest sleep: nothing depends on it, it bounds the harm of a deadline that was forgotten.
pub const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The firewall, as far as it is there.
#[derive(Default)]
pub struct Firewall {
    channel: Option<Channel>,
    next_id: u32,
}

impl Firewall {
    /// Init handed a fresh end over; answers to earlier questions do not come any more.
    pub fn replace(&mut self, descriptors: Vec<OwnedFd>) {
        self.channel = descriptors.into_iter().next().map(Channel::from_fd);
    }

    /// Whether it can be asked.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        self.channel.is_some()
    }

    /// To be waited for.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(AsFd::as_fd)
    }

    /// Asks under a fresh number, which the answer will bear.
    ///
    /// # Errors
    /// It is not there, or does not read.
    pub fn ask(&mut self, request: impl FnOnce(RequestId) -> ToBroker) -> io::Result<RequestId> {
        let channel = self.channel.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        self.next_id = self.next_id.wrapping_add(1);
        let id = RequestId(self.next_id);
        let bytes = encode(&request(id)).map_err(io::Error::other)?;
        channel.send(&bytes, &[])?;
        Ok(id)
    }

    /// An answer, with the descriptor beside it; `None`: no more for now. Call at most [`BATCH`] times a turn.
    pub fn answer(&mut self) -> Option<(FromBroker, Option<OwnedFd>)> {
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let received = match self.channel.as_ref()?.recv(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {
                    // It is gone or was started again: init hands a fresh end over.
                    self.channel = None;
                    return None;
                }
            };
            match decode::<FromBroker>(buffer.get(..received.length).unwrap_or_default()) {
                Ok(message) => return Some((message, received.descriptors.into_iter().next())),
                Err(error) => tracing::error!(%error, "the firewall sent what is no message"),
            }
        }
    }
}

/// Waits at most `sleep` until one of `fds` is ready; what each is ready for, in their order.
///
/// # Errors
/// poll(2).
pub fn wait(fds: &[Option<BorrowedFd<'_>>], sleep: Duration) -> io::Result<Vec<PollFlags>> {
    // Rounded up: waking a moment early would turn in circles until the moment has come.
    let sleep = u16::try_from(sleep.as_millis() + 1).unwrap_or(u16::MAX);
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .flatten()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    match poll(&mut polled, PollTimeout::from(sleep)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut polled = polled.iter();
    let ready = fds.iter().map(|fd| {
        let polled = fd.and_then(|_| polled.next());
        polled
            .and_then(PollFd::revents)
            .unwrap_or(PollFlags::empty())
    });
    Ok(ready.collect())
}

#[cfg(test)]
mod tests {
    use broker_proto::settings::{Transport, ZoneId};

    use super::*;

    fn listen(id: RequestId) -> ToBroker {
        ToBroker::Listen {
            id,
            zone: ZoneId(0),
            transport: Transport::Udp,
            port: 68,
        }
    }

    #[test]
    fn a_firewall_that_is_gone_is_not_asked_and_a_new_one_gets_fresh_numbers() {
        let mut firewall = Firewall::default();
        let error = firewall.ask(listen).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        let (near, far) = Channel::pair().unwrap();
        firewall.replace(vec![near.into()]);
        let first = firewall.ask(listen).unwrap();
        let done = encode(&FromBroker::Done { id: first }).unwrap();
        far.send(&done, &[]).unwrap();
        far.send(b"rubbish that is no message", &[]).unwrap();
        assert!(matches!(firewall.answer(), Some((FromBroker::Done { id }, None)) if id == first));
        assert!(firewall.answer().is_none() && firewall.is_there());
        drop(far);
        assert!(firewall.answer().is_none() && !firewall.is_there());
        let (near, _far) = Channel::pair().unwrap();
        firewall.replace(vec![near.into()]);
        assert_ne!(firewall.ask(listen).unwrap(), first);
    }

    #[test]
    fn what_is_not_there_is_never_ready_and_keeps_its_place() {
        let (near, far) = Channel::pair().unwrap();
        far.send(b"x", &[]).unwrap();
        let fds = [None, Some(near.as_fd()), None, Some(far.as_fd())];
        let ready = wait(&fds, Duration::ZERO).unwrap();
        let readable: Vec<bool> = ready
            .iter()
            .map(|flags| flags.contains(PollFlags::POLLIN))
            .collect();
        assert_eq!(readable, [false, true, false, false]);
    }
}
