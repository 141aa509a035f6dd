//! The real firewall around the suite: its program, started as init starts it, in the suite's own network namespace with
//! three cables whose far ends are watched, and the laboratory's configuration.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use appliance::init::rtnetlink::Netlink;
use broker_proto::{
    MAX_MESSAGE, Role,
    broker::{FromBroker, ToBroker},
    control::{ChannelKind, FromChild, ToChild},
    decode, encode,
};
use command_fds::{CommandFdExt, FdMapping};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
        sockopt,
    },
};
use sandbox::{Channel, channel::CONTROL_FD};
use serde::de::DeserializeOwned;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

const CONFIGURATION: &str = include_str!("../../lab/gatehouse.toml");

/// Near end, far end, addresses of the near end: the laboratory's.
const CABLES: [(&str, &str, [&str; 2]); 3] = [
    ("ext0", "e0", ["198.51.100.1/24", "2001:db8:e::1/64"]),
    ("int0", "i0", ["192.0.2.1/24", "2001:db8:1::1/64"]),
    ("mgmt0", "m0", ["203.0.113.1/24", "2001:db8:2::1/64"]),
];

/// The firewall's program beside this one.
///
/// # Errors
/// It is not there: a suite that left its part out would claim more than it tried.
pub fn program() -> io::Result<PathBuf> {
    beside(&std::env::current_exe()?)
}

