//! Receives several datagrams of a socket with one system call. Used by the media threads and the SIP listeners.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

/// Datagrams of one call.
pub const BATCH: usize = 8;

/// Room for [`BATCH`] datagrams, and the kernel's headers for them.
///
/// The kernel writes the length of each source address into the header that said how much room there was, and nix does
/// not put it back: so there is one set of headers for each family, all addresses of which have one length.
pub struct Batch {
    v4: MultiHeaders<SockaddrStorage>,
    v6: MultiHeaders<SockaddrStorage>,
    buffers: [Box<[u8]>; BATCH],
    received: [Option<(SocketAddr, usize)>; BATCH],
}

impl Batch {
    /// Room for datagrams of up to `octets` each. A longer one is cut to that length: give one octet more than is valid.
    #[must_use]
    pub fn new(octets: usize) -> Self {
        Self {
            v4: MultiHeaders::preallocate(BATCH, None),
            v6: MultiHeaders::preallocate(BATCH, None),
            buffers: std::array::from_fn(|_| vec![0; octets].into_boxed_slice()),
            received: [None; BATCH],
        }
    }

    /// Takes what waits in a socket, up to [`BATCH`] datagrams, and says how many that were: fewer than [`BATCH`] means
    /// that the socket was empty in the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing waits; otherwise what the kernel says, an ICMP error of an earlier datagram among it.
    pub fn receive(&mut self, socket: &UdpSocket, v6: bool) -> io::Result<usize> {
        let headers = if v6 { &mut self.v6 } else { &mut self.v4 };
        let mut slices = self
            .buffers
            .each_mut()
            .map(|buffer| [IoSliceMut::new(buffer)]);
        let results = recvmmsg(
            socket.as_raw_fd(),
            headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        let mut count = 0;
        for (place, message) in self.received.iter_mut().zip(results) {
            *place = message
                .address
                .as_ref()
                .and_then(address)
                .map(|source| (source, message.bytes));
            count += 1;
        }
        Ok(count)
    }

    /// The `number`-th datagram of the last call and its source.
    pub fn datagram(&mut self, number: usize) -> Option<(SocketAddr, &mut [u8])> {
        let (source, buffer, octets) = self.buffer(number)?;
        Some((source, buffer.get_mut(..octets)?))
    }

    /// The same with all the room of its buffer, and how many octets of it are the datagram.
    pub fn buffer(&mut self, number: usize) -> Option<(SocketAddr, &mut [u8], usize)> {
        let (source, octets) = (*self.received.get(number)?)?;
        Some((source, self.buffers.get_mut(number)?, octets))
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    storage
        .as_sockaddr_in6()
        .map(|v6| SocketAddrV6::from(*v6).into())
}
