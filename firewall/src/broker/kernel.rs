//! What the broker has the kernel do, as a trait: `linux` does it, tests put a fake in its place.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    netlink::Change,
    nftables::names::{Set, SetFamily},
};

/// How a socket is to be made: everything that ties it to its purpose before anybody holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Device that it can not leave.
    pub device: String,
    /// Own address and port.
    pub local: SocketAddr,
    /// `SO_MARK`: the purpose, for the ruleset.
    pub mark: u32,
    /// Octets that may wait to be read.
    pub receive_buffer: usize,
}

/// What the kernel says of a UDP socket that somebody else had in his hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lent {
    /// Its purpose, as it was fixed when it was made.
    pub binding: Binding,
    /// The peer that it is connected to.
    pub aimed: Option<SocketAddr>,
}

/// The kernel.
pub trait Kernel {
    /// A socket. Dropping it closes this copy.
    type Socket;

    /// A bound UDP socket.
    ///
    /// # Errors
    /// `AddrInUse` if the port is taken; otherwise as the system says.
    fn bind_udp(&mut self, binding: &Binding) -> io::Result<Self::Socket>;

    /// A bound and listening TCP socket.
    ///
    /// # Errors
    /// As the system says.
    fn listen_tcp(&mut self, binding: &Binding) -> io::Result<Self::Socket>;

    /// A UDP socket connected to `peer`, port of its own choice if `binding` has port 0.
    ///
    /// # Errors
    /// As the system says.
    fn connect_udp(&mut self, binding: &Binding, peer: SocketAddr) -> io::Result<Self::Socket>;

    /// A TCP socket that begins to connect to `peer`.
    ///
    /// # Errors
    /// As the system says.
    fn begin_connect_tcp(
        &mut self,
        binding: &Binding,
        peer: SocketAddr,
    ) -> io::Result<Self::Socket>;

    /// Outcome of `begin_connect_tcp` once the socket can be written to.
    ///
    /// # Errors
    /// Why the connection failed; `NotConnected` if it is not decided yet.
    fn finish_connect_tcp(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// A connection that waits at a listener, with its own and its far end.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    fn accept(
        &mut self,
        listener: &Self::Socket,
    ) -> io::Result<(Self::Socket, SocketAddr, SocketAddr)>;

    /// Own address of a socket.
    ///
    /// # Errors
    /// As the system says.
    fn local(&mut self, socket: &Self::Socket) -> io::Result<SocketAddr>;

    /// What a socket is that comes back from a process.
    ///
    /// # Errors
    /// `InvalidInput` for anything but a bound UDP socket; otherwise as the system says.
    fn lent(&mut self, socket: &Self::Socket) -> io::Result<Lent>;

    /// Connects a bound UDP socket to its one peer, or with `None` frees it for all; every copy of it.
    ///
    /// # Errors
    /// As the system says: no route.
    fn aim(
        &mut self,
        socket: &Self::Socket,
        binding: &Binding,
        peer: Option<SocketAddr>,
    ) -> io::Result<()>;

    /// Takes a bound socket out of use, or back into it; every copy of it. While it is out, nothing arrives at it and no rule
    /// lets it send.
    ///
    /// # Errors
    /// As the system says: the device is gone.
    fn withhold(
        &mut self,
        socket: &Self::Socket,
        binding: &Binding,
        withheld: bool,
    ) -> io::Result<()>;

    /// Shuts a socket in both directions, every copy of it, for ever.
    fn shut(&mut self, socket: &Self::Socket);

    /// Changes elements of the ruleset's sets, all or none.
    ///
    /// # Errors
    /// As the kernel says.
    fn change(&mut self, changes: &[Change]) -> io::Result<()>;

    /// Keys of a set's elements that end by themselves, and the time that is left to each.
    ///
    /// # Errors
    /// As the kernel says.
    fn timed(&mut self, set: Set, family: SetFamily) -> io::Result<Vec<(Vec<u8>, Duration)>>;

    /// Addresses that a device has, without link-local ones.
    ///
    /// # Errors
    /// As the system says.
    fn addresses(&mut self, device: &str) -> io::Result<Vec<IpAddr>>;

    /// Far ends of the live TCP connections at a local port.
    ///
    /// # Errors
    /// As the kernel says.
    fn connections(&mut self, port: u16) -> io::Result<Vec<IpAddr>>;
}
