//! Descriptors as they come from the firewall. Nothing is set on them here: the sandbox forbids it. What is not as it
//! must be is refused.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;

/// Why lent descriptors cannot be used: always a fault of the firewall.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Not as many descriptors as the message says.
    #[error("the message has another number of descriptors than it names")]
    Count,
    /// A read would stop the thread.
    #[error("the socket was not lent in non-blocking mode")]
    Blocking,
    /// The system refused.
    #[error(transparent)]
    System(#[from] nix::Error),
    /// The runtime refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The descriptor itself, if nothing that is done with it can block.
///
/// # Errors
/// `Blocking`, or `System` for a descriptor that is none.
pub fn nonblocking(descriptor: OwnedFd) -> Result<OwnedFd, SocketError> {
    let flags = OFlag::from_bits_truncate(fcntl(&descriptor, FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_NONBLOCK) {
        Ok(descriptor)
    } else {
        Err(SocketError::Blocking)
    }
}

/// Has the runtime watch a descriptor for as long as its owner lives. Only inside the runtime.
///
/// # Errors
/// What the kernel says.
// `new` is deprecated for owners that close, or swap, their descriptor while it is watched; its successor is unsafe. All
// owners here (sockets of std, our channel) keep theirs until they are dropped, and so does the `AsyncFd`.
#[allow(deprecated)]
pub fn watch<T: AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(owner)
}
