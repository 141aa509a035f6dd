//! SIP listeners over UDP (RFC 3261 §18): the firewall lends the bound socket, one for each address.

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    rc::Rc,
};

use broker_proto::settings::ZoneId;
use sbc_core::Input;
use tokio::io::unix::AsyncFd;

use super::{Shared, Task};
use crate::{
    engine::Engine,
    media::batch::{BATCH, Batch},
    socket::{SocketError, nonblocking, watch},
};

/// No datagram is longer.
const DATAGRAM: usize = 65_535;
/// Batches after which the other tasks have their turn.
const ROUNDS: usize = 4;

thread_local! {
    /// Room for what one listener received; they take turns.
    static RECEIVED: RefCell<Batch> = RefCell::new(Batch::new(DATAGRAM));
}

/// A lent socket and the task that reads it.
pub struct UdpListener {
    /// The zone it listens in.
    pub zone: ZoneId,
    socket: Rc<AsyncFd<UdpSocket>>,
    _task: Task,
}

impl UdpListener {
    /// Reads a lent socket from now on, which is bound to `local`.
    ///
    /// # Errors
    /// For a socket that would block the thread, or that the runtime does not take.
    pub fn start<E: Engine + 'static>(
        shared: &Shared<E>,
        zone: ZoneId,
        local: SocketAddr,
        descriptor: OwnedFd,
    ) -> Result<Self, SocketError> {
        let socket = Rc::new(watch(UdpSocket::from(nonblocking(descriptor)?))?);
        let task = Task::spawn(read(Rc::clone(shared), Rc::clone(&socket), zone, local));
        Ok(Self {
            zone,
            socket,
            _task: task,
        })
    }

    /// Sends one datagram; false if the kernel did not take it, which SIP's retransmissions make good.
    #[must_use]
    pub fn send(&self, peer: SocketAddr, bytes: &[u8]) -> bool {
        self.socket.get_ref().send_to(bytes, peer).is_ok()
    }
}

async fn read<E: Engine>(
    shared: Shared<E>,
    socket: Rc<AsyncFd<UdpSocket>>,
    zone: ZoneId,
    local: SocketAddr,
) {
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        let mut empty = false;
        for _ in 0..ROUNDS {
            let taken = RECEIVED.with_borrow_mut(|received| {
                let count = received.receive(socket.get_ref(), local.is_ipv6())?;
                for number in 0..count {
                    if let Some((peer, bytes)) = received.datagram(number) {
                        shared.borrow_mut().handle(Input::Datagram {
                            zone,
                            local,
                            peer,
                            bytes,
                        });
                    }
                }
                io::Result::Ok(count)
            });
            match taken {
                Ok(BATCH) => {}
                // Fewer than fit: the kernel found the socket empty.
                Ok(_) => {
                    ready.clear_ready();
                    empty = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    empty = true;
                    break;
                }
                // An ICMP error of something that was sent: it was taken off the socket, datagrams may wait behind it.
                Err(_) => {}
            }
        }
        // To wait for an empty socket is a turn for the others already.
        if !empty {
            tokio::task::yield_now().await;
        }
    }
}
