//! What the loop waits for: epoll(7), level-triggered, so that whatever one turn leaves is there at the next.

use std::{io, os::fd::AsFd, time::Duration};

use broker_proto::Role;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

/// Events of one wait.
const EVENTS: usize = 64;
/// First number of the broker's own tokens; those below are this process's.
const BROKER: u64 = 1 << 32;
/// First number of the askers' channels, in the order of their roles.
const ASKERS: u64 = 1 << 16;

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Init.
    Control,
    /// The committing thread.
    Commit,
    /// The thread of a network test.
    NetworkTest,
    /// The log of refused packets.
    Log,
    /// Management, about the status.
    Management,
    /// The journal.
    Journal,
    /// A process that asks the broker.
    Asker(Role),
    /// A socket that the broker has watched, by its token.
    Broker(u64),
}

/// Something happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) source: Source,
    /// The far end is gone for good.
    pub(super) hung_up: bool,
}

/// The epoll instance.
#[derive(Debug)]
pub(super) struct Watch {
    epoll: Epoll,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        })
    }

    /// Waits for something to read, or for a far end to go.
    pub(super) fn add(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        Ok(self
            .epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number(source)))?)
    }

    /// Waits until it can be written to.
    pub(super) fn add_writable(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        Ok(self
            .epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLOUT, number(source)))?)
    }

    /// Stops watching; copies of the socket elsewhere would keep it watched otherwise.
    pub(super) fn remove(&self, fd: impl AsFd) {
        if let Err(error) = self.epoll.delete(fd) {
            tracing::debug!(%error, "was not watched");
        }
    }

    /// Waits at most `time` and puts what happened into `events`, in place of what was there.
    pub(super) fn wait(&self, time: Duration, events: &mut Vec<Event>) -> io::Result<()> {
        let mut raw = [EpollEvent::empty(); EVENTS];
        // Rounded up: a loop that wakes just before its deadline would turn without effect until it has come.
        let milliseconds = u16::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let count = match self.epoll.wait(&mut raw, EpollTimeout::from(milliseconds)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        events.clear();
        events.extend(raw.iter().take(count).filter_map(|event| {
            let hung_up = event
                .events()
                .intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            Some(Event {
                source: source(event.data())?,
                hung_up,
            })
        }));
        Ok(())
    }
}

/// Whether the far end of a channel is gone for good.
pub(super) fn is_hung_up(channel: &sandbox::channel::Channel) -> bool {
    let mut polled = [PollFd::new(channel.as_fd(), PollFlags::empty())];
    let polled_ok = poll(&mut polled, PollTimeout::ZERO).is_ok();
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    polled_ok
        && polled
            .iter()
            .any(|fd| fd.revents().is_some_and(|events| events.intersects(gone)))
}

fn number(source: Source) -> u64 {
    match source {
        Source::Control => 0,
        Source::Commit => 1,
        Source::Log => 2,
        Source::Management => 3,
        Source::Journal => 4,
        Source::NetworkTest => 5,
        Source::Asker(role) => {
            ASKERS
                + Role::ALL
                    .iter()
                    .position(|other| *other == role)
                    .map_or(0, |n| n as u64)
        }
        Source::Broker(token) => BROKER + token,
    }
}

fn source(number: u64) -> Option<Source> {
    match number {
        0 => Some(Source::Control),
        1 => Some(Source::Commit),
        2 => Some(Source::Log),
        3 => Some(Source::Management),
        4 => Some(Source::Journal),
        5 => Some(Source::NetworkTest),
        BROKER.. => Some(Source::Broker(number - BROKER)),
        ASKERS.. => {
            let index = usize::try_from(number - ASKERS).ok()?;
            Role::ALL.get(index).copied().map(Source::Asker)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_survives_its_number() {
        let fixed = [
            Source::Control,
            Source::Commit,
            Source::Log,
            Source::Management,
            Source::Journal,
            Source::NetworkTest,
        ];
        let askers = Role::ALL.map(Source::Asker);
        let sockets = [Source::Broker(1), Source::Broker(1 << 20)];
        for each in fixed.into_iter().chain(askers).chain(sockets) {
            assert_eq!(source(number(each)), Some(each));
        }
    }
}
