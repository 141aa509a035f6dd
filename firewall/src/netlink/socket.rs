//! A netlink socket: sends a request, reads the kernel's answers. One per use: transactions, log, diagnosis.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
        setsockopt, socket, sockopt,
    },
    time::{TimeVal, TimeValLike},
};

use super::message::{DONE, Message, messages};

/// Seconds after which an answer that never comes is an error. The kernel answers before `send` returns, so this only
/// bounds a fault.
const ANSWER_SECONDS: i64 = 2;

/// Octets that the kernel may queue towards us, and we towards it in one transaction.
const BUFFER: usize = 2 * 1024 * 1024;

/// An open netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens and binds one. `NetlinkNetFilter` needs `CAP_NET_ADMIN` to change anything.
    ///
    /// # Errors
    /// Whatever socket(2) and bind(2) say.
    pub fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Beyond the limit of the system only with CAP_NET_ADMIN; without it, transactions are merely shorter.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &BUFFER);
        let _ = setsockopt(&fd, sockopt::SndBufForce, &BUFFER);
        setsockopt(
            &fd,
            sockopt::ReceiveTimeout,
            &TimeVal::seconds(ANSWER_SECONDS),
        )?;
        Ok(Self { fd, sequence: 0 })
    }

    /// The next sequence number.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends whole messages to the kernel.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match sendto(
                self.fd.as_raw_fd(),
                bytes,
                &NetlinkAddr::new(0, 0),
                MsgFlags::empty(),
            ) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads one datagram, waiting for it or not.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8], wait: bool) -> io::Result<&'a [u8]> {
        let flags = if wait {
            MsgFlags::empty()
        } else {
            MsgFlags::MSG_DONTWAIT
        };
        loop {
            match recv(self.fd.as_raw_fd(), buffer, flags) {
                Ok(length) => return Ok(buffer.get(..length).unwrap_or_default()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Throws away whatever is queued: answers to a request that was given up.
    pub(super) fn drain(&self) {
        let mut buffer = [0; 4096];
        while self.receive(&mut buffer, false).is_ok() {}
    }

    /// Sends a dump request and gives each message of the answer to `each`.
    pub(super) fn dump(
        &self,
        request: &[u8],
        sequence: u32,
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        self.drain();
        self.send(request)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            for message in messages(self.receive(&mut buffer, true)?) {
                if message.sequence != sequence {
                    continue;
                }
                if message.kind == DONE {
                    return Ok(());
                }
                match message.error() {
                    Some(0) => return Ok(()),
                    Some(number) => return Err(io::Error::from_raw_os_error(number)),
                    None => each(message),
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
