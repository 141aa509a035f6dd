//! The real kernel under the broker: sockets by socket2 and nix, set elements and connection counts by netlink. Every
//! socket gets its device, address and mark here, before anybody holds it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{SockProtocol, setsockopt, sockopt},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::kernel::{Binding, Kernel, Lent};
use crate::{
    netlink::{self, Change},
    nftables::names::{Set, SetFamily, mark},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Linux.
#[derive(Debug)]
pub struct Linux {
    elements: netlink::Socket,
    diagnosis: netlink::Socket,
}

impl Linux {
    /// Opens the netlink sockets.
    ///
    /// # Errors
    /// As the system says.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            elements: netlink::Socket::open(SockProtocol::NetlinkNetFilter)?,
            diagnosis: netlink::Socket::open(SockProtocol::NetlinkSockDiag)?,
        })
    }
}

impl Kernel for Linux {
    type Socket = OwnedFd;

    fn bind_udp(&mut self, binding: &Binding) -> io::Result<OwnedFd> {
        Ok(bound(binding, Type::DGRAM, Protocol::UDP)?.into())
    }

    fn listen_tcp(&mut self, binding: &Binding) -> io::Result<OwnedFd> {
        let socket = bound(binding, Type::STREAM, Protocol::TCP)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    fn connect_udp(&mut self, binding: &Binding, peer: SocketAddr) -> io::Result<OwnedFd> {
        let socket = bound(binding, Type::DGRAM, Protocol::UDP)?;
        socket.connect(&peer.into())?;
        Ok(socket.into())
    }

    fn begin_connect_tcp(&mut self, binding: &Binding, peer: SocketAddr) -> io::Result<OwnedFd> {
        let socket = bound(binding, Type::STREAM, Protocol::TCP)?;
        match socket.connect(&peer.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error),
        }
        Ok(socket.into())
    }

    fn finish_connect_tcp(&mut self, socket: &OwnedFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        match socket.take_error()? {
            Some(error) => Err(error),
            None => socket.peer_addr().map(|_| ()),
        }
    }

    fn accept(&mut self, listener: &OwnedFd) -> io::Result<(OwnedFd, SocketAddr, SocketAddr)> {
        let (socket, peer) = SockRef::from(listener).accept()?;
        socket.set_nonblocking(true)?;
        let local = address(&socket.local_addr()?)?;
        Ok((socket.into(), local, address(&peer)?))
    }

    fn local(&mut self, socket: &OwnedFd) -> io::Result<SocketAddr> {
        address(&SockRef::from(socket).local_addr()?)
    }

    fn lent(&mut self, socket: &OwnedFd) -> io::Result<Lent> {
        let socket = SockRef::from(socket);
        if socket.r#type()? != Type::DGRAM || socket.protocol()? != Some(Protocol::UDP) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let device = socket.device()?.unwrap_or_default();
        let binding = Binding {
            device: String::from_utf8(device).map_err(|_| io::ErrorKind::InvalidInput)?,
            local: address(&socket.local_addr()?)?,
            mark: socket.mark()?,
            receive_buffer: socket.recv_buffer_size()?,
        };
        let aimed = match socket.peer_addr() {
            Ok(peer) => Some(address(&peer)?),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => return Err(error),
        };
        Ok(Lent { binding, aimed })
    }

    fn aim(
        &mut self,
        socket: &OwnedFd,
        binding: &Binding,
        peer: Option<SocketAddr>,
    ) -> io::Result<()> {
        if let Some(peer) = peer {
            return SockRef::from(socket).connect(&peer.into());
        }
        rustix::net::connect_unspec(socket)?;
        // udp(7) does not say so, but __udp_disconnect() also forgets the device.
        SockRef::from(socket).bind_device(Some(binding.device.as_bytes()))
    }

    fn withhold(&mut self, socket: &OwnedFd, binding: &Binding, withheld: bool) -> io::Result<()> {
        let socket = SockRef::from(socket);
        // The mark goes first and comes back last: it alone already lets nothing out.
        if withheld {
            socket.set_mark(mark::WITHHELD)?;
            socket.bind_device(Some(b"lo"))
        } else {
            socket.bind_device(Some(binding.device.as_bytes()))?;
            socket.set_mark(binding.mark)
        }
    }

    fn shut(&mut self, socket: &OwnedFd) {
        // Of an unconnected UDP socket this says ENOTCONN and still shuts it: nobody can send or receive by it any more.
        let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Both);
    }

    fn change(&mut self, changes: &[Change]) -> io::Result<()> {
        self.elements.change(changes)
    }

    fn timed(&mut self, set: Set, family: SetFamily) -> io::Result<Vec<(Vec<u8>, Duration)>> {
        self.elements.timed_elements(set, family)
    }

    fn addresses(&mut self, device: &str) -> io::Result<Vec<IpAddr>> {
        let all = getifaddrs()?
            .filter(|each| each.interface_name == device)
            .filter_map(|each| each.address);
        let hosts = all.filter_map(|address| {
            let v4 = address
                .as_sockaddr_in()
                .map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| {
                address
                    .as_sockaddr_in6()
                    .map(|address| IpAddr::V6(address.ip()))
            })
        });
        Ok(hosts.filter(|host| !is_link_local(*host)).collect())
    }

    fn connections(&mut self, port: u16) -> io::Result<Vec<IpAddr>> {
        self.diagnosis.connections(port)
    }
}

/// A nonblocking socket that is tied to its purpose.
fn bound(binding: &Binding, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(binding.local),
        kind.nonblocking().cloexec(),
        Some(protocol),
    )?;
    socket.set_mark(binding.mark)?;
    socket.bind_device(Some(binding.device.as_bytes()))?;
    // RFC 2131 §4.1: whoever has no address yet asks all, and is answered to all.
    if binding.mark == mark::DHCP {
        socket.set_broadcast(true)?;
    }
    // An IPv6 address that is still being checked for duplicates, or whose link is down, is none that one could bind to
    // otherwise; the listener must not depend on when it is asked for.
    if binding.local.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    if kind == Type::STREAM {
        // A port with connections in TIME_WAIT is free for a new listener of the same purpose.
        socket.set_reuse_address(binding.local.port() != 0)?;
    }
    setsockopt(
        &socket.as_fd(),
        sockopt::RcvBufForce,
        &binding.receive_buffer,
    )
    .or_else(|_| setsockopt(&socket.as_fd(), sockopt::RcvBuf, &binding.receive_buffer))?;
    socket.bind(&binding.local.into())?;
    Ok(socket)
}

const fn is_link_local(host: IpAddr) -> bool {
    match host {
        IpAddr::V4(host) => host.is_link_local(),
        IpAddr::V6(host) => host.is_unicast_link_local(),
    }
}

fn address(address: &socket2::SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
