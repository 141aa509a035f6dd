//! Live TCP connections at a listener, as the kernel knows them: `inet_diag` (sock_diag(7)). The broker asks when a
//! source or a listener seems to have reached its limit, because it gives accepted connections away and never sees
//! them close.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    Socket,
    message::{DUMP, Writer},
};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
const PROTOCOL_TCP: u8 = 6;
/// Bits of `TCP_ESTABLISHED` and `TCP_CLOSE_WAIT`: in all other states nobody here holds the connection any more.
const STATES: u32 = 1 << 1 | 1 << 8;
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;

impl Socket {
    /// Far ends of the live connections whose local port is `port`. The socket must be of `NetlinkSockDiag`.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn connections(&mut self, port: u16) -> io::Result<Vec<IpAddr>> {
        let mut peers = Vec::new();
        for family in [FAMILY_V4, FAMILY_V6] {
            let sequence = self.next_sequence();
            let mut writer = Writer::default();
            writer.begin(BY_FAMILY, DUMP, sequence, &request(family, port));
            writer.end();
            self.dump(writer.bytes(), sequence, |message| {
                peers.extend(peer(message.body, port))
            })?;
        }
        Ok(peers)
    }
}

/// `inet_diag_req_v2`: family, protocol, extensions, padding, states, then an `inet_diag_sockid` of which only the local
/// port is set.
fn request(family: u8, port: u16) -> Vec<u8> {
    let mut bytes = vec![family, PROTOCOL_TCP, 0, 0];
    bytes.extend(STATES.to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.resize(56, 0);
    bytes
}

/// `inet_diag_msg`: family, state, timer, retransmissions; local port, far port, local address, far address, …
fn peer(body: &[u8], port: u16) -> Option<IpAddr> {
    let [family, _, _, _, p0, p1, ..] = *body.first_chunk::<8>()?;
    if u16::from_be_bytes([p0, p1]) != port {
        return None;
    }
    let far: [u8; 16] = *body.get(24..40)?.first_chunk()?;
    match family {
        FAMILY_V4 => Some(IpAddr::V4(Ipv4Addr::from(*far.first_chunk::<4>()?))),
        FAMILY_V6 => Some(Ipv6Addr::from(far).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use nix::sys::socket::SockProtocol;

    use super::*;

    #[test]
    fn live_connections_are_seen_and_closed_ones_are_not() {
        let mut socket = Socket::open(SockProtocol::NetlinkSockDiag).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(
            socket.connections(address.port()).unwrap(),
            [IpAddr::V4(Ipv4Addr::LOCALHOST)]
        );
        // The client's close comes first, so that no state but TIME_WAIT is left on the far side.
        drop(client);
        drop(server);
        let mut left = socket.connections(address.port()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !left.is_empty() && std::time::Instant::now() < deadline {
            left = socket.connections(address.port()).unwrap();
        }
        assert_eq!(left, Vec::<IpAddr>::new());
    }
}
