//! Sockets to name servers: the firewall lends one for each question, connected, so that nobody else is heard by it.

use std::{io, net::UdpSocket, os::fd::OwnedFd, rc::Rc};

use sbc_core::{ConnectionId, Input};
use tokio::io::unix::AsyncFd;

use super::{Shared, Task};
use crate::{
    engine::Engine,
    socket::{SocketError, nonblocking, watch},
};

/// Room for more than the core takes, so that it sees what is too long.
const ROOM: usize = 2048;

/// A lent socket and the task that reads it.
pub struct NameSocket {
    socket: Rc<AsyncFd<UdpSocket>>,
    _task: Task,
}

impl NameSocket {
    /// Reads a lent socket from now on.
    ///
    /// # Errors
    /// For a socket that would block the thread, or that the runtime does not take.
    pub fn start<E: Engine + 'static>(
        shared: &Shared<E>,
        id: ConnectionId,
        descriptor: OwnedFd,
    ) -> Result<Self, SocketError> {
        let socket = Rc::new(watch(UdpSocket::from(nonblocking(descriptor)?))?);
        let task = Task::spawn(read(Rc::clone(shared), Rc::clone(&socket), id));
        Ok(Self {
            socket,
            _task: task,
        })
    }

    /// Sends a question; false if the kernel did not take it: it is asked again when its time is over.
    #[must_use]
    pub fn send(&self, bytes: &[u8]) -> bool {
        self.socket.get_ref().send(bytes).is_ok()
    }
}

async fn read<E: Engine>(shared: Shared<E>, socket: Rc<AsyncFd<UdpSocket>>, id: ConnectionId) {
    let mut room = Box::new([0; ROOM]);
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        match socket.get_ref().recv(room.as_mut_slice()) {
            Ok(length) => {
                let bytes = room.get(..length).unwrap_or_default();
                shared.borrow_mut().handle(Input::Answer {
                    connection: id,
                    bytes,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            // Nobody listens there (ICMP): the next server may have its turn at once.
            Err(_) => {
                shared
                    .borrow_mut()
                    .handle(Input::StreamClosed { connection: id });
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}