fn beside(own: &Path) -> io::Result<PathBuf> {
    let program = own.with_file_name("gatehouse-firewall");
    if program.exists() {
        return Ok(program);
    }
    let text = format!("{} is not there", program.display());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// The firewall, committed and serving.
pub struct House {
    control: Channel,
    firewall: Child,
    /// What leaves by the cables.
    pub wire: Wire,
}

impl House {
    /// Lays the cables, starts the firewall, commits the configuration.
    ///
    /// # Errors
    /// The step that failed.
    pub fn start(program: &Path) -> io::Result<Self> {
        let wire = lay_cables().map_err(|error| io::Error::other(format!("cables: {error}")))?;
        let (control, far) = Channel::pair()?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
            .fd_mappings(vec![FdMapping {
                parent_fd: far.into(),
                child_fd: CONTROL_FD,
            }])
            .map_err(io::Error::other)?;
        let firewall = command.spawn()?;
        drop(command);
        let house = Self {
            control,
            firewall,
            wire,
        };
        let document = CONFIGURATION.to_owned();
        house.wait_for(&FromChild::Closed)?;
        house.tell(
            &ToChild::Configuration {
                revision: 1,
                document,
            },
            None,
        )?;
        house.wait_for(&FromChild::Committed { revision: 1 })?;
        Ok(house)
    }

    /// A fresh channel in the place of the sbc; the old one is dead.
    ///
    /// # Errors
    /// The firewall is gone, or does not answer.
    pub fn sbc(&self) -> io::Result<Channel> {
        let (near, far) = Channel::pair()?;
        self.tell(
            &ToChild::Peer {
                role: Role::Sbc,
                channel: ChannelKind::Broker,
            },
            Some(&far.into()),
        )?;
        let (first, _) = receive::<FromBroker>(&near)?;
        match first {
            FromBroker::Settings(_) => Ok(near),
            other => Err(io::Error::other(format!(
                "instead of settings came {other:?}"
            ))),
        }
    }

    /// Whether its process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.firewall.try_wait(), Ok(None))
    }

    fn tell(&self, message: &ToChild, fd: Option<&OwnedFd>) -> io::Result<()> {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        self.control
            .send(&encode(message).map_err(io::Error::other)?, &fds)
    }

    fn wait_for(&self, wanted: &FromChild) -> io::Result<()> {
        loop {
            let (message, _) = receive::<FromChild>(&self.control)?;
            match message {
                message if message == *wanted => return Ok(()),
                FromChild::CommitFailed { reason, .. } => return Err(io::Error::other(reason)),
                _ => {}
            }
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.firewall.kill();
        let _ = self.firewall.wait();
    }
}

/// Sends a request and waits for what comes next.
///
/// # Errors
/// The channel is dead, or nothing comes.
pub fn ask(channel: &Channel, request: &ToBroker) -> io::Result<(FromBroker, Vec<OwnedFd>)> {
    channel.send(&encode(request).map_err(io::Error::other)?, &[])?;
    receive(channel)
}

/// Waits for a message.
///
/// # Errors
/// `TimedOut`, `UnexpectedEof`, or it is no message.
pub fn receive<T: DeserializeOwned>(channel: &Channel) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let until = Instant::now() + PATIENCE;
    loop {
        match channel.recv(&mut buffer) {
            Ok(received) => {
                let bytes = buffer.get(..received.length).unwrap_or_default();
                return Ok((
                    decode(bytes).map_err(io::Error::other)?,
                    received.descriptors,
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(
            &mut [PollFd::new(channel.as_fd(), PollFlags::POLLIN)],
            timeout,
        )? == 0
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

fn lay_cables() -> io::Result<Wire> {
    let mut netlink = Netlink::open()?;
    for (near, far, _) in CABLES {
        netlink.add_pair(near, far)?;
    }
    let links = netlink.links()?;
    let index = |name: &str| {
        links
            .iter()
            .find(|link| link.name == name)
            .map(|link| link.index)
            .ok_or(io::ErrorKind::NotFound)
    };
    netlink.set_up(index("lo")?, true)?;
    let mut far_ends = Vec::new();
    for (near, far, addresses) in CABLES {
        let near = index(near)?;
        // The far end is a watcher, not a host: without IPv6 it says nothing of its own accord.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{far}/disable_ipv6"), "1");
        far_ends.push(index(far)?);
        netlink.set_up(index(far)?, true)?;
        netlink.set_up(near, true)?;
        for address in addresses {
            let (address, prefix) = address.split_once('/').ok_or(io::ErrorKind::InvalidInput)?;
            let address = address.parse().map_err(io::Error::other)?;
            netlink.add_address(near, address, prefix.parse().map_err(io::Error::other)?)?;
        }
    }
    let everywhere = index("ext0")?;
    for (any, gateway) in [("0.0.0.0", "198.51.100.254"), ("::", "2001:db8:e::fe")] {
        let (any, gateway) = (
            any.parse().map_err(io::Error::other)?,
            gateway.parse().map_err(io::Error::other)?,
        );
        netlink.set_route(everywhere, any, 0, gateway)?;
    }
    Wire::listen(far_ends)
}

/// Everything that arrives at the far ends of the cables.
pub struct Wire {
    socket: OwnedFd,
    far_ends: Vec<u32>,
}

/// A UDP or TCP packet on a cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// `address:port`.
    pub destination: std::net::SocketAddr,
    /// First octet of what it carries.
    pub first: Option<u8>,
}

impl Wire {
    fn listen(far_ends: Vec<u32>) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        )?;
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(8 * 1024 * 1024));
        Ok(Self { socket, far_ends })
    }

    /// UDP and TCP packets since the last call.
    ///
    /// # Errors
    /// The kernel's.
    pub fn packets(&self) -> io::Result<Vec<Packet>> {
        let mut packets = Vec::new();
        let mut frame = [0; 2048];
        loop {
            let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
                Ok((length, Some(from))) => (length, from),
                Ok(_) => continue,
                Err(Errno::EAGAIN) => return Ok(packets),
                Err(error) => return Err(error.into()),
            };
            if self
                .far_ends
                .iter()
                .any(|index| *index as usize == from.ifindex())
            {
                packets.extend(frame.get(..length).and_then(read));
            }
        }
    }

    /// Waits for a packet.
    ///
    /// # Errors
    /// `TimedOut`.
    pub fn next(&self) -> io::Result<Vec<Packet>> {
        let until = Instant::now() + PATIENCE;
        loop {
            let packets = self.packets()?;
            if !packets.is_empty() {
                return Ok(packets);
            }
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            if poll(
                &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
                timeout,
            )? == 0
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Destination and first payload octet of an Ethernet frame with UDP or TCP in it (RFC 791, 8200 without extension
/// headers: one with them counts as going to port 0, so that it is seen too).
fn read(frame: &[u8]) -> Option<Packet> {
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let packet = frame.get(14..)?;
    let (address, protocol, rest): (std::net::IpAddr, u8, &[u8]) = match kind {
        0x0800 => {
            let head = usize::from(packet.first()? & 0x0f) * 4;
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (octets.into(), *packet.get(9)?, packet.get(head..)?)
        }
        0x86dd => {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (octets.into(), *packet.get(6)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |rest: &[u8]| Some(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?));
    match protocol {
        // ICMP and ICMPv6 (neighbours, multicast listeners) are the kernel's own.
        1 | 58 | 0 => None,
        17 => Some(Packet {
            destination: (address, port(rest)?).into(),
            first: rest.get(8).copied(),
        }),
        6 => Some(Packet {
            destination: (address, port(rest)?).into(),
            first: None,
        }),
        _ => Some(Packet {
            destination: (address, 0).into(),
            first: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_firewall_beside_it_the_suite_fails() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("gatehouse-escape");
        let error = beside(&own).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("gatehouse-firewall is not there")
        );
        std::fs::write(folder.path().join("gatehouse-firewall"), "").unwrap();
        assert!(beside(&own).is_ok());
    }
}
